//! Ways by other protocols and other address families.

use libc::{AF_INET, AF_INET6, AF_PACKET, IPPROTO_IP, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOL_SOCKET};

use crate::job::{Job, Said, call, datagram, heard, stream};
use crate::sys::{self, Done, sa4, sa6};

const SENT: Done<Said> = Ok(Said::Sent);
/// An IP protocol for experiments (RFC 3692).
const EXPERIMENT: i32 = 253;

pub fn udplite4(job: &Job) -> Done<Said> {
    sys::sendto(&datagram(AF_INET, libc::IPPROTO_UDPLITE)?, job.bytes(), 0, Some(&job.v4()))?;
    SENT
}

pub fn udplite6(job: &Job) -> Done<Said> {
    sys::sendto(&datagram(AF_INET6, libc::IPPROTO_UDPLITE)?, job.bytes(), 0, Some(&job.v6()))?;
    SENT
}

pub fn udplite_connect(job: &Job) -> Done<Said> {
    let fd = datagram(AF_INET, libc::IPPROTO_UDPLITE)?;
    sys::connect(&fd, &job.v4())?;
    sys::send(&fd, job.bytes(), 0)?;
    SENT
}

pub fn sctp(job: &Job) -> Done<Said> {
    let fd = stream(AF_INET, libc::IPPROTO_SCTP)?;
    sys::connect(&fd, &job.v4())?;
    sys::send(&fd, job.bytes(), 0)?;
    heard(&fd)
}

/// One socket, many associations: the first message makes one.
pub fn sctp_many(job: &Job) -> Done<Said> {
    let fd = sys::socket(AF_INET, SOCK_SEQPACKET, libc::IPPROTO_SCTP)?;
    sys::bounded(&fd, call())?;
    sys::sendto(&fd, job.bytes(), 0, Some(&job.at_port(7001)))?;
    heard(&fd)
}

/// The address list in a socket option instead of connect() (`SCTP_SOCKOPT_CONNECTX_OLD`).
pub fn sctp_connectx(job: &Job) -> Done<Said> {
    let fd = stream(AF_INET, libc::IPPROTO_SCTP)?;
    sys::setsockopt(&fd, "SCTP_CONNECTX", libc::IPPROTO_SCTP, 107, job.v4())?;
    sys::send(&fd, job.bytes(), 0)?;
    heard(&fd)
}

pub fn dccp(job: &Job) -> Done<Said> {
    let fd = sys::socket(AF_INET, 6, 33)?; // SOCK_DCCP, IPPROTO_DCCP
    sys::bounded(&fd, call())?;
    sys::set(&fd, "DCCP_SOCKOPT_SERVICE", 269, 2, 0x534c_5543)?;
    sys::connect(&fd, &job.v4())?;
    sys::send(&fd, job.bytes(), 0)?;
    heard(&fd)
}

/// L2TP's data packets without any tunnel: session 0x11223344 (RFC 3931); sockaddr_l2tpip.
pub fn l2tp(job: &Job) -> Done<Said> {
    let fd = sys::socket(AF_INET, SOCK_DGRAM, 115)?;
    let mut to = sa4(AF_INET, job.to4, 0);
    to[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    sys::sendto(&fd, job.bytes(), 0, Some(&to))?;
    SENT
}

/// An echo request from a datagram socket (kernel 3.0, `ping_group_range`).
pub fn ping4(job: &Job) -> Done<Said> {
    let fd = datagram(AF_INET, libc::IPPROTO_ICMP)?;
    sys::sendto(&fd, &echo(job, 8), 0, Some(&sa4(AF_INET, job.to4, 0)))?;
    heard(&fd)
}

pub fn ping6(job: &Job) -> Done<Said> {
    let fd = datagram(AF_INET6, libc::IPPROTO_ICMPV6)?;
    sys::sendto(&fd, &echo(job, 128), 0, Some(&sa6(AF_INET6, job.to6, 0, 0)))?;
    heard(&fd)
}

pub fn ping_connect(job: &Job) -> Done<Said> {
    let fd = datagram(AF_INET, libc::IPPROTO_ICMP)?;
    sys::connect(&fd, &sa4(AF_INET, job.to4, 0))?;
    sys::send(&fd, &echo(job, 8), 0)?;
    heard(&fd)
}

pub fn echo(job: &Job, kind: u8) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 1][..], job.bytes()].concat()
}

pub fn raw4(job: &Job) -> Done<Said> {
    let fd = sys::socket(AF_INET, SOCK_RAW, EXPERIMENT)?;
    sys::sendto(&fd, job.bytes(), 0, Some(&sa4(AF_INET, job.to4, 0)))?;
    SENT
}

pub fn raw6(job: &Job) -> Done<Said> {
    let fd = sys::socket(AF_INET6, SOCK_RAW, EXPERIMENT)?;
    sys::sendto(&fd, job.bytes(), 0, Some(&sa6(AF_INET6, job.to6, 0, 0)))?;
    SENT
}

