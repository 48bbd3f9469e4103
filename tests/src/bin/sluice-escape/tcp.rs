//! Ways by TCP and what looks like it: plain, Fast Open, MPTCP, and connections that are made in odd orders.

use std::net::Ipv4Addr;

use libc::{AF_INET, AF_INET6, AF_UNSPEC, IPPROTO_TCP, SOL_SOCKET};
use nix::errno::Errno;

use crate::job::{Job, Said, ask, heard, stream, tcp};
use crate::sys::{self, Done, sa4, sa6};

const MPTCP: i32 = libc::IPPROTO_MPTCP;

pub fn tcp4(job: &Job) -> Done<Said> {
    dial(job, AF_INET, IPPROTO_TCP, &job.v4())
}

pub fn tcp6(job: &Job) -> Done<Said> {
    dial(job, AF_INET6, IPPROTO_TCP, &job.v6())
}

pub fn mapped(job: &Job) -> Done<Said> {
    dial(job, AF_INET6, IPPROTO_TCP, &job.mapped())
}

pub fn mptcp4(job: &Job) -> Done<Said> {
    dial(job, AF_INET, MPTCP, &job.v4())
}

pub fn mptcp6(job: &Job) -> Done<Said> {
    dial(job, AF_INET6, MPTCP, &job.v6())
}

/// A scoped address ties the socket to a link by itself.
pub fn link_local(job: &Job) -> Done<Said> {
    let to = sa6(AF_INET6, "fe80::1".parse().unwrap_or(job.to6), job.port, job.index()?);
    dial(job, AF_INET6, IPPROTO_TCP, &to)
}

fn dial(job: &Job, family: i32, protocol: i32, to: &[u8]) -> Done<Said> {
    let fd = stream(family, protocol)?;
    sys::connect(&fd, to)?;
    job.talk(&fd)
}

pub fn nonblocking(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    let flags = |flag| sys::step("fcntl", nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(flag)));
    flags(nix::fcntl::OFlag::O_NONBLOCK)?;
    match sys::connect(&fd, &job.v4()) {
        Err(stop) if stop.errno != Errno::EINPROGRESS => return Err(stop),
        _ => {}
    }
    flags(nix::fcntl::OFlag::empty())?;
    job.talk(&fd)
}

pub fn fast_open_v4(job: &Job) -> Done<Said> {
    fast_open(job, AF_INET, IPPROTO_TCP, &job.v4())
}

pub fn fast_open_v6(job: &Job) -> Done<Said> {
    fast_open(job, AF_INET6, IPPROTO_TCP, &job.v6())
}

pub fn fast_open_mapped(job: &Job) -> Done<Said> {
    fast_open(job, AF_INET6, IPPROTO_TCP, &job.mapped())
}

pub fn fast_open_mptcp(job: &Job) -> Done<Said> {
    fast_open(job, AF_INET, MPTCP, &job.v4())
}

/// Data in the SYN, so that nothing of the three calls connect(), send() is left to look at.
fn fast_open(job: &Job, family: i32, protocol: i32, to: &[u8]) -> Done<Said> {
    let fd = stream(family, protocol)?;
    sys::sendto(&fd, &job.request(), libc::MSG_FASTOPEN, Some(to))?;
    heard(&fd)
}

pub fn fast_open_sendmmsg(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    let request = job.request();
    sys::sendmmsg(&fd, &job.v4(), &job.v4(), &request, libc::MSG_FASTOPEN)?;
    heard(&fd)
}

