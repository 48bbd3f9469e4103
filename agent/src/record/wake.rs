//! How the sync thread is woken: soon after the first write, at once when somebody waits, for the last time at the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::log::locked;

/// From the first write that is not synced to the sync. The promise is 50 ms; the rest is for the disk.
pub const LINGER: Duration = Duration::from_millis(40);

/// How the sync thread is woken. `dirty` costs one load when it is set already.
#[derive(Default)]
pub struct Wake {
    dirty: AtomicBool,
    state: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    since: Option<Instant>,
    urgent: bool,
    stop: bool,
}

impl Wake {
    /// Something was written or is held: the thread is due in [`LINGER`].
    pub fn dirty(&self) {
        if !self.dirty.load(Ordering::Acquire) && !self.dirty.swap(true, Ordering::AcqRel) {
            locked(&self.state).since = Some(Instant::now());
            self.changed.notify_one();
        }
    }

    /// The thread is due now.
    pub fn urgent(&self) {
        locked(&self.state).urgent = true;
        self.changed.notify_one();
    }

    /// The thread is due now, for the last time.
    pub fn stop(&self) {
        locked(&self.state).stop = true;
        self.changed.notify_one();
    }

    /// Waits until there is something to do, or until `idle`; true when it is the last time.
    pub fn wait(&self, idle: Option<Instant>) -> bool {
        let mut state = locked(&self.state);
        loop {
            let now = Instant::now();
            let due = [state.since.map(|t| t + LINGER), idle].into_iter().flatten().min();
            if state.stop || state.urgent || due.is_some_and(|due| due <= now) {
                state.urgent = false;
                state.since = None;
                // Cleared before anything is collected: a write after this wakes the thread again.
                self.dirty.store(false, Ordering::Release);
                return state.stop;
            }
            state = match due {
                Some(due) => {
                    let waited = self.changed.wait_timeout(state, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
