//! What the logs before came to: read at a start, and said in the first frame of the new log, so that each log is a witness
//! of the one before.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::payload::{End, LogEnd, SegmentHead};
use super::segment::{self, Found, Scan, Step};
use super::trees::{directory, read_tile};
use crate::evidence::tile::{At, WIDTH};
use crate::evidence::tree::{Frontier, record};

/// A segment, its head, and the number of its first frame.
struct Part<'a> {
    found: &'a Found,
    first: u64,
    head: SegmentHead,
}

/// What is told of the logs before.
#[derive(Default)]
pub struct Before {
    /// How far those came that no later one said the end of.
    pub ends: Vec<LogEnd>,
    /// In which boot of the machine the last began.
    pub boot_id: Option<String>,
}

/// Looks at the logs in `segments`. `drains`: the writer of this log goes on with it, and what is said of it is not the end.
/// `last`: where the records end.
///
/// # Errors
/// What reading says.
pub fn logs(
    dir: &Path,
    segments: &[Found],
    drains: Option<&LogEnd>,
    last: Option<End>,
) -> io::Result<Before> {
    let mut parts = Vec::with_capacity(segments.len());
    for found in segments {
        match segment::first(&found.path) {
            Ok(Some((first, head))) => parts.push(Part { found, first, head }),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let begun = parts.iter().filter_map(|part| part.head.log.as_ref()?.begins.as_ref());
    let said = begun.flat_map(|begins| &begins.previous).filter(|end| end.ended);
    let mut done: HashSet<String> = said.map(|end| end.log.clone()).collect();
    let mut ends = Vec::new();
    for part in &parts {
        let Some(log) = &part.head.log else { continue };
        if !done.insert(log.id.clone()) {
            continue;
        }
        match drains.filter(|drains| drains.log == log.id) {
            Some(drains) => ends.push(drains.clone()),
            None => ends.push(end(dir, &parts, &log.id, log.first, last)?),
        }
    }
    let begun = parts.iter().rev().find_map(|part| part.head.log.as_ref()?.begins.as_ref());
    let boot_id = begun.map(|begins| begins.boot_id.clone());
    Ok(Before { ends, boot_id })
}

/// How far one log came.
///
/// # Errors
/// What reading says.
pub fn end_of(dir: &Path, log: &str) -> io::Result<Option<LogEnd>> {
    let (segments, _) = segment::list(dir)?;
    let Before { ends, .. } = logs(dir, &segments, None, None)?;
    Ok(ends.into_iter().find(|end| end.log == log))
}

/// From its tiles as far as they are there, then from its frames.
fn end(dir: &Path, parts: &[Part<'_>], id: &str, first: u64, last: Option<End>) -> io::Result<LogEnd> {
    let mut tree = Frontier::default();
    let tiles = directory(dir, id);
    for index in 0.. {
        let Some(tile) = read_tile(&tiles, At { level: 0, index, width: WIDTH }) else { break };
        tile.hashes.into_iter().for_each(|leaf| tree.push(leaf));
    }
    let mut next = first + tree.size();
    let of_log = |part: &&Part<'_>| part.head.log.as_ref().is_some_and(|log| log.id == id);
    let own: Vec<_> = parts.iter().filter(of_log).collect();
    // The one that the next leaf is in, and those behind it.
    let from = own.partition_point(|part| part.first <= next).saturating_sub(1);
    for part in &own[from..] {
        let last = last.filter(|end| end.segment == part.found.number).map(|end| end.offset);
        let ends = after(parts, part.found.number).or(last);
        let mut scan = Scan::open(&part.found.path)?;
        while let Step::Frame { offset, kind, sequence, payload } = scan.step()? {
            if ends.is_some_and(|end| offset >= end) {
                break;
            }
            if sequence == next {
                tree.push(record(kind, payload));
                next += 1;
            }
        }
    }
    Ok(LogEnd { log: id.to_owned(), size: tree.size(), root: tree.root().to_string(), ended: true })
}

/// Where the records of a segment end by the word of the next one.
fn after(parts: &[Part<'_>], number: u64) -> Option<u64> {
    let said = parts.iter().filter_map(|part| part.head.previous).find(|previous| previous.segment == number);
    said.map(|End { offset, .. }| offset)
}
