//! One count: a window, or how many are open, of one key of one limit.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::locked;
use super::window::{Nanos, Window};

/// See the module. Shared by the table and by what was taken from it.
#[derive(Debug)]
pub struct Count(Mutex<Kept>);

/// What a count keeps.
#[derive(Debug)]
pub struct Kept {
    /// Empty where what is open is counted.
    pub window: Window,
    /// Exchanges under way.
    pub open: u64,
}

impl Count {
    /// `per`: the window; `None` where what is open is counted.
    pub fn new(per: Option<Duration>) -> Self {
        Self(Mutex::new(Kept { window: Window::new(per.unwrap_or_default()), open: 0 }))
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        locked(&self.0)
    }
}

impl Kept {
    /// Whether nothing counts, so that it can be forgotten.
    pub fn is_idle(&mut self, now: Nanos) -> bool {
        self.window.advance(now);
        self.open == 0 && self.window.is_empty()
    }
}
