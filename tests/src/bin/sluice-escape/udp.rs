//! Ways by UDP: every call that sends a datagram, and every doubt about where it goes.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use libc::{AF_INET, AF_INET6, AF_UNSPEC, IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET, SOL_UDP};

use crate::job::{Job, Said, ask, udp};
use crate::sys::{self, Done, cmsg, sa4, sa6};

const SENT: Done<Said> = Ok(Said::Sent);
/// RFC 3678: the same number for IPv4 and IPv6.
const MCAST_JOIN_GROUP: i32 = 42;

pub fn connect4(job: &Job) -> Done<Said> {
    connected(job, AF_INET, &job.v4())
}

pub fn connect6(job: &Job) -> Done<Said> {
    connected(job, AF_INET6, &job.v6())
}

pub fn connect_mapped(job: &Job) -> Done<Said> {
    connected(job, AF_INET6, &job.mapped())
}

/// An IPv6 socket takes an IPv4 address as it is.
pub fn connect6_inet(job: &Job) -> Done<Said> {
    connected(job, AF_INET6, &job.v4())
}

fn connected(job: &Job, family: i32, to: &[u8]) -> Done<Said> {
    let fd = udp(family)?;
    sys::connect(&fd, to)?;
    sys::send(&fd, job.bytes(), 0)?;
    SENT
}

pub fn sendto4(job: &Job) -> Done<Said> {
    to(job, AF_INET, &job.v4())
}

pub fn sendto6(job: &Job) -> Done<Said> {
    to(job, AF_INET6, &job.v6())
}

pub fn sendto_mapped(job: &Job) -> Done<Said> {
    to(job, AF_INET6, &job.mapped())
}

pub fn sendto6_inet(job: &Job) -> Done<Said> {
    to(job, AF_INET6, &job.v4())
}

/// `AF_UNSPEC` is taken for `AF_INET`.
pub fn sendto_unspec(job: &Job) -> Done<Said> {
    to(job, AF_INET, &sa4(AF_UNSPEC, job.to4, job.port))
}

pub fn link_local(job: &Job) -> Done<Said> {
    let address = "fe80::1".parse().unwrap_or(job.to6);
    to(job, AF_INET6, &sa6(AF_INET6, address, job.port, job.index()?))
}

/// QUIC's port.
pub fn quic(job: &Job) -> Done<Said> {
    to(job, AF_INET, &job.at_port(443))
}

/// DNS over TLS' port, which has a datagram form (RFC 8094).
pub fn dtls853(job: &Job) -> Done<Said> {
    to(job, AF_INET, &job.at_port(853))
}

/// Multicast DNS asks every neighbour.
pub fn mdns(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    let link = [0, 0, 0, 0].into_iter().chain(job.own4.octets()).collect::<Vec<u8>>();
    sys::setsockopt(&fd, "IP_MULTICAST_IF", IPPROTO_IP, libc::IP_MULTICAST_IF, link)?;
    sys::sendto(&fd, job.bytes(), 0, Some(&sa4(AF_INET, Ipv4Addr::new(224, 0, 0, 251), 5353)))?;
    SENT
}

fn to(job: &Job, family: i32, to: &[u8]) -> Done<Said> {
    sys::sendto(&udp(family)?, job.bytes(), 0, Some(to))?;
    SENT
}

pub fn sendmsg4(job: &Job) -> Done<Said> {
    sys::sendmsg(&udp(AF_INET)?, Some(&job.v4()), job.bytes(), &[], 0)?;
    SENT
}

/// The first goes where it may, the second does not.
pub fn sendmmsg4(job: &Job) -> Done<Said> {
    sys::sendmmsg(&udp(AF_INET)?, &job.nowhere(), &job.v4(), job.bytes(), 0)?;
    SENT
}

/// Connected to where it may, then sent elsewhere.
pub fn elsewhere(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::connect(&fd, &job.nowhere())?;
    from_us(job, &fd)
}

/// To the far end from our own address, whatever the socket's is by now.
fn from_us(job: &Job, fd: &OwnedFd) -> Done<Said> {
    let info = [&[0; 4][..], &job.own4.octets(), &[0; 4]].concat();
    let control = cmsg(IPPROTO_IP, libc::IP_PKTINFO, &info);
    sys::sendmsg(fd, Some(&job.v4()), job.bytes(), &control, 0)?;
    SENT
}

pub fn elsewhere6(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET6)?;
    sys::connect(&fd, &sa6(AF_INET6, Ipv6Addr::LOCALHOST, 9, 0))?;
    sys::sendto(&fd, job.bytes(), 0, Some(&job.v6()))?;
    SENT
}

/// Connected to where it may, dissolved, connected again.
pub fn again(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::connect(&fd, &job.nowhere())?;
    sys::connect(&fd, &sa4(AF_UNSPEC, Ipv4Addr::UNSPECIFIED, 0))?;
    sys::connect(&fd, &job.v4())?;
    sys::send(&fd, job.bytes(), 0)?;
    SENT
}

