//! Bodies for whoever may read them: the pieces that frames refer to, fetched, compared with their hash, opened.
//!
//! One who may not read learns how long they are, and so does everybody when a key was destroyed. What was changed is told
//! with its place; the rest goes on.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Damage, Frame};
use crate::record::age::{self, Identity};
use crate::record::bodies::{BODIES, KEY, TAG, beside, commitment};
use crate::record::frame::{BODY_REF_AAD, BodyAt, BodyRef, Coding, DIVERTED_PREFIX, Kind, MAX_PAYLOAD};
use crate::record::payload::BodyKey;
use crate::record::segment::{self, Scan, Step, open_plain};

/// Longest file of a key that is read: a thousand recipients.
const KEY_FILE: u64 = 256 * 1024;
/// Bodies files that are open at once.
const FILES: usize = 8;
/// Bytes of diverted pieces that are remembered at once.
const DIVERTED: usize = 64 << 20;
/// Frames of a segment in which what it says of its key is looked for.
const HEAD: usize = 8;

/// Who reads.
#[derive(Default)]
pub struct Access {
    identity: Option<Identity>,
    keys: BTreeMap<u64, Zeroizing<[u8; 32]>>,
}

impl Access {
    /// One who may not read bodies.
    pub fn none() -> Self {
        Self::default()
    }

    /// Who has this identity.
    pub fn with(identity: Identity) -> Self {
        Self { identity: Some(identity), ..Self::default() }
    }

    /// Who was given these keys, by the number of the file.
    pub fn keys(keys: BTreeMap<u64, Zeroizing<[u8; 32]>>) -> Self {
        Self { keys, identity: None }
    }
}

/// Why a piece of a body is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// Nobody said who reads, or its key is not sealed for him.
    Sealed,
    /// Its key was destroyed.
    Erased,
    /// Its file went with an old segment.
    Deleted,
    /// It cannot be read, or is not what was written.
    Damaged,
}

impl Hidden {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Erased => "erased",
            Self::Deleted => "deleted",
            Self::Damaged => "damaged",
        }
    }
}

/// A piece of a body.
pub struct BodyPiece<'a> {
    /// Of which body, and where in it.
    pub at: BodyAt,
    /// Its length.
    pub length: u64,
    /// When its first byte came, in microseconds since the exchange began; `None` where the store does not say.
    pub time: Option<u64>,
    /// Its bytes.
    pub bytes: Result<std::borrow::Cow<'a, [u8]>, Hidden>,
}

impl BodyPiece<'_> {
    /// What stands of a body in a frame, without its bytes; `None` when it is no frame of a body.
    pub fn at(frame: &Frame<'_>) -> Option<(BodyAt, u64)> {
        match frame.kind? {
            Kind::Body => BodyAt::read(frame.payload).map(|(at, data)| (at, data.len() as u64)),
            Kind::BodyRef => BodyRef::read(frame.payload).map(|to| (to.at, to.plain.into())),
            _ => None,
        }
    }
}

/// What a change is.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is not what was stored: its hash is another")]
    Hash,
    #[error("does not open under its key")]
    Seal,
    #[error("is no piece of this length in its coding")]
    Coding,
    #[error("has a key that is not the one its segment names")]
    Commitment,
    #[error("has a key in a file that {0}")]
    Key(#[from] age::Error),
}

/// Fetches and opens.
pub struct Unsealer<'a> {
    dir: PathBuf,
    access: &'a Access,
    open: BTreeMap<u64, Opened>,
    /// Pieces in frames, of the segment that is read.
    diverted: BTreeMap<(u64, u64), Vec<u8>>,
    segment: u64,
    /// What is wrong, so far.
    pub damage: Vec<Damage>,
}

struct Opened {
    file: Option<File>,
    key: Result<LessSafeKey, Hidden>,
}

