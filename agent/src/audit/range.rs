//! A part of a store: whole segments, one after another. What is before and behind them is not read, but for hashes that tie
//! them to what is signed.

use std::io;
use std::ops::Range as Indices;

use ulid::Ulid;

use super::Error;
use super::files::Segment;
use super::line::Line;
use super::report::{Finding, Part, Report, What};
use super::scan::{Item, Scan};
use super::source::log_of;

/// Which segments are asked for. All that is not given is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First and last number.
    pub segments: Option<(u64, u64)>,
    /// From the segment on that this time (RFC 3339 in UTC with microseconds) is in.
    pub since: Option<String>,
    /// To the segment that this time is in.
    pub until: Option<String>,
}

impl Range {
    /// Which of these it means. A clock that was set back may make it more, never fewer.
    pub fn of(&self, segments: &[Segment]) -> Indices<usize> {
        let time = |at: usize| segments[at].head.as_ref().map(|(_, head)| head.time.as_str());
        let (mut from, mut to) = (0, segments.len());
        if let Some(since) = &self.since {
            // The first whose successor, or one behind that, did not begin before.
            let before = |at: &usize| time(*at).is_some_and(|time| time <= since.as_str());
            let later = (0..to).find(|at| !before(at)).unwrap_or(to);
            from = later.saturating_sub(1);
        }
        if let Some(until) = &self.until {
            let begun = |at: &usize| time(*at).is_none_or(|time| time <= until.as_str());
            to = (0..to).rev().find(begun).map_or(0, |at| at + 1);
        }
        if let Some((first, last)) = self.segments {
            from = from.max(segments.partition_point(|segment| segment.number < first));
            to = to.min(segments.partition_point(|segment| segment.number <= last));
        }
        from..to.max(from)
    }
}

/// What of a store is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach {
    /// Something is before it that is not.
    pub before: bool,
    /// Something is behind it that is not.
    pub behind: bool,
    /// The log that goes on behind it.
    pub goes_on: Option<Ulid>,
}

impl Reach {
    /// Of these segments.
    pub fn of(segments: &[Segment], within: &Indices<usize>) -> Self {
        let log = |at: usize| log_of(segments.get(at)?).map(|(id, _)| id);
        let last = within.end.checked_sub(1).and_then(log);
        Self {
            before: within.start > 0,
            behind: within.end < segments.len(),
            goes_on: last.filter(|last| log(within.end) == Some(*last)),
        }
    }

    /// Whether it is all that there is.
    pub fn is_whole(self) -> bool {
        !self.before && !self.behind
    }
}

impl Line {
    /// Begins in the middle of a store, with the segment at `at`: with the tree of its log as tiles have it, which the next
    /// signature proves, or not.
    ///
    /// # Errors
    /// The records at the edge of the tree cannot be read.
    pub fn begin_at(&mut self, segments: &[Segment], at: usize, report: &mut Report) -> Result<(), Error> {
        let Some((sequence, _)) = segments[at].head.as_ref() else { return Ok(()) };
        self.follow(segments[at].number, *sequence);
        let Some((id, first)) = log_of(&segments[at]).filter(|(_, first)| first < sequence) else {
            return Ok(());
        };
        if !self.stand((id, first), sequence - first, segments)? {
            let text = format!("the tiles of log {id} do not lead up to record {sequence}");
            let so = "nothing in it is proven here; verify the whole store".to_owned();
            report.add(Finding::bad(What::Tile, text).at(segments[at].number, 8).log(id).so(so));
        }
        Ok(())
    }

    /// Goes on behind what is read, in the same log, until a signature covers all that was: hashes only.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn until_signed(&mut self, rest: &[Segment], report: &mut Report) -> Result<(), Error> {
        let Some(log) = self.reach.goes_on else { return Ok(()) };
        for (at, segment) in rest.iter().enumerate() {
            let done = self.log_mut(log).is_none_or(|log| !log.is_open());
            if done || log_of(segment).is_none_or(|(id, _)| id != log) {
                break;
            }
            let following = rest[at + 1..].iter().find_map(|segment| segment.head.as_ref());
            let end = following.and_then(|(_, head)| head.previous);
            let end = end.filter(|place| place.segment == segment.number).map(|place| place.offset);
            let unreadable = |source: io::Error| Error { path: segment.path.clone(), source };
            let (mut scan, _) = Scan::open(&segment.path, end).map_err(unreadable)?;
            while let Some(log) = self.log_mut(log).filter(|log| log.is_open()) {
                match scan.next(|_| false).map_err(unreadable)? {
                    Item::Frame(frame) => log.beyond(frame.sequence, frame.leaf, report),
                    // What is damaged here is no part of what is asked for.
                    Item::Bad { .. } | Item::Tail { .. } | Item::End => break,
                }
            }
        }
        Ok(())
    }
}

/// What is said of the part that was read.
pub fn part(segments: &[Segment], within: &Indices<usize>) -> Option<Part> {
    let (first, last) = (segments.get(within.start)?, segments.get(within.end.checked_sub(1)?)?);
    let time = |segment: Option<&Segment>| Some(segment?.head.as_ref()?.1.time.clone());
    Some(Part {
        first: first.number,
        last: last.number,
        from: time(Some(first)),
        to: time(segments.get(within.end)),
    })
}
