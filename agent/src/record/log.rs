//! The log: the writer behind its lock, and the sync thread that makes what was written durable, keeps the next segment
//! ready, and keeps the size bound.
//!
//! A caller writes to the page cache itself, under the lock: that survives the death of the process at any point. What is
//! buffered ([`Log::buffer`]) is written before any byte that it tells of leaves the process. The sync
//! thread then makes it survive the death of the machine, [`LINGER`](super::wake::LINGER) after the first write that is not yet synced, or at
//! once when somebody waits. A sync that fails is never tried again on the same file (the kernel may have dropped the
//! pages and would report success): the segment is left, and those who wait are told.

mod bound;
mod signing;
mod sync;

pub use bound::Bounds;
pub use signing::Evidence;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::bodies::Sealer;
use super::frame::Batch;
use super::lock::{Lock, Place};
use super::synced::Synced;
use super::trees::Tree;
use super::wake::Wake;
use super::writer::{Need, Writer};
use super::{Health, Unrecordable};
use crate::turn::{self, Due};

/// A wait for the disk that takes longer is given up: the exchange is refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that something holds back for a moment, to write them with others.
pub trait Holding: Send + Sync {
    /// Writes them now.
    fn flush(&self);
}

/// See the module.
pub struct Log {
    writer: Mutex<Writer>,
    sealer: Arc<Sealer>,
    wake: Wake,
    /// The writer may hold frames back.
    buffers: AtomicBool,
    synced: watch::Sender<Synced>,
    health: watch::Sender<Health>,
    /// By number. Bounded by the exchanges under way: each takes itself out when it ends.
    holding: Mutex<HashMap<u64, Weak<dyn Holding>>>,
    holders: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<Lock>>,
    bounds: Bounds,
    dir: PathBuf,
    /// Over what is synced. Only the sync thread lets it grow.
    tree: Mutex<Tree>,
    evidence: Evidence,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere must not stop the record; every holder leaves the value whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Due for Log {
    fn end(&self) {
        // Its failure is every socket's, and the store's health says it.
        let _ = self.pass();
    }
}

impl Log {
    /// Starts the sync thread. `lock` is held until [`Log::close`]; frames up to `synced` are on disk already.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(
        writer: Writer,
        lock: Lock,
        bounds: Bounds,
        synced: u64,
        evidence: Evidence,
    ) -> io::Result<Arc<Self>> {
        let tree = Tree::new(&writer.dir, &writer.store, writer.log.id());
        let log = Arc::new(Self {
            sealer: Arc::clone(&writer.sealer),
            dir: writer.dir.clone(),
            tree: Mutex::new(tree),
            evidence,
            writer: Mutex::new(writer),
            wake: Wake::default(),
            buffers: AtomicBool::new(false),
            synced: watch::Sender::new(Synced::up_to(synced)),
            health: watch::Sender::new(Health::default()),
            holding: Mutex::default(),
            holders: AtomicU64::new(0),
            thread: Mutex::default(),
            lock: Mutex::new(Some(lock)),
            bounds,
        });
        // A run of which nothing is on disk could be left out without a trace should the machine go down.
        log.sync();
        let run = log.clone();
        *locked(&log.thread) =
            Some(std::thread::Builder::new().name("store-sync".to_owned()).spawn(move || run.run())?);
        log.wake.urgent();
        Ok(log)
    }

    /// Writes a batch; gives the sequence number of its last frame.
    ///
    /// # Errors
    /// [`Unrecordable`]: nothing of it counts.
    pub fn append(&self, batch: &mut Batch, need: Need) -> Result<u64, Unrecordable> {
        batch.hash();
        let result = self.write(|writer| writer.append(batch, need));
        self.appended(result, need)
    }

