//! Hashes of a log without its records: for proofs, and for those who begin in the middle.

use std::io;
use std::path::{Path, PathBuf};

use ulid::Ulid;

use super::Error;
use super::files::{self, LARGEST, OnDisk, Segment};
use super::scan::{Item, Scan};
use crate::evidence::checkpoint;
use crate::evidence::tile::{At, Collector, Tile, WIDTH, subtree};
use crate::evidence::tree::{Frontier, Hash, inclusion};

/// The log that a segment is of, and the sequence number of its leaf 0.
pub fn log_of(segment: &Segment) -> Option<(Ulid, u64)> {
    let (sequence, head) = segment.head.as_ref()?;
    let log = head.log.as_ref().filter(|log| log.first <= *sequence && *sequence <= LARGEST)?;
    Some((checkpoint::ulid(&log.id)?, log.first))
}

/// Where the hashes of a log come from: its full tiles; and the tiles at the edge, which are written when the log ends, are
/// made from the full ones below and the last records.
#[derive(Debug)]
pub struct Source {
    dir: PathBuf,
    size: u64,
    edge: Vec<Tile>,
}

impl Source {
    /// The first `size` leaves of a log: its id, and the sequence number of its leaf 0.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn new(dir: &Path, log: (Ulid, u64), size: u64, segments: &[Segment]) -> Result<Self, Error> {
        let mut source = Self { dir: files::log_dir(dir, log.0), size, edge: Vec::new() };
        let mut last = Vec::new();
        for level in 0..8_u8 {
            let there = size >> (8 * u32::from(level));
            let at = At { level, index: there >> 8, width: (there % WIDTH as u64) as usize };
            if at.width == 0 {
                continue;
            }
            if let Some(hashes) = source.written(at) {
                source.edge.push(Tile { at, hashes });
            } else if level == 0 {
                leaves(log, at.index * WIDTH as u64, size, segments, &mut last)?;
                source.edge.push(Tile { at, hashes: std::mem::take(&mut last) });
            } else {
                let first = at.index * WIDTH as u64;
                let below = (first..first + at.width as u64).map_while(|index| source.root(level - 1, index));
                let hashes = below.collect();
                source.edge.push(Tile { at, hashes });
            }
        }
        Ok(source)
    }

    /// What a tile at the edge has, from the one that lies there: of this width, or wider when the log went on.
    fn written(&self, at: At) -> Option<Vec<Hash>> {
        let same = || match files::tile(&self.dir, at) {
            OnDisk::Tile(tile) => Some(tile),
            OnDisk::Odd | OnDisk::Missing => None,
        };
        let wider = || files::widest(&self.dir, At { width: WIDTH, ..at }, at.width);
        Some(same().or_else(wider)?.hashes[..at.width].to_vec())
    }

    /// The tree as it stood, unproven; `None` when tiles or records are missing.
    pub fn standing(self) -> Option<Collector> {
        let mut open = Vec::new();
        for tile in self.edge {
            open.resize(usize::from(tile.at.level), Vec::new());
            open.push(tile.hashes);
        }
        Collector::standing(self.size, open)
    }

    /// The root over a full tile.
    fn root(&self, level: u8, index: u64) -> Option<Hash> {
        let OnDisk::Tile(tile) = files::tile(&self.dir, At { level, index, width: WIDTH }) else {
            return None;
        };
        let mut tree = Frontier::default();
        tile.hashes.into_iter().for_each(|hash| tree.push(hash));
        Some(tree.root())
    }

    /// The hashes from a leaf to the root; `None` when a tile is missing.
    pub fn inclusion(&self, index: u64) -> Option<Vec<Hash>> {
        let read = |at: At| match self.edge.iter().find(|tile| tile.at == at) {
            Some(tile) => Some(tile.clone()),
            None => match files::tile(&self.dir, at) {
                OnDisk::Tile(tile) => Some(tile),
                OnDisk::Odd | OnDisk::Missing => None,
            },
        };
        inclusion(index, self.size, |level, index| subtree(self.size, level, index, read))
    }
}

/// The leaves of a log from `from` to `to`, from its records.
fn leaves(
    log: (Ulid, u64),
    from: u64,
    to: u64,
    segments: &[Segment],
    into: &mut Vec<Hash>,
) -> Result<(), Error> {
    let own: Vec<_> = segments.iter().filter(|s| log_of(s).is_some_and(|l| l.0 == log.0)).collect();
    let first = log.1 + from;
    let at = own.partition_point(|s| s.head.as_ref().is_some_and(|(n, _)| *n <= first)).saturating_sub(1);
    for segment in own.into_iter().skip(at) {
        let unreadable = |source: io::Error| Error { path: segment.path.clone(), source };
        let (mut scan, _) = Scan::open(&segment.path, None).map_err(unreadable)?;
        scan.seek(first).map_err(unreadable)?;
        loop {
            let next = first + into.len() as u64;
            match scan.next(|_| true).map_err(unreadable)? {
                _ if next >= log.1 + to => return Ok(()),
                Item::Frame(frame) if frame.sequence == next => into.push(frame.leaf),
                Item::Frame(_) | Item::Bad { .. } => {}
                Item::Tail { .. } | Item::End => break,
            }
        }
    }
    Ok(())
}