/// connect() that sends nothing until the first write.
pub fn fast_open_connect(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::set(&fd, "TCP_FASTOPEN_CONNECT", IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// A connection to loopback, which is left alone, dissolved, then the same socket to the far end.
pub fn again(job: &Job) -> Done<Said> {
    let listener = tcp(AF_INET)?;
    sys::bind(&listener, &sa4(AF_INET, Ipv4Addr::LOCALHOST, 0))?;
    sys::listen(&listener)?;
    let fd = tcp(AF_INET)?;
    sys::connect(&fd, &sa4(AF_INET, Ipv4Addr::LOCALHOST, sys::local_port(&listener)?))?;
    sys::connect(&fd, &sa4(AF_UNSPEC, Ipv4Addr::UNSPECIFIED, 0))?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// A taken connection, dissolved, then once more.
pub fn taken_again(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    // How the first ends does not matter.
    let _first = sys::connect(&fd, &job.v4());
    sys::connect(&fd, &sa4(AF_UNSPEC, Ipv4Addr::UNSPECIFIED, 0))?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// Both ends dial at once, from and to agreed ports: the SYN of the far end meets a socket that has sent its own.
pub fn simultaneous(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::set(&fd, "SO_REUSEADDR", SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    sys::bind(&fd, &sa4(AF_INET, job.own4, 0))?;
    let port = sys::local_port(&fd)?;
    // The far end knocks from port 7010 for a second; nobody listens there.
    ask(&format!("knock {port} 7010"))?;
    sys::connect(&fd, &job.at_port(7010))?;
    job.talk(&fd)
}

/// Many threads dial different places with one socket, so that a hook and its connect() might not belong together.
pub fn race(job: &Job) -> Done<Said> {
    for _ in 0..64 {
        let fd = tcp(AF_INET)?;
        let (near, far) = (job.nowhere(), job.v4());
        std::thread::scope(|scope| {
            for to in [&near, &far, &near, &far] {
                let fd = &fd;
                scope.spawn(move || sys::connect(fd, to));
            }
        });
        let again = sys::connect(&fd, &far);
        if again.as_ref().is_err_and(|stop| stop.errno != Errno::EISCONN) {
            again?;
        }
        if sys::send(&fd, &job.request(), 0).is_ok() && heard(&fd).is_ok_and(|s| s == Said::Answered) {
            return Ok(Said::Answered);
        }
    }
    Ok(Said::Sent)
}

/// The socket says that it is connected, without a handshake (tcp_repair, CRIU's way). Needs CAP_NET_ADMIN.
pub fn repair(job: &Job) -> Done<Said> {
    const TCP_REPAIR: i32 = 19;
    const TCP_REPAIR_WINDOW: i32 = 29;
    let fd = tcp(AF_INET)?;
    sys::bind(&fd, &sa4(AF_INET, job.own4, 0))?;
    sys::set(&fd, "TCP_REPAIR", IPPROTO_TCP, TCP_REPAIR, 1)?;
    sys::connect(&fd, &job.v4())?;
    // Nobody told us of a window: snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup.
    let window = [0, 0xffff, 0xffff, 0xffff, 0].map(u32::to_ne_bytes).concat();
    sys::setsockopt(&fd, "TCP_REPAIR_WINDOW", IPPROTO_TCP, TCP_REPAIR_WINDOW, window)?;
    sys::set(&fd, "TCP_REPAIR", IPPROTO_TCP, TCP_REPAIR, -1)?;
    job.talk(&fd)
}

/// No room is left beside the socket for what a kernel program would remember with it.
pub fn memory_full(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET6)?;
    fill(job, &fd)?;
    sys::connect(&fd, &job.mapped())?;
    job.talk(&fd)
}

/// Uses up `optmem_max` of an IPv6 socket with multicast groups, which have no other bound, and what is left with the
/// longest filter that fits.
pub fn fill(job: &Job, fd: &std::os::fd::OwnedFd) -> Done {
    let index = job.index()?.to_ne_bytes();
    for n in 0..8000_u16 {
        let group =
            [&[0xff, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77, 0x77][..], &n.to_be_bytes(), &index].concat();
        if sys::setsockopt(fd, "fill", libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, group).is_err() {
            break;
        }
    }
    let attach = |words: usize| {
        let program = [&6_u16.to_ne_bytes()[..], &[0; 2], &[0xff; 4]].concat().repeat(words);
        let mut fprog = (words as u16).to_ne_bytes().to_vec();
        fprog.resize(8, 0);
        fprog.extend((program.as_ptr() as u64).to_ne_bytes());
        // Fails as soon as there is no room, which is what it is for.
        sys::setsockopt(fd, "filter", SOL_SOCKET, libc::SO_ATTACH_FILTER, fprog).is_ok()
    };
    let _ = (1..=4096).rev().step_by(8).find(|words| attach(*words));
    Ok(())
}

/// A connection whose first write comes from pages, a pipe or a file.
pub fn splice(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::connect(&fd, &job.v4())?;
    let (out, into) = sys::step("pipe", nix::unistd::pipe())?;
    // The pages themselves are sent: nobody may write to them as long as somebody looks.
    let request = job.request().leak();
    sys::vmsplice(&into, request)?;
    sys::splice(&out, &fd, request.len())?;
    heard(&fd)
}

pub fn sendfile(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::connect(&fd, &job.v4())?;
    let path = job.dir.join(format!("file-{}", job.marker));
    sys::io("write", std::fs::write(&path, job.request()))?;
    let file = sys::io("open", std::fs::File::open(&path))?;
    sys::sendfile(&fd, &file, job.request().len())?;
    heard(&fd)
}

pub fn zero_copy(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::connect(&fd, &job.v4())?;
    sys::set(&fd, "SO_ZEROCOPY", SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
    sys::send(&fd, job.request().leak(), libc::MSG_ZEROCOPY)?;
    heard(&fd)
}

/// An upper-layer protocol in the kernel sends instead of TCP: kTLS.
pub fn ulp_tls(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::connect(&fd, &job.v4())?;
    sys::setsockopt(&fd, "TCP_ULP tls", IPPROTO_TCP, libc::TCP_ULP, b"tls\0")?;
    job.talk(&fd)
}

/// The TCP socket becomes an SMC socket before it dials (kernel 5.16).
pub fn ulp_smc(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::setsockopt(&fd, "TCP_ULP smc", IPPROTO_TCP, libc::TCP_ULP, b"smc\0")?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// An untagged server's port is shared, and what dials in from outside comes to us.
pub fn reuse_port(job: &Job) -> Done<Said> {
    inbound_shared(job, true)
}

pub fn inbound4(job: &Job) -> Done<Said> {
    inbound_shared(job, false)
}

fn inbound_shared(job: &Job, shared: bool) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    if shared {
        sys::set(&fd, "SO_REUSEPORT", SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    sys::bind(&fd, &sa4(AF_INET, Ipv4Addr::UNSPECIFIED, 0))?;
    sys::listen(&fd)?;
    answer(job, &fd, "tcp")
}

pub fn inbound6(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET6)?;
    sys::bind(&fd, &sa6(AF_INET6, std::net::Ipv6Addr::UNSPECIFIED, 0, 0))?;
    sys::listen(&fd)?;
    answer(job, &fd, "tcp6")
}

/// Asks the far end to dial in, and answers with the marker. The socket listens already.
pub fn answer(job: &Job, listener: &std::os::fd::OwnedFd, how: &str) -> Done<Said> {
    ask(&format!("{how} {}", sys::local_port(listener)?))?;
    let came = sys::accept(listener)?;
    sys::send(&came, job.bytes(), 0)?;
    // Until the far end has read it and closed.
    let _ = heard(&came);
    Ok(Said::Sent)
}
