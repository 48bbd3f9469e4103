//! One attempt of a kind that the LSM programs judge, made by a process of its own; says in one line what came of it.
//!
//! ```text
//! sluice-lsm-probe sockets FAMILY:TYPE:PROTOCOL…   an answer for each
//! sluice-lsm-probe storm                           packet sockets until standard input closes; how many were made
//! sluice-lsm-probe with send|recv|accept|listen|sendfile|splice          standard input is the socket
//! sluice-lsm-probe with connect|sendto ADDRESS
//! sluice-lsm-probe receive PATH                    files handed over by the Unix socket there
//! sluice-lsm-probe unix stream|datagram NAME       connect() and send(); NAME may begin with @
//! sluice-lsm-probe helper NAME                     serves NAME itself, and connects to it
//! sluice-lsm-probe open PATH                       any file
//! sluice-lsm-probe getfd PID FD                    pidfd_getfd()
//! ```
//!
//! Answers: `ok …`, or `refused ERRNO`. Bad usage panics: only tests call this.

use std::io::{IoSliceMut, Read as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketType, accept, bind, connect, listen, recv, recvmsg, send, sendto, socket,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// What is sent wherever something is.
const MARKER: &[u8] = b"marker";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let stdin = std::io::stdin();
    let answer = match words.as_slice() {
        ["sockets", triples @ ..] => return sockets(triples),
        ["storm"] => return storm(),
        ["with", how, rest @ ..] => with(stdin.as_fd(), how, rest),
        ["receive", path] => receive(path),
        ["unix", kind, name] => unix(kind, name),
        ["helper", name] => helper(name),
        ["open", path] => std::fs::File::open(path)
            .map(|_| String::new())
            .map_err(|error| Errno::from_io_error(&error).expect("an error of the system")),
        ["getfd", pid, fd] => getfd(number(pid), number(fd)),
        _ => panic!("usage: see the head of sluice-lsm-probe.rs, not {words:?}"),
    };
    match answer {
        Ok(more) => println!("ok {more}"),
        Err(errno) => println!("refused {}", name_of(errno)),
    }
}

fn number(text: &str) -> i32 {
    text.parse().expect("a number")
}

fn name_of(errno: Errno) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno.raw_os_error()))
}

fn sockets(triples: &[&str]) {
    let answers: Vec<String> = triples
        .iter()
        .map(|triple| {
            let numbers: Vec<i32> = triple.split(':').map(number).collect();
            let [family, kind, protocol] = numbers[..] else { panic!("{triple}: three numbers") };
            made(family, kind, protocol).map_or_else(name_of, |_| "ok".to_owned())
        })
        .collect();
    println!("{}", answers.join(" "));
}

fn made(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    let family = AddressFamily::from_raw(family.try_into().expect("a family"));
    let protocol = std::num::NonZeroU32::new(protocol.cast_unsigned()).map(Protocol::from_raw);
    socket(family, SocketType::from_raw(kind.cast_unsigned()), protocol)
}

fn storm() {
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    let reader = std::thread::spawn(move || {
        let _until_it_closes = std::io::stdin().read_to_end(&mut Vec::new());
        seen.store(true, Ordering::Relaxed);
    });
    println!("started");
    let (mut got, mut refused) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        match made(libc::AF_PACKET, libc::SOCK_RAW, 0) {
            Ok(_) => got += 1,
            Err(_) => refused += 1,
        }
    }
    reader.join().expect("the reader");
    println!("made={got} refused={refused}");
}

fn with(fd: BorrowedFd<'_>, how: &str, rest: &[&str]) -> Result<String, Errno> {
    let address = || -> SocketAddr { rest.first().expect("an address").parse().expect("an address") };
    match how {
        "send" => send(fd, MARKER, SendFlags::NOSIGNAL).map(|sent| sent.to_string()),
        "recv" => {
            let mut text = [0; 64];
            let (_, read) = recv(fd, &mut text[..], RecvFlags::empty())?;
            Ok(String::from_utf8_lossy(&text[..read]).into_owned())
        }
        "accept" => accept(fd).map(|_| String::new()),
        "listen" => listen(fd, 1).map(|()| String::new()),
        "connect" => connect(fd, &address()).map(|()| String::new()),
        "sendto" => sendto(fd, MARKER, SendFlags::NOSIGNAL, &address()).map(|sent| sent.to_string()),
        "sendfile" => {
            let file = std::fs::File::open("/etc/hostname").expect("a file");
            sendfile(fd, file, None, MARKER.len()).map(|sent| sent.to_string())
        }
        "splice" => {
            let (from, to) = rustix::pipe::pipe().expect("a pipe");
            rustix::io::write(&to, MARKER).expect("room in a pipe");
            let none = rustix::pipe::SpliceFlags::empty();
            rustix::pipe::splice(&from, None, fd, None, MARKER.len(), none).map(|sent| sent.to_string())
        }
        other => panic!("with {other}"),
    }
}

fn unix_address(name: &str) -> SocketAddrUnix {
    match name.strip_prefix('@') {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("a name"),
        None => SocketAddrUnix::new(name).expect("a path"),
    }
}

fn unix(kind: &str, name: &str) -> Result<String, Errno> {
    let kind = if kind == "stream" { SocketType::STREAM } else { SocketType::DGRAM };
    let fd = socket(AddressFamily::UNIX, kind, None)?;
    if kind == SocketType::STREAM {
        connect(&fd, &unix_address(name))?;
        return send(&fd, MARKER, SendFlags::NOSIGNAL).map(|sent| sent.to_string());
    }
    let sent = sendto(&fd, MARKER, SendFlags::NOSIGNAL, &unix_address(name));
    // Both ways of a datagram must come to the same.
    let connected = connect(&fd, &unix_address(name));
    assert_eq!(sent.err(), connected.err());
    sent.map(|sent| sent.to_string())
}

fn helper(name: &str) -> Result<String, Errno> {
    let server = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    bind(&server, &unix_address(name))?;
    listen(&server, 1)?;
    unix("stream", name)
}

fn receive(path: &str) -> Result<String, Errno> {
    let fd = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    connect(&fd, &unix_address(path))?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 16];
    recvmsg(&fd, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::empty())?;
    let mut files = 0;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files += rights.count();
        }
    }
    Ok(files.to_string())
}

fn getfd(pid: i32, fd: i32) -> Result<String, Errno> {
    let process = pidfd_open(Pid::from_raw(pid).expect("a process"), PidfdFlags::empty())?;
    pidfd_getfd(process, fd, PidfdGetfdFlags::empty()).map(|_| String::new())
}
