//! Segments as files: made, named, found, scanned. Nothing here decides when.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, OFlag, fallocate};

use super::bodies::{self, Bodies, Sealer};
use super::frame::{HEADER, Kind, MAGIC, Seen, see};
use super::payload::SegmentHead;

/// The gate's user and root alone: the store holds all tags' bodies, and the gate's group has members (the control
/// socket's) who may run commands, not read what others' did.
pub(super) const MODE: u32 = 0o600;
const SUFFIX: &str = ".sluice";
const SPARE: &str = "spare.";
/// Read at once by a scan.
const WINDOW: usize = 1 << 20;
/// Enough for nearly every head: those of all segments are read at each start and by each reader.
const HEAD: usize = 4096;

/// A segment that is being written.
#[derive(Debug)]
pub struct Segment {
    /// Its file, shared with the sync thread.
    pub file: Arc<File>,
    /// Its number, 0 while it is spare.
    pub number: u64,
    /// Where the next frame goes.
    pub end: u64,
    /// Size of the file: no frame goes beyond.
    pub size: u64,
    /// The bodies file beside it.
    pub bodies: Arc<Bodies>,
    path: PathBuf,
}

impl Segment {
    /// Makes a preallocated file that is not yet a segment, and the bodies file beside it.
    ///
    /// # Errors
    /// Whatever open or fallocate say; no file is left behind.
    pub fn spare(dir: &Path, unique: u64, size: u64, sealer: &Sealer) -> io::Result<Self> {
        let path = dir.join(format!("{SPARE}{unique}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path)?;
        let length = i64::try_from(size).map_err(io::Error::other)?;
        let allocated = fallocate(file.as_fd(), FallocateFlags::empty(), 0, length).map_err(io::Error::from);
        match allocated.and_then(|()| sealer.spare(&path)) {
            Ok(bodies) => Ok(Self { file: Arc::new(file), number: 0, end: 0, size, bodies, path }),
            Err(error) => {
                // Cleaning up cannot fail worse than this already did.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Gives a spare its number and name, after its bodies file: no segment is without one.
    ///
    /// # Errors
    /// Whatever rename says.
    pub fn name(&mut self, dir: &Path, number: u64) -> io::Result<()> {
        let path = dir.join(name(number));
        self.bodies.name(&self.path, &path.with_extension(""), number)?;
        fs::rename(&self.path, &path)?;
        self.path = path;
        self.number = number;
        Ok(())
    }

    /// Writes at the end. What is behind `end` after a failure does not count.
    ///
    /// # Errors
    /// Whatever write says.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Bytes that still fit.
    pub fn room(&self) -> u64 {
        self.size.saturating_sub(self.end)
    }

    /// Removes the file of a spare that is not needed, or of a segment that nothing is in.
    pub fn discard(self) {
        // A spare left over is removed at the next start.
        let _ = fs::remove_file(&self.path);
        for stem in [&self.path, &self.path.with_extension("")] {
            bodies::discard(stem);
        }
    }
}

/// Opens a plain file to read it: root reads what the gate's user has written, so no link is followed and nothing is opened
/// that waits or does something when it is.
///
/// # Errors
/// Whatever open says; that it is no plain file.
pub fn open_plain(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"))
}

/// File name of a segment: sorts by number.
pub fn name(number: u64) -> String {
    format!("{number:012}{SUFFIX}")
}

/// A segment's file on disk.
#[derive(Clone, Debug)]
pub struct Found {
    /// Number.
    pub number: u64,
    /// Path.
    pub path: PathBuf,
}

/// The store's segments by number, and what spares lie about.
///
/// # Errors
/// Whatever reading the directory says.
pub fn list(dir: &Path) -> io::Result<(Vec<Found>, Vec<PathBuf>)> {
    let mut segments = Vec::new();
    let mut spares = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(file) = file.to_str() else { continue };
        if file.starts_with(SPARE) {
            spares.push(entry.path());
        } else if let Some(number) = file.strip_suffix(SUFFIX).and_then(|n| n.parse().ok()) {
            segments.push(Found { number, path: entry.path() });
        }
    }
    segments.sort_by_key(|found| found.number);
    Ok((segments, spares))
}

/// Frames of one file, one after another. Reads only what it is asked for; a file that is being written may grow between
/// two calls.
#[derive(Debug)]
pub struct Scan {
    file: File,
    /// Where the next frame is looked for.
    offset: u64,
    /// Bytes from `offset - used` on.
    window: Vec<u8>,
    used: usize,
    /// Bytes that are read at once.
    piece: usize,
}

/// One step of a [`Scan`].
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A frame.
    Frame {
        /// Where it begins.
        offset: u64,
        /// Kind's number.
        kind: u8,
        /// Sequence number.
        sequence: u64,
        /// Payload.
        payload: &'a [u8],
    },
    /// Nothing more was written.
    Blank,
    /// Bytes that are no frame, or half of one.
    Bad,
}

impl Scan {
    /// Opens a segment for reading.
    ///
    /// # Errors
    /// Whatever open says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: open_plain(path)?, offset: 0, window: Vec::new(), used: 0, piece: WINDOW })
    }

    /// Where the next frame is looked for: the end of the last that was seen.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame. After [`Step::Blank`] and [`Step::Bad`] it may be called again: it looks at the file anew.
    ///
    /// # Errors
    /// Whatever read says.
    pub fn step(&mut self) -> io::Result<Step<'_>> {
        if self.offset == 0 {
            self.need(MAGIC.len())?;
            match self.window.get(..MAGIC.len()) {
                Some(magic) if magic == MAGIC => self.advance(MAGIC.len()),
                Some(magic) if magic.iter().any(|b| *b != 0) => return self.restart(true),
                _ => return self.restart(false),
            }
        }
        self.need(HEADER)?;
        loop {
            match see(&self.window[self.used..]) {
                Seen::Need(n) => {
                    let had = self.window.len() - self.used;
                    if !self.need(n)? {
                        return self.restart(had > 0 && self.window[self.used..].iter().any(|b| *b != 0));
                    }
                }
                Seen::Blank => return self.restart(false),
                Seen::Bad => return self.restart(true),
                Seen::Frame { kind, sequence, length } => {
                    let (offset, start) = (self.offset, self.used + HEADER);
                    self.advance(HEADER + length);
                    return Ok(Step::Frame {
                        offset,
                        kind,
                        sequence,
                        payload: &self.window[start..start + length],
                    });
                }
            }
        }
    }

    /// How many bytes lie behind the last frame, up to the last that is not zero.
    ///
    /// # Errors
    /// Whatever read says.
    pub fn rest(&self) -> io::Result<u64> {
        self.behind(self.offset)
    }

    /// How many bytes lie behind this place, up to the last that is not zero.
    ///
    /// # Errors
    /// Whatever read says.
    pub fn behind(&self, place: u64) -> io::Result<u64> {
        let mut last = 0;
        let mut at = place;
        let mut buffer = vec![0; WINDOW];
        loop {
            let n = self.file.read_at(&mut buffer, at)?;
            if n == 0 {
                return Ok(last);
            }
            if let Some(i) = buffer[..n].iter().rposition(|b| *b != 0) {
                last = at + i as u64 + 1 - place;
            }
            at += n as u64;
        }
    }

    fn advance(&mut self, n: usize) {
        self.used += n;
        self.offset += n as u64;
    }

    /// Forgets what was read ahead, so that the next step sees what was written meanwhile.
    fn restart(&mut self, bad: bool) -> io::Result<Step<'static>> {
        self.window.clear();
        self.used = 0;
        Ok(if bad { Step::Bad } else { Step::Blank })
    }

