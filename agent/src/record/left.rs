//! What the last writer left: how far what it wrote hangs together, and where the next one goes on.
//!
//! A process that is killed leaves at most half a frame at the end. A machine that goes down leaves of what no sync covered
//! whatever the disk had taken, in any order: a frame without the ones before it, a segment without the end of the one
//! before, a reference without its body. What lies behind the first thing that is missing is left out, and the next segment
//! says where that is. What a sync covered is never left out: signatures and full tiles tell how far that reaches.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::bodies::{self, BODIES, KEY, Sealer, beside, hex};
use super::frame::{Batch, BodyRef, DIVERTED_PREFIX, Kind, MAX_PAYLOAD};
use super::lock::Place;
use super::logs::Current;
use super::open::Error;
use super::payload::{BodyKey, End, LogEnd, LogHead, Recovered, SegmentHead, stamp};
use super::segment::{self, Found, Scan, Step};
use super::trees;
use super::writer::Writer;

/// Behind the name of a segment that was left out. It goes with the oldest segments.
const CUT: &str = ".cut";
/// A file of a key is not larger.
const KEY_FILE: u64 = 256 * 1024;
/// Pieces in the segment itself that wait for the frame that refers to them.
const DIVERTED: usize = 1 << 16;

/// See the module.
#[derive(Default)]
pub struct Left {
    /// The store's id.
    pub store: Option<String>,
    /// The last sequence number.
    pub last: u64,
    /// Number of the last segment.
    pub last_number: u64,
    /// Where its records end.
    pub end: Option<End>,
    /// What was cut short.
    pub cut: Option<Recovered>,
    /// Nothing: the writer before still writes, elsewhere.
    apart: bool,
}

impl Left {
    /// A writer that goes on from there, in segments of so many bytes and a log that begins behind `previous`.
    pub fn writer(
        &self,
        dir: &Path,
        segment_bytes: u64,
        previous: Vec<LogEnd>,
        sealer: Arc<Sealer>,
    ) -> Writer {
        Writer {
            dir: dir.to_owned(),
            store: self.store.clone().unwrap_or_else(|| ulid::Ulid::generate().to_string()),
            segment_bytes,
            current: None,
            spare: None,
            retired: Vec::new(),
            previous: self.end,
            last_number: self.last_number,
            apart: self.apart,
            log: Current::after(previous),
            leaves: Vec::new(),
            end_of_numbers: None,
            next: self.last + 1,
            buffered: Batch::default(),
            promised: 0,
            renumbered: Vec::new(),
            open: 0,
            renamed: false,
            pending: Batch::default(),
            retry_at: None,
            trouble: None,
            reports: Vec::new(),
            closed: false,
            // Those of one that drains, which had another last segment, are in the same directory.
            spares: self.last_number << 32,
            sealer,
            touched: Vec::new(),
        }
    }

    /// `segments`: those that are there, from `place` on when there is one. What does not hang together with the others is
    /// taken out of `segments`, and set aside.
    ///
    /// # Errors
    /// A segment cannot be read, or not be set aside.
    pub fn of(dir: &Path, segments: &mut Vec<Found>, place: Option<Place>) -> Result<Self, Error> {
        let last = segments.last().map(|found| found.path.clone());
        let failed = |source| match last.clone() {
            Some(path) => Error::Segment { path, source },
            None => Error::Dir { dir: dir.to_owned(), source },
        };
        if let Some(left) = recover(dir, segments).map_err(failed)? {
            let store = left.store.or_else(|| place.map(|place| place.store));
            return Ok(Self { store, ..left });
        }
        Ok(match place {
            Some(Place { store, segment, sequence, .. }) => Self {
                store: Some(store),
                last: sequence - 1,
                last_number: segment - 1,
                apart: true,
                ..Self::default()
            },
            None => Self::default(),
        })
    }
}

/// A segment that no sync may cover, with its head and the number of that.
struct Part {
    /// Among all.
    index: usize,
    head: Option<(u64, SegmentHead)>,
    /// Sequence numbers below this are on disk.
    known: u64,
}

