//! How logs hang together, and what of all is proven.

use std::collections::BTreeMap;

use ulid::Ulid;

use super::Line;
use super::end::Bound;
use crate::audit::clock;
use crate::audit::log::{Late, Log};
use crate::audit::report::{Finding, Report, What};
use crate::evidence::checkpoint;

/// One part in so many of a copy may be without a signature: what comes in a second is less, but in a store of minutes.
const PART: u64 = 20;

impl Line {
    /// How much of each log is under a signature: its own, or one over a record that names it.
    pub(super) fn bound(&mut self) -> Bound {
        let mut bound = Bound { logs: BTreeMap::new(), fresh: false, deleted: [].into() };
        // Who names a log comes after it.
        for id in self.order.iter().rev() {
            let Some(log) = self.logs.get_mut(id) else { continue };
            let mut size = log.signed;
            // One that drained is named by a record of its successor.
            let rest = log.unsigned();
            let whole = self.ends.iter().find(|(end, by)| {
                rest > 0
                    && bound.holds(*by)
                    && end.ended
                    && end.tree().is_some_and(|(of, tree)| of == *id && log.head() == Some(tree))
            });
            if let Some((end, Some(by))) = whole {
                log.late.push(Late { by: *by, count: rest, size: end.size });
            }
            for late in log.late.iter().filter(|late| bound.holds(Some(late.by))) {
                size = size.max(late.size);
            }
            bound.logs.insert(*id, size);
        }
        bound
    }

    /// Whether what the last log has without a signature may be what was written in the moment before.
    pub(super) fn is_end_fresh(&self, report: &Report) -> bool {
        if self.reach.behind {
            // The moment before what is behind it.
            return false;
        }
        let newest = self.newest.as_deref().zip(report.last.as_ref());
        newest.is_some_and(|(newest, last)| !clock::is_long(&last.time, newest, clock::GRACE))
    }

    /// Logs that something is said of, and of which no record is there.
    pub(super) fn gone(&self, bound: &Bound, report: &mut Report) {
        let deleted = self.holes.iter().any(|hole| self.was_deleted(hole, bound));
        let age = |id: Ulid| Some((self.signed.keys_of(id)?.0, id));
        let oldest = self.order.first().and_then(|first| age(*first));
        for (id, marks) in self.signed.marks.iter().filter(|(id, _)| !self.logs.contains_key(id)) {
            let Some(most) = marks.iter().max_by_key(|mark| mark.tree.size).filter(|mark| mark.tree.size > 0)
            else {
                continue;
            };
            let text = format!("of log {id} no record is there; {} says it had {}", most.by, most.tree.size);
            // One that only a log names ended before that one began, or the name is wrong.
            let older = match (age(*id), oldest) {
                (Some(its), Some(oldest)) => its < oldest,
                (None, Some((_, first))) => *id < first,
                _ => false,
            };
            report.add(match deleted && older {
                true => {
                    Finding::said(What::Deleted, format!("{text}; a signed record says that it was deleted"))
                        .log(id)
                }
                false => Finding::bad(What::Missing, text).log(id),
            });
        }
    }

    /// What logs say of those before them.
    pub(super) fn claims(&self, bound: &Bound, report: &mut Report) {
        for (end, by) in &self.ends {
            let by = by.map_or_else(|| "a record".to_owned(), |(by, _)| format!("log {by}"));
            let Some((id, tree)) = end.tree() else {
                report.add(Finding::bad(What::Log, format!("{by} names a log in no known form")));
                continue;
            };
            let Some(log) = self.logs.get(&id).filter(|log| self.reach.goes_on != Some(log.id)) else {
                continue;
            };
            let behind = log.first + tree.size..log.first + log.size();
            let more = !behind.is_empty() && end.ended && self.failed(&behind, bound).is_none();
            let fewer = log.size() < tree.size;
            let other = log.size() == tree.size && log.head().is_some_and(|head| head != tree);
            if more || fewer || other {
                let text = format!(
                    "{by} says that log {id} has {} records, of another content or number than it has ({})",
                    tree.size,
                    log.size()
                );
                report.add(Finding::bad(What::Log, text).log(id));
            }
        }
        for id in self.order.iter().rev().skip(1) {
            let names = |end: &super::LogEnd| checkpoint::ulid(&end.log) == Some(*id);
            if !self.ends.iter().any(|(end, _)| names(end)) {
                report.add(Finding::bad(What::Log, format!("no later log names log {id}")).log(id));
            }
        }
        for id in self.order.iter().skip(1) {
            if self.begun.get(id).is_none_or(Vec::is_empty) {
                let text = format!("log {id} names none before it, and is not the first");
                report.add(Finding::bad(What::Log, text).log(id));
            }
        }
    }

