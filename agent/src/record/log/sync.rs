//! What the sync thread does: syncs, keeps the next segment ready, keeps the bounds.

use std::fs::File;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::super::bodies::uncache;
use super::super::frame::Kind;
use super::super::payload::{GivenUp, stamp};
use super::super::segment::Segment;
use super::super::writer::{RETRY, Retired};
use super::bound::Bounded;
use super::{Log, locked};

/// How often the agent says that it lives, so that silence is an event.
const BEAT: Duration = Duration::from_secs(10);

impl Log {
    pub(super) fn run(&self) {
        let mut bounded = Bounded::default();
        let mut beat = Instant::now() + BEAT;
        loop {
            let lacking = locked(&self.writer).spare.is_none() || self.sealer.is_short();
            let retry = lacking.then(|| Instant::now() + RETRY);
            let due = [retry, locked(&self.tree).due(), Some(beat)].into_iter().flatten().min();
            let stop = self.wake.wait(due);
            if beat <= Instant::now() {
                beat = Instant::now() + BEAT;
                self.beat();
            }
            self.flush_holding();
            // Its failure is every socket's, and the store's health says it.
            let _ = self.pass();
            self.sync();
            let reports = std::mem::take(&mut locked(&self.writer).reports);
            reports.into_iter().for_each(|why| self.trouble(why));
            self.ask(stop);
            if stop {
                break;
            }
            self.keep_spare();
            self.keep_room();
            self.keep_bounds(&mut bounded);
        }
        let mut writer = locked(&self.writer);
        if let Some(spare) = writer.spare.take() {
            spare.discard();
        }
        if let Some(segment) = writer.current.take() {
            // Only zeros are behind the end.
            let _ = segment.file.set_len(segment.end);
        }
        if let Some((bodies, end)) = self.sealer.follow(None) {
            bodies.settle(end);
        }
        drop(writer);
        if let Err(error) = locked(&self.tree).close() {
            self.trouble(format!("the last tiles cannot be written: {error}"));
        }
        self.synced.send_modify(|s| s.over = true);
    }

    /// One round: the bodies files, then the directory, then the segments in order, so that a later one is never durable
    /// before an earlier, nor one before what its frames refer to.
    pub(super) fn sync(&self) {
        let (dir, touched, retired, current, through, leaves, log) = {
            let mut w = locked(&self.writer);
            let dir = std::mem::take(&mut w.renamed).then(|| w.dir.clone());
            let current = w.current.as_ref().map(|s| (s.file.clone(), s.number, s.end));
            let (leaves, log) = (std::mem::take(&mut w.leaves), w.log.id().to_owned());
            let (touched, retired) = (std::mem::take(&mut w.touched), std::mem::take(&mut w.retired));
            (dir, touched, retired, current, w.next - 1, leaves, log)
        };
        let first = self.synced.borrow().through + 1;
        if dir.is_none() && touched.is_empty() && retired.is_empty() && through < first {
            return;
        }
        // Each of them: one that fails does not leave the others behind.
        let bodies = touched.iter().map(|bodies| bodies.sync().map_err(|error| (bodies.number(), error)));
        let bodies = bodies.fold(Ok(()), Result::and);
        let mut whole = true;
        for left in retired {
            whole &= self.sync_retired(&left, first, through);
        }
        if let Err((number, error)) = bodies {
            let why = format!("sync of bodies file {number}: {error}");
            return self.lose_current(current.map(|(_, number, _)| number), first, &why);
        }
        let named = dir.map_or(Ok(()), |dir| File::open(dir).and_then(|dir| dir.sync_all()));
        let synced = named.and_then(|()| current.as_ref().map_or(Ok(()), |(file, ..)| file.sync_data()));
        match synced {
            Ok(()) => {
                self.synced.send_modify(|s| s.through = through);
                if let Some((file, _, end)) = current {
                    uncache(&file, end);
                }
                if whole { self.grow(&log, &leaves) } else { self.restart() }
            }
            Err(error) => {
                self.lose_current(current.map(|(_, number, _)| number), first, &format!("sync: {error}"))
            }
        }
    }

    /// Gives whether it is on disk.
    fn sync_retired(&self, left: &Retired, first: u64, last: u64) -> bool {
        if let Some((bodies, end)) = &left.bodies {
            bodies.settle(*end);
        }
        match left.file.sync_data() {
            // Frees what was allocated behind the end; should it fail, zeros remain there.
            Ok(()) => {
                left.file.set_len(left.end.offset).unwrap_or_default();
                uncache(&left.file, left.end.offset);
                true
            }
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
                false
            }
        }
    }

    /// The current segment's sync failed: leave it, tell those who wait, begin the next.
    fn lose_current(&self, number: Option<u64>, first: u64, why: &str) {
        // Into the segment that is left, with what else is in doubt.
        let _ = self.pass();
        let last = locked(&self.tree).end(true);
        let (unproven, next) = {
            let mut w = locked(&self.writer);
            // A failed write may have left it already: then its successor is not to blame.
            if w.current.as_ref().map(|s| s.number) != number {
                ((first, w.next - 1), w.restart_log(last))
            } else {
                let unproven = w.leave_after_failed_sync(first, why);
                let next = w.restart_log(last);
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

    pub(super) fn lost(&self, range: (u64, u64)) {
        self.synced.send_modify(|s| s.lose(range.0, range.1));
    }

    /// Finds room for bodies while nobody waits for it.
    fn keep_room(&self) {
        let was_short = self.sealer.is_short();
        match self.sealer.grow() {
            Ok(()) if was_short => self.well(),
            Ok(()) => {}
            // Whoever needs it is told.
            Err(error) => tracing::debug!("no room for bodies ahead: {error}"),
        }
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
        let made = Segment::spare(&wanted.0, wanted.1, wanted.2, &self.sealer);
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
}
