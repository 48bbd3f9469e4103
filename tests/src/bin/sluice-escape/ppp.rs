//! Ways by PPP's sockets (`AF_PPPOX`), which take no right. What they send bears the PPP socket and no IPv4 or IPv6 one, so
//! the kernel runs no cgroup's packet program for it.

use std::os::fd::AsRawFd as _;

use libc::{AF_INET, SOCK_DGRAM, SOCK_STREAM};

use crate::job::{Job, Said, udp};
use crate::sys::{self, Done, sa4};

const AF_PPPOX: i32 = 24;
const PX_PROTO_OE: i32 = 0;
const PX_PROTO_OL2TP: i32 = 1;

/// What every address of the family begins with.
fn address(protocol: i32) -> Vec<u8> {
    let mut bytes = (AF_PPPOX as u16).to_ne_bytes().to_vec();
    bytes.extend(protocol.to_ne_bytes());
    bytes
}

/// L2TP in the datagrams of a UDP socket, which sends nothing itself: a tunnel, then a session in it (sockaddr_pppol2tp).
pub fn l2tp(job: &Job) -> Done<Said> {
    let to = sa4(AF_INET, job.to4, 1701);
    let carrier = udp(AF_INET)?;
    sys::connect(&carrier, &to)?;
    let at = |session: [u16; 2]| {
        let mut bytes = address(PX_PROTO_OL2TP);
        bytes.extend(0_i32.to_ne_bytes()); // this process's descriptor
        bytes.extend(carrier.as_raw_fd().to_ne_bytes());
        bytes.extend(&to);
        for number in [7, session[0], 8, session[1]] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes
    };
    let tunnel = sys::socket(AF_PPPOX, SOCK_DGRAM, PX_PROTO_OL2TP)?;
    sys::connect(&tunnel, &at([0, 0]))?;
    let session = sys::socket(AF_PPPOX, SOCK_DGRAM, PX_PROTO_OL2TP)?;
    sys::connect(&session, &at([3, 4]))?;
    sys::send(&session, job.bytes(), 0)?;
    Ok(Said::Sent)
}

/// A frame to any neighbour (sockaddr_pppox); the kernel asks for no session to be negotiated.
pub fn ethernet(job: &Job) -> Done<Said> {
    let fd = sys::socket(AF_PPPOX, SOCK_STREAM, PX_PROTO_OE)?;
    let mut to = address(PX_PROTO_OE);
    to.extend(5_u16.to_be_bytes()); // session
    to.extend(job.link);
    let end = to.len() + 16;
    to.extend(job.device.as_bytes());
    to.resize(end, 0);
    sys::connect(&fd, &to)?;
    sys::send(&fd, job.bytes(), 0)?;
    Ok(Said::Sent)
}
