//! A process that is held by a pidfd, so that its number cannot come to mean another one while we look.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::tree::{CgroupPath, of_process};

/// A process, held. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Process {
    pid: u32,
    pidfd: Arc<OwnedFd>,
}

impl Process {
    /// Takes hold of a process by number (pidfd_open, kernel 5.3).
    ///
    /// # Errors
    /// `ESRCH` when there is none, `EINVAL` for a thread that is not its group's first.
    pub fn open(pid: u32) -> io::Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        Ok(Self { pid, pidfd: Arc::new(pidfd_open(raw, PidfdFlags::empty())?) })
    }

    /// A process whose pidfd the kernel gave (`SO_PEERPIDFD`, kernel 6.5).
    pub fn held(pid: u32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd: Arc::new(pidfd) }
    }

    /// Its number (thread group) in our pid namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether it still runs. What /proc said before an `Ok(true)` was about this process and no other.
    ///
    /// # Errors
    /// When poll() fails.
    pub fn alive(&self) -> io::Result<bool> {
        let mut fds = [nix::poll::PollFd::new(self.pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
        Ok(nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO)? == 0)
    }

    /// Its cgroup.
    ///
    /// # Errors
    /// `ESRCH` when it has ended.
    pub fn cgroup(&self) -> io::Result<CgroupPath> {
        let path = of_process(self.pid)?;
        self.still_here()?;
        Ok(path)
    }

    /// Its supplementary groups.
    ///
    /// # Errors
    /// `ESRCH` when it has ended.
    pub fn groups(&self) -> io::Result<Vec<u32>> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        self.still_here()?;
        let line = status.lines().find_map(|l| l.strip_prefix("Groups:")).unwrap_or("");
        Ok(line.split_whitespace().filter_map(|g| g.parse().ok()).collect())
    }

    /// Whether it is a thread of the kernel's: those have no executable.
    pub fn is_kernel_thread(&self) -> bool {
        let no_exe = fs::read_link(format!("/proc/{}/exe", self.pid));
        no_exe.is_err_and(|e| e.kind() == io::ErrorKind::NotFound) && self.alive().unwrap_or(false)
    }

    fn still_here(&self) -> io::Result<()> {
        if self.alive()? { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    }
}
