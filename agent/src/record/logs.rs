//! Logs: the runs of frames that are one tree each. A writer begins one with its first segment, and another after a failed
//! sync, since what no sync covers is never signed. What the logs before came to stands in its first frame, so that they
//! hang together.

use std::fs;

use super::payload::{LogBegin, LogEnd, LogHead};

/// The log that is written, as far as the segments' heads need it.
#[derive(Debug)]
pub struct Current {
    id: String,
    first: u64,
    /// It begins with the next segment.
    begins: Option<LogBegin>,
}

impl Current {
    /// One that begins with the next segment, after `previous`.
    pub fn after(previous: Vec<LogEnd>) -> Self {
        let begins = LogBegin { boot_id: boot_id(), boottime_us: boottime_us(), previous };
        Self { id: ulid::Ulid::generate().to_string(), first: 0, begins: Some(begins) }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the head of a segment says that begins with the frame `next`.
    pub fn head(&self, next: u64) -> LogHead {
        let first = if self.begins.is_some() { next } else { self.first };
        LogHead { id: self.id.clone(), first, begins: self.begins.clone() }
    }

    /// A segment whose head is the frame `next` was begun.
    pub fn begun(&mut self, next: u64) {
        if self.begins.take().is_some() {
            self.first = next;
        }
    }

    /// Another begins with the next segment. One that has not begun goes on waiting, and says that of both.
    pub fn restart(&mut self, last: LogEnd) {
        match &mut self.begins {
            Some(begins) if last.size > 0 => begins.previous.push(last),
            Some(_) => {}
            None => *self = Self::after(vec![last]),
        }
    }
}

/// The machine's boot.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or("unknown".to_owned(), |id| id.trim().to_owned())
}

/// Microseconds since the machine's boot, its sleep included (`CLOCK_BOOTTIME`); 0 where the clock cannot be read.
pub fn boottime_us() -> u64 {
    let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    clock.map_or(0, |t| t.tv_sec().unsigned_abs() * 1_000_000 + t.tv_nsec().unsigned_abs() / 1_000)
}
