//! The line of records: segments in their order, sequence numbers without a gap, logs one after another.

mod end;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use ulid::Ulid;

use super::Error;
use super::bodies::Bodies;
use super::clock::Clock;
use super::files::{self, Segment};
use super::log::{Log, Place as At};
use super::report::{Finding, Report, What};
use super::said::{Deleted, GivenUp, Heartbeat, Key, LogEnd, LogHead, Place, Recovered, SegmentHead, kind};
use super::scan::{Frame, Item, Scan};
use super::signed::{By, Mark, Signed};
use crate::evidence::chain::Certificate;
use crate::evidence::checkpoint;
use crate::evidence::note::Note;
use crate::record::frame::HEADER;

/// So many numbers a writer that drains has to itself.
const DRAIN: u64 = 1 << 32;

/// Records that are not there.
#[derive(Debug)]
struct Hole {
    /// Sequence numbers.
    records: std::ops::Range<u64>,
    /// In which segments they may have been: empty when none is missing.
    segments: std::ops::Range<u64>,
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
    /// The store's id, by its first segment or its keys.
    store: Option<String>,
    /// By id; `order` is that of the store.
    logs: BTreeMap<Ulid, Log>,
    order: Vec<Ulid>,
    current: Option<Ulid>,
    /// The number that the next frame has.
    next: Option<u64>,
    last_segment: u64,
    clock: Clock,
    bodies: Bodies,
    holes: Vec<Hole>,
    tails: Vec<Tail>,
    /// What records say happened: of which log, at which leaf.
    recovered: Vec<(Recovered, Option<(Ulid, u64)>)>,
    given_up: Vec<GivenUp>,
    deleted: BTreeMap<u64, Option<(Ulid, u64)>>,
    erased: BTreeSet<u64>,
    ends: Vec<(LogEnd, Option<Ulid>)>,
}

impl Line {
    /// Before the first segment. What heads say of other logs is known beforehand.
    pub fn new(dir: &Path, mut signed: Signed, segments: &[Segment]) -> Self {
        let store = signed.chain.as_ref().map(|chain| chain.store().to_string());
        let first = segments.iter().find_map(|s| Some(s.head.as_ref()?.1.store.clone()));
        let mut ends = Vec::new();
        for log in segments.iter().filter_map(|segment| segment.head.as_ref()?.1.log.as_ref()) {
            let Some((by, begins)) = checkpoint::ulid(&log.id).zip(log.begins.as_ref()) else { continue };
            for end in &begins.previous {
                if let Some((log, tree)) = end.tree() {
                    signed.marks.entry(log).or_default().push(Mark { tree, by: By::Log(by) });
                }
                ends.push((end.clone(), Some(by)));
            }
        }
        Self {
            dir: dir.to_owned(),
            signed,
            store: store.or(first),
            logs: BTreeMap::new(),
            order: Vec::new(),
            current: None,
            next: None,
            last_segment: 0,
            clock: Clock::default(),
            bodies: Bodies::new(dir),
            holes: Vec::new(),
            tails: Vec::new(),
            recovered: Vec::new(),
            given_up: Vec::new(),
            deleted: BTreeMap::new(),
            erased: BTreeSet::new(),
            ends,
        }
    }

