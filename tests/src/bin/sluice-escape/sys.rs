//! System calls as an attacker makes them: addresses and options are bytes, so that nothing on the way here corrects
//! what the kernel should refuse. Each failure says which step failed with which errno.
#![expect(
    unsafe_code,
    reason = "calls that no safe wrapper makes: wrong families, odd options, foreign memory"
)]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use libc::{c_int, c_long};
use nix::errno::Errno;

/// Where a way ended.
#[derive(Clone, Debug)]
pub struct Stop {
    /// The call that failed.
    pub step: &'static str,
    /// Why.
    pub errno: Errno,
}

pub type Done<T = ()> = Result<T, Stop>;

/// A stop that no errno stands for.
pub fn stop<T>(step: &'static str, errno: Errno) -> Done<T> {
    Err(Stop { step, errno })
}

fn check(step: &'static str, result: c_long) -> Done<usize> {
    usize::try_from(result).map_err(|_| Stop { step, errno: Errno::last() })
}

/// A nix result with its step.
pub fn step<T>(step: &'static str, result: nix::Result<T>) -> Done<T> {
    result.map_err(|errno| Stop { step, errno })
}

/// The same of the standard library.
pub fn io<T>(step: &'static str, result: std::io::Result<T>) -> Done<T> {
    result.map_err(|e| Stop { step, errno: Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)) })
}

/// `sockaddr_in` with any family.
pub fn sa4(family: c_int, address: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut bytes = (family as u16).to_ne_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend(address.octets());
    bytes.resize(16, 0);
    bytes
}

/// `sockaddr_in6` with any family.
pub fn sa6(family: c_int, address: Ipv6Addr, port: u16, scope: u32) -> Vec<u8> {
    let mut bytes = (family as u16).to_ne_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(address.octets());
    bytes.extend(scope.to_ne_bytes());
    bytes
}

/// `sockaddr_un`; a name that begins with NUL is abstract.
pub fn sun(path: &[u8]) -> Vec<u8> {
    let mut bytes = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    bytes.extend(path);
    if path.first() != Some(&0) {
        bytes.push(0);
    }
    bytes
}

/// One control message.
pub fn cmsg(level: c_int, kind: c_int, data: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + data.len() as u64).to_ne_bytes().to_vec();
    bytes.extend(level.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Done<OwnedFd> {
    // SAFETY: no pointers; a descriptor that comes is new and owned here.
    unsafe {
        let fd = check("socket", c_long::from(libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol)))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

pub fn connect(fd: &impl AsRawFd, to: &[u8]) -> Done {
    // SAFETY: the buffer with its size.
    let done = unsafe { libc::connect(fd.as_raw_fd(), to.as_ptr().cast(), to.len() as u32) };
    check("connect", c_long::from(done)).map(drop)
}

pub fn bind(fd: &impl AsRawFd, to: &[u8]) -> Done {
    // SAFETY: the buffer with its size.
    let done = unsafe { libc::bind(fd.as_raw_fd(), to.as_ptr().cast(), to.len() as u32) };
    check("bind", c_long::from(done)).map(drop)
}

pub fn listen(fd: &impl AsRawFd) -> Done {
    // SAFETY: no pointers.
    check("listen", c_long::from(unsafe { libc::listen(fd.as_raw_fd(), 8) })).map(drop)
}

pub fn accept(fd: &impl AsRawFd) -> Done<OwnedFd> {
    // SAFETY: null pointers are allowed here; the descriptor is new and owned here.
    unsafe {
        let new =
            libc::accept4(fd.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC);
        Ok(OwnedFd::from_raw_fd(check("accept", c_long::from(new))? as RawFd))
    }
}

/// The port that a socket is bound to.
pub fn local_port(fd: &impl AsRawFd) -> Done<u16> {
    let mut bytes = [0_u8; 28];
    let mut length = bytes.len() as u32;
    // SAFETY: the buffer with its size.
    let done = unsafe { libc::getsockname(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut length) };
    check("getsockname", c_long::from(done))?;
    Ok(u16::from_be_bytes([bytes[2], bytes[3]]))
}

pub fn send(fd: &impl AsRawFd, bytes: &[u8], flags: c_int) -> Done {
    sendto(fd, bytes, flags, None)
}

pub fn sendto(fd: &impl AsRawFd, bytes: &[u8], flags: c_int, to: Option<&[u8]>) -> Done {
    let (at, length) = to.map_or((std::ptr::null(), 0), |to| (to.as_ptr(), to.len() as u32));
    let flags = flags | libc::MSG_NOSIGNAL;
    // SAFETY: the buffers with their sizes, or none.
    let done =
        unsafe { libc::sendto(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags, at.cast(), length) };
    check("sendto", done as c_long).map(drop)
}

/// A message header over buffers that outlive it.
fn header(to: Option<&[u8]>, parts: &mut [libc::iovec], control: &[u8]) -> libc::msghdr {
    // SAFETY: an all-zero msghdr names nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    if let Some(to) = to {
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = to.len() as u32;
    }
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len();
    if !control.is_empty() {
        message.msg_control = control.as_ptr().cast_mut().cast();
        message.msg_controllen = control.len();
    }
    message
}

fn part(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

pub fn sendmsg(fd: &impl AsRawFd, to: Option<&[u8]>, bytes: &[u8], control: &[u8], flags: c_int) -> Done {
    let mut parts = [part(bytes)];
    let message = header(to, &mut parts, control);
    // SAFETY: the header's buffers live until the call returns; the kernel only reads them.
    let done = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags | libc::MSG_NOSIGNAL) };
    check("sendmsg", done as c_long).map(drop)
}