/// Reads what no sync may cover: mostly one segment, the last.
fn recover(dir: &Path, segments: &mut Vec<Found>) -> io::Result<Option<Left>> {
    let parts = unknown(dir, segments)?;
    let mut left: Option<Left> = None;
    for (at, part) in parts.iter().enumerate() {
        let Some((first, head)) = &part.head else { break };
        let (found, following) = (&segments[part.index], parts.get(at + 1));
        let said = following.and_then(|next| next.head.as_ref()?.1.previous);
        let said = said.filter(|end| end.segment == found.number).map(|end| end.offset);
        // Another writer's numbers begin elsewhere.
        let next = left.as_ref().filter(|_| !head.apart).map_or(*first, |left| left.last + 1);
        if next != *first {
            break;
        }
        let (last, end) = whole(dir, found, part.known, next, said)?;
        if last < next {
            break;
        }
        let at = End { segment: found.number, offset: end };
        left = Some(Left {
            store: Some(head.store.clone()),
            last,
            last_number: found.number,
            end: Some(at),
            ..Left::default()
        });
        if last + 1 < part.known && following.is_some() {
            // What was on disk is damaged: that is for `audit verify` to say, and for nobody to take away more.
            return damaged(segments).map(Some);
        }
        if said.is_some_and(|said| said != end) {
            break;
        }
    }
    let keep =
        left.as_ref().and_then(|left| segments.iter().position(|found| found.number == left.last_number));
    let Some(left) = left.as_mut() else {
        set_aside(dir, segments, 0)?;
        return Ok(None);
    };
    let aside = set_aside(dir, segments, keep.map_or(0, |index| index + 1))?;
    left.cut = cut(segments, left.end, aside)?;
    Ok(Some(std::mem::take(left)))
}

/// From the last segment on that a sync covers in part.
fn unknown(dir: &Path, segments: &[Found]) -> io::Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    for (index, found) in segments.iter().enumerate().rev() {
        let head = segment::first(&found.path)?;
        let log = head.as_ref().and_then(|(_, head)| head.log.as_ref());
        let known = log.map_or(0, |LogHead { id, first, .. }| first + trees::known(dir, id));
        // Segments are synced in their order: those before one that is on disk in part are, or were given up.
        let synced = head.as_ref().is_some_and(|(first, _)| known > *first);
        // A version without logs synced one segment before the next, and said nothing of it.
        let oldest = head.as_ref().is_some_and(|(_, head)| head.log.is_none() || head.apart);
        parts.push(Part { index, head, known });
        if synced || oldest {
            break;
        }
    }
    parts.reverse();
    Ok(parts)
}

/// Reads a segment as far as it hangs together, from the record `first` on: gives the last record and where that ends.
fn whole(dir: &Path, found: &Found, known: u64, first: u64, said: Option<u64>) -> io::Result<(u64, u64)> {
    let mut scan = Scan::open(&found.path)?;
    let mut beside = Beside { dir, open: None, diverted: Vec::new() };
    let (mut next, mut end) = (first, 0);
    while said.is_none_or(|said| end < said) {
        let Step::Frame { sequence, kind, payload, .. } = scan.step()? else { break };
        let kind = Kind::of(kind);
        let asked = sequence >= known || kind == Some(Kind::Diverted);
        if sequence != next || asked && !beside.has(kind, payload) {
            break;
        }
        (next, end) = (next + 1, scan.offset());
    }
    Ok((next - 1, end))
}

/// The store as it was taken to be before there was a way to tell: only what lies behind the last record is left out.
fn damaged(segments: &[Found]) -> io::Result<Left> {
    let mut left = Left::default();
    for found in segments.iter().rev() {
        let mut scan = Scan::open(&found.path)?;
        left.last_number = left.last_number.max(found.number);
        while let Step::Frame { sequence, payload, kind, .. } = scan.step()? {
            if Kind::of(kind) == Some(Kind::Segment) {
                let head = serde_json::from_slice::<SegmentHead>(payload).ok();
                left.store = left.store.or(head.map(|head| head.store));
            }
            left.last = left.last.max(sequence);
        }
        let end = *left.end.get_or_insert(End { segment: found.number, offset: scan.offset() });
        if end.segment == found.number {
            left.cut = cut(segments, left.end, None)?;
        }
        if left.store.is_some() {
            break;
        }
    }
    Ok(left)
}

