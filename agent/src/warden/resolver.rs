//! The datagram sockets that tagged processes' questions to name servers are led to, and the host's own name servers.
//! As the listeners they are reachable from loopback only, on privileged ports.
//!
//! Not here: reading a question, which is the gate's. Other network namespaces' sockets are made the same way, inside them.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};

use super::listen::{Error, FreeBind6, no_ipv6};
use super::notify;

/// Ports are looked for from here …
const FIRST: u16 = 599;
/// … down to here: below the listeners' own.
const LAST: u16 = 513;
/// Bytes of questions that wait for the gate, each socket (the kernel doubles it). A short question takes up 768, and a tag may
/// have [`agent_ebpf::DNS_BURST`] of them on the way at once: twice that leaves room for the others'.
const QUEUE: usize = 768 * agent_ebpf::DNS_BURST as usize;
/// Name of the sockets in systemd's descriptor store.
const KEPT_NAME: &str = "sluice-resolver";
/// Where the host says which name servers it asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How many of them count (glibc's MAXNS).
const SERVERS: usize = 3;
/// A resolv.conf is at most this large.
const MAX_FILE: u64 = 64 * 1024;

/// The resolver's sockets in one network namespace.
#[derive(Debug)]
pub struct Resolver {
    /// On every address of loopback.
    pub v4: UdpSocket,
    /// On `[::1]`; none where the namespace has no IPv6.
    pub v6: Option<UdpSocket>,
}

impl Resolver {
    /// Makes them in the network namespace of the calling thread.
    ///
    /// # Errors
    /// No right to privileged ports, or none free.
    pub fn open() -> Result<Self, Error> {
        let v4 = first_free(IpAddr::V4(Ipv4Addr::UNSPECIFIED))?.ok_or(Error::NoPort)?;
        let v6 = match first_free(IpAddr::V6(Ipv6Addr::LOCALHOST)) {
            Ok(found) => Some(found.ok_or(Error::NoPort)?),
            Err(Error::Listener { source, .. }) if no_ipv6(&source) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { v4, v6 })
    }

    /// Makes them at these ports: those of the agent's own namespace, which the kernel programs lead to in all of them.
    ///
    /// # Errors
    /// As [`Resolver::open`]; the port is taken.
    pub fn open_at(ports: (u16, u16)) -> Result<Self, Error> {
        let v4 = open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), ports.0), false)?;
        let v6 = match ports.1 {
            0 => None,
            // An address that is not there yet, since the loopback device is down, will be.
            port => match open(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port), true) {
                Err(Error::Listener { source, .. }) if no_ipv6(&source) => None,
                opened => Some(opened?),
            },
        };
        Ok(Self { v4, v6 })
    }

    /// Those that systemd kept for us, or new ones, which it is asked to keep.
    ///
    /// # Errors
    /// As [`Resolver::open`]; what systemd passed cannot be used.
    pub fn kept_or_new() -> Result<Self, Error> {
        let kept = notify::kept().map_err(Error::Kept)?;
        let ours = kept.into_iter().filter(|(name, _)| name == KEPT_NAME).map(|(_, socket)| socket);
        if let Some(resolver) = Self::from_kept(ours.collect()).map_err(Error::Kept)? {
            return Ok(resolver);
        }
        let resolver = Self::open()?;
        for socket in resolver.sockets() {
            notify::keep(KEPT_NAME, socket);
        }
        Ok(resolver)
    }

    /// Takes over sockets that systemd kept, in any order.
    ///
    /// # Errors
    /// A descriptor is no socket with an address.
    pub fn from_kept(kept: Vec<OwnedFd>) -> io::Result<Option<Self>> {
        let (mut v4, mut v6) = (None, None);
        for fd in kept {
            let socket = UdpSocket::from(fd);
            match socket.local_addr()? {
                SocketAddr::V4(_) => v4 = Some(socket),
                SocketAddr::V6(_) => v6 = Some(socket),
            }
        }
        Ok(v4.map(|v4| Self { v4, v6 }))
    }

    /// All of them, the IPv4 one first.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(&self.v4).chain(&self.v6).map(AsFd::as_fd)
    }

    /// Their ports, for the kernel programs: IPv4's and IPv6's, which is 0 where there is none.
    ///
    /// # Errors
    /// A socket has no address.
    pub fn ports(&self) -> io::Result<(u16, u16)> {
        let port = |socket: &UdpSocket| socket.local_addr().map(|address| address.port());
        Ok((port(&self.v4)?, self.v6.as_ref().map_or(Ok(0), port)?))
    }
}

