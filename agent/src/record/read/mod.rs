//! Reading a store: one that is being written, one that is at rest, or a copy. Never writes, never locks, and goes on past
//! what is damaged, saying so.
//!
//! [`Reader::frames`] gives every frame; [`list`] makes summaries of them, [`each`] every exchange with what it asked, [`whole`]
//! one session with its bodies.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::frame::Kind;
use super::lock::{in_use, is_draining};
use super::payload::SegmentHead;
use super::segment::{self, Found, Scan, Step};

pub mod each;
pub mod index;
pub mod list;
pub mod unseal;
pub mod whole;

/// Why a store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be read.
    #[error("the store {dir} cannot be read")]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// What was said.
        #[source]
        source: io::Error,
    },
    /// A segment cannot be read.
    #[error("the segment {path} cannot be read")]
    Segment {
        /// The file.
        path: PathBuf,
        /// What was said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        let (Self::Dir { source, .. } | Self::Segment { source, .. }) = self;
        match source.kind() {
            io::ErrorKind::NotFound => {
                "name the store with --store DIR, or start the agent so that it makes one"
            }
            io::ErrorKind::PermissionDenied => {
                "the store is read by root and by the group of the gate's user: use sudo"
            }
            _ => "copy the store to a disk that is well and read the copy with --store DIR",
        }
    }
}

/// Something in the store that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// No frame where one must be.
    #[error(
        "segment {segment} is damaged at byte {offset}: its records from there to byte {end} are not shown"
    )]
    Bad {
        /// The segment.
        segment: u64,
        /// Where.
        offset: u64,
        /// Where its records end.
        end: u64,
    },
    /// Bytes behind the last frame of the last segment: a write was cut short, or the end is damaged.
    #[error("segment {segment} ends with {bytes} bytes at byte {offset} that are no whole record")]
    Tail {
        /// The segment.
        segment: u64,
        /// Where.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// Sequence numbers are missing.
    #[error("records {first} to {last} are missing before segment {segment}, byte {offset}")]
    Missing {
        /// First that is missing.
        first: u64,
        /// Last that is missing.
        last: u64,
        /// Where the next one is.
        segment: u64,
        /// And at which byte.
        offset: u64,
    },
    /// A piece of a body is not what was written.
    #[error("byte {place} of bodies file {file}, which segment {segment} refers to at byte {offset}, {why}")]
    Body {
        /// The segment.
        segment: u64,
        /// Where in it.
        offset: u64,
        /// Number of the bodies file.
        file: u64,
        /// Where in that.
        place: u64,
        /// What is wrong.
        why: String,
    },
}

/// One frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Number of its segment.
    pub segment: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// Sequence number.
    pub sequence: u64,
    /// Kind; `None` for one that this version does not know.
    pub kind: Option<Kind>,
    /// Payload.
    pub payload: &'a [u8],
}

/// A store's segments as they were when it was opened.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    segments: Vec<(Found, Option<SegmentHead>)>,
    live: bool,
    draining: bool,
}