    /// Reads one segment; `rest` are those behind it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn segment(&mut self, segment: &Segment, rest: &[Segment], report: &mut Report) -> Result<(), Error> {
        let following = rest.iter().find_map(|segment| segment.head.as_ref());
        let end =
            following.and_then(|(_, head)| head.previous).filter(|place| place.segment == segment.number);
        let end = end.map(|place| place.offset);
        let scan = match Scan::open(&segment.path, end) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
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
        let Some((sequence, head)) = &segment.head else {
            // Told when it was read. A file without anything in it was named before a crash.
            return;
        };
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
        let gone = if head.apart { 0..0 } else { skipped };
        if *sequence > from && (!head.apart || sequence - from > 2 * DRAIN) || !gone.is_empty() {
            let records = from..(*sequence).max(from);
            self.holes.push(Hole { records, segments: gone, before, log: None, unknown: 0 });
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
                let marks = self.signed.marks.get(&id).cloned().unwrap_or_default();
                self.logs.insert(id, Log::new(id, *first, files::log_dir(&self.dir, id), marks));
                self.order.push(id);
            }
            self.current = Some(id);
        }
        if let Some(begins) = begins {
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
                    report.add(Finding::bad(What::Changed, text).at(segment, offset).record(next).so(so));
                }
            }
        }
    }

    fn frame(&mut self, segment: u64, frame: &Frame<'_>, report: &mut Report) {
        let place = Place { segment, offset: frame.offset };
        let next = self.next.unwrap_or(frame.sequence);
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
                before: place,
                log: None,
                unknown: 0,
            });
        }
        self.next = Some(frame.sequence + 1);
        report.records += 1;
        let mut leaf = None;
        match self.current.and_then(|id| self.logs.get_mut(&id)) {
            None => report.outside += 1,
            Some(log) => {
                let index = frame.sequence.saturating_sub(log.first);
                let lacks = log.first + log.size()..frame.sequence;
                let unknown = if lacks.is_empty() { 0 } else { log.skip(index, report) };
                match self.holes.last_mut().filter(|hole| hole.records.end == frame.sequence) {
                    Some(hole) => (hole.log, hole.unknown) = (Some(log.id), unknown),
                    None if lacks.is_empty() => {}
                    None => {
                        let log = Some(log.id);
                        self.holes.push(Hole { records: lacks, segments: 0..0, before: place, log, unknown });
                    }
                }
                if index == log.size() {
                    log.push(frame.leaf, At { segment, offset: frame.offset }, report);
                    log.stopped = frame.kind == kind::STOP;
                    log.end = frame.offset + (HEADER + frame.payload.len()) as u64;
                    leaf = Some((log.id, index));
                }
            }
        }
        self.said(place, frame, leaf, report);
        self.bodies.record(segment, frame, report);
    }

    /// What a record says that others are judged by.
    fn said(&mut self, place: Place, frame: &Frame<'_>, leaf: Option<(Ulid, u64)>, report: &mut Report) {
        let payload = frame.payload;
        let read = match frame.kind {
            kind::SEGMENT => parse::<SegmentHead>(payload).map(drop),
            kind::RECOVERED => parse(payload).map(|said| self.recovered.push((said, leaf))),
            kind::GIVEN_UP => parse(payload).map(|said| self.given_up.push(said)),
            kind::DELETED => parse::<Deleted>(payload).map(|said| {
                self.deleted.insert(said.segment, leaf);
            }),
            kind::ERASED => {
                parse::<serde_json::Value>(payload).map(|said| self.erased.extend(numbers(&said)))
            }
            kind::LOG_END => {
                parse::<LogEnd>(payload).map(|said| self.ends.push((said, leaf.map(|(log, _)| log))))
            }
            kind::KEY => parse::<Key<'_>>(payload).map(|said| self.key(place, frame.sequence, &said, report)),
            kind::HEARTBEAT => parse::<Heartbeat>(payload).map(|said| {
                self.clock.sign(&said.time, &said.boot_id, said.boottime_us, frame.sequence, report);
            }),
            _ => Some(()),
        };
        if read.is_none() {
            let text =
                format!("record {} (kind {}) is not in the form of its kind", frame.sequence, frame.kind);
            let finding = Finding::bad(What::Changed, text).at(place.segment, place.offset);
            report.add(finding.record(frame.sequence));
        }
    }

    /// A certificate in a record must be the one of the chain.
    fn key(&self, place: Place, sequence: u64, said: &Key<'_>, report: &mut Report) {
        let note = Note::parse(&said.certificate).ok();
        let stated = note.as_ref().and_then(|note| note.text().parse::<Certificate>().ok());
        let chain = self.signed.chain.as_ref();
        let own = stated
            .as_ref()
            .and_then(|stated| chain?.certificates().get(usize::try_from(stated.number).ok()?));
        if own.is_none() || own != stated.as_ref() {
            let text = format!("record {sequence} has a certificate that is not in keys");
            report.add(Finding::bad(What::Key, text).at(place.segment, place.offset).record(sequence));
        }
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
            report.add(Finding::bad(What::Missing, text).at(segment.number, offset));
        }
        let bytes = files::behind(&segment.path, end).map_err(Error::of(&segment.path))?;
        if bytes > 0 {
            self.tails.push(Tail { at, bytes, last: false });
        }
        Ok(())
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(payload: &'a [u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}

/// All whole numbers under `number`, `numbers`, `keys` or `segments` of what a record says was erased.
fn numbers(said: &serde_json::Value) -> Vec<u64> {
    let fields = ["number", "numbers", "keys", "segments"].into_iter().filter_map(|name| said.get(name));
    fields
        .flat_map(|value| match value.as_array() {
            Some(all) => all.iter().filter_map(serde_json::Value::as_u64).collect::<Vec<_>>(),
            None => value.as_u64().into_iter().collect(),
        })
        .collect()
}
