//! Retention: the oldest segments go when all together are larger than the bound, or when what is in them is older.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::super::frame::Kind;
use super::super::lock::Lock;
use super::super::payload::{Deleted, stamp};
use super::super::segment::{self, Found};
use super::super::{bodies, left, trees};
use super::{Log, locked};

/// How often the age of the oldest segment is looked at.
const AGED: Duration = Duration::from_secs(60);

/// So long a word that a segment goes may wait for its signature. When nobody signs, the bounds are kept all the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All segments together, in bytes; 0: no bound.
    pub bytes: u64,
    /// Since the last record of a segment was written; `None`: whatever its age.
    pub age: Option<Duration>,
}

/// When the bounds were looked at last.
#[derive(Default)]
pub(super) struct Bounded {
    /// The segment that was written then: while it is the same, the size has not grown.
    segment: u64,
    at: Option<Instant>,
    /// Segments that are to go.
    said: Option<Said>,
}

/// Segments that were said to go, oldest first, each with the one behind it. They go when the word is signed: so of a copy
/// that is taken meanwhile nothing is gone without a word that counts.
struct Said {
    segments: Vec<(Found, Found)>,
    /// Of the last word.
    sequence: u64,
    /// The log when that was synced, and its size.
    synced: Option<(String, u64)>,
    at: Instant,
}

impl Log {
    /// Deletes the oldest segments while they are beyond the bounds. Looks only when there is another segment than the last
    /// time, or for their age now and then.
    pub(super) fn keep_bounds(&self, last: &mut Bounded) {
        let (dir, current): (PathBuf, u64) = {
            let w = locked(&self.writer);
            (w.dir.clone(), w.last_number)
        };
        // Neither is a segment deleted that somebody may still write to.
        if locked(&self.lock).as_ref().is_some_and(Lock::another_drains) {
            return;
        }
        if let Some(said) = last.said.take_if(|said| self.may_go(said)) {
            self.delete(&dir, &said.segments);
        }
        if last.said.is_some() {
            return;
        }
        let grown = self.bounds.bytes != 0 && last.segment != current;
        let aged = self.bounds.age.is_some() && last.at.is_none_or(|at| at.elapsed() >= AGED);
        if grown || aged {
            let mut said = self.say_oldest(&dir, current);
            if let Some(said) = said.take_if(|said| self.may_go(said)) {
                self.delete(&dir, &said.segments);
            }
            *last = Bounded { segment: current, at: Some(Instant::now()), said };
        }
    }

    /// Whether segments that were said to go may be deleted.
    fn may_go(&self, said: &mut Said) -> bool {
        if said.synced.is_none() && self.synced.borrow().through >= said.sequence {
            said.synced = Some(self.synced_tree());
        }
        let signed = said.synced.as_ref().is_some_and(|(log, size)| self.is_signed(log, *size));
        signed || self.is_unsigned() || said.at.elapsed() >= PATIENCE
    }

    /// Says which segments go, if any.
    fn say_oldest(&self, dir: &Path, current: u64) -> Option<Said> {
        let (segments, spares) = segment::list(dir).ok()?;
        let mut going = Said { segments: Vec::new(), sequence: 0, synced: None, at: Instant::now() };
        let mut total: u64 =
            segments.iter().map(|s| whole(&s.path)).chain(spares.iter().map(|path| size(path))).sum();
        let before = self.bounds.age.map(|age| stamp(OffsetDateTime::now_utc() - age));
        for pair in segments.windows(2) {
            let (old, next) = (&pair[0], &pair[1]);
            let large = self.bounds.bytes != 0 && total > self.bounds.bytes;
            // Whatever is in a segment was written before the next one began.
            let aged =
                || before.as_ref().is_some_and(|before| began(next).is_some_and(|began| began < *before));
            if old.number >= current || !large && !aged() {
                break;
            }
            let bytes = whole(&old.path);
            let older_than = before.clone().filter(|_| !large);
            let time = stamp(OffsetDateTime::now_utc());
            let deleted =
                Deleted { time, segment: old.number, bytes, max_bytes: self.bounds.bytes, older_than };
            // Said first: one that is gone and of which nobody said so was taken by somebody else.
            // Where there is no room for the word only what goes makes some.
            going.sequence = self.numbered(Kind::Deleted, &deleted).unwrap_or(going.sequence);
            going.segments.push((old.clone(), next.clone()));
            total -= bytes;
        }
        (!going.segments.is_empty()).then_some(going)
    }

    fn delete(&self, dir: &Path, segments: &[(Found, Found)]) {
        for (old, next) in segments {
            if let Err(error) = delete(dir, old, next) {
                return self.trouble(format!("the oldest segment cannot be deleted: {error}"));
            }
            left::forget(dir);
            tracing::info!(segment = old.number, "oldest segment deleted");
        }
    }
}

fn delete(dir: &Path, old: &Found, next: &Found) -> std::io::Result<()> {
    let log = log_of(&old.path);
    bodies::discard(&old.path.with_extension(""));
    fs::remove_file(&old.path)?;
    match log.filter(|log| log_of(&next.path).as_ref() != Some(log)) {
        Some(log) => trees::forget(dir, &log),
        None => Ok(()),
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

/// Of a segment with what lies beside it.
fn whole(path: &Path) -> u64 {
    let stem = path.with_extension("");
    let beside = [bodies::BODIES, bodies::KEY].map(|suffix| size(&bodies::beside(&stem, suffix)));
    size(path) + beside.iter().sum::<u64>()
}

/// When a segment began.
fn began(found: &Found) -> Option<String> {
    Some(segment::head(&found.path).ok()??.time)
}

/// Which log a segment is of.
fn log_of(path: &Path) -> Option<String> {
    Some(segment::head(path).ok()??.log?.id)
}
