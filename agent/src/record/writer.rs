//! The writer's state under its one lock: the segment that is written, the one ready to follow, what is reserved, and what
//! to do when a write fails. It never syncs: that is `log.rs`, from the sync thread.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::bodies::{Bodies, Sealer};
use super::frame::{Batch, Kind, MAGIC};
use super::logs::Current;
use super::payload::{End, GivenUp, LogEnd, SegmentHead, stamp};
use super::segment::Segment;
use crate::evidence::tree::Hash;

/// Kept for the closing frames of each session and exchange under way. A summary's texts are cut to fit.
const CLOSING: u64 = 4096;
/// Kept whatever is under way, so that the store can say why it ends.
const RESERVE: u64 = 1 << 20;
/// Room for a segment's own first frames.
const OPENING: u64 = 16 * 1024;
/// Bytes that are buffered at most before they are written all the same.
const BUFFER: usize = 256 * 1024;
/// A new segment is tried for at most this often while the disk refuses.
pub const RETRY: Duration = Duration::from_secs(1);

/// What a batch is to the frames that are already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Something begins: refused when its end could not be written.
    Begin,
    /// Something goes on: must not eat the room of closing frames.
    More,
    /// Something ends, with more than its end: must not eat the room of others' closing frames. Refused, the end comes
    /// again alone.
    Close,
    /// Something ends: may use the reserve.
    End,
}

/// A segment that was left and must still be synced.
#[derive(Debug)]
pub struct Retired {
    /// Its file.
    pub file: Arc<File>,
    /// Where its records end.
    pub end: End,
    /// Its bodies file, and where that ends.
    pub bodies: Option<(Arc<Bodies>, u64)>,
}

/// The writer.
#[derive(Debug)]
pub struct Writer {
    /// Directory of the store.
    pub dir: PathBuf,
    /// The store's id.
    pub store: String,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// What is written to; `None` after a failure, until a new segment can be made.
    pub current: Option<Segment>,
    /// What comes next.
    pub spare: Option<Segment>,
    /// Left, not yet synced. Bounded: one a segment of bytes written within one sync.
    pub retired: Vec<Retired>,
    /// Where the last segment's records ended.
    pub previous: Option<End>,
    /// Number of the last segment.
    pub last_number: u64,
    /// The next segment is the first, and another writer still writes to earlier ones.
    pub apart: bool,
    /// The log that is written.
    pub log: Current,
    /// The leaves of what was written and is not yet taken into the log's tree. Bounded: one a frame written within one
    /// sync.
    pub leaves: Vec<Hash>,
    /// The first number of segments that a successor has.
    pub end_of_numbers: Option<u64>,
    /// Sequence number of the next frame that is written.
    pub next: u64,
    /// Frames that are admitted and not yet written; they get their numbers then. Bounded by [`BUFFER`] and one batch.
    pub buffered: Batch,
    /// The number that the first of them was promised.
    pub promised: u64,
    /// Numbers that buffered frames were promised and did not get. Bounded: drained by whoever writes.
    pub renumbered: Vec<(u64, u64)>,
    /// Sessions and exchanges under way.
    pub open: u64,
    /// A name in the directory changed since the last sync.
    pub renamed: bool,
    /// Written first into the next segment.
    pub pending: Batch,
    /// Not before this is another segment tried for.
    pub retry_at: Option<Instant>,
    /// Why the last attempt failed.
    pub trouble: Option<String>,
    /// Failures that nobody has reported yet. Bounded: one a failure, drained each sync.
    pub reports: Vec<String>,
    /// Nothing may be written any more.
    pub closed: bool,
    /// Distinguishes spares.
    pub spares: u64,
    /// Seals pieces of bodies for the segment in use.
    pub sealer: Arc<Sealer>,
    /// Bodies files that must be synced before any segment. Bounded: each is in it once, and as many are written within one
    /// sync as segments.
    pub touched: Vec<Arc<Bodies>>,
}

impl Writer {
    /// Writes a batch, in this segment or the next; gives the number of its last frame.
    ///
    /// # Errors
    /// Why it cannot be written now. What the batch says has then not happened.
    pub fn append(&mut self, batch: &mut Batch, need: Need) -> Result<u64, String> {
        self.admit(batch, need)?;
        self.out()?;
        let first = self.write(batch)?;
        self.count(need);
        Ok(first + batch.frames() - 1)
    }

