//! Bytes of bodies, which lie beside the segments, against the hashes that records have of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files;
use super::report::{Finding, Report, What};
use super::said::{BodyKey, kind};
use super::scan::Frame;
use crate::evidence::tree::Hash;

/// Lengths of a reference, without and with the time at its end; where its numbers are in it, and its hash.
const REFERENCE: usize = 88;
const TIMED: usize = 96;
const STORED: usize = 36;
const FILE: usize = 40;
const PLACE: usize = 48;
const SHA256: usize = 56;
/// Longest piece that is read.
const LONGEST: usize = 4 << 20;
/// Pieces that lie in the segment itself and wait for their reference.
const DIVERTED: usize = 1 << 16;

/// See the module.
#[derive(Debug)]
pub struct Bodies {
    dir: PathBuf,
    open: Option<(u64, Option<File>)>,
    diverted: HashMap<(u64, u64), Hash>,
    buffer: Vec<u8>,
    /// Files that are not there: how many references, and the first record that has one.
    missing: BTreeMap<u64, (u64, u64)>,
    missing_keys: BTreeMap<u64, u64>,
}

impl Bodies {
    /// Of the store in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            open: None,
            diverted: HashMap::new(),
            buffer: Vec::new(),
            missing: BTreeMap::new(),
            missing_keys: BTreeMap::new(),
        }
    }

    /// Judges what a record says of bodies, if it does.
    pub fn record(&mut self, segment: u64, frame: &Frame<'_>, report: &mut Report) {
        let bad =
            |text: String| Finding::bad(What::Body, text).at(segment, frame.offset).record(frame.sequence);
        match frame.kind {
            kind::BODY_REF => {
                let known = [REFERENCE, TIMED].contains(&frame.payload.len());
                let Some(reference) = frame.payload.first_chunk().filter(|_| known) else {
                    report.add(bad(format!("record {} refers to a body in no known form", frame.sequence)));
                    return;
                };
                self.reference(reference, frame.sequence, bad, report);
            }
            kind::DIVERTED if frame.payload.len() > 16 && self.diverted.len() < DIVERTED => {
                let place = (u64_at(frame.payload, 0), u64_at(frame.payload, 8));
                self.diverted.insert(place, Hash::of(&frame.payload[16..]));
            }
            kind::BODY_KEY => {
                let Ok(key) = serde_json::from_slice::<BodyKey>(frame.payload) else { return };
                let path = self.dir.join(format!("{:012}.key", key.number));
                match files::whole(&path, files::SMALL) {
                    Ok(Some(bytes)) if hex(&Hash::of(&bytes)) == key.file_sha256 => {}
                    Ok(Some(_)) => {
                        report.add(bad(format!("the key {} is not the one that was recorded", key.number)))
                    }
                    _ => {
                        self.missing_keys.insert(key.number, frame.sequence);
                    }
                }
            }
            _ => {}
        }
    }

    fn reference(
        &mut self,
        reference: &[u8; REFERENCE],
        sequence: u64,
        bad: impl Fn(String) -> Finding,
        report: &mut Report,
    ) {
        let (file, place) = (u64_at(reference, FILE), u64_at(reference, PLACE));
        let length = u64_at(reference, STORED) as u32 as usize;
        let hash = &reference[SHA256..];
        if let Some(diverted) = self.diverted.remove(&(file, place)) {
            match diverted.0 == hash {
                true => report.bodies += 1,
                false => report
                    .add(bad(format!("the bytes beside record {sequence} are not those that it refers to"))),
            }
            return;
        }
        if self.open.as_ref().is_none_or(|(number, _)| *number != file) {
            self.open = Some((file, files::open(&self.dir.join(format!("{file:012}.bodies"))).ok()));
        }
        let Some((_, Some(open))) = &self.open else {
            self.missing.entry(file).or_insert((0, sequence)).0 += 1;
            return;
        };
        if length > LONGEST {
            report.add(bad(format!(
                "record {sequence} refers to {length} bytes, which no piece of a body has"
            )));
            return;
        }
        self.buffer.resize(length, 0);
        match open.read_exact_at(&mut self.buffer, place) {
            Ok(()) if Hash::of(&self.buffer).0 == hash => {
                report.bodies += 1;
                report.bytes += length as u64;
            }
            Ok(()) => report.add(bad(format!(
                "{file:012}.bodies, bytes {place} to {}: not what record {sequence} refers to",
                place.saturating_add(length as u64)
            ))),
            Err(error) => report.add(bad(format!(
                "{file:012}.bodies, bytes {place} to {}: {error}, record {sequence} refers to them",
                place.saturating_add(length as u64)
            ))),
        }
    }

    /// Says what is missing: `deleted` and `erased` are the numbers that a signed record says this of. `to_the_end`: no record
    /// that may say so is left out.
    pub fn finish(
        self,
        (deleted, erased): (&BTreeSet<u64>, &BTreeSet<u64>),
        to_the_end: bool,
        report: &mut Report,
    ) {
        let unread = "what was not read may say why";
        for (file, (count, first)) in self.missing {
            let text =
                format!("{file:012}.bodies is not there: {count} pieces of bodies, from record {first} on");
            report.add(match deleted.contains(&file) {
                true => {
                    Finding::said(What::Deleted, format!("{text}; a signed record says that it was deleted"))
                }
                false if !to_the_end => Finding::said(What::Body, format!("{text}; {unread}")).record(first),
                false => Finding::bad(What::Body, text).record(first),
            });
        }
        for (number, sequence) in self.missing_keys {
            let text = format!("{number:012}.key is not there: the bodies sealed with it cannot be read");
            report.add(match (erased.contains(&number), deleted.contains(&number)) {
                (true, _) => {
                    Finding::said(What::Deleted, format!("{text}; a signed record says that it was erased"))
                }
                (_, true) => {
                    Finding::said(What::Deleted, format!("{text}; a signed record says that it was deleted"))
                }
                _ if !to_the_end => Finding::said(What::Body, format!("{text}; {unread}")).record(sequence),
                _ => Finding::bad(What::Body, text).record(sequence),
            });
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn hex(hash: &Hash) -> String {
    hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
}
