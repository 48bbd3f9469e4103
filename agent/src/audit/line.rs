//! The line of records: segments in their order, sequence numbers without a gap, logs one after another.

mod end;
mod logs;
mod record;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ulid::Ulid;

use super::Error;
use super::bodies::Bodies;
use super::clock::Clock;
use super::files::{self, LARGEST, Segment};
use super::log::Log;
use super::range::Reach;
use super::report::{Finding, Report, What};
use super::said::{GivenUp, LogEnd, LogHead, Place, Recovered, SegmentHead};
use super::scan::{Frame, Item, Scan};
use super::signed::{By, Mark, Signed};
use super::source::Source;
use crate::evidence::checkpoint;

/// So many numbers a writer that drains has to itself, of records and of segments.
const DRAIN: u64 = 1 << 32;
const DRAIN_SEGMENTS: u64 = 1000;

/// Of which log a record is which leaf, if it is one.
type Leaf = Option<(Ulid, u64)>;

/// Records that are not there.
#[derive(Debug)]
struct Hole {
    /// Sequence numbers.
    records: std::ops::Range<u64>,
    /// In which segments they may have been: empty when none is missing.
    segments: std::ops::Range<u64>,
    /// Nothing is before it, and one of so many segments before what follows was the last to be deleted, if it was so.
    front: Option<u64>,
    /// Where what follows them is.
    before: Place,
    log: Option<Ulid>,
    /// How many of the hashes no tile knows.
    unknown: u64,
}

/// Bytes behind the end of a segment's records.
#[derive(Debug)]
struct Tail {
    at: Place,
    bytes: u64,
    /// No later segment says that the records end there.
    last: bool,
}

/// See the module.
pub struct Line {
    dir: PathBuf,
    signed: Signed,
    /// What of the store is read.
    pub(super) reach: Reach,
    /// The store's id, by its first segment or its keys.
    store: Option<String>,
    /// By id; `order` is that of the store.
    logs: BTreeMap<Ulid, Log>,
    order: Vec<Ulid>,
    current: Option<Ulid>,
    /// The number that the next frame has.
    next: Option<u64>,
    last_segment: u64,
    /// Those that are there.
    segments: Vec<u64>,
    clock: Clock,
    bodies: Bodies,
    holes: Vec<Hole>,
    tails: Vec<Tail>,
    /// Findings (their places in the report) that a failure of the disk accounts for, if a later record says so of the
    /// record that is lost there.
    doubts: Vec<(usize, u64)>,
    /// What records say happened: of which log, at which leaf.
    recovered: Vec<Recovered>,
    given_up: Vec<(GivenUp, Leaf)>,
    deleted: Vec<(u64, Leaf)>,
    erased: Vec<(u64, Leaf)>,
    ends: Vec<(LogEnd, Leaf)>,
    /// Logs whose first records name those before them.
    begun: BTreeMap<Ulid, Vec<Ulid>>,
    /// The latest time that a record bears.
    newest: Option<String>,
    /// Somebody writes to the store: what is not signed yet may be so in a moment.
    written: bool,
}

impl Line {
    /// Before the first segment that is read. What heads say of other logs is known beforehand.
    pub fn new(dir: &Path, mut signed: Signed, segments: &[Segment], reach: Reach, written: bool) -> Self {
        let store = signed.chain.as_ref().map(|chain| chain.store().to_string());
        let first = segments.iter().find_map(|s| Some(s.head.as_ref()?.1.store.clone()));
        let (mut ends, mut begun) = (Vec::new(), BTreeMap::new());
        for log in segments.iter().filter_map(|segment| segment.head.as_ref()?.1.log.as_ref()) {
            let Some((by, begins)) = checkpoint::ulid(&log.id).zip(log.begins.as_ref()) else { continue };
            for end in &begins.previous {
                if let Some((log, tree)) = end.tree() {
                    signed.marks.entry(log).or_default().push(Mark { tree, by: By::Log(by) });
                }
                ends.push((end.clone(), Some((by, 0))));
            }
            begun.insert(by, begins.previous.iter().filter_map(|end| checkpoint::ulid(&end.log)).collect());
        }
        Self {
            dir: dir.to_owned(),
            signed,
            reach,
            store: store.or(first),
            logs: BTreeMap::new(),
            order: Vec::new(),
            current: None,
            next: None,
            last_segment: 0,
            segments: segments.iter().map(|segment| segment.number).collect(),
            clock: Clock::default(),
            bodies: Bodies::new(dir),
            holes: Vec::new(),
            tails: Vec::new(),
            doubts: Vec::new(),
            recovered: Vec::new(),
            given_up: Vec::new(),
            deleted: Vec::new(),
            erased: Vec::new(),
            ends,
            begun,
            newest: None,
            written,
        }
    }