    /// As [`Log::append`], but on a worker whose turns end the batch may be in memory until this one ends, a socket
    /// passes ([`Log::pass`]), or the next sync.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn buffer(self: &Arc<Self>, batch: &mut Batch, need: Need) -> Result<u64, Unrecordable> {
        if !turn::ends() {
            return self.append(batch, need);
        }
        batch.hash();
        let mut writer = locked(&self.writer);
        let result = writer.buffer(batch, need);
        if result.is_ok() && !self.buffers.swap(true, Ordering::AcqRel) {
            turn::wait(self);
        }
        drop(writer);
        self.appended(result, need)
    }

    /// Directory of the store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Number of the segment in use.
    pub fn last_number(&self) -> u64 {
        locked(&self.writer).last_number
    }

    /// Whether another writer ends what it recorded.
    pub fn another_drains(&self) -> bool {
        locked(&self.lock).as_ref().is_some_and(Lock::another_drains)
    }

    /// Seals pieces of bodies.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// It cannot be written: what it tells of must not leave. It is tried again with the next call.
    pub fn pass(&self) -> io::Result<()> {
        // Set and cleared under the writer's lock, cleared only once it is written: who sees it clear has nothing here.
        if !self.buffers.load(Ordering::Acquire) {
            return Ok(());
        }
        self.write(Writer::out).map_err(|why| {
            self.refusing(&why);
            io::Error::other(Unrecordable(why))
        })
    }

    /// Does what writes the buffered frames, too.
    fn write<T>(&self, with: impl FnOnce(&mut Writer) -> T) -> T {
        let mut writer = locked(&self.writer);
        let done = with(&mut writer);
        self.buffers.store(writer.buffered.frames() > 0, Ordering::Release);
        let renumbered = std::mem::take(&mut writer.renumbered);
        drop(writer);
        renumbered.into_iter().for_each(|range| self.lost(range));
        done
    }

    fn appended(&self, result: Result<u64, String>, need: Need) -> Result<u64, Unrecordable> {
        self.wake.dirty();
        match result {
            Ok(last) => {
                if need == Need::Begin && self.health.borrow().refusing.is_some() {
                    self.well();
                }
                Ok(last)
            }
            Err(why) => {
                if need == Need::Begin || need == Need::More {
                    self.refusing(&why);
                }
                Err(Unrecordable(why))
            }
        }
    }

    /// Waits until the frame of this number is on disk.
    ///
    /// # Errors
    /// [`Unrecordable`]: it is not, and never will be known to be.
    pub async fn durable(&self, sequence: u64) -> Result<(), Unrecordable> {
        let mut synced = self.synced.subscribe();
        self.wake.urgent();
        let seen = tokio::time::timeout(PATIENCE, synced.wait_for(|s| s.covers(sequence).is_some())).await;
        match seen.ok().and_then(Result::ok).map(|s| s.covers(sequence)) {
            Some(Some(true)) => Ok(()),
            Some(_) => Err(Unrecordable("the disk did not take it: sync failed".to_owned())),
            None => Err(Unrecordable(format!("the disk did not take it within {} s", PATIENCE.as_secs()))),
        }
    }

    /// Has `holding` flushed with the next sync; gives the number to [`Log::release`] it with.
    pub fn hold(&self, holding: Weak<dyn Holding>) -> u64 {
        let number = self.holders.fetch_add(1, Ordering::Relaxed);
        locked(&self.holding).insert(number, holding);
        self.wake.dirty();
        number
    }

    /// It holds nothing any more.
    pub fn release(&self, number: u64) {
        locked(&self.holding).remove(&number);
    }

    /// How the store does.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Goes on beside a successor, in numbers of its own.
    ///
    /// # Errors
    /// In words; nothing has changed.
    pub fn stand_aside(&self) -> Result<(), String> {
        let lock = locked(&self.lock);
        let lock = lock.as_ref().ok_or("the store is closed")?;
        let end = locked(&self.tree).end(false);
        let mut writer = locked(&self.writer);
        let place = Place::after(&writer.store, writer.last_number, writer.next, end);
        lock.stand_aside(&place).map_err(|error| error.to_string())?;
        writer.end_of_numbers = Some(place.segment);
        Ok(())
    }

    /// Ends the writing in order: `stop` is the last frame, everything is synced, the lock is released.
    pub fn close(&self, stop: Option<&mut Batch>) {
        self.flush_holding();
        if let Some(stop) = stop {
            // A store that is broken already said so.
            let _ = self.append(stop, Need::End);
        }
        let _ = self.pass();
        locked(&self.writer).closed = true;
        self.wake.stop();
        let thread = locked(&self.thread).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // The thread does not panic; if it did, there is nothing left to do here.
            let _ = thread.join();
        }
        locked(&self.lock).take();
    }

    fn flush_holding(&self) {
        let holding = std::mem::take(&mut *locked(&self.holding));
        for holding in holding.into_values().filter_map(|h| h.upgrade()) {
            holding.flush();
        }
    }

    fn trouble(&self, why: String) {
        tracing::error!(why, "store");
        self.health.send_modify(|h| {
            h.troubles += 1;
            h.last = Some(why);
        });
    }

    fn refusing(&self, why: &str) {
        self.health.send_if_modified(|h| {
            let new = h.refusing.as_deref() != Some(why);
            if new {
                h.refusing = Some(why.to_owned());
            }
            new
        });
    }

    fn well(&self) {
        locked(&self.writer).trouble = None;
        self.health.send_if_modified(|h| h.refusing.take().is_some());
    }
}

#[cfg(test)]
mod tests;
