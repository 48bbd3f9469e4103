//! Links of programs to cgroups, by the bare system call: aya 0.14 makes them too, but gives none out for setsockopt
//! programs that could be pinned.

#![expect(unsafe_code, reason = "bpf(2) has no wrapper that covers this")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_LINK_CREATE: libc::c_long = 28;

/// The head of `union bpf_attr` for `BPF_LINK_CREATE`; the kernel takes what is missing for zero.
#[repr(C)]
struct Create {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// The head of `union bpf_attr` for `BPF_OBJ_PIN`.
#[repr(C)]
struct Pin {
    path: u64,
    object: u32,
    flags: u32,
}

/// A program at work on a cgroup, until this is dropped and no pin holds it.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Attaches `program` to `cgroup`, beside what others have there: links always stand beside others (Linux 5.7).
    pub fn create(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Self> {
        let attr = Create { program: number(program), target: number(cgroup), attach_type, flags: 0 };
        // SAFETY: `attr` is a whole struct that the kernel only reads, with its size.
        let fd =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_CREATE, &raw const attr, size_of_val(&attr)) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: a new descriptor (close-on-exec), owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Pins it: it stays attached as long as the pin is there.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let attr = Pin { path: path.as_ptr() as u64, object: self.0.as_raw_fd().cast_unsigned(), flags: 0 };
        // SAFETY: `attr` is a whole struct with its size; the path ends in NUL and outlives the call.
        let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_PIN, &raw const attr, size_of_val(&attr)) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