    /// The first that is read is the segment `number`, which begins with this record, and has others before it.
    pub(super) fn follow(&mut self, number: u64, sequence: u64) {
        self.last_segment = number.saturating_sub(1);
        self.next = Some(sequence.min(LARGEST));
    }

    /// Begins in the middle of a log (its id, and its first record), of which tiles say what it was at this size. False when
    /// they do not.
    ///
    /// # Errors
    /// The records at the edge of the tree cannot be read.
    pub(super) fn stand(&mut self, of: (Ulid, u64), size: u64, segments: &[Segment]) -> Result<bool, Error> {
        let tree = Source::new(&self.dir, of, size, segments)?.standing();
        self.new_log(of.0, of.1).stand(size, tree);
        Ok(self.logs.get(&of.0).is_some_and(|log| log.head().is_some()))
    }

    /// One of the logs.
    pub(super) fn log_mut(&mut self, id: Ulid) -> Option<&mut Log> {
        self.logs.get_mut(&id)
    }

    fn new_log(&mut self, id: Ulid, first: u64) -> &mut Log {
        let marks = self.signed.marks.get(&id).cloned().unwrap_or_default();
        let (dir, window) = (files::log_dir(&self.dir, id), self.signed.window(id));
        self.order.push(id);
        self.current = Some(id);
        self.logs.entry(id).or_insert(Log::new(id, first, dir, marks, window))
    }

