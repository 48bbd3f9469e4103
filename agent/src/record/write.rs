//! How an exchange's frames get into the log: when, and with whose memory.

use std::cell::Cell;
use std::sync::Arc;

use super::Unrecordable;
use super::frame::Batch;
use super::log::Log;
use super::writer::Need;

/// Memory that a thread keeps for its next frames at most.
const SCRATCH_MAX: usize = 64 * 1024;

/// When what is recorded is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// At once.
    Now,
    /// Before the exchange's bytes leave: these go through sockets that see to it.
    Ahead,
}

impl Write {
    /// Writes a batch, or has it written in time.
    pub fn append(self, log: &Arc<Log>, batch: &mut Batch, need: Need) -> Result<u64, Unrecordable> {
        match self {
            Self::Now => log.append(batch, need),
            Self::Ahead => log.buffer(batch, need),
        }
    }
}

thread_local! {
    static SCRATCH: Cell<Batch> = Cell::default();
}

/// Lends an empty batch, whose memory serves the thread's next frames too.
pub fn scratch<T>(with: impl FnOnce(&mut Batch) -> T) -> T {
    let mut batch = SCRATCH.take();
    let done = with(&mut batch);
    batch.clear();
    if batch.capacity() <= SCRATCH_MAX {
        SCRATCH.set(batch);
    }
    done
}