pub fn raw_connect(job: &Job) -> Done<Said> {
    let fd = sys::socket(AF_INET, SOCK_RAW, EXPERIMENT)?;
    sys::connect(&fd, &sa4(AF_INET, job.to4, 0))?;
    sys::send(&fd, job.bytes(), 0)?;
    SENT
}

/// The whole header is ours: UDP from the agent's address.
pub fn header_included(job: &Job) -> Done<Said> {
    let fd = sys::socket(AF_INET, SOCK_RAW, libc::IPPROTO_RAW)?;
    sys::set(&fd, "IP_HDRINCL", IPPROTO_IP, libc::IP_HDRINCL, 1)?;
    sys::sendto(&fd, &udp_packet(job), 0, Some(&sa4(AF_INET, job.to4, 0)))?;
    SENT
}

/// A UDP datagram in an IPv4 packet; the checksums are zero or filled in by nobody, which a capture does not mind.
pub fn udp_packet(job: &Job) -> Vec<u8> {
    let length = 28 + job.bytes().len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0x12, 0x34, 0, 0, 64, 17, 0, 0]);
    packet.extend(job.agent4.octets());
    packet.extend(job.to4.octets());
    let sum: u32 = packet.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(4711_u16.to_be_bytes());
    packet.extend(job.port.to_be_bytes());
    packet.extend((length - 20).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(job.bytes());
    packet
}

/// `sockaddr_ll` of the far end's link address.
pub fn link_address(job: &Job) -> Done<Vec<u8>> {
    let mut address = (AF_PACKET as u16).to_ne_bytes().to_vec();
    address.extend(0x0800_u16.to_be_bytes());
    address.extend(job.index()?.to_ne_bytes());
    address.extend([0, 0, 0, 6]);
    address.extend(job.link);
    address.extend([0, 0]);
    Ok(address)
}

/// The frame around [`udp_packet`].
pub fn frame(job: &Job) -> Vec<u8> {
    [&job.link[..], &[2, 0, 0, 0, 0, 1], &[8, 0], &udp_packet(job)].concat()
}

pub fn packet_datagram(job: &Job) -> Done<Said> {
    let fd = sys::socket(AF_PACKET, SOCK_DGRAM, 0)?;
    sys::sendto(&fd, &udp_packet(job), 0, Some(&link_address(job)?))?;
    SENT
}

pub fn packet_raw(job: &Job) -> Done<Said> {
    let fd = sys::socket(AF_PACKET, SOCK_RAW, 0)?;
    sys::sendto(&fd, &frame(job), 0, Some(&link_address(job)?))?;
    SENT
}

/// The old kind of packet socket (`SOCK_PACKET`), which an AF_INET socket once was.
pub fn packet_old(job: &Job) -> Done<Said> {
    let fd = sys::socket(AF_INET, 10, 0x0008)?; // SOCK_PACKET, ETH_P_IP in network order
    let mut to = (AF_INET as u16).to_ne_bytes().to_vec();
    to.extend(job.device.as_bytes());
    to.resize(16, 0);
    to.extend([8, 0]);
    to.resize(18, 0);
    sys::sendto(&fd, &frame(job), 0, Some(&to))?;
    SENT
}

/// A ring shared with the kernel; no call bears the data. `PACKET_QDISC_BYPASS` leaves out traffic control.
pub fn packet_ring(job: &Job) -> Done<Said> {
    const SIZE: u32 = 4096;
    let fd = sys::socket(AF_PACKET, SOCK_RAW, 0)?;
    sys::bind(&fd, &link_address(job)?)?;
    sys::set(&fd, "PACKET_QDISC_BYPASS", libc::SOL_PACKET, 20, 1)?;
    let request = [SIZE, 1, SIZE, 1].map(u32::to_ne_bytes).concat(); // tpacket_req: one block, one frame
    sys::setsockopt(&fd, "PACKET_TX_RING", libc::SOL_PACKET, libc::PACKET_TX_RING, request)?;
    let ring = crate::mapped::Mapped::new(std::os::fd::AsRawFd::as_raw_fd(&fd), SIZE as usize, 0)?;
    let frame = frame(job);
    // tpacket_hdr of version 1: status (long), len, snaplen; data begin at TPACKET_ALIGN(sizeof) = 32.
    ring.write(32, &frame);
    ring.write(8, &(frame.len() as u32).to_ne_bytes());
    ring.write(0, &1_u64.to_ne_bytes()); // TP_STATUS_SEND_REQUEST
    sys::send(&fd, &[], 0)?;
    SENT
}

