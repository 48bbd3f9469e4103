//! Sockets that a process made before it was tagged. The programs see only sockets that are made in the tag's cgroup,
//! so these would stay a way out: the connected ones go on, and any can be connected anew.
//!
//! Two things are done to each internet socket of the process, through a duplicate of its descriptor
//! (`pidfd_getfd`, kernel 5.6). It is *sealed*: bound to the loopback device, so that no packet of it can leave the
//! host; only `CAP_NET_RAW` can undo that. And if it is connected, it is *destroyed* (`SOCK_DESTROY`, sock_diag(7)), so
//! that the process learns of it at once; where the kernel cannot, it is shut down.
//!
//! Not reached: sockets that another process holds or passes on later, and those registered with io_uring only.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, bind,
    getpeername, getsockname, recv, send, setsockopt, shutdown, socket, sockopt,
};
use rustix::net::sockopt::{socket_acceptconn, socket_cookie, socket_domain, socket_protocol, socket_type};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::config::Loopback;
use crate::warden::tags::Process;

/// Descriptors of one process that are looked at; the largest `RLIMIT_NOFILE` that systemd gives by default is half of
/// it.
const MAX_DESCRIPTORS: usize = 1_048_576;

/// What became of a process's sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Internet sockets that cannot send off the host any more.
    pub sealed: usize,
    /// Of these, connections that were ended.
    pub destroyed: usize,
    /// Connections that the kernel could not destroy and that were shut down in both directions.
    pub shut_down: usize,
    /// Listening sockets, left alone: what they accept is inbound.
    pub listening: usize,
    /// Sockets that could not be sealed, each with its reason (the first ten).
    pub left_open: Vec<String>,
    /// How many could not be sealed.
    pub left_open_count: usize,
}

impl Sealed {
    /// For `sluice tags`: what the user should know.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.sealed > 0 {
            notes.push(format!(
                "{} sockets from before were sealed, {} connections ended, {} shut down",
                self.sealed, self.destroyed, self.shut_down
            ));
        }
        if self.listening > 0 {
            notes.push(format!("left open: {} listening sockets", self.listening));
        }
        if self.left_open_count > 0 {
            notes.push(format!("left open: {} sockets: {}", self.left_open_count, self.left_open.join("; ")));
        }
        notes
    }

    fn left(&mut self, why: String) {
        self.left_open_count += 1;
        if self.left_open.len() < 10 {
            self.left_open.push(why);
        }
    }
}

/// Seals the internet sockets of a process that stands still in its tag. With [`Loopback::Pass`], connections to
/// loopback addresses go on. Blocks for microseconds a socket.
///
/// # Errors
/// When the process's descriptors cannot be listed (it is gone, or we lack `CAP_SYS_PTRACE`).
pub fn seal(process: &Process, loopback: Loopback) -> io::Result<Sealed> {
    let diag = Diag::open(process.pid());
    let mut sealed = Sealed::default();
    for entry in fs::read_dir(format!("/proc/{}/fd", process.pid()))?.take(MAX_DESCRIPTORS) {
        let entry = entry?;
        // The process stands still, so a link that cannot be read is a descriptor that went before.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let inode = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']'));
        // Sockets that lead to this host only need no duplicate, which some sandboxes refuse us.
        let Some(inode) = inode.filter(|_| !leads_nowhere(&entry.path())) else { continue };
        let Some(number) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        match pidfd_getfd(process.pidfd(), number, PidfdGetfdFlags::empty()) {
            Ok(copy) => seal_one(&copy, loopback, diag.as_ref(), &mut sealed),
            Err(e) => sealed.left(format!("descriptor {number}, socket {inode}: {e}")),
        }
    }
    Ok(sealed)
}

/// Whether the descriptor at this path below /proc is a Unix or netlink socket, by the kernel's own word for its protocol
/// (`system.sockprotoname`, Linux 3.7). Not by /proc/PID/net/unix: its lines hold names that processes choose, line feeds
/// included, so that a socket's line there may have been written by the process itself.
fn leads_nowhere(descriptor: &Path) -> bool {
    let mut name = [0; 32];
    let length = rustix::fs::getxattr(descriptor, "system.sockprotoname", &mut name).unwrap_or(0);
    let name = &name[..length.min(name.len())];
    name.starts_with(b"UNIX") || name.starts_with(b"NETLINK")
}

fn seal_one(copy: &OwnedFd, loopback: Loopback, diag: Result<&Diag, &io::Error>, sealed: &mut Sealed) {
    let domain = match socket_domain(copy) {
        Ok(domain) => domain,
        Err(e) => return sealed.left(format!("of unknown family: {e}")),
    };
    if domain == rustix::net::AddressFamily::UNIX || domain == rustix::net::AddressFamily::NETLINK {
        return; // neither leaves the host by itself
    }
    if domain != rustix::net::AddressFamily::INET && domain != rustix::net::AddressFamily::INET6 {
        return sealed.left(format!("of family {}", domain.as_raw()));
    }
    if socket_acceptconn(copy).unwrap_or(false) {
        sealed.listening += 1;
        return;
    }
    let bound = setsockopt(copy, sockopt::BindToDevice, &"lo".into());
    if let Err(e) = bound {
        sealed.left(format!("not to be bound to loopback: {e}"));
    } else {
        sealed.sealed += 1;
    }
    let peer = getpeername::<SockaddrStorage>(copy.as_raw_fd()).ok().and_then(|a| address(&a));
    let Some(peer) = peer else { return };
    if peer.ip().to_canonical().is_loopback() && loopback == Loopback::Pass {
        return;
    }
    let destroyed =
        diag.map_err(|e| io::Error::new(e.kind(), e.to_string())).and_then(|d| d.destroy(copy, peer));
    match destroyed {
        Ok(()) => sealed.destroyed += 1,
        Err(_) if shutdown(copy.as_raw_fd(), nix::sys::socket::Shutdown::Both).is_ok() => {
            sealed.shut_down += 1
        }
        Err(e) if bound.is_err() => sealed.left(format!("connected to {peer}: {e}")),
        Err(_) => {} // sealed: no packet passes either way
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|a| SocketAddr::from((a.ip(), a.port())));
    v4.or_else(|| storage.as_sockaddr_in6().map(|a| SocketAddr::from((a.ip(), a.port()))))
}

