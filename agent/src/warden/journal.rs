//! The journal: one native entry for each exchange, refusal, tag change and trouble, written from a thread of its own.
//!
//! Callers never wait: beyond [`QUEUE`] entries are counted by kind and told as counts. Without a journal socket the same
//! lines go to stderr with their priority (`<4>…`, sd-daemon(3)). Bodies never come here. What the entries look like is in
//! [`entry`], how they are sent in [`socket`].

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use lru::LruCache;

use crate::types::{Caller, CallerKey, SelfTest, Summary, TagName};

pub mod entry;
pub mod socket;
pub mod way;

/// Entries that wait for the journal; beyond it they are folded.
const QUEUE: usize = 4096;

/// Keys that are known to have been told of.
const LEAKS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// What the journal is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// One exchange, or a refusal, as its verdict says.
    Exchange(Box<Summary>),
    /// So many of one kind that one entry stands for them.
    Fold {
        /// One of them.
        example: Box<Summary>,
        /// How many there were, the example not counted.
        more: u64,
    },
    /// A caller sent a long-lived key of its own. Once for each key in a tag, as long as it is among the last
    /// [`LEAKS`].
    Leak {
        /// The exchange.
        example: Box<Summary>,
        /// The key.
        key: CallerKey,
    },
    /// An attempt to get past the agent was stopped in the kernel.
    Blocked(Box<Blocked>),
    /// A tag was made.
    TagAdded {
        /// Its name.
        tag: TagName,
        /// What it takes, in words.
        what: String,
    },
    /// A tag is gone.
    TagRemoved {
        /// Its name.
        tag: TagName,
        /// Why.
        why: String,
    },
    /// A tree over what is recorded was signed.
    Checkpoint {
        /// Of which log.
        log: String,
        /// Records in it.
        size: u64,
        /// The signed note.
        note: String,
    },
    /// The gate died and was started again.
    GateRestarted {
        /// How it ended.
        why: String,
    },
    /// What the start-up self-test found.
    SelfTest(SelfTest),
    /// The agent's own failure.
    Trouble(String),
    /// The agent serves.
    Started,
    /// The agent ends.
    Stopped,
    /// Entries that came too fast for the journal; the store has their exchanges.
    Lost(u64),
}

/// What was stopped in the kernel.
#[derive(Clone, Debug)]
pub struct Blocked {
    /// How it wanted to get out.
    pub way: way::Way,
    /// Who tried. What could not be known is 0 or empty.
    pub caller: Caller,
    /// Where to (or, for what came in, from where); `None`: nowhere yet.
    pub address: Option<SocketAddr>,
    /// `tcp`, `udp`, …
    pub protocol: String,
    /// Cookie of the network namespace; 0: not known.
    pub netns: u64,
    /// How many more of this kind it stands for.
    pub more: u64,
}

/// A handle on the writer. Cheap to clone; [`Journal::close`] writes what is queued.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    /// Folds that did not fit, by kind: see [`Queue::push`].
    lost: u64,
    closed: bool,
    /// Told already: tag and fingerprint.
    leaks: Option<LruCache<(String, String), ()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journal {
    /// Starts the writer. `socket` is [`socket::PATH`], save in tests.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(socket: PathBuf) -> std::io::Result<Self> {
        Self::start_with(socket, std::io::stderr())
    }

    /// As [`Journal::start`], with a place for the lines when there is no journal.
    fn start_with(socket: PathBuf, fallback: impl Write + Send + 'static) -> std::io::Result<Self> {
        let shared =
            Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new(), thread: Mutex::default() });
        let run = shared.clone();
        let thread = std::thread::Builder::new().name("journal".to_owned());
        *locked(&shared.thread) = Some(thread.spawn(move || run.run(&socket, fallback))?);
        Ok(Self(shared))
    }

    /// Queues an entry. Never blocks.
    pub fn send(&self, event: Event) {
        locked(&self.0.queue).push_all(event);
        self.0.filled.notify_one();
    }

    /// Writes what is queued and ends the writer. Blocks for as long as the journal takes it: seconds at most.
    pub fn close(&self) {
        locked(&self.0.queue).closed = true;
        self.0.filled.notify_one();
        if let Some(thread) = locked(&self.0.thread).take() {
            // The writer does not panic; if it did, there is nothing left to write with.
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// As [`Queue::push`], with what the event's keys are worth.
    fn push_all(&mut self, event: Event) {
        if let Event::Exchange(example) | Event::Fold { example, .. } = &event {
            let leaks = self.leaks.get_or_insert_with(|| LruCache::new(LEAKS));
            let new =
                |key: &&CallerKey| leaks.put((example.tag.clone(), key.fingerprint.clone()), ()).is_none();
            let new: Vec<_> = example.caller_keys.iter().filter(new).cloned().collect();
            let example = example.clone();
            self.push(event);
            for key in new {
                self.push(Event::Leak { example: example.clone(), key });
            }
            return;
        }
        self.push(event);
    }

    fn push(&mut self, event: Event) {
        // The agent's own words are few and must come through: they may go a little over the bound.
        let own = !matches!(
            event,
            Event::Exchange(_) | Event::Fold { .. } | Event::Leak { .. } | Event::Blocked(_)
        );
        let bound = if own { QUEUE + 256 } else { QUEUE };
        if self.closed || self.events.len() >= bound {
            self.lost += match event {
                Event::Fold { more, .. } => more + 1,
                Event::Blocked(blocked) => blocked.more + 1,
                Event::Lost(n) => n,
                _ => 1,
            };
        } else {
            self.events.push_back(event);
        }
    }
}

impl Shared {
    fn run(&self, path: &std::path::Path, mut fallback: impl Write) {
        let mut socket = socket::Socket::new(path);
        loop {
            let event = {
                let mut queue = locked(&self.queue);
                loop {
                    if let Some(event) = queue.events.pop_front() {
                        break event;
                    }
                    if queue.lost > 0 {
                        break Event::Lost(std::mem::take(&mut queue.lost));
                    }
                    if queue.closed {
                        return;
                    }
                    queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            };
            let entry = entry::Entry::of(&event, entry::lives);
            if socket.send(&entry.encode()).is_err() {
                // Nowhere is left to say that stderr is closed.
                let _ = writeln!(fallback, "<{}>{}", entry.priority(), entry.message());
            }
        }
    }
}

#[cfg(test)]
mod tests;