/// To ourselves by the virtual machine's own sockets: whoever listens there is outside of every network.
pub fn vsock(job: &Job) -> Done<Said> {
    // Without a loopback of its own the kernel would ask the host, which is not ours.
    if !std::path::Path::new("/sys/module/vsock_loopback").exists() {
        return sys::stop("vsock_loopback", nix::errno::Errno::ENODEV);
    }
    let fd = stream(libc::AF_VSOCK, 0)?;
    let mut to = (libc::AF_VSOCK as u16).to_ne_bytes().to_vec();
    to.extend([0, 0]);
    to.extend(u32::from(job.port).to_ne_bytes());
    to.extend(1_u32.to_ne_bytes()); // VMADDR_CID_LOCAL
    to.extend([0; 4]);
    sys::connect(&fd, &to)?;
    sys::send(&fd, format!("say {}\n", job.marker).as_bytes(), 0)?;
    crate::job::ask("seen")?;
    SENT
}

/// A socket of the virtual machine's family, that much alone: here nobody can be reached by it.
pub fn vsock_socket(_: &Job) -> Done<Said> {
    sys::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)?;
    SENT
}

/// SMC falls back to TCP with a peer that does not speak it.
pub fn smc(job: &Job) -> Done<Said> {
    let fd = stream(43, 0)?; // AF_SMC
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// SMC as an IP protocol (kernel 6.11).
pub fn smc_protocol(job: &Job) -> Done<Said> {
    let fd = stream(AF_INET, 256)?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// RxRPC: the kernel sends UDP from a socket of its own (Documentation/networking/rxrpc.rst).
pub fn rxrpc(job: &Job) -> Done<Said> {
    let fd = sys::socket(33, SOCK_DGRAM, AF_INET)?;
    sys::bounded(&fd, call())?;
    let address = |ip, port| {
        let mut bytes = 33_u16.to_ne_bytes().to_vec(); // AF_RXRPC
        bytes.extend(1_u16.to_ne_bytes()); // service
        bytes.extend((SOCK_DGRAM as u16).to_ne_bytes());
        bytes.extend(16_u16.to_ne_bytes());
        bytes.extend(sa4(AF_INET, ip, port));
        bytes.resize(36, 0);
        bytes
    };
    let mut near = address(std::net::Ipv4Addr::UNSPECIFIED, 0);
    near[2] = 0; // a client
    sys::bind(&fd, &near)?;
    let call = sys::cmsg(272, 1, &7_u64.to_ne_bytes()); // SOL_RXRPC, RXRPC_USER_CALL_ID
    sys::sendmsg(&fd, Some(&address(job.to4, job.port)), job.bytes(), &call, 0)?;
    // Its packets are sent by a thread of the kernel, a little later.
    crate::job::ask("seen")?;
    SENT
}

/// RDS: the kernel dials TCP by itself.
pub fn rds(job: &Job) -> Done<Said> {
    let fd = sys::socket(21, SOCK_SEQPACKET, 0)?;
    sys::bounded(&fd, call())?;
    sys::set(&fd, "SO_RDS_TRANSPORT", 276, 8, 2)?; // RDS_TRANS_TCP
    sys::bind(&fd, &sa4(AF_INET, job.own4, 4000))?;
    sys::sendto(&fd, job.bytes(), 0, Some(&sa4(AF_INET, job.to4, 4000)))?;
    crate::job::ask("seen")?;
    SENT
}

/// Families that Linux has had, but those that jobs need, the likeliest first: whether a socket can be had at all. Says
/// the first that can.
pub fn families(_: &Job) -> Done<Said> {
    let all = [
        40, 17, 44, 33, 43, 30, 21, 29, 31, 15, 4, 5, 9, 3, 6, 11, 12, 13, 19, 20, 22, 23, 24, 26, 28, 32,
        34, 35, 36, 37, 39, 41, 42, 45, 46,
    ];
    for family in all {
        for kind in [1, 2, 3, 5] {
            if sys::socket(family, kind, 0).is_ok() {
                println!("has family {family} type {kind}");
                return SENT;
            }
        }
    }
    sys::stop("socket", nix::errno::Errno::EPERM)
}

/// IP protocols that Linux has, but TCP, UDP and MPTCP: type and number.
const PROTOCOLS: [(i32, i32); 17] = [
    (2, 136),
    (1, 132),
    (5, 132),
    (6, 33),
    (2, 115),
    (2, 1),
    (2, 58),
    (3, 1),
    (3, 58),
    (3, 47),
    (3, 50),
    (3, 253),
    (3, 255),
    (1, 256),
    (5, 6),
    (3, 6),
    (3, 17),
];

/// Whether any of them can be had.
pub fn protocols(_: &Job) -> Done<Said> {
    for family in [AF_INET, AF_INET6] {
        for (kind, protocol) in PROTOCOLS {
            if sys::socket(family, kind, protocol).is_ok() {
                println!("has family {family} type {kind} protocol {protocol}");
                return SENT;
            }
        }
    }
    sys::stop("socket", nix::errno::Errno::EPERM)
}

/// The socket's priority and mark are no way out by themselves; a mark can choose another route. Needs a right.
pub fn mark(job: &Job) -> Done<Said> {
    let fd = crate::job::tcp(AF_INET)?;
    sys::set(&fd, "SO_MARK", SOL_SOCKET, libc::SO_MARK, 0x5a)?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}
