//! Frames of a segment, with their leaves, at the speed of the hash: one pass over memory that was read in large pieces.
//! Unlike the reader for people it goes on behind what is damaged.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::evidence::tree::{Hash, record_at};
use crate::record::frame::{HEADER, MAGIC, MAX_PAYLOAD, Seen, see};

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// One thing in a segment.
#[derive(Debug)]
pub enum Item<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Bytes that are no frame, and behind them one.
    Bad {
        /// First byte.
        offset: u64,
        /// Behind the last.
        end: u64,
    },
    /// Bytes that are no frame, and nothing behind them.
    Tail {
        /// First byte.
        offset: u64,
        /// Behind the last that is not zero.
        end: u64,
    },
    /// Nothing more was written.
    End,
}

/// A frame.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Where it begins.
    pub offset: u64,
    /// The kind's number.
    pub kind: u8,
    /// Sequence number.
    pub sequence: u64,
    /// Its hash as a leaf.
    pub leaf: Hash,
    /// Its payload.
    pub payload: &'a [u8],
}

/// See the module.
#[derive(Debug)]
pub struct Scan {
    file: File,
    /// Nothing behind this byte counts, or is there.
    end: u64,
    /// Bytes of the file from `base` on.
    window: Vec<u8>,
    base: u64,
    used: usize,
    eof: bool,
}

impl Scan {
    /// Opens a segment, of which the bytes before `end` count, and tells whether it begins as one.
    ///
    /// # Errors
    /// What open and read say.
    pub fn open(path: &Path, end: Option<u64>) -> io::Result<(Self, bool)> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let end = end.unwrap_or(length).min(length);
        let mut scan = Self { file, end, window: Vec::new(), base: 0, used: 0, eof: false };
        scan.need(MAGIC.len())?;
        let good = scan.window.starts_with(MAGIC);
        scan.used = MAGIC.len().min(scan.window.len());
        Ok((scan, good))
    }

    /// Where it is: behind the last item.
    pub fn offset(&self) -> u64 {
        self.base + self.used as u64
    }

    /// The next item. `plausible`: whether a frame of this number may follow here, behind damage.
    ///
    /// # Errors
    /// What read says.
    pub fn next(&mut self, plausible: impl Fn(u64) -> bool) -> io::Result<Item<'_>> {
        match self.look()? {
            Seen::Frame { kind, sequence, length } => Ok(self.frame(kind, sequence, length)),
            Seen::Blank if self.rest_is_blank()? => Ok(Item::End),
            Seen::Need(_) if self.used == self.window.len() => Ok(Item::End),
            _ => self.bad(plausible),
        }
    }

    /// Goes to the frame of this number or the first behind it, by what headers say: nothing is checked on the way, and
    /// where they make no sense it stays.
    ///
    /// # Errors
    /// What read says.
    pub fn seek(&mut self, sequence: u64) -> io::Result<()> {
        while self.need(HEADER)? {
            let header = &self.window[self.used..self.used + HEADER];
            let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
            let length = number(&header[..4]) as usize;
            if header[4] == 0
                || length > MAX_PAYLOAD
                || number(&header[8..16]) >= sequence
                || !self.need(HEADER + length)?
            {
                break;
            }
            self.used += HEADER + length;
        }
        Ok(())
    }

    fn frame(&mut self, kind: u8, sequence: u64, length: usize) -> Item<'_> {
        let (offset, at) = (self.offset(), self.used + HEADER);
        self.used = at + length;
        let leaf = record_at(kind, &mut self.window, at, length);
        Item::Frame(Frame { offset, kind, sequence, leaf, payload: &self.window[at..at + length] })
    }

    /// What stands at the present place, with all bytes of it in the window.
    fn look(&mut self) -> io::Result<Seen> {
        self.need(HEADER)?;
        loop {
            match see(&self.window[self.used..]) {
                Seen::Need(n) if self.need(n)? => {}
                seen => return Ok(seen),
            }
        }
    }

    /// Looks for the next frame behind what is none.
    fn bad(&mut self, plausible: impl Fn(u64) -> bool) -> io::Result<Item<'_>> {
        let offset = self.offset();
        let mut last = offset;
        loop {
            if self.window.get(self.used).is_some_and(|byte| *byte != 0) {
                last = self.offset() + 1;
            }
            self.used = self.window.len().min(self.used + 1);
            self.need(HEADER)?;
            let Some(header) = self.window.get(self.used..self.used + HEADER) else {
                let rest = self.window[self.used..].iter().rposition(|byte| *byte != 0);
                let end = rest.map_or(last, |at| self.offset() + at as u64 + 1);
                self.used = self.window.len();
                return Ok(Item::Tail { offset, end });
            };
            // Nearly all places are told by these: the checksum is made for few.
            let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
            let (length, sequence) = (number(&header[..4]), number(&header[8..16]));
            if header[4] == 0 || header[5..8] != [0; 3] || length > MAX_PAYLOAD as u64 || !plausible(sequence)
            {
                continue;
            }
            if matches!(self.look()?, Seen::Frame { .. }) {
                return Ok(Item::Bad { offset, end: self.offset() });
            }
        }
    }

    /// Whether only zeros follow. The window is left at the end if so.
    fn rest_is_blank(&mut self) -> io::Result<bool> {
        // Mostly it is one of the two: nothing, or the rest of an allocation.
        let Some(piece) = self.end.checked_sub(self.offset()).filter(|left| *left > 0) else {
            return Ok(true);
        };
        let mut buffer = vec![0; piece.min(PIECE as u64) as usize];
        let mut at = self.offset();
        while at < self.end {
            let n = self.file.read_at(&mut buffer, at)?;
            if n == 0 {
                break;
            }
            let n = n.min(usize::try_from(self.end - at).unwrap_or(n));
            if buffer[..n].iter().any(|b| *b != 0) {
                return Ok(false);
            }
            at += n as u64;
        }
        Ok(true)
    }

    /// Has `n` bytes from the present place on in the window; false when there are fewer.
    fn need(&mut self, n: usize) -> io::Result<bool> {
        while self.window.len() < self.used + n && !self.eof {
            self.window.drain(..self.used);
            self.base += self.used as u64;
            self.used = 0;
            let had = self.window.len();
            let at = self.base + had as u64;
            let room = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
            let more = PIECE.max(n).min(room);
            self.window.resize(had + more, 0);
            let got = match self.file.read_at(&mut self.window[had..], at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
                got => got.map(Some),
            };
            self.window.truncate(had + got.as_ref().map_or(0, |got| got.unwrap_or(0)));
            self.eof = got?.is_some_and(|got| got == 0);
        }
        Ok(self.window.len() >= self.used + n)
    }
}