/// Held back until the cork is drawn.
pub fn cork(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::set(&fd, "UDP_CORK", SOL_UDP, libc::UDP_CORK, 1)?;
    let (first, rest) = job.bytes().split_at(4);
    sys::sendto(&fd, first, 0, Some(&job.v4()))?;
    sys::sendto(&fd, rest, 0, Some(&job.v4()))?;
    sys::set(&fd, "UDP_CORK", SOL_UDP, libc::UDP_CORK, 0)?;
    SENT
}

/// Begun where it may, ended elsewhere.
pub fn cork_elsewhere(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::sendto(&fd, b"", libc::MSG_MORE, Some(&job.nowhere()))?;
    sys::sendto(&fd, job.bytes(), 0, Some(&job.v4()))?;
    sys::sendto(&fd, job.bytes(), 0, Some(&job.v4()))?;
    SENT
}

/// One call, many datagrams (kernel 4.18).
pub fn segments(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::set(&fd, "UDP_SEGMENT", SOL_UDP, libc::UDP_SEGMENT, job.bytes().len() as i32)?;
    sys::sendto(&fd, &job.bytes().repeat(3), 0, Some(&job.v4()))?;
    SENT
}

pub fn zero_copy(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::set(&fd, "SO_ZEROCOPY", SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
    sys::sendto(&fd, job.bytes().to_vec().leak(), libc::MSG_ZEROCOPY, Some(&job.v4()))?;
    SENT
}

pub fn splice(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::connect(&fd, &job.v4())?;
    let (out, into) = sys::step("pipe", nix::unistd::pipe())?;
    // The page itself is sent: nobody may write to it as long as somebody looks.
    sys::vmsplice(&into, job.bytes().to_vec().leak())?;
    sys::splice(&out, &fd, job.bytes().len())?;
    SENT
}

/// Too large for one packet: what an egress program sees are fragments.
pub fn fragments(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    let long = [job.bytes(), &[b'.'; 4000], job.bytes()].concat();
    sys::sendto(&fd, &long, 0, Some(&job.v4()))?;
    SENT
}

/// The source address and the link come with the message.
pub fn packet_info(job: &Job) -> Done<Said> {
    let info = [&job.index()?.to_ne_bytes()[..], &job.own4.octets(), &[0; 4]].concat();
    let control = cmsg(IPPROTO_IP, libc::IP_PKTINFO, &info);
    sys::sendmsg(&udp(AF_INET)?, Some(&job.v4()), job.bytes(), &control, 0)?;
    SENT
}

pub fn bound_source(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::bind(&fd, &sa4(AF_INET, job.own4, 0))?;
    sys::sendto(&fd, job.bytes(), 0, Some(&job.v4()))?;
    SENT
}

/// To an allowed place by way of the far end: a source route that comes with the message, no socket option
/// (RFC 791, page 18).
pub fn route_in_message(job: &Job) -> Done<Said> {
    let mut route = vec![0x83, 7, 4];
    route.extend(job.to4.octets());
    route.push(0);
    let control = cmsg(IPPROTO_IP, libc::IP_RETOPTS, &route);
    sys::sendmsg(&udp(AF_INET)?, Some(&job.nowhere()), job.bytes(), &control, 0)?;
    SENT
}

/// The same for IPv6: a type 2 routing header (RFC 6275), the only one that messages may bear.
pub fn route_in_message6(job: &Job) -> Done<Said> {
    let control = cmsg(IPPROTO_IPV6, libc::IPV6_RTHDR, &home_address(job.to6));
    let nowhere = sa6(AF_INET6, Ipv6Addr::LOCALHOST, 9, 0);
    sys::sendmsg(&udp(AF_INET6)?, Some(&nowhere), job.bytes(), &control, 0)?;
    SENT
}

/// Type 2, one address.
pub fn home_address(by: Ipv6Addr) -> Vec<u8> {
    [&[0, 2, 2, 1, 0, 0, 0, 0][..], &by.octets()].concat()
}

/// Type 4, two segments, the last first; the kernel puts in the next header.
pub fn segment_routing(by: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let mut header = vec![0, 4, 4, 1, 1, 0, 0, 0];
    header.extend(to.octets());
    header.extend(by.octets());
    header
}

/// An IPv6 socket becomes an IPv4 one.
pub fn address_form(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET6)?;
    sys::connect(&fd, &sa6(AF_INET6, Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 9, 0))?;
    sys::set(&fd, "IPV6_ADDRFORM", IPPROTO_IPV6, libc::IPV6_ADDRFORM, AF_INET)?;
    from_us(job, &fd)
}

pub fn broadcast(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::set(&fd, "SO_BROADCAST", SOL_SOCKET, libc::SO_BROADCAST, 1)?;
    let [a, b, c, _] = job.own4.octets();
    sys::sendto(&fd, job.bytes(), 0, Some(&sa4(AF_INET, Ipv4Addr::new(a, b, c, 255), job.port)))?;
    SENT
}

pub fn multicast6(job: &Job) -> Done<Said> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    to(job, AF_INET6, &sa6(AF_INET6, all_nodes, job.port, job.index()?))
}

