//! The journal's socket: one datagram an entry, a sealed memfd for one that is too large for a datagram.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg, setsockopt, sockopt};

/// Where journald listens.
pub const PATH: &str = "/run/systemd/journal/socket";
/// A journal that takes nothing for so long counts as gone for this entry.
const PATIENCE: Duration = Duration::from_secs(2);
/// What sd-journal asks for; the kernel gives what it allows.
const BUFFER: usize = 8 << 20;

/// A way to the journal. It names the socket each time, so that a restarted journald is found without more ado.
pub struct Socket {
    path: PathBuf,
    datagram: Option<UnixDatagram>,
}

impl Socket {
    /// No connection is made yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), datagram: None }
    }

    /// Sends one entry.
    ///
    /// # Errors
    /// There is no journal, or it takes nothing.
    pub fn send(&mut self, entry: &[u8]) -> io::Result<()> {
        let datagram = match self.datagram.take() {
            Some(datagram) => datagram,
            None => open()?,
        };
        let datagram = self.datagram.insert(datagram);
        match datagram.send_to(entry, &self.path) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS)) => {
                send_memfd(datagram, &self.path, entry)
            }
            Err(error) => Err(error),
        }
    }
}

fn open() -> io::Result<UnixDatagram> {
    let datagram = UnixDatagram::unbound()?;
    datagram.set_write_timeout(Some(PATIENCE))?;
    // A smaller buffer only means that the memfd is used sooner.
    let _ = setsockopt(&datagram, sockopt::SndBuf, &BUFFER);
    Ok(datagram)
}

/// journald takes a memfd only with all seals: then nobody changes it while it is read.
fn send_memfd(datagram: &UnixDatagram, path: &Path, entry: &[u8]) -> io::Result<()> {
    let memfd: OwnedFd = memfd_create("sluice-entry", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(memfd);
    file.write_all(entry)?;
    let seals =
        SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    let fds = [file.as_raw_fd()];
    let to = UnixAddr::new(path)?;
    let none = [IoSlice::new(&[])];
    sendmsg(
        datagram.as_raw_fd(),
        &none,
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::MSG_NOSIGNAL,
        Some(&to),
    )?;
    Ok(())
}
