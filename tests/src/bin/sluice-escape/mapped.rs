//! Memory that is shared with the kernel.
#![expect(unsafe_code, reason = "a ring is read and written by the kernel while we have it")]

use std::os::fd::RawFd;

use nix::errno::Errno;

use crate::sys::{Done, stop};

/// Shared memory of a ring, as packet(7) and AF_XDP map them.
pub struct Mapped {
    at: *mut u8,
    length: usize,
}

impl Mapped {
    /// `fd` negative: memory of its own.
    pub fn new(fd: RawFd, length: usize, offset: i64) -> Done<Self> {
        let flags = if fd < 0 { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED };
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), length, rights, flags, fd, offset) };
        if at == libc::MAP_FAILED { stop("mmap", Errno::last()) } else { Ok(Self { at: at.cast(), length }) }
    }

    pub fn address(&self) -> u64 {
        self.at as u64
    }

    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length, "inside the mapping");
        // SAFETY: inside the mapping, as just seen.
        unsafe { self.at.add(offset).copy_from(bytes.as_ptr(), bytes.len()) };
    }

    pub fn read_u32(&self, offset: usize) -> u32 {
        assert!(offset + 4 <= self.length, "inside the mapping");
        // SAFETY: inside the mapping, as just seen; the kernel may write it meanwhile, hence volatile.
        unsafe { self.at.add(offset).cast::<u32>().read_volatile() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping that was made.
        unsafe { libc::munmap(self.at.cast(), self.length) };
    }
}
