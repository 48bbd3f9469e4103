//! Ways by io_uring: the same calls made by the kernel on our behalf, later, or by a thread of its own.
#![expect(
    unsafe_code,
    reason = "entries name memory; everything they name outlives the wait for their completion"
)]

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};
use libc::{AF_INET, SOCK_STREAM};
use nix::errno::Errno;

use crate::job::{Job, Said, call, heard, tcp, udp};
use crate::sys::{self, Done, Message, Stop};

const SENT: Done<Said> = Ok(Said::Sent);

fn ring(polled: bool) -> Done<IoUring> {
    let mut builder = IoUring::builder();
    if polled {
        builder.setup_sqpoll(100);
    }
    sys::io("io_uring_setup", builder.build(8))
}

/// Submits one entry and waits for its completion.
fn run(ring: &mut IoUring, step: &'static str, entry: &squeue::Entry) -> Done<i32> {
    // SAFETY: the callers keep what the entry names until this returns, which it does after the completion.
    unsafe { ring.submission().push(entry).map_err(|_| Stop { step, errno: Errno::EBUSY })? };
    let time = types::Timespec::from(call() + Duration::from_secs(1));
    let arguments = types::SubmitArgs::new().timespec(&time);
    sys::io("io_uring_enter", ring.submitter().submit_with_args(1, &arguments))?;
    match ring.completion().next().map(|done| done.result()) {
        Some(result) if result < 0 => sys::stop(step, Errno::from_raw(-result)),
        Some(result) => Ok(result),
        None => sys::stop(step, Errno::ETIMEDOUT),
    }
}

fn connect_and_send(job: &Job, ring: &mut IoUring, flags: squeue::Flags) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    stream(job, ring, &fd, flags)
}

fn stream(job: &Job, ring: &mut IoUring, fd: &OwnedFd, flags: squeue::Flags) -> Done<Said> {
    let (to, request) = (job.v4(), job.request());
    let at = types::Fd(fd.as_raw_fd());
    let connect = opcode::Connect::new(at, to.as_ptr().cast(), to.len() as u32).build().flags(flags);
    run(ring, "uring connect", &connect)?;
    let send = opcode::Send::new(at, request.as_ptr(), request.len() as u32).build().flags(flags);
    run(ring, "uring send", &send)?;
    heard(fd)
}

pub fn connect(job: &Job) -> Done<Said> {
    connect_and_send(job, &mut ring(false)?, squeue::Flags::empty())
}

/// By a worker of the kernel.
pub fn connect_async(job: &Job) -> Done<Said> {
    connect_and_send(job, &mut ring(false)?, squeue::Flags::ASYNC)
}

/// By a thread of the kernel that polls: this process makes no call at all.
pub fn connect_polled(job: &Job) -> Done<Said> {
    connect_and_send(job, &mut ring(true)?, squeue::Flags::empty())
}

/// The socket itself is made by the ring (kernel 5.19).
pub fn socket(job: &Job) -> Done<Said> {
    let mut ring = ring(false)?;
    let made = run(&mut ring, "uring socket", &opcode::Socket::new(AF_INET, SOCK_STREAM, 0).build())?;
    // SAFETY: the kernel just gave this descriptor to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(made as RawFd) };
    sys::bounded(&fd, call())?;
    stream(job, &mut ring, &fd, squeue::Flags::empty())
}

fn sendmsg(job: &Job, polled: bool) -> Done<Said> {
    let fd = udp(AF_INET)?;
    let message = Message::new(Some(job.v4()), job.bytes().to_vec());
    let entry = opcode::SendMsg::new(types::Fd(fd.as_raw_fd()), message.header()).build();
    run(&mut ring(polled)?, "uring sendmsg", &entry)?;
    SENT
}

pub fn sendmsg_plain(job: &Job) -> Done<Said> {
    sendmsg(job, false)
}

pub fn sendmsg_polled(job: &Job) -> Done<Said> {
    sendmsg(job, true)
}

/// Zero-copy with an address of its own (kernel 6.0).
pub fn send_zc(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    let (to, bytes) = (job.v4(), job.bytes().to_vec());
    let entry = opcode::SendZc::new(types::Fd(fd.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32)
        .dest_addr(to.as_ptr().cast())
        .dest_addr_len(to.len() as u32)
        .build();
    run(&mut ring(false)?, "uring send_zc", &entry)?;
    SENT
}

/// TCP Fast Open by the ring.
pub fn fast_open(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    let message = Message::new(Some(job.v4()), job.request());
    let entry = opcode::SendMsg::new(types::Fd(fd.as_raw_fd()), message.header())
        .flags(libc::MSG_FASTOPEN as u32)
        .build();
    run(&mut ring(false)?, "uring fastopen", &entry)?;
    heard(&fd)
}

/// setsockopt() by the ring (kernel 6.7).
fn option(fd: &OwnedFd, step: &'static str, name: i32, value: &[u8]) -> Done {
    let at = types::Fd(fd.as_raw_fd());
    let (level, name) = (libc::IPPROTO_IP as u32, name as u32);
    let set = opcode::SetSockOpt::new(at, level, name, value.as_ptr().cast(), value.len() as u32).build();
    run(&mut ring(false)?, step, &set).map(drop)
}

pub fn join_group(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    option(&fd, "uring IP_ADD_MEMBERSHIP", libc::IP_ADD_MEMBERSHIP, &crate::udp::membership4(job))?;
    crate::udp::linger(&fd)
}

pub fn loose_route(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    option(&fd, "uring IP_OPTIONS", libc::IP_OPTIONS, &crate::options::hop(0x83, job))?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// A ring from before the tag with a socket registered in it: its file table is no descriptor table.
pub fn from_before(job: &Job, polled: bool) -> Done<Said> {
    let fd = udp(AF_INET)?;
    sys::connect(&fd, &job.v4())?;
    let mut ring = ring(polled)?;
    sys::io("register", ring.submitter().register_files(&[fd.as_raw_fd()]))?;
    drop(fd);
    crate::job::ask("enter")?;
    let bytes = job.bytes().to_vec();
    let entry = opcode::Send::new(types::Fixed(0), bytes.as_ptr(), bytes.len() as u32).build();
    run(&mut ring, "uring send", &entry)?;
    SENT
}