impl Reader {
    /// Looks at a store.
    ///
    /// # Errors
    /// [`Error`]: it cannot be read at all.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let (found, _) = segment::list(dir).map_err(|source| Error::Dir { dir: dir.to_owned(), source })?;
        let (live, draining) = (in_use(dir), is_draining(dir));
        let mut segments = Vec::with_capacity(found.len());
        for found in found {
            match segment::head(&found.path) {
                Ok(head) => segments.push((found, head)),
                // The size bound took it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Segment { path: found.path, source }),
            }
        }
        Ok(Self { dir: dir.to_owned(), segments, live, draining })
    }

    /// Whether an agent writes to it.
    pub fn live(&self) -> bool {
        self.live
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The number of the segment of this index.
    fn number(&self, index: usize) -> u64 {
        self.segments.get(index).map_or(0, |(found, _)| found.number)
    }

    /// How many segments, from the first on, nobody writes to any more.
    fn whole(&self) -> usize {
        (0..self.segments()).find(|index| self.is_written(*index)).unwrap_or(self.segments())
    }

    /// The store's id.
    pub fn store(&self) -> Option<&str> {
        self.segments.iter().find_map(|(_, head)| head.as_ref()).map(|head| head.store.as_str())
    }

    /// The last segment that began before `time` (as records bear it), as an index for [`Reader::frames`].
    pub fn before(&self, time: &str) -> usize {
        let began = |head: &Option<SegmentHead>| head.as_ref().is_some_and(|head| head.time.as_str() <= time);
        let mut before = self.segments.len();
        loop {
            match self.segments[..before].iter().rposition(|(_, head)| began(head)) {
                // Its predecessor may have written on after that.
                Some(index) if self.is_apart(index) => before = index,
                found => return found.unwrap_or(0),
            }
        }
    }

    /// Whether a writer began with the segment of this index while the one before was still writing.
    fn is_apart(&self, index: usize) -> bool {
        self.segments.get(index).and_then(|(_, head)| head.as_ref()).is_some_and(|head| head.apart)
    }

    /// Whether what was open before this frame, a start, may still go on.
    pub fn goes_on(&self, start: &Frame<'_>) -> bool {
        let head = |number| self.segments.iter().find(|(found, _)| found.number == number)?.1.as_ref();
        self.draining && head(start.segment).is_some_and(|head| head.apart)
    }

    /// When the segment of this index began, and nothing before it was written any more.
    pub fn began(&self, index: usize) -> Option<&str> {
        if self.is_apart(index) {
            return None;
        }
        self.segments.get(index).and_then(|(_, head)| head.as_ref()).map(|head| head.time.as_str())
    }

    /// As [`Reader::frames`] for the segments from `from` on, to one who may fail. Gives what is damaged, and whether `each`
    /// broke off.
    ///
    /// # Errors
    /// [`Error`]: as there, and what `each` says.
    fn frames_from(
        &self,
        from: usize,
        mut each: impl FnMut(&Frame<'_>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(Vec<Damage>, bool), Error> {
        let mut last = Ok(ControlFlow::Continue(()));
        let damage = self.frames(from..self.segments(), |frame| {
            last = each(&frame);
            *last.as_ref().unwrap_or(&ControlFlow::Break(()))
        })?;
        last.map(|flow| (damage, flow.is_break()))
    }

    /// Gives every frame of the segments in `range` of indexes, in order, until `each` breaks. Gives what is damaged.
    ///
    /// # Errors
    /// [`Error`]: a segment cannot be read.
    pub fn frames(
        &self,
        range: std::ops::Range<usize>,
        mut each: impl FnMut(Frame<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Damage>, Error> {
        let mut damage = Vec::new();
        let mut last = None;
        for index in range {
            let Some((found, _)) = self.segments.get(index) else { break };
            let mut scan = match Scan::open(&found.path) {
                // The size bound took it meanwhile, which is no gap.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    last = None;
                    continue;
                }
                scan => scan.map_err(|source| wrong(found, source))?,
            };
            if self.is_apart(index) {
                last = None;
            }
            if self.segment(index, &mut scan, &mut last, &mut damage, &mut each)?.is_break() {
                break;
            }
        }
        Ok(damage)
    }

    fn segment(
        &self,
        index: usize,
        scan: &mut Scan,
        last: &mut Option<u64>,
        damage: &mut Vec<Damage>,
        each: &mut impl FnMut(Frame<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let found = &self.segments[index].0;
        let number = found.number;
        let end = self.end(index);
        loop {
            let at = scan.offset();
            if end.is_some_and(|end| at >= end) {
                return Ok(ControlFlow::Continue(()));
            }
            match scan.step().map_err(|source| wrong(found, source))? {
                Step::Frame { offset, kind, sequence, payload } => {
                    if let Some(before) = last.replace(sequence)
                        && sequence != before + 1
                    {
                        damage.push(Damage::Missing {
                            first: before + 1,
                            last: sequence - 1,
                            segment: number,
                            offset,
                        });
                    }
                    let frame = Frame { segment: number, offset, sequence, kind: Kind::of(kind), payload };
                    if each(frame).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                step => {
                    let bad = step == Step::Bad;
                    let offset = scan.offset();
                    match end {
                        Some(end) => damage.push(Damage::Bad { segment: number, offset, end }),
                        // The last segment of a writer may show half of what is being written just now.
                        None if bad && !self.is_written(index) => {
                            let bytes = scan.rest().map_err(|source| wrong(found, source))?;
                            damage.push(Damage::Tail { segment: number, offset, bytes });
                        }
                        None => {}
                    }
                    return Ok(ControlFlow::Continue(()));
                }
            }
        }
    }

    fn is_written(&self, index: usize) -> bool {
        let is_last = index + 1 == self.segments.len();
        self.live && is_last || self.draining && self.is_apart(index + 1)
    }

    /// Where the records of a segment end, by the word of the next one that has a head.
    fn end(&self, index: usize) -> Option<u64> {
        let number = self.segments[index].0.number;
        let next = self.segments[index + 1..].iter().find_map(|(_, head)| head.as_ref())?;
        next.previous.filter(|previous| previous.segment == number).map(|previous| previous.offset)
    }
}

fn wrong(found: &Found, source: io::Error) -> Error {
    Error::Segment { path: found.path.clone(), source }
}
