//! A client that connects in every way that the kernel tests need, and says in one line what it saw.
//!
//! ```text
//! sluice-dial connect ADDRESS [mapped] [mptcp] [device=NAME] [source=IP] [fastopen] [route=HOP] [filter]
//!                             [nonblocking] [again=ADDRESS] [write=TEXT] [read] [hold]
//! sluice-dial storm ADDRESS COUNT      one short connection after the other
//! sluice-dial many ADDRESS COUNT       all at once, held until standard input closes
//! sluice-dial latency ADDRESS COUNT    median nanoseconds of connect()
//! ```
//!
//! Answers: `ok …`, or `refused ERRNO`. Bad usage panics: only tests call this.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, bind, connect, sendto, setsockopt, sockopt};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    sluice_tests::host::raise_open_files();
    match words.as_slice() {
        ["connect", address, options @ ..] => one(address, options),
        ["storm", address, count] => storm(parse(address), number(count)),
        ["many", address, count] => many(parse(address), number(count)),
        ["latency", address, count] => latency(parse(address), number(count)),
        _ => panic!("usage: see the head of sluice-dial.rs, not {words:?}"),
    }
}

fn parse(address: &str) -> SocketAddr {
    address.parse().expect("an address with its port")
}

fn number(count: &str) -> usize {
    count.parse().expect("a number")
}

/// The address as a socket of the other family has it, if asked for.
fn target(address: SocketAddr, mapped: bool) -> SockaddrStorage {
    match address {
        SocketAddr::V4(v4) if mapped => {
            SockaddrStorage::from(SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()))
        }
        other => SockaddrStorage::from(other),
    }
}

#[expect(unsafe_code, reason = "nix has no word for MPTCP")]
fn socket(v6: bool, mptcp: bool) -> OwnedFd {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let protocol = if mptcp { libc::IPPROTO_MPTCP } else { 0 };
    // SAFETY: no pointers; the descriptor is new and owned here.
    unsafe {
        let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, protocol);
        assert!(fd >= 0, "socket: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    }
}

fn one(address: &str, options: &[&str]) {
    let has = |word: &str| options.contains(&word);
    let value = |key: &str| options.iter().find_map(|o| o.strip_prefix(key)?.strip_prefix('='));
    let address = parse(address);
    let mapped = has("mapped");
    let fd = socket(address.is_ipv6() || mapped, has("mptcp"));
    if let Some(device) = value("device")
        && let Err(errno) = setsockopt(&fd, sockopt::BindToDevice, &device.into())
    {
        println!("refused {errno:?}");
        return;
    }
    if let Some(source) = value("source") {
        let source: IpAddr = source.parse().expect("an address");
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0))).expect("bind");
    }
    if has("nonblocking") {
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).expect("flags");
    }
    if has("filter") {
        // IP_MSFILTER takes as many addresses as are given: more than a page of them.
        let mut filter = vec![0_u8; 8192];
        filter[12..16].copy_from_slice(&2044_u32.to_ne_bytes());
        let errno = set_option(&fd, libc::IPPROTO_IP, 41, &filter);
        assert_ne!(errno, Errno::EPERM);
        assert_ne!(errno, Errno::EFAULT);
    }
    if let Some(hop) = value("route") {
        source_route(&fd, hop);
    }
    let to = target(address, mapped);
    let mut done = if has("fastopen") {
        sendto(fd.as_raw_fd(), b"fast", &to, MsgFlags::from_bits_retain(libc::MSG_FASTOPEN)).map(drop)
    } else {
        connect(fd.as_raw_fd(), &to)
    };
    if let (Ok(()), Some(again)) = (done, value("again")) {
        disconnect(&fd);
        done = connect(fd.as_raw_fd(), &target(parse(again), mapped));
    }
    if let Err(errno) = done {
        println!("refused {errno:?}");
        return;
    }
    let mut stream = TcpStream::from(fd);
    let (peer, local) = (stream.peer_addr(), stream.local_addr());
    if let Some(text) = value("write") {
        stream.write_all(text.as_bytes()).expect("write");
    }
    let mut read = String::new();
    if has("read") {
        stream.read_to_string(&mut read).expect("read");
    }
    let shown = |a: std::io::Result<SocketAddr>| a.map_or_else(|e| format!("({e})"), |a| a.to_string());
    println!("ok peer={} local={} pid={} read={read}", shown(peer), shown(local), std::process::id());
    if has("hold") {
        wait();
    }
}

/// `IP_OPTIONS` with a loose source route by way of `hop` (RFC 791, page 18): any user may ask for it.
fn source_route(fd: &OwnedFd, hop: &str) {
    let hop: std::net::Ipv4Addr = hop.parse().expect("an IPv4 address");
    let mut option = vec![0x83, 7, 4];
    option.extend(hop.octets());
    option.push(0);
    let errno = set_option(fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &option);
    if errno != Errno::UnknownErrno {
        println!("refused {errno:?}");
        std::process::exit(0);
    }
}

/// setsockopt(); `UnknownErrno` (0) when it went well.
#[expect(unsafe_code, reason = "options that nix has no word for")]
fn set_option(fd: &OwnedFd, level: i32, name: i32, value: &[u8]) -> Errno {
    // SAFETY: the buffer with its size.
    let done =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), value.len() as u32) };
    if done == 0 { Errno::UnknownErrno } else { Errno::last() }
}

/// connect() to `AF_UNSPEC`: dissolves the association, the socket can be used again.
#[expect(unsafe_code, reason = "nix has no address of family AF_UNSPEC")]
fn disconnect(fd: &OwnedFd) {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    // SAFETY: a whole sockaddr with its size.
    let done = unsafe { libc::connect(fd.as_raw_fd(), &raw const nowhere, size_of_val(&nowhere) as u32) };
    assert_eq!(done, 0, "disconnect: {}", std::io::Error::last_os_error());
}

/// Blocks until standard input is closed.
fn wait() {
    std::io::stdin().read_to_end(&mut Vec::new()).expect("standard input");
}

fn storm(address: SocketAddr, count: usize) {
    for done in 0..count {
        let fd = socket(address.is_ipv6(), false);
        if let Err(errno) = connect(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
            println!("refused {errno:?} after {done}");
            return;
        }
    }
    println!("ok {count}");
}

fn many(address: SocketAddr, count: usize) {
    let mut open = Vec::with_capacity(count);
    let mut failed: Option<Errno> = None;
    while open.len() < count && failed.is_none() {
        let fd = socket(address.is_ipv6(), false);
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) => open.push(fd),
            Err(errno) => failed = Some(errno),
        }
    }
    match failed {
        None => println!("ok {count}"),
        Some(errno) => println!("refused {errno:?} after {}", open.len()),
    }
    wait();
}

fn latency(address: SocketAddr, count: usize) {
    let to = SockaddrStorage::from(address);
    let mut times: Vec<u128> = (0..count)
        .map(|_| {
            let fd = socket(address.is_ipv6(), false);
            let start = Instant::now();
            connect(fd.as_raw_fd(), &to).expect("connect");
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    println!("ok {}", times[count / 2]);
}
