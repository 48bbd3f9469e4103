//! One count: a window, or how many are open, of one key of one limit.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::locked;
use super::window::{Amount, Nanos, Window};

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
    /// Those in a gate that drains, and until when that holds.
    pub elsewhere: (u64, Nanos),
    /// In a gate that drains: spent or given back since the next one was told, one of each amount.
    pub late: [i64; 3],
}

impl Count {
    /// `per`: the window; `None` where what is open is counted.
    pub fn new(per: Option<Duration>) -> Self {
        Self(Mutex::new(Kept {
            window: Window::new(per.unwrap_or_default()),
            open: 0,
            elsewhere: (0, 0),
            late: [0; 3],
        }))
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        locked(&self.0)
    }
}

impl Kept {
    /// Exchanges under way, here and elsewhere.
    pub fn open(&self, now: Nanos) -> u64 {
        let (elsewhere, until) = self.elsewhere;
        if now < until { self.open.saturating_add(elsewhere) } else { self.open }
    }

    /// Spends now; `aside`: in a gate that drains.
    pub fn spend(&mut self, now: Nanos, amount: Amount, much: u64, aside: bool) {
        self.window.add(now, amount, much);
        if aside {
            let late = &mut self.late[amount as usize];
            *late = late.saturating_add_unsigned(much);
        }
    }

    /// Gives back what was spent at a time.
    pub fn give_back(&mut self, spent_at: Nanos, amount: Amount, much: u64, aside: bool) {
        self.window.give_back(spent_at, amount, much);
        if aside {
            let late = &mut self.late[amount as usize];
            *late = late.saturating_sub_unsigned(much);
        }
    }

    /// Whether nothing counts, so that it can be forgotten.
    pub fn is_idle(&mut self, now: Nanos) -> bool {
        self.window.advance(now);
        self.open(now) == 0 && self.late == [0; 3] && self.window.is_empty()
    }
}