fn first_free(ip: IpAddr) -> Result<Option<UdpSocket>, Error> {
    for port in (LAST..=FIRST).rev() {
        match open(SocketAddr::new(ip, port), false) {
            Err(Error::Listener { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {}
            opened => return opened.map(Some),
        }
    }
    Ok(None)
}

/// `early`: the address may be missing for now.
fn open(address: SocketAddr, early: bool) -> Result<UdpSocket, Error> {
    let failed = |what| move |errno: Errno| Error::Listener { what, address, source: errno.into() };
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Datagram, flags, None).map_err(failed("make"))?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true).map_err(failed("configure"))?;
    } else {
        // The reply must leave from the address that the question was sent to: which of 127.83.0.0/16 it was is said
        // beside each datagram.
        setsockopt(&fd, sockopt::Ipv4PacketInfo, &true).map_err(failed("configure"))?;
    }
    if early {
        setsockopt(&fd, FreeBind6, &1).map_err(failed("configure"))?;
    }
    // The second is cut at `net.core.rmem_max`: for a namespace over whose network we have no rights.
    setsockopt(&fd, sockopt::RcvBufForce, &QUEUE)
        .or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &QUEUE))
        .map_err(failed("configure"))?;
    // Neither SO_REUSEADDR nor SO_REUSEPORT: for datagrams both would let another process share the port.
    setsockopt(&fd, sockopt::BindToDevice, &"lo".into()).map_err(failed("bind to lo"))?;
    bind(fd.as_fd().as_raw_fd(), &SockaddrStorage::from(address)).map_err(failed("bind"))?;
    Ok(UdpSocket::from(fd))
}

/// The host's name servers, as they were told to the gate last.
#[derive(Debug, Default)]
pub struct HostServers(Vec<SocketAddr>);

impl HostServers {
    /// As they were told last.
    pub fn told(&self) -> &[SocketAddr] {
        &self.0
    }

    /// Reads them anew: what they are now, if that is something else. A file that cannot be read changes nothing.
    pub fn changed(&mut self) -> Option<Vec<SocketAddr>> {
        let found = match servers(Path::new(RESOLV_CONF)) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!("{RESOLV_CONF}: {error}");
                return None;
            }
        };
        (found != self.0).then(|| {
            self.0.clone_from(&found);
            found
        })
    }
}

/// The name servers of a resolv.conf(5), at most three; glibc's default, the host itself, when it names none or is not
/// there.
fn servers(path: &Path) -> io::Result<Vec<SocketAddr>> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => drop(file.take(MAX_FILE).read_to_end(&mut text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(parse(&String::from_utf8_lossy(&text)))
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten().and_then(server)
    });
    let mut servers: Vec<SocketAddr> = named.take(SERVERS).collect();
    if servers.is_empty() {
        servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
    }
    servers
}

/// An address as resolv.conf has it; a link-local one may name its interface: `fe80::1%eth0`.
fn server(text: &str) -> Option<SocketAddr> {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    match (address.parse().ok()?, zone) {
        (ip, None) => Some(SocketAddr::new(ip, 53)),
        (IpAddr::V6(ip), Some(zone)) => {
            let scope = zone.parse().ok().or_else(|| nix::net::if_::if_nametoindex(zone).ok())?;
            Some(SocketAddrV6::new(ip, 53, 0, scope).into())
        }
        (IpAddr::V4(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_as_glibc_reads_it() {
        let text = "# nameserver 192.0.2.9\nsearch example\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\n\
                    nameserver fe80::1%1\nnameserver 192.0.2.4\nnameserver nonsense\n";
        let found: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%1]:53"]);
        assert_eq!(parse("").first().map(ToString::to_string).as_deref(), Some("127.0.0.1:53"));
        let missing = servers(Path::new("/nonexistent/resolv.conf")).expect("as an empty one");
        assert_eq!(missing.len(), 1);
    }
}
