//! What can only be said when everything was read: which holes a record accounts for. Only what a signature covers accounts
//! for anything: whoever can write to the store could have added the word to what he took away.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ulid::Ulid;

use super::{Hole, Leaf, Line};
use crate::audit::report::{Finding, Report, What};

/// What is bound, and what it says.
pub(super) struct Bound {
    /// So many leaves of each log are under a signature, its own or one of a later log that names it.
    pub logs: BTreeMap<Ulid, u64>,
    /// The end of the last log is not signed, and may be so in a moment.
    pub fresh: bool,
    /// Segments that were deleted.
    pub deleted: BTreeSet<u64>,
}

impl Bound {
    pub fn holds(&self, leaf: Leaf) -> bool {
        leaf.is_some_and(|(log, index)| self.logs.get(&log).is_some_and(|size| index < *size))
    }
}

impl Line {
    /// Ends the verification.
    pub fn finish(mut self, report: &mut Report) {
        self.missing_ends(report);
        for log in self.logs.values_mut() {
            log.finish(report);
        }
        let mut bound = self.bound();
        bound.fresh = self.written && self.is_end_fresh(report);
        let said = |all: &[(u64, Leaf)]| {
            all.iter().filter(|(_, leaf)| self.counts(&bound, *leaf)).map(|(number, _)| *number).collect()
        };
        let (deleted, erased): (BTreeSet<u64>, BTreeSet<u64>) = (said(&self.deleted), said(&self.erased));
        bound.deleted = deleted;
        for (index, record) in std::mem::take(&mut self.doubts) {
            if let Some(why) = self.failed(&(record..record + 1), &bound) {
                report.excuse(index, &why);
            }
        }
        self.holes(&bound, report);
        self.tails(report);
        if self.reach.is_whole() {
            self.gone(&bound, report);
        }
        self.claims(&bound, report);
        self.unfinished(report);
        for log in self.signed.only_last.iter().filter(|log| self.logs.contains_key(log)) {
            let text = format!("logs/{log}/checkpoints is not there, only the last checkpoint");
            report.add(Finding::said(What::Checkpoint, text).log(log));
        }
        // Retention takes the bodies before the segment: of the oldest that is there they may be gone.
        let there = |number: &u64| self.segments.iter().skip(1).any(|segment| segment == number);
        let deleted = bound.deleted.iter().copied().filter(|number| !there(number)).collect();
        std::mem::replace(&mut self.bodies, super::Bodies::new(&self.dir)).finish(
            (&deleted, &erased),
            !self.reach.behind,
            report,
        );
        report.store = self.store.clone();
        report.logs = self.order.len() as u64;
        for log in self.logs.values() {
            report.proven += log.proven;
            report.checkpoints += log.checkpoints;
        }
        self.sum(&bound, report);
    }

    /// What a record says counts if it is under a signature, or will be: it is at the end of a store that is written.
    fn counts(&self, bound: &Bound, leaf: Leaf) -> bool {
        bound.holds(leaf) || bound.fresh && leaf.map(|(log, _)| log) == self.order.last().copied()
    }

    /// Records that were signed at the end of a log, and are not there.
    fn missing_ends(&mut self, report: &mut Report) {
        for (at, id) in self.order.iter().enumerate() {
            let follows = self.order.get(at + 1).and_then(|id| self.logs.get(id)).map(|log| log.first);
            let Some(log) = self.logs.get_mut(id) else { continue };
            let (size, promised) = (log.size(), log.promised());
            if size >= promised || self.reach.goes_on == Some(*id) {
                continue;
            }
            let unknown = log.skip(promised, report);
            let records = log.first + size..log.first + promised;
            let segments =
                self.holes.iter().map(|hole| hole.segments.clone()).find(|s| s.start == log.last_segment + 1);
            self.holes.retain(|hole| {
                hole.records.is_empty() || hole.records != (records.start..follows.unwrap_or(0))
            });
            let before = super::Place { segment: log.last_segment, offset: log.end };
            let segments = segments.unwrap_or(0..0);
            self.holes.push(Hole { records, segments, front: None, before, log: Some(*id), unknown });
        }
    }

    /// Whether a record says that what was before the first segment was deleted. Only the oldest ever is, so that the word
    /// on the last of them is enough: the others' words went with the segments that they were in.
    pub(super) fn was_deleted(&self, hole: &Hole, bound: &Bound) -> bool {
        let Some(reach) = hole.front.filter(|_| !hole.segments.is_empty()) else { return false };
        let end = hole.segments.end;
        bound.deleted.range(end.saturating_sub(reach)..end).next().is_some()
    }