/// What lies behind the end; what was allocated there is let go.
fn cut(
    segments: &[Found],
    end: Option<End>,
    segments_cut: Option<(u64, u64)>,
) -> io::Result<Option<Recovered>> {
    let Some((at, found)) =
        end.and_then(|end| Some((end, segments.iter().find(|found| found.number == end.segment)?)))
    else {
        return Ok(None);
    };
    let bytes = Scan::open(&found.path)?.behind(at.offset)?;
    // Zeros are of no more use. A read-only segment keeps them.
    let length = at.offset + bytes;
    let _ = OpenOptions::new().write(true).open(&found.path).and_then(|file| file.set_len(length));
    let time = stamp(OffsetDateTime::now_utc());
    let some = bytes > 0 || segments_cut.is_some();
    Ok(some.then_some(Recovered { time, at, bytes, segments: segments_cut }))
}

/// Takes the segments from the one of this index on out of the store: the last first, so that another crash leaves no hole.
/// Gives the first and the last in which anything was.
fn set_aside(dir: &Path, segments: &mut Vec<Found>, from: usize) -> io::Result<Option<(u64, u64)>> {
    let (mut aside, any) = (None::<(u64, u64)>, from < segments.len());
    for found in segments.drain(from..).rev() {
        let stem = found.path.with_extension("");
        if Scan::open(&found.path)?.behind(0)? == 0 {
            bodies::discard(&stem);
            fs::remove_file(&found.path)?;
            continue;
        }
        // Kept with what it refers to: should it be damage and no crash, this is all the evidence that there is.
        for path in [beside(&stem, BODIES), beside(&stem, KEY), found.path.clone()] {
            match fs::rename(&path, beside(&path, CUT)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
        }
        aside = Some((found.number, aside.map_or(found.number, |(_, last)| last)));
    }
    if any {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(aside)
}

/// Removes what was set aside.
pub fn forget(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let cut = entries.filter(|path| path.as_os_str().as_encoded_bytes().ends_with(CUT.as_bytes()));
    // One that cannot be removed now goes with the next.
    cut.for_each(|path| drop(fs::remove_file(path)));
}

/// What frames refer to.
struct Beside<'a> {
    dir: &'a Path,
    open: Option<(u64, Option<fs::File>)>,
    diverted: Vec<(u64, u64, [u8; 32])>,
}

impl Beside<'_> {
    /// Whether what a frame refers to is there as it was when the frame was written.
    fn has(&mut self, kind: Option<Kind>, payload: &[u8]) -> bool {
        match kind {
            Some(Kind::BodyRef) => BodyRef::read(payload).is_none_or(|to| self.has_piece(&to)),
            Some(Kind::Diverted) => {
                if let Some((prefix, bytes)) = payload.split_at_checked(DIVERTED_PREFIX)
                    && self.diverted.len() < DIVERTED
                {
                    let number =
                        |at: usize| prefix[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
                    self.diverted.push((number(0), number(8), Sha256::digest(bytes).into()));
                }
                true
            }
            Some(Kind::BodyKey) => serde_json::from_slice(payload).is_ok_and(|key| self.has_key(&key)),
            _ => true,
        }
    }

    fn has_piece(&mut self, to: &BodyRef) -> bool {
        if let Some((.., sha256)) = self.diverted.iter().rev().find(|d| (d.0, d.1) == (to.file, to.place)) {
            return *sha256 == to.sha256;
        }
        if self.open.as_ref().is_none_or(|(number, _)| *number != to.file) {
            self.open = Some((to.file, segment::open_plain(&self.path(to.file, BODIES)).ok()));
        }
        // Its name was there before the segment's: one that is not was taken away since, which is for others to judge.
        let Some((_, Some(file))) = &self.open else { return true };
        if to.stored as usize > MAX_PAYLOAD {
            return false;
        }
        let mut bytes = vec![0; to.stored as usize];
        file.read_exact_at(&mut bytes, to.place).is_ok() && Sha256::digest(&bytes)[..] == to.sha256
    }

    /// A key that is gone, or zeros, was erased since; else it must be the one.
    fn has_key(&self, key: &BodyKey) -> bool {
        let Ok(file) = segment::open_plain(&self.path(key.number, KEY)) else { return true };
        let mut bytes = Vec::new();
        let read = file.take(KEY_FILE).read_to_end(&mut bytes);
        let erased = !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0);
        read.is_ok() && (erased || hex(&Sha256::digest(&bytes)) == key.file_sha256)
    }

    fn path(&self, number: u64, suffix: &str) -> PathBuf {
        beside(&self.dir.join(segment::name(number)).with_extension(""), suffix)
    }
}
