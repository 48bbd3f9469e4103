//! The files of a store. Whoever could write to it chose what lies there: nothing but a regular file is opened, no link is
//! followed, and none is read beyond a size that its kind never has.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ulid::Ulid;

use super::Error;
use super::said::{SegmentHead, kind};
use super::scan::{Item, Scan};
use crate::evidence::checkpoint;
use crate::evidence::tile::{At, Tile, WIDTH};

/// Largest number in a file that is believed: of a segment, a record, a size, a place. Sums of a few of them are no trouble.
pub const LARGEST: u64 = 1 << 60;
/// Sizes that no honest file has: of the keys and of a log's checkpoints, of what has one note or key, of a tile.
pub const NOTES: u64 = 1 << 30;
pub const SMALL: u64 = 256 << 10;
const TILE: u64 = 32 * WIDTH as u64;

/// Opens a file for reading, if it is one: never a link, a pipe or a device.
///
/// # Errors
/// What open says, and [`is_none`] for what is no file.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// Whether [`open`] refused what is no regular file.
pub fn is_none(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
        || matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO))
}

/// A file's bytes, at most `most` of them.
fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length <= most {
        file.take(most + 1).read_to_end(&mut bytes)?;
    }
    match length.max(bytes.len() as u64) > most {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {most} bytes"))),
        false => Ok(bytes),
    }
}

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
            // Said when its records are read.
            Err(error) if is_none(&error) => None,
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
    if fs::symlink_metadata(&dir).is_ok_and(|there| !there.is_dir()) {
        return Err(Error::of(&dir)(io::Error::other("it is no directory")));
    }
    match fs::read_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.map_err(Error::of(&dir))? {
                let entry = entry.map_err(Error::of(&dir))?;
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    all.extend(entry.file_name().to_str().and_then(checkpoint::ulid));
                }
            }
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// A file whole; `None` when it is not there. One of more than `most` bytes cannot be read.
///
/// # Errors
/// What reading says.
pub fn whole(path: &Path, most: u64) -> Result<Option<Vec<u8>>, Error> {
    match read(path, most) {
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
    match read(&log_dir.join("tile").join(at.to_string()), TILE) {
        Ok(bytes) => Tile::read(at, &bytes).map_or(OnDisk::Odd, OnDisk::Tile),
        Err(error) if error.kind() == io::ErrorKind::NotFound => OnDisk::Missing,
        Err(_) => OnDisk::Odd,
    }
}

/// A leaf's hash, unproven, from the tiles: the full one, or the widest of those that are not.
pub fn leaf(log_dir: &Path, index: u64) -> Option<Tile> {
    let full = At { level: 0, index: index / WIDTH as u64, width: WIDTH };
    widest(log_dir, full, (index % WIDTH as u64) as usize + 1)
}

/// A tile, unproven: full, or the widest of those with so many hashes or more.
pub fn widest(log_dir: &Path, full: At, least: usize) -> Option<Tile> {
    if let OnDisk::Tile(tile) = tile(log_dir, full) {
        return Some(tile);
    }
    let parts = log_dir.join("tile").join(format!("{full}.p"));
    let widths = fs::read_dir(parts).ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let width = widths.filter(|width| (least..WIDTH).contains(width)).max()?;
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
    let file = open(path)?;
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
