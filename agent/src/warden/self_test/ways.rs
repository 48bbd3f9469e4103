//! The ways that the self-test tries, each a few system calls that carry a text to the outside. What a way is for stands in
//! its name; the tests under tests/tests/escapes try many more, in more variants.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{IpMembershipRequest, setsockopt, sockopt};
use nix::{setsockopt_impl, sockopt_impl};
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, Protocol, RawProtocol, SendFlags, SocketType, ipproto, sendto, socket};

use super::place::{METADATA, OUTSIDE4, OUTSIDE6};

/// `IPPROTO_MPTCP`.
pub const MPTCP: u32 = 262;

/// How long a connection may take: it goes over loopback, or nowhere.
const CONNECT: Duration = Duration::from_millis(100);

/// A way out.
pub struct Way {
    /// Its stable name.
    pub name: &'static str,
    /// What to do.
    pub attempt: Attempt,
    /// Only the LSM sees it: without that layer it is known to be open.
    pub lsm_only: bool,
    /// Sends to other hosts without a right and without a helper: where it is open, no session may be called well enforced,
    /// whatever layers the host has.
    pub grave: bool,
}

/// How a way is tried.
pub enum Attempt {
    /// Sends the text; it is open when the text arrives.
    Send(fn(&Before, &[u8]) -> io::Result<()>),
    /// Asks the kernel for something; it is open when the kernel agrees.
    Ask(fn(&Before) -> io::Result<()>),
}

/// What was made before the process came into the tag.
pub struct Before {
    /// A datagram socket that leads nowhere yet.
    pub datagrams: UdpSocket,
}

/// A protocol by its number.
pub fn raw(number: u32) -> RawProtocol {
    // No protocol of ours is 0.
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

/// A UDP-Lite socket over IPv4.
pub fn udp_lite() -> io::Result<OwnedFd> {
    made(AddressFamily::INET, SocketType::DGRAM, 136)
}

fn made(family: AddressFamily, kind: SocketType, protocol: u32) -> io::Result<OwnedFd> {
    let fd = socket(family, kind, NonZeroU32::new(protocol).map(Protocol::from_raw))?;
    // A first packet that is dropped is sent again after a second: nobody waits for that.
    rustix::net::sockopt::set_socket_timeout(&fd, Timeout::Send, Some(CONNECT))?;
    Ok(fd)
}

fn tcp(ip: IpAddr, port: u16, text: &[u8]) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "one of the ways that are tried; it reaches no other host")]
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), CONNECT)?;
    stream.write_all(text)
}

fn udp(ip: IpAddr, port: u16, text: &[u8]) -> io::Result<()> {
    let any = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any)?.send_to(text, SocketAddr::new(ip, port)).map(drop)
}

fn mapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
        v6 => v6,
    }
}

fn asks(family: AddressFamily, kind: SocketType, protocol: u32) -> io::Result<()> {
    made(family, kind, protocol).map(drop)
}

fn option<O: nix::sys::socket::SetSockOpt>(option: O, value: &O::Val) -> io::Result<()> {
    let stream = made(AddressFamily::INET, SocketType::STREAM, 0)?;
    Ok(setsockopt(&stream, option, value)?)
}

sockopt_impl!(
    /// `IP_OPTIONS`: here a source route, and what fills it up to four octets' end.
    SourceRoute,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_OPTIONS,
    [u8; 8]
);

/// A loose source route by way of [`OUTSIDE4`] (RFC 791).
const LOOSE: [u8; 8] = [0x83, 7, 4, 192, 0, 2, 1, 0];

/// A group on the loopback device: nobody hears of it.
fn group() -> IpMembershipRequest {
    IpMembershipRequest::new(Ipv4Addr::new(239, 1, 2, 3), Some(Ipv4Addr::LOCALHOST))
}

const fn sends(name: &'static str, attempt: fn(&Before, &[u8]) -> io::Result<()>) -> Way {
    Way { name, attempt: Attempt::Send(attempt), lsm_only: false, grave: false }
}

const fn asks_for(name: &'static str, attempt: fn(&Before) -> io::Result<()>) -> Way {
    Way { name, attempt: Attempt::Ask(attempt), lsm_only: false, grave: false }
}

const fn unseen(way: Way) -> Way {
    Way { lsm_only: true, ..way }
}

const fn grave(way: Way) -> Way {
    Way { grave: true, ..unseen(way) }
}

/// `AF_PPPOX`: PPP in frames of its own (PPPoE, protocol 0), or in the datagrams of a UDP socket that the job connected (L2TP,
/// protocol 1). The latter belong to the PPP socket, so the kernel does not ask the UDP socket's cgroup about them.
const PPPOX: AddressFamily = AddressFamily::from_raw(24);

