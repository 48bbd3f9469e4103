//! A packet capture of one network namespace: what went over its links, as the kernel had it (packet(7)). For the far end
//! of a space's veth, where whatever leaves a tag untaken must pass.
//!
//! It judges nothing: the test says which frames are worth keeping.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, getsockopt, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::unistd::pipe2;
use nix::{getsockopt_impl, sockopt_impl};

/// Frames that are kept; more are an error, since a test that keeps so many shows nothing.
const KEPT: usize = 10_000;

/// Room for frames that the reader has not fetched yet.
const QUEUE: usize = 64 << 20;

/// `tpacket_stats` of linux/if_packet.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    packets: u32,
    drops: u32,
}

sockopt_impl!(
    /// `PACKET_STATISTICS`: frames since the last question, and those among them that found no room.
    PacketStatistics,
    GetOnly,
    libc::SOL_PACKET,
    libc::PACKET_STATISTICS,
    Statistics
);

/// One frame that came in over a link.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// What an IP packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// From.
    pub source: IpAddr,
    /// To.
    pub target: IpAddr,
    /// `IPPROTO_…`; for IPv6 the first header after the fixed one.
    pub protocol: u8,
    /// Source and target port, where the protocol has them in its first four bytes (TCP, UDP, UDP-Lite, SCTP, DCCP) and
    /// it is the first fragment.
    pub ports: Option<(u16, u16)>,
}

impl Frame {
    /// The IP packet in it; `None`: something else.
    pub fn packet(&self) -> Option<Packet> {
        let (ip, head, rest): (_, _, &[u8]) = match self.ethertype()? {
            0x0800 => {
                let ip = self.bytes.get(14..34)?;
                let length = usize::from(ip[0] & 0xf) * 4;
                let first = u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff == 0;
                let rest = if first { self.bytes.get(14 + length..)? } else { &[] };
                let address =
                    |at: usize| IpAddr::from(Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]));
                ((address(12), address(16)), ip[9], rest)
            }
            0x86dd => {
                let ip = self.bytes.get(14..54)?;
                let address = |at: usize| {
                    let octets: [u8; 16] = ip[at..at + 16].try_into().unwrap_or_default();
                    IpAddr::from(Ipv6Addr::from(octets))
                };
                ((address(8), address(24)), ip[6], self.bytes.get(54..)?)
            }
            _ => return None,
        };
        let ports = match (head, rest) {
            (6 | 17 | 33 | 132 | 136, [a, b, c, d, ..]) => {
                Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
            }
            _ => None,
        };
        Some(Packet { source: ip.0, target: ip.1, protocol: head, ports })
    }

    /// What is in it: `0x0800` is IPv4.
    pub fn ethertype(&self) -> Option<u16> {
        Some(u16::from_be_bytes([*self.bytes.get(12)?, *self.bytes.get(13)?]))
    }

    /// Whether it is the link's own business: ARP, or IPv6 neighbour discovery and multicast listening, which the kernel
    /// does for itself.
    pub fn is_neighbourly(&self) -> bool {
        match (self.ethertype(), self.packet()) {
            (Some(0x0806), _) => true,
            // Hop-by-hop options (multicast listener reports), or ICMPv6 types 133 to 137 and 143.
            (_, Some(Packet { protocol: 0, source: IpAddr::V6(_), .. })) => {
                self.bytes.get(54) == Some(&58) && self.bytes.get(62) == Some(&143)
            }
            (_, Some(Packet { protocol: 58, .. })) => matches!(self.bytes.get(54), Some(133..=137 | 143)),
            _ => false,
        }
    }

    /// Whether it is the kernel's report of the multicast groups that the host is in (IGMPv3, RFC 3376 §4.2). It repeats one a
    /// while later, for whoever joined or left long ago.
    pub fn is_group_report(&self) -> bool {
        let routers = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 22));
        let head = 14 + self.bytes.get(14).map_or(0, |byte| usize::from(byte & 0xf) * 4);
        self.packet().is_some_and(|packet| packet.protocol == 2 && packet.target == routers)
            && self.bytes.get(head) == Some(&0x22)
    }

    /// Whether it is a TCP segment that begins nothing and carries nothing: an acknowledgement, end or reset of a
    /// connection that began before, or the kernel's own reset of a segment that is nobody's.
    pub fn is_afterthought(&self) -> bool {
        let (Some(Packet { protocol, .. }), Some(kind)) = (self.packet(), self.ethertype()) else {
            return false;
        };
        // Behind a routing header (RFC 8200 §4.4), or at once.
        let routing = match (protocol, self.bytes.get(54..56)) {
            (6, _) => 0,
            (43, Some(&[6, eights])) if kind == 0x86dd => (usize::from(eights) + 1) * 8,
            _ => return false,
        };
        let field = |at: usize| {
            self.bytes.get(at..at + 2).map(|two| usize::from(u16::from_be_bytes([two[0], two[1]])))
        };
        // Where TCP begins, and what the IP header says of the length: Ethernet may fill short frames up.
        let (tcp, length) = match kind {
            0x0800 => {
                let head = usize::from(self.bytes[14] & 0xf) * 4;
                (14 + head, field(16).and_then(|all| all.checked_sub(head)))
            }
            _ => (54 + routing, field(18).and_then(|all| all.checked_sub(routing))),
        };
        let (Some(offset), Some(flags)) = (self.bytes.get(tcp + 12), self.bytes.get(tcp + 13)) else {
            return false;
        };
        flags & 0x02 == 0 && length == Some(usize::from(offset >> 4) * 4)
    }

    /// Whether `marker` is anywhere in it.
    pub fn contains(&self, marker: &[u8]) -> bool {
        !marker.is_empty() && memchr::memmem::find(&self.bytes, marker).is_some()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.packet() {
            Some(Packet { source, target, protocol, ports: Some((from, to)) }) => {
                write!(f, "{source}:{from} > {target}:{to} protocol {protocol}")?;
            }
            Some(Packet { source, target, protocol, ports: None }) => {
                write!(f, "{source} > {target} protocol {protocol}")?;
            }
            None => write!(f, "ethertype {:#06x?}", self.ethertype().unwrap_or_default())?,
        }
        write!(f, ", {} bytes", self.bytes.len())
    }
}