    /// As [`Writer::append`], but the batch may stay in memory until [`Writer::out`]; nothing that it tells of may
    /// leave before that.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn buffer(&mut self, batch: &mut Batch, need: Need) -> Result<u64, String> {
        self.admit(batch, need)?;
        if self.buffered.bytes().len() + self.buffered.sealed.length() >= BUFFER {
            self.out()?;
        }
        if self.buffered.frames() == 0 {
            self.promised = self.next;
        }
        self.buffered.append(batch);
        self.count(need);
        Ok(self.promised + self.buffered.frames() - 1)
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// Why it cannot be written now; it stays.
    pub fn out(&mut self) -> Result<(), String> {
        let mut batch = std::mem::take(&mut self.buffered);
        if batch.frames() == 0 {
            self.buffered = batch;
            return Ok(());
        }
        let (promised, frames) = (self.promised, batch.frames());
        let first = match self.write(&mut batch) {
            Ok(first) => first,
            Err(why) => {
                self.buffered = batch;
                return Err(why);
            }
        };
        if first != promised || batch.frames() != frames {
            // Whoever waits for one of these numbers waits for another frame.
            self.renumbered.push((promised, promised + frames - 1));
        }
        batch.clear();
        self.buffered = batch;
        Ok(())
    }

    /// Whether a batch can be taken: there is room for it, and for the ends of what is under way.
    fn admit(&mut self, batch: &Batch, need: Need) -> Result<(), String> {
        if need == Need::End {
            self.open = self.open.saturating_sub(1);
        }
        if self.closed {
            return Err("the store is closed".to_owned());
        }
        if need == Need::Begin && self.sealer.is_short() {
            self.sealer.grow().map_err(|error| format!("there is no room for bodies: {error}"))?;
        }
        self.make_room(batch.bytes().len() as u64, need)
    }

    fn count(&mut self, need: Need) {
        match need {
            Need::Begin => self.open += 1,
            Need::Close => self.open = self.open.saturating_sub(1),
            Need::More | Need::End => {}
        }
    }

    /// Numbers a batch and writes it, bodies before records; gives the number of its first frame.
    fn write(&mut self, batch: &mut Batch) -> Result<u64, String> {
        let mut failed = None;
        // Twice: a write that fails condemns its segment, not the record.
        for _ in 0..2 {
            batch.divert().map_err(|error| error.to_string())?;
            let length = batch.bytes().len() as u64;
            if self.current.as_ref().is_none_or(|segment| segment.room() < length) {
                self.rotate(length)?;
            }
            let Some(segment) = self.current.as_mut() else { break };
            batch.hash();
            batch.number(self.next);
            let written = batch.sealed.write(&mut self.touched).and_then(|()| segment.write(batch.bytes()));
            match written {
                Ok(()) => {
                    let first = self.next;
                    self.next += batch.frames();
                    self.leaves.extend_from_slice(batch.leaves());
                    return Ok(first);
                }
                Err(error) => {
                    failed = Some(format!("write: {error}"));
                    self.leave_after_failed_write(&error);
                    let next = self.rotate(length);
                    // One more segment may be tried at once, the one after it not before a while.
                    self.retry_at = Some(Instant::now() + RETRY);
                    next?;
                }
            }
        }
        Err(failed.unwrap_or_else(|| "no segment can be made".to_owned()))
    }

    /// Leaves the current segment for good after a failed sync. `first` is the first sequence number that no sync covers.
    pub fn leave_after_failed_sync(&mut self, first: u64, why: &str) -> (u64, u64) {
        let unproven = (first, self.next.saturating_sub(1).max(first));
        if let Some(segment) = self.current.take() {
            let at = End { segment: segment.number, offset: segment.end };
            self.previous = Some(at);
            self.note_given_up(at, why, Some(unproven));
            // The allocation behind the end is let go; the pages that failed are not written again.
            let _ = segment.file.set_len(segment.end);
            if let Some((bodies, end)) = self.sealer.follow(None) {
                bodies.fail();
                bodies.settle(end);
            }
        }
        unproven
    }

    /// Begins a log of its own with the next segment: frames of the one before are not known to be on disk. `last` is how
    /// far they are.
    ///
    /// # Errors
    /// No segment can be made: the next one that can begins it.
    pub fn restart_log(&mut self, last: LogEnd) -> Result<(), String> {
        if let Some(left) = self.current.take() {
            let end = End { segment: left.number, offset: left.end };
            self.previous = Some(end);
            let bodies = self.sealer.follow(None);
            self.retired.push(Retired { file: left.file, end, bodies });
        }
        self.leaves.clear();
        self.log.restart(last);
        self.rotate(0)
    }

    /// Moves on to the next segment, which has room for `length` bytes more.
    ///
    /// # Errors
    /// No segment can be made; the current one stays.
    pub fn rotate(&mut self, length: u64) -> Result<(), String> {
        let least = length + OPENING + self.pending.bytes().len() as u64;
        let mut next = match self.spare.take_if(|spare| spare.size >= least) {
            Some(spare) => spare,
            None => self.allocate(self.segment_bytes.max(least))?,
        };
        if let Err(error) = self.open_segment(&mut next) {
            next.discard();
            return Err(self.failed("a new segment", &error));
        }
        // Only now: what was sealed for the one before may be on its way, but goes where it was sealed for.
        self.touched.push(Arc::clone(&next.bodies));
        let bodies = self.sealer.follow(Some(Arc::clone(&next.bodies)));
        if let Some(left) = self.current.replace(next) {
            let end = End { segment: left.number, offset: left.end };
            self.retired.push(Retired { file: left.file, end, bodies });
        }
        Ok(())
    }