    /// Reads one segment; `rest` are those behind it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn segment(&mut self, segment: &Segment, rest: &[Segment], report: &mut Report) -> Result<(), Error> {
        if segment.number > LARGEST {
            let text = format!("segment {} has a number that no store comes to", segment.number);
            report.add(Finding::bad(What::Segment, text).at(segment.number, 0));
            return Ok(());
        }
        let following = rest.iter().find_map(|segment| segment.head.as_ref());
        let end =
            following.and_then(|(_, head)| head.previous).filter(|place| place.segment == segment.number);
        let end = end.map(|place| place.offset.min(LARGEST));
        let scan = match Scan::open(&segment.path, end) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if files::is_none(&error) => {
                let text = format!("segment {} is no file", segment.number);
                report.add(Finding::bad(What::Segment, text).at(segment.number, 0));
                return Ok(());
            }
            scan => scan,
        };
        let (mut scan, good) = scan.map_err(Error::of(&segment.path))?;
        if !good {
            let text = format!("segment {} does not begin as one", segment.number);
            report.add(Finding::bad(What::Segment, text).at(segment.number, 0));
        }
        self.head(segment, report);
        self.frames(segment.number, &mut scan, end, report).map_err(Error::of(&segment.path))?;
        if segment.head.is_none() && scan.offset() > 8 {
            let text = format!("segment {} does not begin with its head", segment.number);
            report.add(Finding::bad(What::Segment, text).at(segment.number, 8));
        }
        self.tail(segment, scan.offset(), end, report)?;
        report.bytes += scan.offset();
        self.last_segment = segment.number;
        Ok(())
    }

    /// The place of a segment among the others, and the log that it is of.
    fn head(&mut self, segment: &Segment, report: &mut Report) {
        let number = segment.number;
        let bad = |text: String| Finding::bad(What::Segment, text).at(number, 8);
        // Told when it was read. A file without anything in it was named before a crash.
        let Some((sequence, head)) = &segment.head else { return };
        if *sequence > LARGEST {
            report.add(bad(format!("segment {number} begins with record {sequence}: no store has so many")));
            return;
        }
        if Some(&head.store) != self.store.as_ref() {
            report.add(bad(format!("segment {number} is of another store, {}", head.store)));
        }
        if head.segment != number {
            report.add(bad(format!("segment {number} is by its own word segment {}", head.segment)));
        }
        let skipped = self.last_segment + 1..number;
        match head.previous {
            Some(place) if skipped.is_empty() && place.segment != self.last_segment => {
                report
                    .add(bad(format!("segment {number} follows segment {}, by its own word", place.segment)));
            }
            None if self.last_segment > 0 && !head.apart => {
                report.add(bad(format!("segment {number} says that none is before it")));
            }
            _ => {}
        }
        let before = Place { segment: number, offset: 8 };
        let from = self.next.unwrap_or(1);
        let front = self.next.is_none().then_some(if head.apart { 2 * DRAIN_SEGMENTS } else { 1 });
        let gone = if head.apart && front.is_none() { 0..0 } else { skipped };
        let drained = head.apart && front.is_none() && sequence.saturating_sub(from) <= 2 * DRAIN;
        if *sequence > from && !drained || !gone.is_empty() {
            let records = from..(*sequence).max(from);
            self.holes.push(Hole { records, segments: gone, front, before, log: None, unknown: 0 });
        }
        if *sequence > from || self.next.is_none() {
            self.next = Some(*sequence);
        }
        self.log(*sequence, head, number, report);
    }

    /// Goes on with the log that the head of a segment names.
    fn log(&mut self, sequence: u64, head: &SegmentHead, segment: u64, report: &mut Report) {
        let bad = |text: String| Finding::bad(What::Log, text).at(segment, 8).record(sequence);
        let Some((id, log)) = head.log.as_ref().and_then(|log| Some((checkpoint::ulid(&log.id)?, log)))
        else {
            if let Some(before) = self.current.take() {
                report.add(bad(format!("segment {segment} is of no log, behind log {before}")));
            }
            return;
        };
        let LogHead { first, begins, .. } = log;
        if self.current != Some(id) {
            self.clock.forget();
            if self.logs.contains_key(&id) {
                report.add(bad(format!("log {id} goes on behind another log")));
            } else {
                self.new_log(id, (*first).min(sequence));
            }
            self.current = Some(id);
        }
        if let Some(begins) = begins {
            if let Some(log) = self.logs.get_mut(&id) {
                log.boot = Some(begins.boot_id.clone());
            }
            self.clock.sign(&head.time, &begins.boot_id, begins.boottime_us, sequence, report);
        }
        if self.logs.get(&id).is_none_or(|log| log.first != *first)
            || *first > sequence
            || begins.is_some() != (*first == sequence)
        {
            report.add(bad(format!(
                "segment {segment} says of log {id} another first record than before, or none"
            )));
        }
    }

    fn frames(
        &mut self,
        segment: u64,
        scan: &mut Scan,
        end: Option<u64>,
        report: &mut Report,
    ) -> io::Result<()> {
        loop {
            let next = self.next.unwrap_or(0);
            match scan.next(|sequence| sequence >= next && sequence - next < DRAIN)? {
                Item::Frame(frame) => self.frame(segment, &frame, report),
                Item::End => return Ok(()),
                Item::Tail { offset, end: behind } if end.is_none() => {
                    let at = Place { segment, offset };
                    self.tails.push(Tail { at, bytes: behind - offset, last: true });
                }
                Item::Bad { offset, end } | Item::Tail { offset, end } => {
                    let text = format!("bytes {offset} to {end} of segment {segment} are no record");
                    let so = format!("record {next} is lost there, and with it what it said");
                    let finding = Finding::bad(What::Changed, text).at(segment, offset).record(next).so(so);
                    self.doubt(next, finding, report);
                }
            }
        }
    }

    fn frame(&mut self, segment: u64, frame: &Frame<'_>, report: &mut Report) {
        let place = Place { segment, offset: frame.offset };
        let next = self.next.unwrap_or(frame.sequence.min(LARGEST));
        if frame.sequence > LARGEST {
            let text = format!("record {} has a number that no store comes to", frame.sequence);
            report.add(Finding::bad(What::Order, text).at(segment, frame.offset).record(frame.sequence));
            return;
        }
        if frame.sequence < next {
            let text = format!("record {} comes after record {}", frame.sequence, next - 1);
            let so = "it is twice in the store, or was moved; it is left out".to_owned();
            let finding = Finding::bad(What::Order, text).at(segment, frame.offset).record(frame.sequence);
            report.add(finding.so(so));
            return;
        }
        if frame.sequence > next {
            self.holes.push(Hole {
                records: next..frame.sequence,
                segments: 0..0,
                front: None,
                before: place,
                log: None,
                unknown: 0,
            });
        }
        self.next = Some(frame.sequence + 1);
        report.records += 1;
        let leaf = self.leaf(place, frame, report);
        self.time(place, frame, leaf, report);
        self.said(place, frame, leaf, report);
        let before = report.findings.len();
        self.bodies.record(segment, frame, report);
        self.doubts.extend((before..report.findings.len()).map(|finding| (finding, frame.sequence)));
    }

    /// What lies behind the end of a segment's records.
    fn tail(
        &mut self,
        segment: &Segment,
        offset: u64,
        end: Option<u64>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Some(end) = end else { return Ok(()) };
        let at = Place { segment: segment.number, offset: end };
        if offset < end {
            let text = format!(
                "the records of segment {} end at byte {offset}; the next segment says {end}",
                segment.number
            );
            let finding = Finding::bad(What::Missing, text).at(segment.number, offset);
            self.doubt(self.next.unwrap_or(0), finding, report);
        }
        let bytes = files::behind(&segment.path, end).map_err(Error::of(&segment.path))?;
        if bytes > 0 {
            self.tails.push(Tail { at, bytes, last: false });
        }
        Ok(())
    }
}