    /// Has `n` bytes in the window from `used` on; false when the file ends before.
    fn need(&mut self, n: usize) -> io::Result<bool> {
        while self.window.len() - self.used < n {
            self.window.drain(..self.used);
            self.used = 0;
            let had = self.window.len();
            self.window.resize(had + self.piece.max(n - had), 0);
            let got = self.file.read_at(&mut self.window[had..], self.offset + had as u64);
            self.window.truncate(had + *got.as_ref().unwrap_or(&0));
            match got {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The head of a segment; `None` when nothing (or nothing readable) was written to it.
///
/// # Errors
/// Whatever open and read say.
pub fn head(path: &Path) -> io::Result<Option<SegmentHead>> {
    Ok(first(path)?.map(|(_, head)| head))
}

/// As [`head`], with the sequence number of its frame.
///
/// # Errors
/// As there.
pub fn first(path: &Path) -> io::Result<Option<(u64, SegmentHead)>> {
    let mut scan = Scan { piece: HEAD, ..Scan::open(path)? };
    Ok(match scan.step()? {
        Step::Frame { kind, payload, sequence, .. } if Kind::of(kind) == Some(Kind::Segment) => {
            serde_json::from_slice(payload).ok().map(|head| (sequence, head))
        }
        _ => None,
    })
}
