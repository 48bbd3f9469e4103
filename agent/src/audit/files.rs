//! The files of a store.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ulid::Ulid;

use super::Error;
use super::said::{SegmentHead, kind};
use super::scan::{Item, Scan};
use crate::evidence::checkpoint;
use crate::evidence::tile::{At, Tile, WIDTH};

/// A segment's file.
#[derive(Debug)]
pub struct Segment {
    /// Its number, by its name.
    pub number: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Its head, and the sequence number of that; `None` when it does not begin with one.
    pub head: Option<(u64, SegmentHead)>,
}

/// The segments by number, those to which nothing was ever written left out.
///
/// # Errors
/// What reading says.
pub fn segments(dir: &Path) -> Result<Vec<Segment>, Error> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::of(dir))? {
        let name = entry.map_err(Error::of(dir))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".sluice")).and_then(|n| n.parse().ok());
        let Some(number) = number else { continue };
        let path = dir.join(&name);
        let head = match head(&path) {
            // The size bound may take it at this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            head => head.map_err(Error::of(&path))?,
        };
        all.push(Segment { number, path, head });
    }
    all.sort_by_key(|segment| segment.number);
    Ok(all)
}

fn head(path: &Path) -> io::Result<Option<(u64, SegmentHead)>> {
    let (mut scan, good) = Scan::open(path, None)?;
    if !good {
        return Ok(None);
    }
    Ok(match scan.next(|_| false)? {
        Item::Frame(frame) if frame.kind == kind::SEGMENT => {
            serde_json::from_slice(frame.payload).ok().map(|head| (frame.sequence, head))
        }
        _ => None,
    })
}

/// The directory of a log's tree.
pub fn log_dir(dir: &Path, log: Ulid) -> PathBuf {
    dir.join("logs").join(log.to_string())
}

/// The logs that have a directory.
///
/// # Errors
/// What reading says.
pub fn logs(dir: &Path) -> Result<Vec<Ulid>, Error> {
    let dir = dir.join("logs");
    let mut all = Vec::new();
    match fs::read_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.map_err(Error::of(&dir))? {
                let name = entry.map_err(Error::of(&dir))?.file_name();
                all.extend(name.to_str().and_then(checkpoint::ulid));
            }
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// A file whole; `None` when it is not there.
///
/// # Errors
/// What reading says.
pub fn whole(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(Error::of(path)),
    }
}

/// What is there of a tile.
#[derive(Debug)]
pub enum OnDisk {
    /// It, unproven.
    Tile(Tile),
    /// A file of another length.
    Odd,
    /// Nothing.
    Missing,
}

/// Reads a tile.
pub fn tile(log_dir: &Path, at: At) -> OnDisk {
    match fs::read(log_dir.join("tile").join(at.to_string())) {
        Ok(bytes) => Tile::read(at, &bytes).map_or(OnDisk::Odd, OnDisk::Tile),
        Err(_) => OnDisk::Missing,
    }
}

/// A leaf's hash, unproven, from the tiles: the full one, or the widest of those that are not.
pub fn leaf(log_dir: &Path, index: u64) -> Option<Tile> {
    let (tile_index, within) = (index / WIDTH as u64, (index % WIDTH as u64) as usize);
    let full = At { level: 0, index: tile_index, width: WIDTH };
    if let OnDisk::Tile(tile) = tile(log_dir, full) {
        return Some(tile);
    }
    let parts = log_dir.join("tile").join(format!("{full}.p"));
    let widths = fs::read_dir(parts).ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let width = widths.filter(|width| *width > within && *width < WIDTH).max()?;
    match tile(log_dir, At { width, ..full }) {
        OnDisk::Tile(tile) => Some(tile),
        _ => None,
    }
}

/// How many bytes of a file lie behind `end`, up to the last that is not zero.
///
/// # Errors
/// What reading says.
pub fn behind(path: &Path, end: u64) -> io::Result<u64> {
    let file = fs::File::open(path)?;
    let length = file.metadata()?.len().saturating_sub(end);
    let (mut last, mut at, mut buffer) = (0, end, vec![0; length.min(1 << 20) as usize]);
    loop {
        let n = file.read_at(&mut buffer, at)?;
        if n == 0 {
            return Ok(last);
        }
        if let Some(i) = buffer[..n].iter().rposition(|byte| *byte != 0) {
            last = at + i as u64 + 1 - end;
        }
        at += n as u64;
    }
}
