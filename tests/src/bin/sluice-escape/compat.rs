//! Ways by calls of the 32-bit kind (`int 0x80`), which any 64-bit program can make where the kernel has them: for these the
//! kernel does not ask the cgroup's setsockopt programs (`in_compat_syscall()` in net/socket.c).
#![expect(unsafe_code, reason = "a call that only an instruction makes")]

use std::os::fd::AsRawFd;

use libc::{AF_INET, AF_INET6, IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET};

use crate::job::{Job, Said, heard, tcp, udp};
use crate::options::{device, hop};
use crate::sys::{self, Done};
use crate::udp::{linger, membership4, membership6, segment_routing};

/// setsockopt() of arch/x86/entry/syscalls/syscall_32.tbl.
#[cfg(target_arch = "x86_64")]
const SETSOCKOPT: i32 = 366;

#[cfg(target_arch = "x86_64")]
fn setsockopt(fd: &impl AsRawFd, step: &'static str, level: i32, name: i32, value: impl AsRef<[u8]>) -> Done {
    use nix::errno::Errno;

    let value = value.as_ref();
    // SAFETY: anonymous memory of its own below 4 GiB, where such a call can name it; it goes with the process.
    let low = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    };
    if low == libc::MAP_FAILED || value.len() > 4096 {
        return sys::stop("mmap", Errno::last());
    }
    let mut result = SETSOCKOPT;
    // SAFETY: the value fits the page; the call reads it and writes nothing. LLVM keeps ebx for itself.
    unsafe {
        std::ptr::copy_nonoverlapping(value.as_ptr(), low.cast(), value.len());
        std::arch::asm!(
            "push rbx", "mov ebx, {fd:e}", "int 0x80", "pop rbx",
            fd = in(reg) fd.as_raw_fd(),
            inlateout("eax") result,
            in("ecx") level, in("edx") name, in("esi") low as usize as u32, in("edi") value.len() as u32,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    if result < 0 { sys::stop(step, Errno::from_raw(-result)) } else { Ok(()) }
}

/// Where there is no such instruction the ways are not known to work.
#[cfg(not(target_arch = "x86_64"))]
fn setsockopt(
    _fd: &impl AsRawFd,
    step: &'static str,
    _level: i32,
    _name: i32,
    _value: impl AsRef<[u8]>,
) -> Done {
    sys::stop(step, nix::errno::Errno::ENOSYS)
}

pub fn join_group(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET)?;
    setsockopt(&fd, "32-bit IP_ADD_MEMBERSHIP", IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, membership4(job))?;
    linger(&fd)
}

pub fn join_group6(job: &Job) -> Done<Said> {
    let fd = udp(AF_INET6)?;
    setsockopt(&fd, "32-bit IPV6_JOIN_GROUP", IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, membership6(job)?)?;
    linger(&fd)
}

pub fn loose_route(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    setsockopt(&fd, "32-bit IP_OPTIONS", IPPROTO_IP, libc::IP_OPTIONS, hop(0x83, job))?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// The first packet of a TCP Fast Open bears data.
pub fn loose_route_fast(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    setsockopt(&fd, "32-bit IP_OPTIONS", IPPROTO_IP, libc::IP_OPTIONS, hop(0x83, job))?;
    sys::sendto(&fd, &job.request(), libc::MSG_FASTOPEN, Some(&job.v4()))?;
    heard(&fd)
}

pub fn routing_header(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET6)?;
    let header = segment_routing(job.to6, job.to6);
    setsockopt(&fd, "32-bit IPV6_RTHDR", IPPROTO_IPV6, libc::IPV6_RTHDR, header)?;
    sys::connect(&fd, &job.v6())?;
    job.talk(&fd)
}

pub fn device_tcp(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    setsockopt(&fd, "32-bit SO_BINDTODEVICE", SOL_SOCKET, libc::SO_BINDTODEVICE, device(job))?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}
