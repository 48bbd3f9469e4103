//! A client that uses sockets in the ways that the kernel tests need besides connecting, and says in one line what it saw.
//!
//! ```text
//! sluice-socket make FAMILY TYPE PROTOCOL                      numbers
//! sluice-socket bind tcp|udp ADDRESS
//! sluice-socket option 4|6 LEVEL NAME NUMBER|TEXT              setsockopt() on a TCP socket
//! sluice-socket send ADDRESS [mapped] [connect] [unspec] [then=ADDRESS] [answer] [interface=INDEX]
//! sluice-socket serve ADDRESS                                  `ok`, then one connection or datagram: says `hello`
//! ```
//!
//! Answers: `ok …`, or `refused ERRNO`. Bad usage panics: only tests call this.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{SockaddrStorage, bind, connect};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["make", family, kind, protocol] => {
            socket(number(family), number(kind), number(protocol)).map(|_| String::new())
        }
        ["bind", kind, address] => bound(kind, parse(address)),
        ["option", version, level, name, value] => option(version, number(level), number(name), value),
        ["send", address, options @ ..] => send(parse(address), options),
        ["serve", address] => serve(parse(address)),
        _ => panic!("usage: see the head of sluice-socket.rs, not {words:?}"),
    };
    match done {
        Ok(seen) => println!("ok {seen}"),
        Err(errno) => println!("refused {errno:?}"),
    }
}

fn parse(address: &str) -> SocketAddr {
    address.parse().expect("an address with its port")
}

fn number(text: &str) -> i32 {
    text.parse().expect("a number")
}

#[expect(unsafe_code, reason = "kinds of sockets that nix has no word for")]
fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers; the descriptor is new and owned here.
    unsafe {
        let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
        if fd < 0 { Err(Errno::last()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

fn family(v6: bool) -> i32 {
    if v6 { libc::AF_INET6 } else { libc::AF_INET }
}

fn bound(kind: &str, address: SocketAddr) -> Result<String, Errno> {
    let kind = if kind == "tcp" { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
    let fd = socket(family(address.is_ipv6()), kind, 0)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).map(|()| String::new())
}

#[expect(unsafe_code, reason = "options that nix has no word for")]
fn set(fd: &OwnedFd, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: the buffer with its size.
    let done =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), value.len() as u32) };
    Errno::result(done).map(drop)
}

fn option(version: &str, level: i32, name: i32, value: &str) -> Result<String, Errno> {
    let fd = socket(family(version == "6"), libc::SOCK_STREAM, 0)?;
    let value = match value.parse::<i32>() {
        Ok(number) => number.to_ne_bytes().to_vec(),
        Err(_) => value.as_bytes().to_vec(),
    };
    set(&fd, level, name, &value).map(|()| String::new())
}

/// One datagram, `marker`; with `then` a second to another address from the same socket.
fn send(address: SocketAddr, options: &[&str]) -> Result<String, Errno> {
    let has = |word: &str| options.contains(&word);
    let value = |key: &str| options.iter().find_map(|o| o.strip_prefix(key)?.strip_prefix('='));
    let address = mapped(address, has("mapped"));
    let fd = socket(family(address.is_ipv6()), libc::SOCK_DGRAM, 0)?;
    if let Some(index) = value("interface") {
        let index = number(index).to_be_bytes();
        let _refused_and_sent_all_the_same = set(&fd, libc::IPPROTO_IP, 50, &index);
    }
    let mut seen = String::new();
    if has("connect") {
        connect(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        let plain = UdpSocket::from(fd.try_clone().expect("a copy"));
        plain.send(b"marker").map_err(errno)?;
        seen += &format!("peer={} ", plain.peer_addr().expect("connected"));
    } else {
        send_to(&fd, address, has("unspec"))?;
    }
    let then = value("then").map(|then| mapped(parse(then), has("mapped")));
    if let Some(then) = then {
        send_to(&fd, then, false)?;
    }
    if has("answer") {
        let socket = UdpSocket::from(fd);
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        for _ in 0..1 + usize::from(then.is_some()) {
            let mut text = [0; 64];
            let (length, from) = socket.recv_from(&mut text).map_err(errno)?;
            seen += &format!("from={from} text={} ", String::from_utf8_lossy(&text[..length]));
        }
    }
    Ok(seen)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn mapped(address: SocketAddr, mapped: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if mapped => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        other => other,
    }
}

/// sendto(), with an address whose family is `AF_UNSPEC` if asked for: Linux takes it for IPv4.
#[expect(unsafe_code, reason = "nix has no address of family AF_UNSPEC")]
fn send_to(fd: &OwnedFd, address: SocketAddr, unspec: bool) -> Result<(), Errno> {
    let storage = SockaddrStorage::from(address);
    let mut bytes = [0_u8; 28];
    let length = if address.is_ipv4() { 16 } else { 28 };
    // SAFETY: an address of this family has so many bytes.
    unsafe {
        std::ptr::copy_nonoverlapping((&raw const storage).cast::<u8>(), bytes.as_mut_ptr(), length);
    }
    if unspec {
        bytes[..2].copy_from_slice(&0_u16.to_ne_bytes());
    }
    // SAFETY: both buffers with their sizes.
    let done = unsafe {
        libc::sendto(fd.as_raw_fd(), b"marker".as_ptr().cast(), 6, 0, bytes.as_ptr().cast(), length as u32)
    };
    Errno::result(done).map(drop)
}

fn serve(address: SocketAddr) -> Result<String, Errno> {
    let listener = TcpListener::bind(address).map_err(errno)?;
    println!("ok");
    let mut end = std::io::stdin();
    let accepted = listener.try_clone().expect("a copy");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = accepted.accept() {
            // A client that went away hears nothing.
            let _ = stream.write_all(b"hello");
        }
    });
    end.read_to_end(&mut Vec::new()).expect("standard input");
    Ok(String::new())
}