    /// Logs that ended without a stop, and the whole line's end.
    pub(super) fn unfinished(&self, report: &mut Report) {
        for said in &self.recovered {
            let Some((first, last)) = said.segments else { continue };
            let text = format!(
                "segments {first} to {last}, as they were at {}, were left out: what they went on from is not there, behind byte {} of segment {}",
                said.time, said.at.offset, said.at.segment
            );
            report.add(Finding::said(What::Gap, text).at(said.at.segment, said.at.offset));
        }
        for pair in self.order.windows(2) {
            let (Some(log), Some(next)) = (self.logs.get(&pair[0]), self.logs.get(&pair[1])) else {
                continue;
            };
            let restarted = self.given_up.iter().any(|(given, _)| given.at.segment >= log.last_segment);
            if !log.stopped && !restarted {
                let down = log.boot.is_some() && next.boot.is_some() && log.boot != next.boot;
                let text = match (down, &log.newest) {
                    (true, Some(time)) => format!(
                        "log {} has no stop: the machine went down behind record {}, of {time}; what came behind the last checkpoint and no sync covered is not there (the last 50 ms, where nobody had the disk)",
                        log.id,
                        log.first + log.size() - 1
                    ),
                    _ => format!(
                        "log {} has no stop: its writer was killed, or ran on beside log {}",
                        log.id, next.id
                    ),
                };
                report.add(Finding::said(What::Gap, text).log(log.id).record(log.first + log.size()));
            }
        }
    }

    /// Why the disk is to blame for all records of a log that a later one does not bind.
    fn given_up_behind(&self, log: &Log, bound: &Bound) -> Option<String> {
        let ends = self.ends.iter().filter_map(|(end, _)| end.tree()).filter(|(id, _)| *id == log.id);
        let bound_to = ends.map(|(_, tree)| tree.size).max()?;
        self.failed(&(log.first + bound_to..log.first + log.size()), bound)
    }

    /// Counts what no signature covers. It weighs, but for the end of a store that is written, or of a copy of one.
    pub(super) fn sum(&self, bound: &Bound, report: &mut Report) {
        report.unproven = report.outside;
        if report.outside > 0 {
            let text = format!(
                "{} records are in no log: of a version without evidence; nothing proves them",
                report.outside
            );
            report.add(Finding::said(What::Unsigned, text));
        }
        for log in self.logs.values() {
            let named = log.late.iter().filter(|late| bound.holds(Some(late.by)));
            let late: u64 = named.map(|late| late.count).sum();
            let unsigned = log.unsigned() + log.late.iter().map(|late| late.count).sum::<u64>() - late;
            report.late += late;
            report.unsigned += unsigned;
            let first = log.first + log.signed;
            if late > 0 {
                let text = format!(
                    "{late} records from {first} on were signed only by the log that followed: whoever had the host before its start could change them"
                );
                report.add(Finding::said(What::Unsigned, text).log(log.id).record(first));
            }
            if unsigned > 0 {
                // One that drains is written beside the last.
                let drains = self.written && log.signed > 0 && !log.stopped;
                let last = drains || self.order.last() == Some(&log.id);
                if let Some(why) = self.given_up_behind(log, bound) {
                    let text = format!("{unsigned} records are there that the disk may not have kept: {why}");
                    report.add(Finding::said(What::Unsigned, text).log(log.id).record(first));
                    continue;
                }
                let few = unsigned.saturating_mul(PART) < report.records || self.written;
                if !(last && few && self.is_end_fresh(report)) {
                    report.unproven += unsigned;
                }
                let stop = if log.stopped { ", the stop among them" } else { "" };
                let text = format!(
                    "{unsigned} records from {first} on are under no checkpoint{stop}: nothing proves them"
                );
                report.add(Finding::said(What::Unsigned, text).log(log.id).record(first));
            }
        }
        if !report.key_given && report.key.is_some() {
            let text = "no key was given: the store agrees with itself, and may be another's altogether";
            report.add(Finding::said(What::Key, text));
        }
    }
}
