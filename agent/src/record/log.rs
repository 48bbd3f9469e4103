//! The log: the writer behind its lock, and the sync thread that makes what was written durable, keeps the next segment
//! ready, and keeps the size bound.
//!
//! A caller writes to the page cache itself, under the lock: that survives the death of the process at any point. The sync
//! thread then makes it survive the death of the machine, [`LINGER`](super::wake::LINGER) after the first write that is not yet synced, or at
//! once when somebody waits. A sync that fails is never tried again on the same file (the kernel may have dropped the
//! pages and would report success): the segment is left, and those who wait are told.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::watch;

use super::frame::{Batch, Kind};
use super::lock::{Lock, Place};
use super::payload::{Deleted, GivenUp, stamp};
use super::segment::{self, Segment};
use super::synced::Synced;
use super::wake::Wake;
use super::writer::{Need, RETRY, Retired, Writer};
use super::{Health, Unrecordable};

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
    wake: Wake,
    synced: watch::Sender<Synced>,
    health: watch::Sender<Health>,
    /// By number. Bounded by the exchanges under way: each takes itself out when it ends.
    holding: Mutex<HashMap<u64, Weak<dyn Holding>>>,
    holders: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<Lock>>,
    max_bytes: u64,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere must not stop the record; every holder leaves the value whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Starts the sync thread. `lock` is held until [`Log::close`]; frames up to `synced` are on disk already.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(writer: Writer, lock: Lock, max_bytes: u64, synced: u64) -> std::io::Result<Arc<Self>> {
        let log = Arc::new(Self {
            writer: Mutex::new(writer),
            wake: Wake::default(),
            synced: watch::Sender::new(Synced::up_to(synced)),
            health: watch::Sender::new(Health::default()),
            holding: Mutex::default(),
            holders: AtomicU64::new(0),
            thread: Mutex::default(),
            lock: Mutex::new(Some(lock)),
            max_bytes,
        });
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
        let result = locked(&self.writer).append(batch, need);
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
        let mut writer = locked(&self.writer);
        let place = Place::after(&writer.store, writer.last_number, writer.next);
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

    fn run(&self) {
        let mut bounded = 0;
        loop {
            let lacking = locked(&self.writer).spare.is_none();
            let stop = self.wake.wait(lacking.then_some(RETRY));
            self.flush_holding();
            self.sync();
            let reports = std::mem::take(&mut locked(&self.writer).reports);
            reports.into_iter().for_each(|why| self.trouble(why));
            if stop {
                break;
            }
            self.keep_spare();
            bounded = self.keep_bound(bounded);
        }
        let mut writer = locked(&self.writer);
        if let Some(spare) = writer.spare.take() {
            spare.discard();
        }
        if let Some(segment) = writer.current.take() {
            // Only zeros are behind the end.
            let _ = segment.file.set_len(segment.end);
        }
        drop(writer);
        self.synced.send_modify(|s| s.over = true);
    }

    /// One round: the directory, then the segments in order, so that a later one is never durable before an earlier.
    fn sync(&self) {
        let (dir, retired, current, through) = {
            let mut w = locked(&self.writer);
            let dir = std::mem::take(&mut w.renamed).then(|| w.dir.clone());
            let current = w.current.as_ref().map(|s| (s.file.clone(), s.number));
            (dir, std::mem::take(&mut w.retired), current, w.next - 1)
        };
        let first = self.synced.borrow().through + 1;
        if dir.is_none() && retired.is_empty() && through < first {
            return;
        }
        for left in retired {
            self.sync_retired(&left, first, through);
        }
        let named = dir.map_or(Ok(()), |dir| File::open(dir).and_then(|dir| dir.sync_all()));
        let synced = named.and_then(|()| current.as_ref().map_or(Ok(()), |(file, _)| file.sync_data()));
        match synced {
            Ok(()) => {
                self.synced.send_modify(|s| s.through = through);
            }
            Err(error) => {
                self.lose_current(current.map(|(_, number)| number), first, &format!("sync: {error}"))
            }
        }
    }

    fn sync_retired(&self, left: &Retired, first: u64, last: u64) {
        match left.file.sync_data() {
            // Frees what was allocated behind the end; should it fail, zeros remain there.
            Ok(()) => left.file.set_len(left.end.offset).unwrap_or_default(),
            Err(error) => {
                let why = format!("sync: {error}");
                self.lost((first, last));
                self.note(
                    Kind::GivenUp,
                    &GivenUp {
                        time: stamp(OffsetDateTime::now_utc()),
                        at: left.end,
                        why: why.clone(),
                        unproven: Some((first, last)),
                    },
                );
                self.trouble(format!("segment {} is not proven to be on disk: {why}", left.end.segment));
            }
        }
    }

    /// The current segment's sync failed: leave it, tell those who wait, begin the next.
    fn lose_current(&self, number: Option<u64>, first: u64, why: &str) {
        let (unproven, next) = {
            let mut w = locked(&self.writer);
            // A failed write may have left it already: then its successor is not to blame.
            if w.current.as_ref().map(|s| s.number) != number {
                ((first, w.next - 1), Ok(()))
            } else {
                let unproven = w.leave_after_failed_sync(first, why);
                let next = w.rotate(0);
                // One more segment is tried at once, the one after it not before a while.
                w.retry_at = Some(Instant::now() + RETRY);
                (unproven, next)
            }
        };
        self.lost(unproven);
        match next {
            Ok(()) => self.wake.dirty(),
            Err(why) => self.refusing(&why),
        }
    }

    fn lost(&self, range: (u64, u64)) {
        self.synced.send_modify(|s| s.lose(range.0, range.1));
    }

    /// Makes the next segment while nobody waits for it.
    fn keep_spare(&self) {
        let wanted = {
            let mut w = locked(&self.writer);
            let due = w.retry_at.is_none_or(|at| Instant::now() >= at);
            if w.spare.is_some() || w.closed || !due {
                return;
            }
            w.spares += 1;
            (w.dir.clone(), w.spares, w.segment_bytes)
        };
        let made = Segment::spare(&wanted.0, wanted.1, wanted.2);
        let mut w = locked(&self.writer);
        match made {
            Ok(spare) if w.spare.is_none() => {
                w.spare = Some(spare);
                let well = w.current.is_some() || w.rotate(0).is_ok();
                drop(w);
                if well {
                    self.well();
                }
            }
            Ok(spare) => spare.discard(),
            Err(error) => {
                w.retry_at = Some(Instant::now() + RETRY);
                let why = format!("the next segment cannot be made: {error}");
                let new = w.trouble.as_ref() != Some(&why);
                w.trouble = Some(why.clone());
                let broken = w.current.is_none();
                drop(w);
                if new {
                    self.trouble(why.clone());
                }
                if broken {
                    self.refusing(&why);
                }
            }
        }
    }

    /// Deletes the oldest segments while all of them together are larger than the bound. Looks only when there is another
    /// segment than the `last` time; gives the current one's number.
    fn keep_bound(&self, last: u64) -> u64 {
        let (dir, current): (PathBuf, u64) = {
            let w = locked(&self.writer);
            (w.dir.clone(), w.last_number)
        };
        // Neither is a segment deleted that somebody may still write to.
        if locked(&self.lock).as_ref().is_some_and(Lock::another_drains) {
            return last;
        }
        if self.max_bytes != 0 && last != current {
            self.delete_oldest(&dir, current);
        }
        current
    }

    fn delete_oldest(&self, dir: &Path, current: u64) {
        let size = |path: &PathBuf| fs::metadata(path).map_or(0, |m| m.len());
        let Ok((segments, spares)) = segment::list(dir) else { return };
        let mut total: u64 = segments.iter().map(|s| size(&s.path)).chain(spares.iter().map(size)).sum();
        for old in segments.iter().filter(|s| s.number < current) {
            if total <= self.max_bytes {
                return;
            }
            let bytes = size(&old.path);
            if let Err(error) = fs::remove_file(&old.path) {
                self.trouble(format!("the oldest segment cannot be deleted: {error}"));
                return;
            }
            total -= bytes;
            let time = stamp(OffsetDateTime::now_utc());
            self.note(
                Kind::Deleted,
                &Deleted { time, segment: old.number, bytes, max_bytes: self.max_bytes },
            );
            tracing::info!(segment = old.number, bytes, max_bytes = self.max_bytes, "oldest segment deleted");
        }
    }

    fn note(&self, kind: Kind, payload: &impl serde::Serialize) {
        let mut batch = Batch::default();
        if batch.json(kind, payload).is_ok() {
            // The store's own notes come after everybody's records: when there is no room they are in the journal only.
            let _ = self.append(&mut batch, Need::More);
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