/// A sock_diag socket in the process's network namespace.
struct Diag {
    netlink: OwnedFd,
}

/// `SOCK_DESTROY`, linux/sock_diag.h.
const SOCK_DESTROY: u16 = 21;

impl Diag {
    fn open(pid: u32) -> io::Result<Self> {
        let theirs = format!("/proc/{pid}/ns/net");
        // Most processes share our namespace, and entering another takes CAP_SYS_ADMIN, which the packaged unit lacks.
        let same = fs::read_link(&theirs)? == fs::read_link("/proc/thread-self/ns/net")?;
        // setns() changes the calling thread alone, so a thread that ends afterwards does it.
        let open = move || -> io::Result<OwnedFd> {
            if !same {
                nix::sched::setns(fs::File::open(theirs)?, nix::sched::CloneFlags::CLONE_NEWNET)?;
            }
            let netlink = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                Some(SockProtocol::NetlinkSockDiag),
            )?;
            bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            let patience = nix::sys::time::TimeVal::new(2, 0);
            setsockopt(&netlink, sockopt::ReceiveTimeout, &patience)?;
            Ok(netlink)
        };
        let thread = std::thread::Builder::new().name("sock-diag".into()).spawn(open)?;
        let netlink = thread.join().map_err(|_| io::Error::other("the sock_diag thread panicked"))??;
        Ok(Self { netlink })
    }

    /// Destroys the socket behind `copy`; its cookie makes sure that it is this one.
    fn destroy(&self, copy: &OwnedFd, peer: SocketAddr) -> io::Result<()> {
        let local = getsockname::<SockaddrStorage>(copy.as_raw_fd())?;
        let local = address(&local).ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        let protocol = match socket_type(copy)? {
            t if t == rustix::net::SocketType::STREAM => libc::IPPROTO_TCP,
            t if t == rustix::net::SocketType::DGRAM => libc::IPPROTO_UDP,
            _ => return Err(io::Error::from(io::ErrorKind::Unsupported)),
        };
        let own = socket_protocol(copy)?.map_or(protocol, |p| p.as_raw().get().cast_signed());
        if own != protocol {
            return Err(io::Error::from(io::ErrorKind::Unsupported)); // MPTCP and its like: shut down instead
        }
        let cookie = socket_cookie(copy)?;
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        let message = diag_message(SOCK_DESTROY, flags, protocol, local, peer, cookie);
        send(self.netlink.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0u8; 1024];
        let n = recv(self.netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        outcome(&answer[..n])
    }
}

/// nlmsghdr and inet_diag_req_v2 (linux/inet_diag.h): numbers in host order, addresses and ports in network order.
pub(super) fn diag_message(
    kind: u16,
    flags: i32,
    protocol: i32,
    local: SocketAddr,
    peer: SocketAddr,
    cookie: u64,
) -> Vec<u8> {
    let mut body = Vec::with_capacity(56);
    // A v6 socket is looked up as v6 even when it speaks v4, by its v4-mapped addresses.
    let v6 = local.is_ipv6();
    body.push(if v6 { libc::AF_INET6 } else { libc::AF_INET } as u8);
    body.push(u8::try_from(protocol).unwrap_or_default());
    body.extend([0, 0]); // extensions, padding
    body.extend(u32::MAX.to_ne_bytes()); // any state
    body.extend(local.port().to_be_bytes());
    body.extend(peer.port().to_be_bytes());
    for ip in [local.ip(), peer.ip()] {
        body.extend(match (v6, ip) {
            (true, IpAddr::V6(ip)) => ip.octets(),
            (true, IpAddr::V4(ip)) => ip.to_ipv6_mapped().octets(),
            (false, ip) => {
                let mut octets = [0; 16];
                if let IpAddr::V4(ip) = ip.to_canonical() {
                    octets[..4].copy_from_slice(&ip.octets());
                }
                octets
            }
        });
    }
    // The lookup wants the device that packets of the socket come in by: sealed or led to a listener, that is loopback,
    // always number 1.
    body.extend(1u32.to_ne_bytes());
    body.extend(u32::try_from(cookie & 0xffff_ffff).unwrap_or_default().to_ne_bytes());
    body.extend(u32::try_from(cookie >> 32).unwrap_or_default().to_ne_bytes());

    let flags = u16::try_from(flags).unwrap_or_default();
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend(u32::try_from(16 + body.len()).unwrap_or_default().to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // sequence, port
    message.extend(body);
    message
}

/// An acknowledgement is NLMSG_ERROR with 0; `EOPNOTSUPP`: the kernel lacks `CONFIG_INET_DIAG_DESTROY`.
fn outcome(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match (kind.map(i32::from), code) {
        (Some(libc::NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(libc::NLMSG_ERROR), Some(code)) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

#[cfg(test)]
mod tests;
