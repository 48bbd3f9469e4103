//! Telling systemd how the daemon is: readiness, watchdog, reload, and the listening sockets kept for the next one.
//! Outside systemd every call does nothing.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use sd_notify::NotifyState;

fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("telling systemd: {error}");
    }
}

/// Whether this process is the main process of a unit of systemd's that notifies it.
#[expect(clippy::disallowed_methods, reason = "systemd says so in no other way")]
pub fn is_supervised() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some() && Path::new("/run/systemd/system").is_dir()
}

/// The daemon serves.
pub fn ready() {
    say(&[NotifyState::Ready]);
}

/// The daemon drains.
pub fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// The daemon reads its configuration again.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("telling systemd: {error}"),
    }
}

/// The daemon's loop turns. Nothing is sent where nobody asked for it (`WATCHDOG_USEC`): a reader that stalls would stop us.
pub fn watchdog() {
    if sd_notify::watchdog_enabled().is_some() {
        say(&[NotifyState::Watchdog]);
    }
}

/// Hands a socket to systemd's file descriptor store under `name`: connections wait in its backlog while the daemon
/// is restarted.
pub fn keep(name: &str, socket: BorrowedFd<'_>) {
    if let Err(error) =
        sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[socket])
    {
        tracing::warn!("keeping {name} in systemd's descriptor store: {error}");
    }
}

/// The sockets that an earlier daemon kept, by name.
///
/// # Errors
/// When systemd's environment is malformed.
pub fn kept() -> io::Result<Vec<(String, OwnedFd)>> {
    let named = sd_notify::listen_fds_with_names()?;
    named.map(|(fd, name)| Ok((name, adopt(fd)?))).collect()
}

/// Takes an inherited descriptor by duplicating it, close-on-exec; the inherited one is closed by nobody and costs
/// one entry of the table.
fn adopt(fd: i32) -> io::Result<OwnedFd> {
    #[expect(
        unsafe_code,
        reason = "systemd passes descriptors by number; this is the one place that takes them"
    )]
    // SAFETY: `listen_fds_with_names` checked LISTEN_PID and gives each number once; nobody else in the process owns
    // them, and they stay open for its life.
    let inherited = unsafe { BorrowedFd::borrow_raw(fd) };
    inherited.try_clone_to_owned()
}