/// What a capture found.
#[derive(Debug)]
pub struct Captured {
    /// Frames that came in, kept or not: a capture that saw none proves nothing.
    pub seen: u64,
    /// Those that were worth keeping, in their order.
    pub kept: Vec<Frame>,
}

/// A capture at work until [`Capture::end`], or until it is dropped.
#[derive(Debug)]
pub struct Capture {
    /// Closed to end it.
    stop: OwnedFd,
    reader: JoinHandle<Result<Captured>>,
}

impl Capture {
    /// Captures what comes *in* over every link but loopback in the network namespace at `namespace`
    /// (`/proc/PID/ns/net`), from now on, and keeps those frames of which `keep` says so.
    ///
    /// # Errors
    /// Not root, or the namespace is gone.
    pub fn start(namespace: &Path, keep: impl Fn(&Frame) -> bool + Send + 'static) -> Result<Self> {
        Self::of(namespace, false, keep)
    }

    /// The same for a namespace whose traffic is on loopback: what is sent over any link, loopback too.
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub fn loopback(namespace: &Path, keep: impl Fn(&Frame) -> bool + Send + 'static) -> Result<Self> {
        Self::of(namespace, true, keep)
    }

    fn of(namespace: &Path, loopback: bool, keep: impl Fn(&Frame) -> bool + Send + 'static) -> Result<Self> {
        let namespace = File::open(namespace).with_context(|| namespace.display().to_string())?;
        // setns is per thread.
        let opened = std::thread::spawn(move || -> Result<OwnedFd> {
            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).context("setns")?;
            open().context("a packet socket")
        });
        let packets = opened.join().map_err(|_| anyhow::anyhow!("the opening thread panicked"))??;
        // Closed in whatever is started meanwhile: the end of it must be ours to tell.
        let (stopped, stop) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let reader = std::thread::spawn(move || read(&packets, &stopped, loopback, keep));
        Ok(Self { stop, reader })
    }

    /// Ends it once what was sent before is read.
    ///
    /// # Errors
    /// The kernel dropped frames, or too many were kept.
    pub fn end(self) -> Result<Captured> {
        drop(self.stop);
        self.reader.join().map_err(|_| anyhow::anyhow!("the capture panicked"))?
    }
}

fn open() -> io::Result<OwnedFd> {
    let packets = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::EthAll,
    )?;
    setsockopt(&packets, sockopt::RcvBufForce, &QUEUE)?;
    Ok(packets)
}