impl fmt::Debug for Unsealer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsealer").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl<'a> Unsealer<'a> {
    /// For the store in `dir`.
    pub fn new(dir: &Path, access: &'a Access) -> Self {
        let (open, diverted) = (BTreeMap::new(), BTreeMap::new());
        Self { dir: dir.to_owned(), access, open, diverted, segment: 0, damage: Vec::new() }
    }

    /// The piece of a body that a frame holds or refers to; `None` when it is no frame of a body. To be given all frames in
    /// their order: pieces that a bodies file did not take are among them.
    pub fn piece<'f>(&mut self, frame: &Frame<'f>) -> Option<BodyPiece<'f>> {
        let (at, length) = match BodyPiece::at(frame) {
            Some(seen) => seen,
            None => {
                self.divert(frame);
                return None;
            }
        };
        let (time, bytes) = match frame.kind {
            Some(Kind::BodyRef) => {
                let to = BodyRef::read(frame.payload)?;
                (to.time, self.opened(frame, &to).map(Into::into))
            }
            _ => (None, Ok(BodyAt::read(frame.payload)?.1.into())),
        };
        Some(BodyPiece { at, length, time, bytes })
    }

    fn divert(&mut self, frame: &Frame<'_>) {
        if frame.segment != self.segment {
            self.segment = frame.segment;
            self.diverted.clear();
        }
        if frame.kind != Some(Kind::Diverted)
            || self.diverted.values().map(Vec::len).sum::<usize>() > DIVERTED
        {
            return;
        }
        if let Some((prefix, bytes)) = frame.payload.split_at_checked(DIVERTED_PREFIX) {
            let number = |at: usize| prefix[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
            self.diverted.insert((number(0), number(8)), bytes.to_vec());
        }
    }

    fn opened(&mut self, frame: &Frame<'_>, to: &BodyRef) -> Result<Vec<u8>, Hidden> {
        if !self.open.contains_key(&to.file) {
            let opened = self.open(frame, to);
            if self.open.len() == FILES {
                self.open.pop_first();
            }
            self.open.insert(to.file, opened);
        }
        let opened = self.open.get(&to.file).ok_or(Hidden::Damaged)?;
        let key = opened.key.as_ref().map_err(|why| *why)?;
        let diverted =
            self.diverted.get(&(to.file, to.place)).filter(|bytes| bytes.len() == to.stored as usize);
        let plain = match (diverted, &opened.file) {
            (Some(bytes), _) => unsealed(bytes.clone(), frame, to, key),
            (None, Some(file)) => stored(file, to).and_then(|bytes| unsealed(bytes, frame, to, key)),
            (None, None) if self.is_deleted(to.file) => return Err(Hidden::Deleted),
            (None, None) => Err(io::Error::from(io::ErrorKind::NotFound).into()),
        };
        plain.map_err(|why| self.wrong(frame, to, &why))
    }

    fn wrong(&mut self, frame: &Frame<'_>, to: &BodyRef, why: &Wrong) -> Hidden {
        self.damage.push(Damage::Body {
            segment: frame.segment,
            offset: frame.offset,
            file: to.file,
            place: to.place,
            why: why.to_string(),
        });
        Hidden::Damaged
    }

    fn open(&mut self, frame: &Frame<'_>, to: &BodyRef) -> Opened {
        let stem = self.stem(to.file);
        let file = open_plain(&beside(&stem, BODIES)).ok();
        let key = match self.key(to.file, &stem) {
            Ok(Some(key)) => Ok(LessSafeKey::new(
                UnboundKey::new(&AES_256_GCM, &*key).expect("a key of AES-256 has 32 bytes"),
            )),
            Ok(None) if !beside(&stem, KEY).exists() && self.is_deleted(to.file) => Err(Hidden::Deleted),
            Ok(None) if !beside(&stem, KEY).exists() => Err(Hidden::Erased),
            Ok(None) => Err(Hidden::Sealed),
            Err(why) => Err(self.wrong(frame, to, &why)),
        };
        Opened { file, key }
    }

    /// The key of a file; `None` when it is not there, or not for who reads.
    fn key(&self, number: u64, stem: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, Wrong> {
        let key = match (self.access.keys.get(&number), &self.access.identity) {
            (Some(key), _) => key.clone(),
            (None, None) => return Ok(None),
            (None, Some(identity)) => match unwrapped(&beside(stem, KEY), identity)? {
                Some(key) => key,
                None => return Ok(None),
            },
        };
        match self.bound(number) {
            Some(bound) if bound.commitment != commitment(&*key) => Err(Wrong::Commitment),
            _ => Ok(Some(key)),
        }
    }

    /// What the segment of this number says of its key.
    fn bound(&self, number: u64) -> Option<BodyKey> {
        let mut scan = Scan::open(&self.dir.join(segment::name(number))).ok()?;
        for _ in 0..HEAD {
            let Step::Frame { kind, payload, .. } = scan.step().ok()? else { return None };
            if Kind::of(kind) == Some(Kind::BodyKey) {
                return serde_json::from_slice(payload).ok();
            }
        }
        None
    }

    /// Whether the segment beside a bodies file went, to keep the size bound.
    fn is_deleted(&self, number: u64) -> bool {
        !self.dir.join(segment::name(number)).exists()
    }

    fn stem(&self, number: u64) -> PathBuf {
        self.dir.join(segment::name(number)).with_extension("")
    }
}

/// The key in a file; `None` when it is not there, or not for this identity.
///
/// # Errors
/// The file cannot be read, or was changed.
fn unwrapped(path: &Path, identity: &Identity) -> Result<Option<Zeroizing<[u8; 32]>>, Wrong> {
    let mut file = match open_plain(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?.take(KEY_FILE),
    };
    let mut sealed = Vec::new();
    file.read_to_end(&mut sealed)?;
    match identity.open(&sealed) {
        Ok(key) => <[u8; 32]>::try_from(&key[..])
            .map(|key| Some(Zeroizing::new(key)))
            .map_err(|_| age::Error::Format.into()),
        Err(age::Error::NotForUs) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The identity in a file.
///
/// # Errors
/// It cannot be read, or is none.
pub fn identity(path: &Path) -> io::Result<Identity> {
    let text = Zeroizing::new(fs::read_to_string(path)?);
    Identity::parse(&text).map_err(io::Error::other)
}

fn stored(file: &File, to: &BodyRef) -> Result<Vec<u8>, Wrong> {
    if to.stored as usize > MAX_PAYLOAD {
        return Err(Wrong::Coding);
    }
    let mut bytes = vec![0; to.stored as usize];
    file.read_exact_at(&mut bytes, to.place)?;
    Ok(bytes)
}

fn unsealed(
    mut bytes: Vec<u8>,
    frame: &Frame<'_>,
    to: &BodyRef,
    key: &LessSafeKey,
) -> Result<Vec<u8>, Wrong> {
    if Sha256::digest(&bytes)[..] != to.sha256 {
        return Err(Wrong::Hash);
    }
    let (nonce, aad) = (Nonce::assume_unique_for_key(to.nonce()), Aad::from(&frame.payload[..BODY_REF_AAD]));
    key.open_in_place(nonce, aad, &mut bytes).map_err(|_| Wrong::Seal)?;
    bytes.truncate(bytes.len() - TAG);
    let plain = match to.coding {
        Coding::Plain => bytes,
        Coding::Zstd if to.plain as usize > MAX_PAYLOAD => return Err(Wrong::Coding),
        Coding::Zstd => zstd::bulk::decompress(&bytes, to.plain as usize).map_err(|_| Wrong::Coding)?,
    };
    if plain.len() == to.plain as usize { Ok(plain) } else { Err(Wrong::Coding) }
}
