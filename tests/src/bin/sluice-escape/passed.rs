//! Ways by sockets that were not made inside the tag: from before it, or from another process.

use std::io::{IoSliceMut, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use libc::{AF_INET, SOCK_RAW};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::job::{Job, Said, ask, datagram, tcp, udp};
use crate::sys::{self, Done, sa4, stop};
use crate::{kinds, uring};

const SENT: Done<Said> = Ok(Said::Sent);

// Kept open across `sluice run`: descriptor `--fd`.

pub fn kept_tcp_connected(job: &Job) -> Done<Said> {
    job.talk(&job.given()?)
}

pub fn kept_tcp(job: &Job) -> Done<Said> {
    let fd = job.given()?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

pub fn kept_udp(job: &Job) -> Done<Said> {
    sys::sendto(&job.given()?, job.bytes(), 0, Some(&job.v4()))?;
    SENT
}

pub fn kept_packet(job: &Job) -> Done<Said> {
    sys::sendto(&job.given()?, &kinds::frame(job), 0, Some(&kinds::link_address(job)?))?;
    SENT
}

/// What `sluice-escape before KIND` opens.
pub fn open(job: &Job, kind: &str) -> Done<OwnedFd> {
    match kind {
        "tcp" => tcp(AF_INET),
        "tcp-connected" => {
            let fd = tcp(AF_INET)?;
            sys::connect(&fd, &job.v4())?;
            Ok(fd)
        }
        "udp" => udp(AF_INET),
        "udp-connected" => {
            let fd = udp(AF_INET)?;
            sys::connect(&fd, &job.v4())?;
            Ok(fd)
        }
        "listener" => {
            let fd = tcp(AF_INET)?;
            sys::bind(&fd, &sa4(AF_INET, Ipv4Addr::UNSPECIFIED, 0))?;
            sys::listen(&fd)?;
            Ok(fd)
        }
        "packet" => sys::socket(libc::AF_PACKET, SOCK_RAW, 0),
        "raw" => sys::socket(AF_INET, SOCK_RAW, 253),
        _ => stop("before", Errno::EINVAL),
    }
}

// Opened by this process before it came into the tag.

pub fn before_tcp_connected(job: &Job) -> Done<Said> {
    let fd = open(job, "tcp-connected")?;
    ask("enter")?;
    job.talk(&fd)
}

pub fn before_tcp(job: &Job) -> Done<Said> {
    let fd = open(job, "tcp")?;
    ask("enter")?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

pub fn before_fast_open(job: &Job) -> Done<Said> {
    let fd = open(job, "tcp")?;
    ask("enter")?;
    sys::sendto(&fd, &job.request(), libc::MSG_FASTOPEN, Some(&job.v4()))?;
    crate::job::heard(&fd)
}

pub fn before_udp_connected(job: &Job) -> Done<Said> {
    let fd = open(job, "udp-connected")?;
    ask("enter")?;
    sys::send(&fd, job.bytes(), 0)?;
    SENT
}

pub fn before_udp(job: &Job) -> Done<Said> {
    let fd = open(job, "udp")?;
    ask("enter")?;
    sys::sendto(&fd, job.bytes(), 0, Some(&job.v4()))?;
    SENT
}

/// By a pipe into the socket: no send call on it.
pub fn before_udp_splice(job: &Job) -> Done<Said> {
    let fd = open(job, "udp-connected")?;
    ask("enter")?;
    let (out, into) = sys::step("pipe", nix::unistd::pipe())?;
    sys::step("write", nix::unistd::write(&into, job.bytes()))?;
    sys::splice(&out, &fd, job.bytes().len())?;
    SENT
}

pub fn before_listener(job: &Job) -> Done<Said> {
    let fd = open(job, "listener")?;
    ask("enter")?;
    crate::tcp::answer(job, &fd, "tcp")
}

pub fn before_ping(job: &Job) -> Done<Said> {
    let fd = datagram(AF_INET, libc::IPPROTO_ICMP)?;
    ask("enter")?;
    sys::sendto(&fd, &kinds::echo(job, 8), 0, Some(&sa4(AF_INET, job.to4, 0)))?;
    SENT
}

pub fn before_raw(job: &Job) -> Done<Said> {
    let fd = open(job, "raw")?;
    ask("enter")?;
    sys::sendto(&fd, job.bytes(), 0, Some(&sa4(AF_INET, job.to4, 0)))?;
    SENT
}

pub fn before_packet(job: &Job) -> Done<Said> {
    let fd = open(job, "packet")?;
    ask("enter")?;
    sys::sendto(&fd, &kinds::frame(job), 0, Some(&kinds::link_address(job)?))?;
    SENT
}

pub fn before_ring(job: &Job) -> Done<Said> {
    uring::from_before(job, false)
}

pub fn before_ring_polled(job: &Job) -> Done<Said> {
    uring::from_before(job, true)
}

// Passed by the helper, an untagged process of the same user.

/// The helper's end of the line; it gives what it is asked for by name.
fn helper(job: &Job) -> Done<UnixStream> {
    sys::io("unix connect", UnixStream::connect(job.dir.join(format!("give-{}", nix::unistd::geteuid()))))
}

fn receive(job: &Job, kind: &str) -> Done<OwnedFd> {
    let mut line = helper(job)?;
    // Whole, in one call: the helper reads once and may be gone before a second.
    sys::io("ask the helper", line.write_all(format!("{kind}\n").as_bytes()))?;
    received(&line)
}

/// The descriptor that comes with the next message.
fn received(line: &impl AsRawFd) -> Done<OwnedFd> {
    let mut byte = [0; 1];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let message = recvmsg::<()>(line.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
    let message = sys::step("recvmsg", message)?;
    for control in sys::step("recvmsg", message.cmsgs())? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let [fd] = fds.as_slice()
        {
            return sys::inherited(*fd);
        }
    }
    // The message came without its descriptor: somebody took it out.
    stop("SCM_RIGHTS", Errno::EACCES)
}

pub fn rights_tcp_connected(job: &Job) -> Done<Said> {
    job.talk(&receive(job, "tcp-connected")?)
}

pub fn rights_tcp(job: &Job) -> Done<Said> {
    let fd = receive(job, "tcp")?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

pub fn rights_udp_connected(job: &Job) -> Done<Said> {
    sys::send(&receive(job, "udp-connected")?, job.bytes(), 0)?;
    SENT
}

pub fn rights_udp(job: &Job) -> Done<Said> {
    sys::sendto(&receive(job, "udp")?, job.bytes(), 0, Some(&job.v4()))?;
    SENT
}

pub fn rights_listener(job: &Job) -> Done<Said> {
    crate::tcp::answer(job, &receive(job, "listener")?, "tcp")
}

pub fn rights_packet(job: &Job) -> Done<Said> {
    sys::sendto(&receive(job, "packet")?, &kinds::frame(job), 0, Some(&kinds::link_address(job)?))?;
    SENT
}

pub fn rights_raw(job: &Job) -> Done<Said> {
    sys::sendto(&receive(job, "raw")?, job.bytes(), 0, Some(&sa4(AF_INET, job.to4, 0)))?;
    SENT
}

/// A passed Unix socket in whose queue a network socket waits: what was looked at is not what comes out.
pub fn rights_nested(job: &Job) -> Done<Said> {
    let inner = received(&receive(job, "nested")?)?;
    sys::send(&inner, job.bytes(), 0)?;
    SENT
}

pub fn taken_tcp(job: &Job) -> Done<Said> {
    job.talk(&sys::pidfd_getfd(job.helper.pid, job.helper.tcp)?)
}

pub fn taken_udp(job: &Job) -> Done<Said> {
    sys::send(&sys::pidfd_getfd(job.helper.pid, job.helper.udp)?, job.bytes(), 0)?;
    SENT
}

/// The line that came with one call: whoever talks to the helper sends it whole, by packets or not.
pub fn line(stream: &mut UnixStream) -> String {
    let mut bytes = [0; 256];
    let n = stream.read(&mut bytes).unwrap_or_default();
    String::from_utf8_lossy(&bytes[..n]).trim().to_owned()
}
