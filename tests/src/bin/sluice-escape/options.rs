//! Ways by socket options, addresses and ports that lead past a redirection, or make a job look like the agent.

use libc::{AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET};

use crate::job::{Job, Said, tcp, udp};
use crate::sys::{self, Done, cmsg, sa4};
use crate::udp::{home_address, segment_routing};

pub fn device(job: &Job) -> Vec<u8> {
    [job.device.as_bytes(), &[0]].concat()
}

pub fn device_tcp(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::setsockopt(&fd, "SO_BINDTODEVICE", SOL_SOCKET, libc::SO_BINDTODEVICE, device(job))?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

pub fn device_udp(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::setsockopt(&fd, "SO_BINDTODEVICE", SOL_SOCKET, libc::SO_BINDTODEVICE, device(job))?;
    sys::sendto(&fd, job.bytes(), 0, Some(&job.v4()))?;
    Ok(Said::Sent)
}

/// By number (kernel 5.1).
pub fn interface_tcp(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::set(&fd, "SO_BINDTOIFINDEX", SOL_SOCKET, libc::SO_BINDTOIFINDEX, job.index()? as i32)?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

pub fn unicast_interface(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::setsockopt(&fd, "IP_UNICAST_IF", IPPROTO_IP, libc::IP_UNICAST_IF, job.index()?.to_be_bytes())?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

pub fn unicast_interface6(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET6)?;
    sys::setsockopt(&fd, "IPV6_UNICAST_IF", IPPROTO_IPV6, 76, job.index()?.to_be_bytes())?;
    sys::connect(&fd, &job.v6())?;
    job.talk(&fd)
}

/// A sticky IPV6_PKTINFO chooses source and link for a stream.
pub fn packet_info6(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET6)?;
    let info = [&job.own6.octets()[..], &job.index()?.to_ne_bytes()].concat();
    sys::setsockopt(&fd, "IPV6_PKTINFO", IPPROTO_IPV6, libc::IPV6_PKTINFO, info)?;
    sys::connect(&fd, &job.v6())?;
    job.talk(&fd)
}

pub fn bound_source(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::bind(&fd, &sa4(AF_INET, job.own4, 0))?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// From the agent's own address.
pub fn agent_source(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::bind(&fd, &sa4(AF_INET, job.agent4, 0))?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// The options in front of connect(), where a way to a listener on loopback would begin.
fn routed(job: &Job, option: &[u8]) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::setsockopt(&fd, "IP_OPTIONS", IPPROTO_IP, libc::IP_OPTIONS, option)?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

pub fn hop(kind: u8, job: &Job) -> Vec<u8> {
    [&[kind, 7, 4][..], &job.to4.octets(), &[0]].concat()
}

/// Loose source route by way of the far end (RFC 791, page 18).
pub fn loose_route(job: &Job) -> Done<Said> {
    routed(job, &hop(0x83, job))
}

pub fn strict_route(job: &Job) -> Done<Said> {
    routed(job, &hop(0x89, job))
}

/// Behind a no-operation, where a guard that reads the first byte only does not look.
pub fn hidden_route(job: &Job) -> Done<Said> {
    routed(job, &[&[1, 1, 1, 1][..], &hop(0x83, job)].concat())
}

/// On a v6 socket that speaks IPv4.
pub fn mapped_route(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET6)?;
    sys::setsockopt(&fd, "IP_OPTIONS", IPPROTO_IP, libc::IP_OPTIONS, hop(0x83, job))?;
    sys::connect(&fd, &job.mapped())?;
    job.talk(&fd)
}

/// Segment routing for a stream (RFC 8754): to the far end by way of the far end.
pub fn routing_header(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET6)?;
    let header = segment_routing(job.to6, job.to6);
    sys::setsockopt(&fd, "IPV6_RTHDR", IPPROTO_IPV6, libc::IPV6_RTHDR, header)?;
    sys::connect(&fd, &job.v6())?;
    job.talk(&fd)
}

/// The same inside the old option that takes control messages.
pub fn routing_options(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET6)?;
    let options = cmsg(IPPROTO_IPV6, libc::IPV6_RTHDR, &home_address(job.to6));
    sys::setsockopt(&fd, "IPV6_2292PKTOPTIONS", IPPROTO_IPV6, 6, options)?;
    sys::connect(&fd, &job.v6())?;
    job.talk(&fd)
}

/// Looks like a router: any source address. Needs a right.
pub fn transparent(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::set(&fd, "IP_TRANSPARENT", IPPROTO_IP, libc::IP_TRANSPARENT, 1)?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// Datagrams from another's address.
pub fn transparent_udp(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::set(&fd, "IP_TRANSPARENT", IPPROTO_IP, libc::IP_TRANSPARENT, 1)?;
    sys::bind(&fd, &sa4(AF_INET, job.agent4, 0))?;
    sys::sendto(&fd, job.bytes(), 0, Some(&job.v4()))?;
    Ok(Said::Sent)
}

/// To neighbours only: routes are left out.
pub fn no_route(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::set(&fd, "SO_DONTROUTE", SOL_SOCKET, libc::SO_DONTROUTE, 1)?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// Cloud metadata, by its addresses; the far end has them too.
pub fn metadata(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::connect(&fd, &sa4(AF_INET, std::net::Ipv4Addr::new(169, 254, 169, 254), 80))?;
    job.talk(&fd)
}

pub fn metadata6(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET6)?;
    let address = std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    sys::connect(&fd, &sys::sa6(AF_INET6, address, 80, 0))?;
    job.talk(&fd)
}

pub fn metadata_mapped(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET6)?;
    let address = std::net::Ipv4Addr::new(169, 254, 169, 254).to_ipv6_mapped();
    sys::connect(&fd, &sys::sa6(AF_INET6, address, 80, 0))?;
    job.talk(&fd)
}

/// DNS over TLS.
pub fn port853(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::connect(&fd, &job.at_port(853))?;
    job.talk(&fd)
}

/// What DNS over HTTPS asks, without the TLS that a client would put around it.
pub fn dns_over_https(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::connect(&fd, &job.at_port(80))?;
    let host = job.to4;
    let request = format!(
        "GET /{}?dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB HTTP/1.1\r\nHost: {host}\r\nAccept: application/dns-message\r\nConnection: close\r\n\r\n",
        job.marker
    );
    sys::send(&fd, request.as_bytes(), 0)?;
    crate::job::heard(&fd)
}