    /// Makes a spare segment, unless that failed less than [`RETRY`] ago.
    ///
    /// # Errors
    /// Why not.
    pub fn allocate(&mut self, size: u64) -> Result<Segment, String> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Err(self.trouble.clone().unwrap_or_else(|| "a write failed a moment ago".to_owned()));
        }
        self.spares += 1;
        let made = Segment::spare(&self.dir, self.spares, size, &self.sealer);
        made.map_err(|error| self.failed("a new segment cannot be made", &error))
    }

    /// What must stay free when nothing follows the current segment.
    fn reserve(&self) -> u64 {
        RESERVE.min(self.segment_bytes / 4).max(self.open * CLOSING)
    }

    fn make_room(&mut self, length: u64, need: Need) -> Result<(), String> {
        let buffered = self.buffered.bytes().len() as u64;
        if self.current.as_ref().is_none_or(|segment| segment.room() < buffered + length) {
            self.out()?;
            self.rotate(length)?;
        } else if self.sealer.is_full() && need != Need::End {
            self.out()?;
            // A bodies file takes more than its measure when it must.
            let _ = self.rotate(length);
        }
        let buffered = self.buffered.bytes().len() as u64;
        let left = self.current.as_ref().map_or(0, Segment::room).saturating_sub(buffered + length);
        if need != Need::End && self.spare.is_none() && left < self.reserve() {
            self.spare = Some(self.allocate(self.segment_bytes)?);
        }
        Ok(())
    }

    fn open_segment(&mut self, next: &mut Segment) -> io::Result<()> {
        let previous = self
            .current
            .as_ref()
            .map(|left| End { segment: left.number, offset: left.end })
            .or(self.previous);
        if self.end_of_numbers.is_some_and(|end| self.last_number + 1 >= end) {
            return Err(io::Error::other("the numbers of a writer that drains are used up"));
        }
        self.last_number += 1;
        next.name(&self.dir, self.last_number)?;
        self.renamed = true;
        let log = self.log.head(self.next);
        let mut frames = Batch::default();
        let head = SegmentHead {
            store: self.store.clone(),
            segment: self.last_number,
            time: stamp(OffsetDateTime::now_utc()),
            previous,
            apart: self.apart,
            log: Some(log),
        };
        frames.json(Kind::Segment, &head).map_err(io::Error::other)?;
        frames.json(Kind::BodyKey, &next.bodies.bound()).map_err(io::Error::other)?;
        let mut bytes = MAGIC.to_vec();
        frames.hash();
        frames.number(self.next);
        self.pending.hash();
        self.pending.number(self.next + frames.frames());
        bytes.extend_from_slice(frames.bytes());
        bytes.extend_from_slice(self.pending.bytes());
        next.write(&bytes)?;
        self.log.begun(self.next);
        self.leaves.extend_from_slice(frames.leaves());
        self.leaves.extend_from_slice(self.pending.leaves());
        self.next += frames.frames() + self.pending.frames();
        self.pending.clear();
        self.apart = false;
        Ok(())
    }

    /// The frames that are whole stay and are synced; the segment takes no more.
    fn leave_after_failed_write(&mut self, error: &io::Error) {
        if let Some(segment) = self.current.take() {
            let at = End { segment: segment.number, offset: segment.end };
            self.previous = Some(at);
            self.note_given_up(at, &format!("write: {error}"), None);
            let bodies = self.sealer.follow(None);
            self.retired.push(Retired { file: segment.file, end: at, bodies });
        }
    }

    /// Bounded: one note a failure, and failures come at most once a [`RETRY`]; the oldest go with the batch at 64 KiB.
    fn note_given_up(&mut self, at: End, why: &str, unproven: Option<(u64, u64)>) {
        if self.pending.bytes().len() > 64 * 1024 {
            self.pending.clear();
        }
        let note = GivenUp { time: stamp(OffsetDateTime::now_utc()), at, why: why.to_owned(), unproven };
        // A note of four short fields always has a JSON form.
        let _ = self.pending.json(Kind::GivenUp, &note);
        let report = format!("segment {} was given up: {why}", at.segment);
        self.reports.push(report.clone());
        self.trouble = Some(report);
    }

    fn failed(&mut self, what: &str, error: &io::Error) -> String {
        let why = format!("{what}: {error}");
        self.retry_at = Some(Instant::now() + RETRY);
        self.trouble = Some(why.clone());
        why
    }
}
