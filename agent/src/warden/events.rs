//! The thread that reads what the kernel programs tell, as it comes: a socket that was made in a network namespace without
//! listeners shall find them there when it connects, however busy the daemon's loop is.

use std::io;
use std::os::fd::AsFd as _;

use agent_ebpf::Event;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::attach::SharedKernel;

/// Calls `on_event` for each event, from a thread of its own, for the daemon's life. It must not block for long: what does
/// not fit the ring meanwhile is counted by the programs and told with the next.
///
/// # Errors
/// The thread cannot be made.
pub fn start(kernel: SharedKernel, on_event: impl Fn(&Event) + Send + 'static) -> io::Result<()> {
    let ring = kernel.lock().with_events_fd(|fd| fd.try_clone_to_owned())?;
    let read = move || {
        loop {
            let mut fds = [PollFd::new(ring.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return tracing::error!("the kernel programs are no longer heard: {error}"),
            }
            loop {
                // The lock is given back before the event is looked at, which may need the kernel part too.
                let next = kernel.lock().next_event();
                let Some(event) = next else { break };
                on_event(&event);
            }
        }
    };
    std::thread::Builder::new().name("events".to_owned()).spawn(read)?;
    Ok(())
}