    fn holes(&self, bound: &Bound, report: &mut Report) {
        for hole in &self.holes {
            let Hole { records, segments, before, log, unknown, .. } = hole;
            let which = match records.is_empty() {
                true => String::new(),
                false => format!("records {} to {}", records.start, records.end - 1),
            };
            let from = match segments.is_empty() {
                true => String::new(),
                false => format!("segments {} to {}", segments.start, segments.end - 1),
            };
            let both = [from, which].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(", ");
            let failed = self.unproven(hole, bound);
            let mut finding = if self.was_deleted(hole, bound) {
                report.since = self.begins();
                Finding::said(What::Deleted, format!("{both} were deleted; a signed record says so"))
            } else if let Some(why) = &failed {
                Finding::said(What::Gap, format!("{both} are not there: {why}"))
            } else {
                let text = match (segments.is_empty(), hole.front) {
                    (true, _) => format!("{both} are not there"),
                    (_, Some(_)) => {
                        format!("{both} are not there, and no signed record says that they were deleted")
                    }
                    (_, None) => format!("{both} are not there: only the oldest segments are ever deleted"),
                };
                Finding::bad(What::Missing, text).at(before.segment, before.offset)
            };
            if !records.is_empty() {
                finding = finding.record(records.start);
            }
            if let Some(log) = log {
                finding = finding.log(log);
            }
            report.add(finding);
            if let Some(log) = log.filter(|_| *unknown > 0 && failed.is_none()) {
                let text =
                    format!("the tiles of log {log} lack {unknown} hashes of records that are not there");
                let so = format!("no tree of it from record {} on can be proven", records.start);
                report.add(Finding::bad(What::Tile, text).log(log).so(so));
            }
        }
    }

    /// When the first record that is there was written: no key since can make it older.
    fn begins(&self) -> Option<String> {
        let first = self.order.first()?;
        self.signed.window(*first).from.or_else(|| self.newest.clone())
    }

    /// Why records are not there, if the disk failed before they were signed.
    fn unproven(&self, hole: &Hole, bound: &Bound) -> Option<String> {
        hole.segments.is_empty().then(|| self.failed(&hole.records, bound)).flatten()
    }

    /// Why records may be there or not: the disk failed before they were signed.
    pub(super) fn failed(&self, records: &Range<u64>, bound: &Bound) -> Option<String> {
        let of = |range: &(u64, u64)| range.0 <= records.start && records.end - 1 <= range.1;
        let (given_up, _) = self.given_up.iter().find(|(given, leaf)| {
            self.counts(bound, *leaf) && !records.is_empty() && given.unproven.as_ref().is_some_and(of)
        })?;
        // What a log behind it is bound to is no less on disk than what was signed.
        let claimed = |id| {
            let named = self.ends.iter().filter_map(|(end, _)| end.tree()).filter(|(of, _)| *of == id);
            named.map(|(_, tree)| tree.size).max().unwrap_or(0)
        };
        let signed = self.logs.values().any(|log| {
            let size = log.promised().max(claimed(log.id));
            records.start < log.first + size && log.first < records.end && size > 0
        });
        (!signed).then(|| format!("{} at {}", given_up.why, given_up.time))
    }

    /// Adds a finding that is no deceit if the disk failed to keep this record.
    pub(super) fn doubt(&mut self, record: u64, finding: Finding, report: &mut Report) {
        let index = report.findings.len();
        report.add(finding);
        if report.findings.len() > index {
            self.doubts.push((index, record));
        }
    }

    fn tails(&self, report: &mut Report) {
        // What is behind the last that is read is said in the segment that follows.
        let behind = |tail: &&super::Tail| self.reach.behind && tail.at.segment == self.last_segment;
        for tail in self.tails.iter().filter(|tail| !behind(tail)) {
            let (at, bytes) = (tail.at, tail.bytes);
            let cut = self.recovered.iter().find(|said| said.at == at);
            let left = self.given_up.iter().map(|(said, _)| said).find(|said| said.at == at);
            let what = format!(
                "{bytes} bytes behind the last record of segment {}, from byte {} on, are no record",
                at.segment, at.offset
            );
            let finding = match (cut, left) {
                (Some(said), _) if said.bytes == bytes => {
                    Finding::said(What::Gap, format!("{what}: cut short by a crash, found at {}", said.time))
                }
                (Some(said), None) => Finding::bad(
                    What::Changed,
                    format!("{what}; the start at {} found {}", said.time, said.bytes),
                ),
                (_, Some(said)) => Finding::said(What::Gap, format!("{what}: {} at {}", said.why, said.time)),
                (None, None) if tail.last && !self.stopped(at.segment) => {
                    Finding::said(What::Gap, format!("{what}: being written, or cut short by a crash"))
                }
                (None, None) => Finding::bad(What::Changed, format!("{what}, and no record says why")),
            };
            report.add(finding.at(at.segment, at.offset));
        }
    }

    fn stopped(&self, segment: u64) -> bool {
        self.logs.values().any(|log| log.last_segment == segment && log.stopped)
    }
}
