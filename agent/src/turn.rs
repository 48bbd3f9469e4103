//! The end of a worker's turn: what was written to sockets since the worker last looked for events leaves together.
//!
//! A worker of the runtime wakes up to a batch of events and runs every task that these made ready. Written at once, each
//! answer wakes its reader, and on an otherwise idle machine each wake-up is an interrupt to another processor that costs
//! as much as the write itself. Written one behind the other, the first wakes the reader and the rest find it awake.
//! A connection alone waits for nothing: its worker's turn ends when its task has nothing more to do.
//!
//! The record waits the same way, and first: what is recorded of bytes is in the store before these leave ([`Ahead`]).

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A turn of many tasks is cut after so many sockets, or so long (looked at whenever a socket has been used a few times).
const SOCKETS: usize = 64;
const LONGEST: Duration = Duration::from_micros(200);
const LOOKS: u8 = 4;

/// What waits for the end of the turn.
pub trait Due: Send + Sync {
    /// Is called once for each time that it was put on the list.
    fn end(&self);
}

/// What must be done before bytes may leave.
pub trait Ahead: Send + Sync {
    /// Does it, if it is not yet done.
    ///
    /// # Errors
    /// It cannot be done: nothing may leave.
    fn pass(&self) -> io::Result<()>;
}

#[derive(Default)]
struct Turn {
    /// This thread says when its turns end.
    ends: Cell<bool>,
    since: Cell<Option<Instant>>,
    /// How often [`look`] was called since the clock was looked at.
    looks: Cell<u8>,
    due: RefCell<Vec<Arc<dyn Due>>>,
}

thread_local! {
    static TURN: Turn = Turn::default();
}

/// The worker has run what could run: to be called before it waits for events (tokio's `on_thread_park`).
pub fn end() {
    TURN.with(|turn| {
        turn.ends.set(true);
        flush(turn);
    });
}

/// Whether this thread says when its turns end.
pub fn ends() -> bool {
    TURN.with(|turn| turn.ends.get())
}

/// Puts `due` on this thread's list; false, and nothing is done, on a thread whose turns have no end.
pub fn wait(due: &Arc<impl Due + 'static>) -> bool {
    TURN.with(|turn| {
        let waits = turn.ends.get();
        if waits {
            let mut list = turn.due.borrow_mut();
            if list.is_empty() {
                turn.since.set(Some(Instant::now()));
            }
            list.push(Arc::clone(due) as Arc<dyn Due>);
        }
        waits
    })
}

/// Ends a turn that has become long. To be called where nothing that may be on the list is locked.
pub fn look() {
    TURN.with(|turn| {
        let Some(since) = turn.since.get() else { return };
        let looks = (turn.looks.get() + 1) % LOOKS;
        turn.looks.set(looks);
        if turn.due.borrow().len() >= SOCKETS || (looks == 0 && since.elapsed() >= LONGEST) {
            flush(turn);
        }
    });
}

fn flush(turn: &Turn) {
    if turn.since.take().is_none() {
        return;
    }
    let mut list = turn.due.take();
    list.drain(..).for_each(|due| due.end());
    // What was put on it meanwhile, by a waker that ran at once, keeps its place.
    if turn.due.borrow().is_empty() {
        turn.due.replace(list);
    }
}
