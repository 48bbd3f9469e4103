//! Bodies at rest: beside each segment lies a file of sealed pieces (`<number>.bodies`) that its frames refer to, and the
//! file's key, sealed for those who may read (`<number>.key`, an age file). The key itself is in this process's memory only
//! while the file is written: what was written, this process cannot read back.
//!
//! A piece is sealed by whoever records it, outside of the writer's lock: its place in the file is taken first, and is its
//! nonce. No place is given twice, so no nonce is. The bytes go to the file before the frame that refers to them goes to
//! its segment, and the file is synced before the segment.

mod pieces;
mod squeeze;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::Unrecordable;
use super::age;
use super::frame::{BODY_REF_AAD, Batch, BodyAt, BodyRef, Kind};
use super::log::locked;
use super::payload::{BodyKey, stamp};
use super::segment::MODE;
use crate::evidence::tree::Hash;
use crate::types::Recipient;

pub use pieces::Sealed;
pub use squeeze::Effort;

/// Behind the number of the file.
pub const BODIES: &str = ".bodies";
/// Behind the number of the file whose key it is.
pub const KEY: &str = ".key";
/// Bytes that sealing adds to a piece.
pub const TAG: usize = 16;
/// A file is allocated so many bytes at a time at most.
const STEP: u64 = 4 << 20;
/// What a key's commitment is the hash of, before the key.
const COMMITMENT: &[u8] = b"sluice body key";

/// A bodies file that is written. Pieces that were sealed for it may still come when its segment has a successor.
pub struct Bodies {
    /// Its segment's, 0 while that is spare.
    number: AtomicU64,
    file: File,
    key: LessSafeKey,
    /// The file of the key, until it is synced.
    key_file: Mutex<Option<File>>,
    /// What its segment says of the key.
    bound: Bound,
    /// A write or sync failed: it takes nothing more.
    failed: AtomicBool,
    /// Written to since the last sync.
    dirty: AtomicBool,
    allocated: u64,
}

struct Bound {
    file_sha256: String,
    commitment: String,
    recipients: Vec<Recipient>,
}

impl std::fmt::Debug for Bodies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bodies({})", self.number())
    }
}