/// The same message twice, the first to `first`, the second to `second`.
pub fn sendmmsg(fd: &impl AsRawFd, first: &[u8], second: &[u8], bytes: &[u8], flags: c_int) -> Done {
    let (mut one, mut two) = ([part(bytes)], [part(bytes)]);
    let mut messages = [
        libc::mmsghdr { msg_hdr: header(Some(first), &mut one, &[]), msg_len: 0 },
        libc::mmsghdr { msg_hdr: header(Some(second), &mut two, &[]), msg_len: 0 },
    ];
    // SAFETY: two headers whose buffers live until the call returns.
    let done = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), 2, flags) };
    match check("sendmmsg", c_long::from(done))? {
        2 => Ok(()),
        _ => send(fd, b"", 0), // asks for the errno that the second met
    }
}

/// The kernel's message of a `sendmsg` for io_uring: kept alive by the caller.
pub struct Message {
    _to: Vec<u8>,
    _bytes: Vec<u8>,
    _part: Box<[libc::iovec; 1]>,
    header: Box<libc::msghdr>,
}

impl Message {
    pub fn new(to: Option<Vec<u8>>, bytes: Vec<u8>) -> Self {
        let mut parts = Box::new([part(&bytes)]);
        let header = Box::new(header(to.as_deref(), &mut *parts, &[]));
        Self { _to: to.unwrap_or_default(), _bytes: bytes, _part: parts, header }
    }

    pub fn header(&self) -> *const libc::msghdr {
        &raw const *self.header
    }
}

pub fn recv(fd: &impl AsRawFd, bytes: &mut [u8]) -> Done<usize> {
    loop {
        // SAFETY: the buffer with its size.
        let n = unsafe { libc::recv(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        match check("recv", n as c_long) {
            // io_uring wakes its owner by a signal of a kind.
            Err(Stop { errno: Errno::EINTR, .. }) => {}
            other => return other,
        }
    }
}

/// What came, and from where.
pub fn recvfrom(fd: &impl AsRawFd, bytes: &mut [u8]) -> Done<(usize, Vec<u8>)> {
    let mut from = vec![0_u8; 128];
    let mut length = 128_u32;
    // SAFETY: the buffers with their sizes.
    let n = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            bytes.as_mut_ptr().cast(),
            bytes.len(),
            0,
            from.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    from.truncate(length as usize);
    Ok((check("recvfrom", n as c_long)?, from))
}

pub fn setsockopt(
    fd: &impl AsRawFd,
    step: &'static str,
    level: c_int,
    name: c_int,
    value: impl AsRef<[u8]>,
) -> Done {
    let value = value.as_ref();
    // SAFETY: the buffer with its size.
    let done =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), value.len() as u32) };
    check(step, c_long::from(done)).map(drop)
}

/// The same with an int.
pub fn set(fd: &impl AsRawFd, step: &'static str, level: c_int, name: c_int, value: c_int) -> Done {
    setsockopt(fd, step, level, name, value.to_ne_bytes())
}

/// No call on the socket takes longer than `time`. For TCP this bounds connect(), too.
pub fn bounded(fd: &impl AsRawFd, time: Duration) -> Done {
    let mut value = (time.as_secs() as i64).to_ne_bytes().to_vec();
    value.extend(i64::from(time.subsec_micros()).to_ne_bytes());
    setsockopt(fd, "SO_SNDTIMEO", libc::SOL_SOCKET, libc::SO_SNDTIMEO, &value)?;
    setsockopt(fd, "SO_RCVTIMEO", libc::SOL_SOCKET, libc::SO_RCVTIMEO, &value)
}

/// Moves `length` bytes between a pipe and a descriptor.
pub fn splice(from: &impl AsRawFd, to: &impl AsRawFd, length: usize) -> Done {
    let none = std::ptr::null_mut();
    // SAFETY: null offsets are allowed.
    let n = unsafe { libc::splice(from.as_raw_fd(), none, to.as_raw_fd(), none, length, 0) };
    check("splice", n as c_long).map(drop)
}

/// Gives pages to a pipe.
pub fn vmsplice(pipe: &impl AsRawFd, bytes: &[u8]) -> Done {
    let parts = [part(bytes)];
    // SAFETY: one buffer that the caller keeps until the pipe is read.
    let n = unsafe { libc::vmsplice(pipe.as_raw_fd(), parts.as_ptr(), 1, 0) };
    check("vmsplice", n as c_long).map(drop)
}