/// The kernel tells the neighbours which group was joined: three bytes of ours a report (RFC 3376).
pub fn join_group(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::setsockopt(&fd, "IP_ADD_MEMBERSHIP", IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, membership4(job))?;
    linger(&fd)
}

/// `ip_mreq`: the group, then the link's address.
pub fn membership4(job: &Job) -> Vec<u8> {
    [sluice_tests::escape::group4(&job.marker), job.own4.octets()].concat()
}

/// The same for IPv6: twelve bytes a report (RFC 3810).
pub fn join_group6(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET6)?;
    sys::setsockopt(&fd, "IPV6_JOIN_GROUP", IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, membership6(job)?)?;
    linger(&fd)
}

/// `ipv6_mreq`: the group, then the link's number.
pub fn membership6(job: &Job) -> Done<Vec<u8>> {
    let mut request = vec![0xff, 0x05, 0, 0];
    request.extend(job.bytes());
    request.resize(16, 0);
    request.extend(job.index()?.to_ne_bytes());
    Ok(request)
}

/// `group_req` (RFC 3678): the link, then the group.
fn group_request(job: &Job, group: Vec<u8>) -> Done<Vec<u8>> {
    let mut request = job.index()?.to_ne_bytes().to_vec();
    request.extend([0; 4]);
    request.extend(group);
    request.resize(136, 0);
    Ok(request)
}

/// By the option that is the same for both families.
pub fn join_group_anew(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    let group = sa4(AF_INET, sluice_tests::escape::group4(&job.marker).into(), 0);
    sys::setsockopt(&fd, "MCAST_JOIN_GROUP", IPPROTO_IP, MCAST_JOIN_GROUP, group_request(job, group)?)?;
    linger(&fd)
}

pub fn join_group6_anew(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET6)?;
    let mut group = [0xff, 0x05, 0, 0].to_vec();
    group.extend(job.bytes());
    group.resize(16, 0);
    let octets: [u8; 16] = group.try_into().expect("sixteen");
    let group = sa6(AF_INET6, octets.into(), 0, 0);
    sys::setsockopt(&fd, "MCAST_JOIN_GROUP", IPPROTO_IPV6, MCAST_JOIN_GROUP, group_request(job, group)?)?;
    linger(&fd)
}

/// A group, from one source only.
pub fn join_source(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    let group = sluice_tests::escape::group4(&job.marker);
    let request = [group, job.own4.octets(), job.to4.octets()].concat();
    sys::setsockopt(&fd, "IP_ADD_SOURCE_MEMBERSHIP", IPPROTO_IP, libc::IP_ADD_SOURCE_MEMBERSHIP, request)?;
    linger(&fd)
}

/// The socket lives on until the far end has seen the report, or a second has passed: it is sent a little later.
pub fn linger(_fd: &OwnedFd) -> Done<Said> {
    ask("seen")?;
    SENT
}

pub fn memory_full(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET6)?;
    crate::tcp::fill(job, &fd)?;
    sys::sendto(&fd, job.bytes(), 0, Some(&job.mapped()))?;
    SENT
}

/// Binds, asks the far end for a datagram, and answers the sender.
pub fn reply(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::bind(&fd, &sa4(AF_INET, Ipv4Addr::UNSPECIFIED, 0))?;
    answer(job, &fd, false)
}

/// The same, connected to the sender first.
pub fn reply_connected(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::bind(&fd, &sa4(AF_INET, Ipv4Addr::UNSPECIFIED, 0))?;
    answer(job, &fd, true)
}

fn answer(job: &Job, fd: &OwnedFd, connect: bool) -> Done<Said> {
    ask(&format!("udp {}", sys::local_port(fd)?))?;
    let mut bytes = [0; 64];
    let (_, from) = sys::recvfrom(fd, &mut bytes)?;
    if connect {
        sys::connect(fd, &from)?;
        sys::send(fd, job.bytes(), 0)?;
    } else {
        sys::sendto(fd, job.bytes(), 0, Some(&from))?;
    }
    SENT
}

/// A question with the marker as its first label.
fn question(job: &Job) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [job.marker.as_str(), "tunnel", "example", "test"] {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// DNS to a server of the job's choice.
pub fn dns(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::sendto(&fd, &question(job), 0, Some(&job.at_port(53)))?;
    // What comes back, if anything, is the resolver's.
    let _ = crate::job::heard(&fd);
    SENT
}

/// The same over TCP.
pub fn dns_tcp(job: &Job) -> Done<Said> {
    let fd = crate::job::tcp(AF_INET)?;
    sys::connect(&fd, &job.at_port(53))?;
    let question = question(job);
    sys::send(&fd, &[&(question.len() as u16).to_be_bytes()[..], &question].concat(), 0)?;
    crate::job::heard(&fd)
}

/// To port 53, but no DNS.
pub fn not_dns(job: &Job) -> Done<Said> {
    to(job, AF_INET, &sa4(AF_INET, job.to4, 53))
}