/// Where a stem's file of this kind lies.
pub fn beside(stem: &Path, suffix: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// What stands in the record for a key.
pub fn commitment(key: &[u8]) -> String {
    hex(&Sha256::new().chain_update(COMMITMENT).chain_update(key).finalize())
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Bodies {
    /// Makes the files of a spare segment, `stem` its path: a key, and room for the first bytes.
    ///
    /// # Errors
    /// What open, fallocate or write say; no file is left behind.
    pub fn spare(stem: &Path, recipients: &[Recipient], step: u64) -> io::Result<Arc<Self>> {
        let made = Self::make(stem, recipients, step);
        if made.is_err() {
            discard(stem);
        }
        made
    }

    fn make(stem: &Path, recipients: &[Recipient], step: u64) -> io::Result<Arc<Self>> {
        let open =
            |suffix| OpenOptions::new().write(true).create_new(true).mode(MODE).open(beside(stem, suffix));
        let file = open(BODIES)?;
        allocate(&file, 0, step)?;
        let key: Zeroizing<[u8; 32]> = age::random();
        let sealed = age::seal(recipients, &*key).map_err(io::Error::other)?;
        let mut key_file = open(KEY)?;
        key_file.write_all(&sealed)?;
        let bound = Bound {
            file_sha256: hex(&Sha256::digest(&sealed)),
            commitment: commitment(&*key),
            recipients: recipients.to_vec(),
        };
        let key = UnboundKey::new(&AES_256_GCM, &*key).expect("a key of AES-256 has 32 bytes");
        Ok(Arc::new(Self {
            number: AtomicU64::new(0),
            file,
            key: LessSafeKey::new(key),
            key_file: Mutex::new(Some(key_file)),
            bound,
            failed: AtomicBool::new(false),
            dirty: AtomicBool::new(true),
            allocated: step,
        }))
    }

    /// Gives the files of a spare their names.
    ///
    /// # Errors
    /// What rename says.
    pub fn name(&self, from: &Path, to: &Path, number: u64) -> io::Result<()> {
        for suffix in [KEY, BODIES] {
            fs::rename(beside(from, suffix), beside(to, suffix))?;
        }
        self.number.store(number, Ordering::Release);
        Ok(())
    }

    /// Its segment's number.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// What its segment says of its key.
    pub fn bound(&self) -> BodyKey {
        let Bound { file_sha256, commitment, recipients } = &self.bound;
        BodyKey {
            time: stamp(OffsetDateTime::now_utc()),
            number: self.number(),
            file_sha256: file_sha256.clone(),
            commitment: commitment.clone(),
            recipients: recipients.clone(),
        }
    }

    /// It takes nothing more: pieces that still come for it go into a segment.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Writes; true when it was clean before.
    fn write(&self, bytes: &[u8], place: u64) -> io::Result<bool> {
        let written = self.file.write_all_at(bytes, place);
        if written.is_err() {
            self.fail();
        }
        // Also after a failure: part of it may have been written.
        let clean = !self.dirty.swap(true, Ordering::AcqRel);
        written.map(|()| clean)
    }

    /// Makes what was written durable, the key first.
    ///
    /// # Errors
    /// What fsync says: it must not be tried again, and the file takes nothing more.
    pub fn sync(&self) -> io::Result<()> {
        // Cleared before: a write after this is for the next sync.
        self.dirty.store(false, Ordering::Release);
        let key = locked(&self.key_file).take();
        let synced = key.map_or(Ok(()), |key| key.sync_all()).and_then(|()| self.file.sync_data());
        match synced {
            Ok(()) => uncache(&self.file, 0),
            Err(_) => self.fail(),
        }
        synced
    }

    /// Frees what was allocated behind `end`. Should that fail, zeros remain there.
    pub fn settle(&self, end: u64) {
        self.file.set_len(end).unwrap_or_default();
    }
}

/// Removes the files of a segment that is not there, or is to go.
pub fn discard(stem: &Path) {
    for suffix in [BODIES, KEY] {
        // What is left of a spare is removed at the next start.
        let _ = fs::remove_file(beside(stem, suffix));
    }
}

fn allocate(file: &File, from: u64, length: u64) -> io::Result<()> {
    let of = |n: u64| i64::try_from(n).map_err(io::Error::other);
    Ok(fallocate(file.as_fd(), FallocateFlags::empty(), of(from)?, of(length)?)?)
}

/// Lets the page cache go of the first `end` bytes (0: of all), which are on disk. Recording shall not push out what the
/// host's jobs have cached; and the pages come back at once for what is written next, which spares the writer the first
/// touch of others. What is not let go stays cached, no harm done.
pub fn uncache(file: &File, end: u64) {
    let length = end.try_into().unwrap_or(i64::MAX);
    let _ = posix_fadvise(file, 0, length, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

/// Seals pieces for the bodies file of the segment in use.
pub struct Sealer {
    recipients: Vec<Recipient>,
    /// Allocated at a time.
    step: u64,
    /// A file of so many bytes is followed by the next.
    full: u64,
    open: Mutex<Option<Open>>,
    /// The one that is open has them.
    due: AtomicBool,
    /// There was no room, and none was found since.
    short: AtomicBool,
}

struct Open {
    bodies: Arc<Bodies>,
    /// Where the next piece goes.
    end: u64,
    /// How much is allocated.
    room: u64,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("recipients", &self.recipients).finish_non_exhaustive()
    }
}

impl Sealer {
    /// For files of `full` bytes or little more.
    pub fn new(recipients: Vec<Recipient>, full: u64) -> Self {
        let step = (full / 4).clamp(64 * 1024, STEP);
        let (due, short) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { recipients, step, full, open: Mutex::new(None), due, short }
    }

    /// Makes the bodies file of a spare segment.
    ///
    /// # Errors
    /// As [`Bodies::spare`].
    pub fn spare(&self, stem: &Path) -> io::Result<Arc<Bodies>> {
        Bodies::spare(stem, &self.recipients, self.step)
    }

    /// From now on pieces are sealed for this file; gives the one before, and where it ends.
    pub fn follow(&self, next: Option<Arc<Bodies>>) -> Option<(Arc<Bodies>, u64)> {
        let mut open = locked(&self.open);
        self.short.store(false, Ordering::Release);
        self.due.store(false, Ordering::Release);
        let next = next.map(|bodies| Open { room: bodies.allocated, bodies, end: 0 });
        std::mem::replace(&mut *open, next).map(|left| (left.bodies, left.end))
    }

    /// Whether the next file is due.
    pub fn is_full(&self) -> bool {
        self.due.load(Ordering::Acquire)
    }

    /// Whether there is no room for bodies.
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// Finds room ahead of its use, for whoever has the time.
    ///
    /// # Errors
    /// There is none.
    pub fn grow(&self) -> io::Result<()> {
        let mut open = locked(&self.open);
        let Some(open) = open.as_mut().filter(|open| open.room - open.end < self.step / 2) else {
            return Ok(());
        };
        open.grow(self.step).inspect(|()| self.short.store(false, Ordering::Release))
    }

    /// Seals a piece and adds it to the batch, with the frame that refers to it and says when it came (microseconds since
    /// the exchange began).
    ///
    /// # Errors
    /// There is no room for it.
    pub fn seal(
        &self,
        batch: &mut Batch,
        (at, time): (BodyAt, Option<u64>),
        plain: &[u8],
        effort: &Effort,
    ) -> Result<(), Unrecordable> {
        squeeze::squeezed(plain, effort, |bytes, coding| {
            let stored = bytes.len() + TAG;
            let (bodies, place) = self.place(stored as u64)?;
            let length = |n: usize| {
                u32::try_from(n).map_err(|_| Unrecordable("a piece of a body is too long".to_owned()))
            };
            let mut to = BodyRef {
                at,
                coding,
                plain: length(plain.len())?,
                stored: length(stored)?,
                file: bodies.number(),
                place,
                sha256: [0; 32],
                time,
            };
            let sealed = batch.sealed.piece(&bodies, place, bytes, |bytes| {
                let head = to.bytes();
                let (nonce, aad) =
                    (Nonce::assume_unique_for_key(to.nonce()), Aad::from(&head[..BODY_REF_AAD]));
                let tag = bodies.key.seal_in_place_separate_tag(nonce, aad, bytes);
                let tag = tag.expect("a piece is far below what AES-GCM seals");
                tag.as_ref().try_into().expect("its tag has 16 bytes")
            });
            to.sha256 = Hash::of(sealed).0;
            batch.raw(Kind::BodyRef, &to.bytes(), &[]).map_err(|error| Unrecordable(error.to_string()))
        })
    }

    /// Takes a place for `length` bytes.
    fn place(&self, length: u64) -> Result<(Arc<Bodies>, u64), Unrecordable> {
        let mut open = locked(&self.open);
        let Some(open) = open.as_mut() else {
            return Err(Unrecordable("there is no file for bodies".to_owned()));
        };
        if open.end + length > open.room {
            open.grow(self.step.max(open.end + length - open.room)).map_err(|error| {
                self.short.store(true, Ordering::Release);
                Unrecordable(format!("there is no room for bodies: {error}"))
            })?;
            self.short.store(false, Ordering::Release);
        }
        let place = open.end;
        open.end += length;
        if open.end >= self.full {
            self.due.store(true, Ordering::Release);
        }
        Ok((Arc::clone(&open.bodies), place))
    }
}

impl Open {
    fn grow(&mut self, by: u64) -> io::Result<()> {
        allocate(&self.bodies.file, self.room, by)?;
        self.room += by;
        Ok(())
    }
}
