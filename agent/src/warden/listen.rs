//! The listeners that tagged connections are led to, and what they tell the kernel programs about themselves.
//!
//! Reachable from this host's loopback only, on privileged ports: while the agent is down no unprivileged process can
//! take their place. Not here: accepting, which is the gate's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use agent_ebpf::{Config, PORTS6};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

/// 127.83.0.0/16.
pub const PREFIX4: u16 = 0x7f53;
/// Ports are looked for from here …
const FIRST: u16 = 1013;
/// … down to here.
const LAST: u16 = 600;
/// Connections that wait for the gate, on each listener; `net.core.somaxconn` (4096 by default) cuts it.
const BACKLOG: i32 = 16_384;

sockopt_impl!(
    /// `SO_NETNS_COOKIE` (Linux 5.14): the network namespace that a socket lives in.
    NetnsCookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64
);

sockopt_impl!(
    /// `TCP_FASTOPEN`: how many connections may bring data before their handshake is done.
    FastOpenQueue,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_FASTOPEN,
    i32
);

sockopt_impl!(
    /// `IPV6_FREEBIND` (Linux 4.15): an address need not be there yet.
    FreeBind6,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_FREEBIND,
    i32
);

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One step of making it failed.
    #[error("cannot {what} a listener on {address}")]
    Listener {
        /// Step.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// What systemd kept for us.
    #[error("the sockets of the last daemon cannot be taken over")]
    Kept(#[source] io::Error),
    /// Every port is in use.
    #[error("no free port from {FIRST} down to {LAST}")]
    NoPort,
}

/// The ports of one namespace's listeners. The kernel programs know one set for all namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Of the one for IPv4.
    pub v4: u16,
    /// Of those for IPv6.
    pub v6: Vec<u16>,
}

/// Whether a listener may stand on an address that is not there yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Early {
    Never,
    Address,
}

/// The listeners of one network namespace.
#[derive(Debug)]
pub struct Listeners {
    /// On every address of loopback.
    pub v4: TcpListener,
    /// On `[::1]`, each on a port of its own; none where the host has no IPv6.
    pub v6: Vec<TcpListener>,
}

impl Listeners {
    /// Makes them in the network namespace of the calling thread.
    ///
    /// # Errors
    /// No right to privileged ports, or none free.
    pub fn open() -> Result<Self, Error> {
        let mut ports = (LAST..=FIRST).rev();
        let v4 = first_free(IpAddr::V4(Ipv4Addr::UNSPECIFIED), &mut ports)?.ok_or(Error::NoPort)?;
        let mut v6 = Vec::with_capacity(PORTS6);
        while v6.len() < PORTS6 {
            match first_free(IpAddr::V6(Ipv6Addr::LOCALHOST), &mut ports) {
                Ok(Some(listener)) => v6.push(listener),
                Ok(None) => return Err(Error::NoPort),
                Err(Error::Listener { source, .. }) if no_ipv6(&source) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Self { v4, v6 })
    }

    /// Makes them on the ports of another namespace's, in that of the calling thread. Those on `[::1]` stand before
    /// loopback is up and has the address, since that is when a namespace is found.
    ///
    /// # Errors
    /// No right to do so, or a port is taken there.
    pub fn open_on(ports: &Ports) -> Result<Self, Error> {
        let v4 = open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), ports.v4), Early::Never)?;
        let mut v6 = Vec::with_capacity(ports.v6.len());
        for port in &ports.v6 {
            match open(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), *port), Early::Address) {
                Ok(listener) => v6.push(listener),
                Err(Error::Listener { source, .. }) if no_ipv6(&source) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Self { v4, v6 })
    }

    /// The ports that they are on.
    ///
    /// # Errors
    /// A socket has no address.
    pub fn ports(&self) -> io::Result<Ports> {
        let v6 = self.v6.iter().map(|listener| Ok(listener.local_addr()?.port()));
        Ok(Ports { v4: self.v4.local_addr()?.port(), v6: v6.collect::<io::Result<_>>()? })
    }

    /// All of them, the IPv4 one first.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(&self.v4).chain(&self.v6).map(AsFd::as_fd)
    }

    /// What the kernel programs need to know of them. `agent_cgroup`: see [`Config::agent_cgroup`].
    ///
    /// # Errors
    /// A socket has no address.
    pub fn config(&self, agent_cgroup: u64) -> io::Result<Config> {
        let mut ports6 = [0; PORTS6];
        for (slot, listener) in ports6.iter_mut().zip(&self.v6) {
            *slot = listener.local_addr()?.port();
        }
        let count6 = self.v6.len().min(PORTS6) as u32;
        let port4 = self.v4.local_addr()?.port();
        Ok(Config { agent_cgroup, prefix4: PREFIX4, port4, count6, ports6, dns4: 0, dns6: 0, zero: 0 })
    }

    /// Takes over listeners that systemd kept (`FDSTORE`): the IPv4 one first, in any order else.
    ///
    /// # Errors
    /// A descriptor is no listening TCP socket.
    pub fn from_kept(kept: Vec<OwnedFd>) -> io::Result<Option<Self>> {
        let (mut v4, mut v6) = (None, Vec::new());
        for fd in kept {
            let listener = TcpListener::from(fd);
            match listener.local_addr()? {
                SocketAddr::V4(_) => v4 = Some(listener),
                SocketAddr::V6(_) if v6.len() < PORTS6 => v6.push(listener),
                SocketAddr::V6(_) => {}
            }
        }
        Ok(v4.map(|v4| Self { v4, v6 }))
    }
}

/// The cookie of the network namespace that `socket` lives in; the kernel programs key connections by it.
///
/// # Errors
/// Not a socket, or a kernel before 5.14.
pub fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    nix::sys::socket::getsockopt(&socket, NetnsCookie).map_err(io::Error::from)
}

/// Whether there is no IPv6 here.
pub(super) fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// Listens on the first port that is free; `None` when all are taken.
fn first_free(ip: IpAddr, ports: &mut impl Iterator<Item = u16>) -> Result<Option<TcpListener>, Error> {
    for port in ports {
        match open(SocketAddr::new(ip, port), Early::Never) {
            Err(Error::Listener { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {}
            opened => return opened.map(Some),
        }
    }
    Ok(None)
}

fn open(address: SocketAddr, early: Early) -> Result<TcpListener, Error> {
    let failed = |what| move |errno: Errno| Error::Listener { what, address, source: errno.into() };
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None).map_err(failed("make"))?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true).map_err(failed("configure"))?;
    }
    if early == Early::Address {
        setsockopt(&fd, FreeBind6, &1).map_err(failed("configure"))?;
    }
    // Not SO_REUSEPORT: nobody shall share the port. SO_REUSEADDR: connections of an earlier daemon may linger.
    setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(failed("configure"))?;
    setsockopt(&fd, sockopt::BindToDevice, &"lo".into()).map_err(failed("bind to lo"))?;
    bind(fd.as_fd().as_raw_fd(), &SockaddrStorage::from(address)).map_err(failed("bind"))?;
    listen(&fd, Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN)).map_err(failed("listen on"))?;
    // A connection must be established before it is accepted: that is when the kernel programs make it known.
    setsockopt(&fd, FastOpenQueue, &0).map_err(failed("configure"))?;
    Ok(TcpListener::from(fd))
}