fn read(
    packets: &OwnedFd,
    stopped: &OwnedFd,
    loopback: bool,
    keep: impl Fn(&Frame) -> bool,
) -> Result<Captured> {
    let mut captured = Captured { seen: 0, kept: Vec::new() };
    let mut buffer = vec![0; 1 << 16];
    loop {
        let mut either = [
            PollFd::new(packets.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut either, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => bail!("waiting for frames: {error}"),
        }
        let ends = either[1].revents().is_some_and(|events| !events.is_empty());
        while let Some(length) = next(packets, &mut buffer, loopback)? {
            let Some(length) = length else { continue };
            captured.seen += 1;
            let frame = Frame { bytes: buffer[..length].to_vec() };
            if keep(&frame) {
                captured.kept.push(frame);
                ensure!(
                    captured.kept.len() < KEPT,
                    "{KEPT} frames are worth keeping: {:?}",
                    captured.kept[0]
                );
            }
        }
        if ends {
            let lost = getsockopt(packets, PacketStatistics)?;
            ensure!(lost.drops == 0, "the kernel dropped {} of {} frames", lost.drops, lost.packets);
            return Ok(captured);
        }
    }
}

/// The next frame's length. `None`: there is none now; `Some(None)`: one that is not asked for.
fn next(packets: &OwnedFd, buffer: &mut [u8], loopback: bool) -> Result<Option<Option<usize>>> {
    let (length, link) = match recvfrom::<LinkAddr>(packets.as_raw_fd(), buffer) {
        Err(Errno::EAGAIN) => return Ok(None),
        // The link went.
        Err(Errno::ENETDOWN) => return Ok(Some(None)),
        received => received.context("reading a frame")?,
    };
    let link = link.context("a frame without a link")?;
    let sent = link.pkttype() == libc::PACKET_OUTGOING;
    // Over loopback each frame is seen twice, as it is sent and as it comes.
    let asked = if loopback { sent } else { !sent && link.hatype() != libc::ARPHRD_LOOPBACK };
    Ok(Some(asked.then_some(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP segment over IPv4 or IPv6 with these flags and so many bytes behind its header.
    fn segment(v6: bool, flags: u8, data: u8) -> Frame {
        let mut bytes = vec![0; 12];
        bytes.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0] });
        let mut ip = if v6 { vec![0; 40] } else { vec![0x45; 20] };
        if v6 {
            ip[4..7].copy_from_slice(&[0, 20 + data, 6]);
        } else {
            (ip[2], ip[3], ip[6], ip[7], ip[9]) = (0, 40 + data, 0, 0, 6);
        }
        bytes.extend(ip);
        let mut tcp = vec![0; 20 + usize::from(data)];
        (tcp[12], tcp[13]) = (0x50, flags);
        bytes.extend(tcp);
        bytes.resize(bytes.len().max(60), 0); // Ethernet fills short frames up
        Frame { bytes }
    }

    #[test]
    fn what_begins_or_carries_something_is_no_afterthought() {
        for v6 in [false, true] {
            for (flags, data, afterthought) in [
                (0x04, 0, true),
                (0x10, 0, true),
                (0x11, 0, true),
                (0x02, 0, false),
                (0x12, 0, false),
                (0x18, 1, false),
            ] {
                assert_eq!(
                    segment(v6, flags, data).is_afterthought(),
                    afterthought,
                    "{v6} {flags:#x} {data}"
                );
                // The same behind a routing header of two addresses.
                let mut routed = segment(v6, flags, data);
                if v6 {
                    (routed.bytes[19], routed.bytes[20]) = (60 + data, 43);
                    let header = [6, 4].into_iter().chain([0; 38]);
                    routed.bytes.splice(54..54, header);
                    assert_eq!(routed.is_afterthought(), afterthought, "routed {flags:#x} {data}");
                }
            }
        }
    }
    #[test]
    fn only_the_kernels_report_of_groups_is_one() {
        let report = |target: [u8; 4], kind: u8| {
            let mut bytes = vec![0; 12];
            bytes.extend([0x08, 0]);
            let mut ip = vec![0; 24];
            (ip[0], ip[3], ip[9]) = (0x46, 40, 2);
            ip[16..20].copy_from_slice(&target);
            bytes.extend(ip);
            bytes.extend([kind, 0, 0, 0, 0, 0, 0, 1]);
            Frame { bytes }.is_group_report()
        };
        assert!(report([224, 0, 0, 22], 0x22));
        assert!(!report([224, 0, 0, 22], 0x16) && !report([192, 0, 2, 7], 0x22));
    }
}