/// Every way, in the order in which they are tried.
pub const ALL: [Way; 33] = [
    sends("tcp connect, IPv4", |_, text| tcp(OUTSIDE4, 80, text)),
    sends("tcp connect, IPv6", |_, text| tcp(OUTSIDE6, 80, text)),
    sends("tcp connect, IPv4 mapped into IPv6", |_, text| tcp(mapped(OUTSIDE4), 80, text)),
    sends("tcp fast open", |_, text| {
        let stream = made(AddressFamily::INET, SocketType::STREAM, 0)?;
        let fast = SendFlags::from_bits_retain(0x2000_0000); // MSG_FASTOPEN
        let sent = sendto(&stream, text, fast, &SocketAddr::new(OUTSIDE4, 80))?;
        // The rest goes after the handshake.
        TcpStream::from(stream).write_all(&text[sent..])
    }),
    sends("mptcp connect", |_, text| {
        let stream = made(AddressFamily::INET, SocketType::STREAM, MPTCP)?;
        rustix::net::connect(&stream, &SocketAddr::new(OUTSIDE4, 80))?;
        TcpStream::from(stream).write_all(text)
    }),
    sends("dns over tls (port 853)", |_, text| tcp(OUTSIDE4, 853, text)),
    sends("cloud metadata", |_, text| tcp(METADATA, 80, text)),
    sends("udp sendto, IPv4", |_, text| udp(OUTSIDE4, 9, text)),
    sends("udp sendto, IPv6", |_, text| udp(OUTSIDE6, 9, text)),
    sends("udp sendto, IPv4 mapped into IPv6", |_, text| udp(mapped(OUTSIDE4), 9, text)),
    sends("udp connect", |_, text| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(SocketAddr::new(OUTSIDE4, 9))?;
        socket.send(text).map(drop)
    }),
    sends("udp connect to loopback, then sendto", |_, text| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("127.0.0.1:9")?;
        socket.send_to(text, SocketAddr::new(OUTSIDE4, 9)).map(drop)
    }),
    sends("dns past the resolver (udp, port 53)", |_, text| udp(OUTSIDE4, 53, text)),
    sends("quic (udp, port 443)", |_, text| udp(OUTSIDE4, 443, text)),
    sends("udp-lite", |_, text| {
        let socket = udp_lite()?;
        Ok(sendto(&socket, text, SendFlags::empty(), &SocketAddr::new(OUTSIDE4, 9)).map(drop)?)
    }),
    asks_for("sctp, stream", |_| asks(AddressFamily::INET, SocketType::STREAM, 132)),
    asks_for("sctp, messages", |_| asks(AddressFamily::INET, SocketType::SEQPACKET, 132)),
    asks_for("dccp", |_| asks(AddressFamily::INET, SocketType::from_raw(6), 33)),
    asks_for("l2tp over ip", |_| asks(AddressFamily::INET, SocketType::DGRAM, 115)),
    asks_for("ping socket, IPv4", |_| {
        asks(AddressFamily::INET, SocketType::DGRAM, ipproto::ICMP.as_raw().get())
    }),
    asks_for("ping socket, IPv6", |_| {
        asks(AddressFamily::INET6, SocketType::DGRAM, ipproto::ICMPV6.as_raw().get())
    }),
    asks_for("raw ip socket", |_| asks(AddressFamily::INET, SocketType::RAW, ipproto::RAW.as_raw().get())),
    unseen(asks_for("packet socket", |_| asks(AddressFamily::PACKET, SocketType::DGRAM, 0))),
    unseen(asks_for("vsock", |_| asks(AddressFamily::VSOCK, SocketType::STREAM, 0))),
    grave(asks_for("pppox socket, pppoe", |_| asks(PPPOX, SocketType::STREAM, 0))),
    grave(asks_for("pppox socket, l2tp", |_| asks(PPPOX, SocketType::DGRAM, 1))),
    unseen(sends("socket from before the tag", |before, text| {
        before.datagrams.send_to(text, SocketAddr::new(OUTSIDE4, 9)).map(drop)
    })),
    asks_for("bind to a device", |_| match option(sockopt::BindToDevice, &"sluice0".into()) {
        // There is no such device, and that is all that was wrong.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        done => done,
    }),
    asks_for("source route", |_| option(SourceRoute, &LOOSE)),
    asks_for("multicast group", |_| {
        let datagrams = made(AddressFamily::INET, SocketType::DGRAM, 0)?;
        Ok(setsockopt(&datagrams, sockopt::IpAddMembership, &group())?)
    }),
    unseen(asks_for("netlink between processes", |_| asks(AddressFamily::NETLINK, SocketType::RAW, 2))),
    asks_for("mark packets", |_| option(sockopt::Mark, &7)),
    asks_for("foreign source address", |_| option(sockopt::IpTransparent, &true)),
];