pub fn sendfile(to: &impl AsRawFd, from: &impl AsRawFd, length: usize) -> Done {
    // SAFETY: a null offset is allowed.
    let n = unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), std::ptr::null_mut(), length) };
    check("sendfile", n as c_long).map(drop)
}

/// A descriptor of another process (kernel 5.6).
pub fn pidfd_getfd(pid: i32, number: RawFd) -> Done<OwnedFd> {
    // SAFETY: no pointers; the descriptors are new and owned here.
    unsafe {
        let pidfd = check("pidfd_open", libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        let pidfd = OwnedFd::from_raw_fd(pidfd as RawFd);
        let fd = check("pidfd_getfd", libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Takes a descriptor that this process was given by number.
pub fn inherited(number: RawFd) -> Done<OwnedFd> {
    // SAFETY: F_GETFD has no argument.
    check("inherit", c_long::from(unsafe { libc::fcntl(number, libc::F_GETFD) }))?;
    // SAFETY: the number is open, as was just seen, and nobody else in here has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Writes into another process's memory.
pub fn process_vm_writev(pid: i32, at: usize, bytes: &[u8]) -> Done {
    let ours = [part(bytes)];
    let theirs = [libc::iovec { iov_base: at as *mut libc::c_void, iov_len: bytes.len() }];
    // SAFETY: reads our buffer; the other address is the kernel's to check.
    let n = unsafe { libc::process_vm_writev(pid, ours.as_ptr(), 1, theirs.as_ptr(), 1, 0) };
    check("process_vm_writev", n as c_long).map(drop)
}

/// The same by ptrace, a word at a time.
pub fn ptrace_write(pid: i32, at: usize, bytes: &[u8]) -> Done {
    // SAFETY: attaching has no pointers of ours; the poked addresses are the kernel's to check.
    unsafe {
        check("ptrace", libc::ptrace(libc::PTRACE_ATTACH, pid, 0, 0))?;
        let mut status = 0;
        check("waitpid", c_long::from(libc::waitpid(pid, &raw mut status, libc::__WALL)))?;
        for (n, word) in bytes.chunks_exact(8).enumerate() {
            let word = u64::from_ne_bytes(word.try_into().unwrap_or_default());
            check("poke", libc::ptrace(libc::PTRACE_POKEDATA, pid, at + 8 * n, word))?;
        }
        check("detach", libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0)).map(drop)
    }
}

/// A system call with integers only.
pub fn call(step: &'static str, number: c_long, arguments: [i64; 5]) -> Done<usize> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: callers pass integers that are no addresses.
    check(step, unsafe { libc::syscall(number, a, b, c, d, e) })
}

/// ioctl() with a structure that the kernel reads and writes.
pub fn ioctl(step: &'static str, fd: &impl AsRawFd, request: u64, data: &mut [u8]) -> Done {
    // SAFETY: callers pass as many bytes as the request has.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, data.as_mut_ptr()) };
    check(step, c_long::from(done)).map(drop)
}

/// A child; 0 in it. The caller has one thread.
pub fn fork() -> Done<usize> {
    // SAFETY: one thread, so the child may do what it wants.
    check("fork", unsafe { c_long::from(libc::fork()) })
}

/// A child that is born in a cgroup (kernel 5.7); 0 in it.
pub fn clone_into(cgroup: &impl AsRawFd) -> Done<usize> {
    // struct clone_args (clone(2)): flags, …, exit_signal at 4, cgroup at 10.
    let mut arguments = [0_u64; 11];
    arguments[0] = 0x2_0000_0000; // CLONE_INTO_CGROUP
    arguments[4] = libc::SIGCHLD as u64;
    arguments[10] = cgroup.as_raw_fd() as u64;
    // SAFETY: a whole clone_args with its size; no memory is shared, as with fork.
    check("clone3", unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) })
}

/// Puts a descriptor at a number, open across exec.
pub fn put_at(fd: OwnedFd, number: RawFd) -> Done {
    // SAFETY: integers only.
    check("dup2", c_long::from(unsafe { libc::dup2(fd.as_raw_fd(), number) })).map(drop)
}

/// Becomes a user for good, without any right.
pub fn become_user(uid: u32) -> Done {
    // SAFETY: integers, and an empty list of groups.
    unsafe {
        check("setgroups", c_long::from(libc::setgroups(0, std::ptr::null())))?;
        check("setresgid", c_long::from(libc::setresgid(uid, uid, uid)))?;
        check("setresuid", c_long::from(libc::setresuid(uid, uid, uid)))?;
        // A change of user takes that away; the victims of ways 27 need it, as any ordinary process has it.
        check("prctl", c_long::from(libc::prctl(libc::PR_SET_DUMPABLE, 1))).map(drop)
    }
}

/// getsockopt() of a structure.
pub fn getsockopt(
    fd: &impl AsRawFd,
    step: &'static str,
    level: c_int,
    name: c_int,
    value: &mut [u8],
) -> Done {
    let mut length = value.len() as u32;
    // SAFETY: the buffer with its size.
    let done =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length) };
    check(step, c_long::from(done)).map(drop)
}
