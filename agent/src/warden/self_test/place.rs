//! The place in which ways are tried: a network namespace of its own that has nothing but a loopback device, with the
//! addresses of the "outside" on it. So whatever gets out arrives at our own receivers, and nothing can leave the host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketType, ipproto};

use crate::warden::loopback::Route;

/// TEST-NET-1 (RFC 5737): the outside.
pub const OUTSIDE4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// Documentation prefix (RFC 3849): the outside.
pub const OUTSIDE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
/// The metadata service of most clouds.
pub const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// Where the "agent" of the trial listens.
pub const OURS: u16 = 1013;
/// Where its resolver does.
pub const RESOLVER: u16 = 1012;

/// Ports of the outside: TCP's, and UDP's.
const TCP: [u16; 2] = [80, 853];
const UDP: [u16; 3] = [9, 53, 443];

/// Goes into a network namespace of its own.
///
/// # Errors
/// The host does not let us.
pub fn enter() -> io::Result<()> {
    // Without CAP_SYS_ADMIN a user namespace of our own may own it, where the unit allows that.
    unshare(CloneFlags::CLONE_NEWNET)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET))?;
    furnish()
}

/// Brings the loopback device up and puts the outside's addresses on it (rtnetlink(7)).
fn furnish() -> io::Result<()> {
    let route = Route::open()?;
    route.loopback_up()?;
    for (address, prefix) in [(OUTSIDE4, 32), (METADATA, 32), (OUTSIDE6, 128)] {
        match route.add_to_loopback(address, prefix) {
            Err(_) if address.is_ipv6() => {} // a host without IPv6: its ways fail in the control run
            done => done?,
        }
    }
    Ok(())
}

/// What has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// It got out.
    Outside,
    /// At the trial's listener or resolver.
    Ours,
}

/// The receiving ends, made before the tag, so that no program looks at them.
pub struct Receivers {
    streams: Vec<(Where, TcpListener)>,
    datagrams: Vec<(Where, OwnedFd)>,
    accepted: Vec<(Where, TcpStream)>,
}

impl Receivers {
    /// None at all: nothing will be sent.
    pub fn none() -> Self {
        Self { streams: Vec::new(), datagrams: Vec::new(), accepted: Vec::new() }
    }

    /// All of them; those that this kernel does not have are left out.
    ///
    /// # Errors
    /// Not even IPv4.
    pub fn open() -> io::Result<Self> {
        let mut receivers = Self::none();
        receivers.listen(Where::Ours, IpAddr::V4(Ipv4Addr::UNSPECIFIED), OURS)?;
        receivers.bind(Where::Ours, IpAddr::V4(Ipv4Addr::UNSPECIFIED), RESOLVER)?;
        for port in TCP {
            receivers.listen(Where::Outside, OUTSIDE4, port)?;
        }
        receivers.listen(Where::Outside, METADATA, 80)?;
        for port in UDP {
            receivers.bind(Where::Outside, OUTSIDE4, port)?;
        }
        let lite = super::ways::udp_lite().and_then(|socket| {
            rustix::net::bind(&socket, &SocketAddr::new(OUTSIDE4, 9))?;
            rustix::io::ioctl_fionbio(&socket, true)?;
            Ok(socket)
        });
        receivers.datagrams.extend(lite.map(|socket| (Where::Outside, socket)));
        // A kernel without IPv6: its ways fail in the control run, and are told as such.
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let _ = receivers.listen(Where::Ours, v6, OURS).and_then(|()| {
            receivers.bind(Where::Ours, v6, RESOLVER)?;
            receivers.listen(Where::Outside, OUTSIDE6, 80)?;
            receivers.bind(Where::Outside, OUTSIDE6, 9)
        });
        Ok(receivers)
    }

    fn listen(&mut self, place: Where, ip: IpAddr, port: u16) -> io::Result<()> {
        let protocol = rustix::net::Protocol::from_raw(super::ways::raw(super::ways::MPTCP));
        let address = SocketAddr::new(ip, port);
        let family =
            if ip.is_ipv4() { rustix::net::AddressFamily::INET } else { rustix::net::AddressFamily::INET6 };
        // A listener for multipath TCP takes plain TCP as well.
        let listener = rustix::net::socket(family, SocketType::STREAM, Some(protocol))
            .or_else(|_| rustix::net::socket(family, SocketType::STREAM, Some(ipproto::TCP)))?;
        if ip.is_ipv6() {
            rustix::net::sockopt::set_ipv6_v6only(&listener, true)?;
        }
        rustix::net::bind(&listener, &address)?;
        rustix::net::listen(&listener, 64)?;
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true)?;
        self.streams.push((place, listener));
        Ok(())
    }

    fn bind(&mut self, place: Where, ip: IpAddr, port: u16) -> io::Result<()> {
        let socket = UdpSocket::bind(SocketAddr::new(ip, port))?;
        socket.set_nonblocking(true)?;
        self.datagrams.push((place, socket.into()));
        Ok(())
    }

    /// Texts that have come in since the last time, without waiting. A text that is cut is none.
    pub fn collect(&mut self) -> Vec<(Where, String)> {
        for (place, listener) in &self.streams {
            while let Ok((stream, _)) = listener.accept() {
                if stream.set_nonblocking(true).is_ok() && self.accepted.len() < 256 {
                    self.accepted.push((*place, stream));
                }
            }
        }
        let mut found = Vec::new();
        let mut take = |place, fd: BorrowedFd<'_>| {
            let (texts, more) = read(fd);
            found.extend(texts.into_iter().map(|text| (place, text)));
            more
        };
        self.accepted.retain(|(place, stream)| take(*place, stream.as_fd()) == More::MayCome);
        for (place, fd) in &self.datagrams {
            take(*place, fd.as_fd());
        }
        found
    }

    /// As [`Receivers::collect`], as soon as something comes in, at the latest at `end`.
    pub fn wait(&mut self, end: Instant) -> Vec<(Where, String)> {
        let streams = self.streams.iter().map(|(_, listener)| listener.as_fd());
        let datagrams = self.datagrams.iter().map(|(_, fd)| fd.as_fd());
        let accepted = self.accepted.iter().map(|(_, stream)| stream.as_fd());
        let all = streams.chain(datagrams).chain(accepted);
        let mut fds: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let left = end.saturating_duration_since(Instant::now());
        // Interrupted: the caller looks at the time, and asks again.
        let _readable = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO));
        self.collect()
    }
}

/// What a receiver may still bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    MayCome,
    /// The other end has closed its stream.
    Over,
}

/// What has come in on one receiver.
fn read(fd: BorrowedFd<'_>) -> (Vec<String>, More) {
    let mut texts = Vec::new();
    let mut buffer = [0u8; 256];
    // Bounded: a receiver is read at most so often in a row.
    for _ in 0..64 {
        match rustix::net::recv(fd, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, length)) if length > 0 => {
                texts.push(String::from_utf8_lossy(&buffer[..length.min(buffer.len())]).into_owned());
            }
            Err(Errno::AGAIN) => break,
            _ => return (texts, More::Over),
        }
    }
    (texts, More::MayCome)
}
