//! What can only be said when everything was read: which holes a record accounts for, how the logs hang together, and what
//! is proven.

use ulid::Ulid;

use super::{Hole, Line};
use crate::audit::report::{Finding, Report, What};
use crate::evidence::checkpoint;

impl Line {
    /// Ends the verification.
    pub fn finish(mut self, report: &mut Report) {
        self.missing_ends(report);
        for log in self.logs.values_mut() {
            log.finish(report);
        }
        self.holes(report);
        self.tails(report);
        self.gone(report);
        self.claims(report);
        self.unfinished(report);
        for log in self.signed.only_last.iter().filter(|log| self.logs.contains_key(log)) {
            let text = format!("logs/{log}/checkpoints is not there, only the last checkpoint");
            report.add(Finding::said(What::Checkpoint, text).log(log));
        }
        let deleted = self.deleted.keys().copied().collect();
        std::mem::replace(&mut self.bodies, super::Bodies::new(&self.dir)).finish(
            &deleted,
            &self.erased,
            report,
        );
        report.store = self.store.clone();
        report.logs = self.order.len() as u64;
        for log in self.logs.values() {
            report.proven += log.proven;
            report.checkpoints += log.checkpoints;
        }
        self.sum(report);
    }

    /// Records that were signed at the end of a log, and are not there.
    fn missing_ends(&mut self, report: &mut Report) {
        for (at, id) in self.order.iter().enumerate() {
            let follows = self.order.get(at + 1).and_then(|id| self.logs.get(id)).map(|log| log.first);
            let Some(log) = self.logs.get_mut(id) else { continue };
            let (size, promised) = (log.size(), log.promised());
            if size >= promised {
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
            self.holes.push(Hole { records, segments, before, log: Some(*id), unknown });
        }
    }

    fn holes(&self, report: &mut Report) {
        for hole in &self.holes {
            let Hole { records, segments, before, log, unknown } = hole;
            let gone: Vec<u64> =
                segments.clone().take(100_000).filter(|n| !self.deleted.contains_key(n)).collect();
            let excused = !segments.is_empty() && gone.is_empty();
            let which = match records.is_empty() {
                true => String::new(),
                false => format!("records {} to {}", records.start, records.end - 1),
            };
            let from = match segments.is_empty() {
                true => String::new(),
                false => format!("segments {} to {}", segments.start, segments.end - 1),
            };
            let both = [from, which].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(", ");
            let mut finding = if excused {
                let signed =
                    segments.clone().all(|n| self.is_signed(self.deleted.get(&n).copied().flatten()));
                let word =
                    if signed { "a signed record says so" } else { "a record that is not signed says so" };
                Finding::said(What::Deleted, format!("{both} were deleted; {word}"))
            } else if let Some(why) = self.unproven(records) {
                Finding::said(What::Gap, format!("{both} are not there: {why}"))
            } else if let Some(first) = gone.first() {
                let text =
                    format!("{both} are not there, and no record says that segment {first} was deleted");
                Finding::bad(What::Missing, text).at(before.segment, before.offset)
            } else {
                Finding::bad(What::Missing, format!("{both} are not there")).at(before.segment, before.offset)
            };
            if !records.is_empty() {
                finding = finding.record(records.start);
            }
            if let Some(log) = log {
                finding = finding.log(log);
            }
            report.add(finding);
            if let Some(log) = log.filter(|_| *unknown > 0) {
                let text =
                    format!("the tiles of log {log} lack {unknown} hashes of records that are not there");
                let so = format!("no tree of it from record {} on can be proven", records.start);
                report.add(Finding::bad(What::Tile, text).log(log).so(so));
            }
        }
    }

    /// Why records are not there, if the disk failed before they were signed.
    fn unproven(&self, records: &std::ops::Range<u64>) -> Option<String> {
        let of = |range: &(u64, u64)| range.0 <= records.start && records.end <= range.1 + 1;
        let given_up = self.given_up.iter().find(|given| given.unproven.as_ref().is_some_and(of))?;
        let signed = self.logs.values().any(|log| {
            let end = log.first + log.promised();
            records.start >= log.first && records.start < end
        });
        (!signed).then(|| format!("{} at {}", given_up.why, given_up.time))
    }

    fn is_signed(&self, leaf: Option<(Ulid, u64)>) -> bool {
        leaf.is_some_and(|(log, index)| self.logs.get(&log).is_some_and(|log| index < log.signed))
    }

    fn tails(&self, report: &mut Report) {
        for tail in &self.tails {
            let (at, bytes) = (tail.at, tail.bytes);
            let cut = self.recovered.iter().find(|(said, _)| said.at == at);
            let left = self.given_up.iter().find(|said| said.at == at);
            let what = format!(
                "{bytes} bytes behind the last record of segment {}, from byte {} on, are no record",
                at.segment, at.offset
            );
            let finding = match (cut, left) {
                (Some((said, _)), _) if said.bytes == bytes => {
                    Finding::said(What::Gap, format!("{what}: cut short by a crash, found at {}", said.time))
                }
                (Some((said, _)), None) => Finding::bad(
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

    /// Logs that something is said of, and of which no record is there.
    fn gone(&self, report: &mut Report) {
        let excused = self.holes.iter().any(|hole| !hole.segments.is_empty())
            && self.holes.iter().all(|hole| hole.segments.clone().all(|n| self.deleted.contains_key(&n)));
        for (id, marks) in self.signed.marks.iter().filter(|(id, _)| !self.logs.contains_key(id)) {
            let Some(most) = marks.iter().max_by_key(|mark| mark.tree.size).filter(|mark| mark.tree.size > 0)
            else {
                continue;
            };
            let text = format!("of log {id} no record is there; {} says it had {}", most.by, most.tree.size);
            report.add(match excused {
                true => {
                    Finding::said(What::Deleted, format!("{text}; records say that segments were deleted"))
                        .log(id)
                }
                false => Finding::bad(What::Missing, text).log(id),
            });
        }
    }

    /// What logs say of those before them.
    fn claims(&self, report: &mut Report) {
        for (end, by) in &self.ends {
            let by = by.map_or_else(|| "a record".to_owned(), |by| format!("log {by}"));
            let Some((id, tree)) = end.tree() else {
                report.add(Finding::bad(What::Log, format!("{by} names a log in no known form")));
                continue;
            };
            let Some(log) = self.logs.get(&id) else { continue };
            let more = log.size() > tree.size && end.ended;
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
            let named = |(end, _): &(super::LogEnd, _)| checkpoint::ulid(&end.log) == Some(*id);
            if !self.ends.iter().any(named) {
                report.add(Finding::bad(What::Log, format!("no later log names log {id}")).log(id));
            }
        }
    }

    /// Logs that ended without a stop, and the whole line's end.
    fn unfinished(&self, report: &mut Report) {
        for pair in self.order.windows(2) {
            let (Some(log), Some(next)) = (self.logs.get(&pair[0]), self.logs.get(&pair[1])) else {
                continue;
            };
            let restarted = self.given_up.iter().any(|given| given.at.segment >= log.last_segment);
            if !log.stopped && !restarted {
                let text = format!(
                    "log {} has no stop: its writer was killed, or ran on beside log {}",
                    log.id, next.id
                );
                report.add(Finding::said(What::Gap, text).log(log.id).record(log.first + log.size()));
            }
        }
    }

    fn sum(&self, report: &mut Report) {
        if report.outside > 0 {
            let text = format!(
                "{} records are in no log: of a version without evidence; nothing proves them",
                report.outside
            );
            report.add(Finding::said(What::Unsigned, text));
        }
        for log in self.logs.values() {
            let late: u64 =
                log.late.iter().filter(|(by, _)| self.is_signed(Some((*by, 0)))).map(|(_, n)| n).sum();
            let unsigned = log.unsigned() + log.late.iter().map(|(_, n)| n).sum::<u64>() - late;
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
