//! Who writes: one writer, and beside it those that drain.
//!
//! The writer holds the first byte of the file `lock`. One that is to end while what it records is still under way *stands
//! aside*: it writes into the file where its successor begins, takes one of the bytes behind the first, and lets go of the
//! first. From then on each writes segments of its own: the successor's numbers begin [`SEGMENTS`] segments and
//! [`FRAMES`] frames later, so that all of them still sort in the order of their writers, whoever ends first.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use serde::{Deserialize, Serialize};

use super::payload::LogEnd;
use super::segment;

/// The file. Readers look at it and never lock it.
const LOCK: &str = "lock";
/// Byte of the writer.
const WRITER: i64 = 0;
/// Bytes of those that drain: as many as can at once.
const DRAINING: std::ops::RangeInclusive<i64> = 1..=8;
/// Numbers of segments left to a writer that drains.
const SEGMENTS: u64 = 1000;
/// Sequence numbers left to it.
const FRAMES: u64 = 1 << 32;
/// The longest text in the file.
const LONGEST: u64 = 512;

/// Where a writer begins whose predecessor still writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The store's id.
    pub store: String,
    /// Number of its first segment.
    pub segment: u64,
    /// Sequence number of its first frame.
    pub sequence: u64,
    /// The log of the writer that drains, and how far it was when it stood aside; absent before 0.2.
    #[serde(default)]
    pub log: Option<LogEnd>,
}

impl Place {
    /// For the successor of a writer whose last segment and next frame have these numbers.
    pub fn after(store: &str, segment: u64, sequence: u64, log: LogEnd) -> Self {
        Self {
            store: store.to_owned(),
            segment: segment + SEGMENTS,
            sequence: sequence + FRAMES,
            log: Some(log),
        }
    }
}

/// A writer's lock. It goes with the file, however the process ends.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Locks the store for writing; `None` when somebody else has it.
    ///
    /// # Errors
    /// What open and fcntl say.
    pub fn take(dir: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(segment::MODE)
            .open(dir.join(LOCK))?;
        Ok(set(&file, libc::F_WRLCK, WRITER)?.then_some(Self(file)))
    }

    /// Where to begin, when some other writer drains; `None` when nobody else writes.
    ///
    /// # Errors
    /// The file cannot be read, or does not say where.
    pub fn place(&self) -> io::Result<Option<Place>> {
        if !self.another_drains() {
            return Ok(None);
        }
        let mut text = vec![0; self.0.metadata()?.len().min(LONGEST) as usize];
        self.0.read_exact_at(&mut text, 0)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// Whether some other writer drains.
    pub fn another_drains(&self) -> bool {
        drains(&self.0)
    }

    /// Lets a successor begin at `place`.
    ///
    /// # Errors
    /// As many drain as can, or the file cannot be written: the store is as it was.
    pub fn stand_aside(&self, place: &Place) -> io::Result<()> {
        let text = serde_json::to_vec(place)?;
        self.0.write_all_at(&text, 0)?;
        self.0.set_len(text.len() as u64)?;
        let mut taken = false;
        for byte in DRAINING {
            taken = taken || set(&self.0, libc::F_WRLCK, byte)?;
        }
        if !taken {
            return Err(io::Error::other("too many writers drain already"));
        }
        set(&self.0, libc::F_UNLCK, WRITER).map(drop)
    }
}

/// Whether some agent writes to this store now. Takes no lock itself, so that it never keeps one out.
pub fn in_use(dir: &Path) -> bool {
    // Of a copy anything may lie there, a pipe that waits for a writer too.
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(dir.join(LOCK));
    file.is_ok_and(|file| held(&file, WRITER, 0))
}

/// Whether a writer of this store drains.
pub fn is_draining(dir: &Path) -> bool {
    File::open(dir.join(LOCK)).is_ok_and(|file| drains(&file))
}

fn drains(file: &File) -> bool {
    held(file, *DRAINING.start(), DRAINING.end() - DRAINING.start() + 1)
}

/// Whether somebody else has locked one of `length` bytes (0: all) from `first` on.
fn held(file: &File, first: i64, length: i64) -> bool {
    let mut probe = flock(libc::F_WRLCK, first, length);
    let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe));
    asked.is_ok() && i32::from(probe.l_type) != libc::F_UNLCK
}

/// Locks or unlocks one byte; `false` when somebody else has it.
fn set(file: &File, kind: i32, byte: i64) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&flock(kind, byte, 1))) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn flock(kind: i32, first: i64, length: i64) -> libc::flock {
    // The constants are 0 to 2.
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: first,
        l_len: length,
        l_pid: 0,
    }
}
