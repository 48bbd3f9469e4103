//! Signs the trees over what is recorded, with a key that never leaves this process and does not stay: each start and each
//! hour has one of its own, certified by the one before, which is erased then. So whoever takes the host cannot sign
//! another past, and neither can a gate that was taken over: a tree is signed only when it grew from the last one.
//!
//! Files, in `audit/<store>/` of the state directory (0700): `key` (the seed, base64), `keys` (the certificates), `heads`
//! (what the key has signed). Formats of notes and certificates: [`crate::evidence`].

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::fcntl::Flock;
use time::OffsetDateTime;
use ulid::Ulid;
use zeroize::Zeroizing;

use super::ca::{self, file};
use crate::evidence::chain::{Certificate, Pin, key_name};
use crate::evidence::checkpoint::{self, Checkpoint, Origin};
use crate::evidence::note::{self, Note, Piece};
use crate::evidence::tree::{Growth, Head, Unproven};
use crate::record::payload::stamp;
use crate::wire::{Signed, Unsigned};

const KEY: &str = "key";
const KEYS: &str = "keys";
const HEADS: &str = "heads";
/// How long a key signs.
const HOUR: Duration = Duration::from_secs(3600);
/// Certificates in one answer: each has less than a KiB, and an answer 64.
const CERTIFICATES: usize = 48;
/// Logs that one key signs trees of. A gate has one, and another after each failure of its disk.
const LOGS: usize = 256;

/// Why a tree is not signed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The store or the log has no id.
    #[error("the tree of no store or log")]
    Name,
    /// Another store than the one that was signed for first.
    #[error("the tree of another store than this agent's")]
    Store,
    /// Too many logs.
    #[error("the trees of too many logs: {LOGS} within the hour")]
    Logs,
    /// It does not begin with what was signed.
    #[error("the tree does not begin with the one that was signed last")]
    Changed(#[source] Unproven),
    /// The key.
    #[error("the key cannot be had")]
    Key(#[source] ca::Error),
    /// What is in the files.
    #[error(
        "{path} is not usable: {why}; restore it, or move its directory away to begin a new chain of keys"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// See the module. Opens its files when the first tree is to be signed: the gate says of which store.
pub struct Signer {
    directory: PathBuf,
    opened: Option<Opened>,
}

struct Opened {
    store: Ulid,
    directory: PathBuf,
    key: note::Signer,
    since: Instant,
    /// All certificates, as texts.
    keys: Vec<String>,
    /// What this key signed.
    heads: BTreeMap<Ulid, Head>,
    _lock: Flock<File>,
}

impl Signer {
    /// With its files below `directory`.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, opened: None }
    }

    /// Signs a tree that grew from the last one that was signed of its log.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn sign(&mut self, unsigned: &Unsigned) -> Result<Signed, Refused> {
        let id = |text: &str| checkpoint::ulid(text).ok_or(Refused::Name);
        let origin = Origin { store: id(&unsigned.store)?, log: id(&unsigned.log)? };
        let opened = match &mut self.opened {
            Some(opened) if opened.store == origin.store => opened,
            Some(_) => return Err(Refused::Store),
            closed => closed.insert(Opened::open(&self.directory, origin.store)?),
        };
        if opened.since.elapsed() >= HOUR {
            opened.renew()?;
        }
        opened.sign(origin, unsigned)
    }
}

impl Opened {
    fn open(parent: &Path, store: Ulid) -> Result<Self, Refused> {
        let made = fs::create_dir_all(parent);
        made.map_err(|source| failed("make", parent, source))?;
        let directory = parent.join(store.to_string());
        let lock = file::prepare(&directory).map_err(Refused::Key)?;
        let keys = read_keys(&directory)?;
        let (key, heads) = match keys.len() {
            0 => (draw(store, 0)?, BTreeMap::new()),
            _ => (read_key(&directory, store, &keys)?, read_heads(&directory)?),
        };
        let mut opened =
            Self { store, directory, key: key.0, since: Instant::now(), keys, heads, _lock: lock };
        if opened.keys.is_empty() {
            file::write(&opened.directory, KEY, key.1.as_bytes()).map_err(Refused::Key)?;
            opened.certify(0, &opened.key.verifier().clone(), Vec::new())?;
        } else {
            opened.renew()?;
        }
        Ok(opened)
    }

    /// A key of its own for what follows; the one before is erased.
    fn renew(&mut self) -> Result<(), Refused> {
        let number = self.keys.len() as u64;
        let (key, seed) = draw(self.store, number)?;
        let pins = self.heads.iter().map(|(log, tree)| Pin { log: *log, tree: *tree }).collect();
        // The new key is on disk before anything says that it is the one; the old one goes when that is on disk too.
        file::write(&self.directory, NEXT, seed.as_bytes()).map_err(Refused::Key)?;
        self.certify(number, key.verifier(), pins)?;
        put_in_place(&self.directory)
            .map_err(|source| failed("replace", &self.directory.join(KEY), source))?;
        self.key = key;
        self.since = Instant::now();
        self.heads.clear();
        self.write_heads()
    }

    /// Signs the certificate of a key with the one there is.
    fn certify(&mut self, number: u64, of: &note::VerifierKey, pins: Vec<Pin>) -> Result<(), Refused> {
        let time = stamp(OffsetDateTime::now_utc());
        let certificate = Certificate { store: self.store, number, key: of.clone(), time, pins };
        let signed = Note::sign(certificate.to_string(), &self.key);
        let note = signed.map_err(|why| self.unusable(KEYS, &why))?.to_string();
        let path = self.directory.join(KEYS);
        let append = || {
            let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
            file.write_all(format!("{note}\n").as_bytes())?;
            file.sync_all()
        };
        append().map_err(|source| failed("write", &path, source))?;
        self.keys.push(note);
        Ok(())
    }

    fn sign(&mut self, origin: Origin, unsigned: &Unsigned) -> Result<Signed, Refused> {
        let Growth { old, new, .. } = &unsigned.growth;
        let last = self.heads.get(&origin.log).copied();
        // What an earlier key signed of it is pinned by this one's certificate.
        let last = last.or_else(|| self.pinned(origin.log)).unwrap_or_else(Head::empty);
        if *old != last {
            return Ok(Signed::Behind(last));
        }
        if last.size > 0 {
            unsigned.growth.verify().map_err(Refused::Changed)?;
        }
        if self.heads.len() >= LOGS && !self.heads.contains_key(&origin.log) {
            return Err(Refused::Logs);
        }
        let time = stamp(OffsetDateTime::now_utc());
        let text = Checkpoint { origin, tree: *new, time, more: Vec::new() }.to_string();
        let note = Note::sign(text, &self.key).map_err(|why| self.unusable(KEY, &why))?;
        self.heads.insert(origin.log, *new);
        self.write_heads()?;
        let has = usize::try_from(unsigned.keys).unwrap_or(usize::MAX);
        let lacks = self.keys.iter().skip(has).take(CERTIFICATES).cloned().collect();
        Ok(Signed::Note { note: note.to_string(), keys: lacks })
    }

    fn pinned(&self, log: Ulid) -> Option<Head> {
        Note::parse(self.keys.last()?).ok()?.text().parse::<Certificate>().ok()?.pin(log)
    }

    /// What this key has signed: the next certificate says it. Not synced: a machine that loses its power loses the signed
    /// records' last second with it at most.
    fn write_heads(&self) -> Result<(), Refused> {
        let lines: String =
            self.heads.iter().map(|(log, head)| format!("{log} {} {}\n", head.size, head.root)).collect();
        let (path, new) = (self.directory.join(HEADS), self.directory.join(".heads.new"));
        let written = fs::write(&new, lines).and_then(|()| fs::rename(&new, &path));
        written.map_err(|source| failed("write", &path, source))
    }

    fn unusable(&self, name: &str, why: &dyn std::fmt::Display) -> Refused {
        Refused::Unusable { path: self.directory.join(name), why: why.to_string() }
    }
}

/// The key that is not yet the one.
const NEXT: &str = "key.next";

fn failed(what: &'static str, path: &Path, source: io::Error) -> Refused {
    Refused::Key(ca::Error::Io { what, path: path.to_owned(), source })
}

/// A new key, and its seed as it lies in its file.
fn draw(store: Ulid, number: u64) -> Result<(note::Signer, Zeroizing<String>), Refused> {
    let mut seed = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *seed)
        .map_err(|_| failed("draw random bytes for", Path::new(KEY), io::ErrorKind::Other.into()))?;
    let key = note::Signer::new(&key_name(store, number), &seed).ok_or(Refused::Name)?;
    Ok((key, Zeroizing::new(STANDARD.encode(*seed))))
}

/// The certificates; one that a crash cut short is cut off, since its key signed nothing.
fn read_keys(directory: &Path) -> Result<Vec<String>, Refused> {
    let path = directory.join(KEYS);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed("read", &path, source)),
    };
    let mut keys = Vec::new();
    for (at, piece) in note::split(&bytes) {
        match piece {
            Piece::Note(note) => keys.push(note.to_owned()),
            Piece::Torn(torn) if at + torn.len() == bytes.len() => {
                let cut = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(at as u64));
                cut.map_err(|source| failed("cut", &path, source))?;
            }
            Piece::Torn(_) => {
                return Err(Refused::Unusable { path, why: format!("byte {at} begins no certificate") });
            }
        }
    }
    Ok(keys)
}

/// The key of the last certificate, which a crash may have left beside its place.
fn read_key(
    directory: &Path,
    store: Ulid,
    keys: &[String],
) -> Result<(note::Signer, Zeroizing<String>), Refused> {
    let path = directory.join(KEY);
    let unusable = |why: &str| Refused::Unusable { path: path.clone(), why: why.to_owned() };
    let last = keys.last().and_then(|key| Note::parse(key).ok()?.text().parse::<Certificate>().ok());
    let last = last.ok_or_else(|| unusable("the last certificate beside it cannot be read"))?;
    for name in [KEY, NEXT] {
        let Some(text) = file::read(&directory.join(name), true).map_err(Refused::Key)? else { continue };
        let decoded = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
        let Ok(seed) = <&[u8; 32]>::try_from(decoded.as_slice()) else { continue };
        let key = note::Signer::new(&key_name(store, last.number), seed);
        if let Some(key) = key.filter(|key| *key.verifier() == last.key) {
            if name == NEXT {
                put_in_place(directory).map_err(|source| failed("replace", &path, source))?;
            }
            return Ok((key, text));
        }
    }
    Err(unusable("it is not the key of the last certificate"))
}

fn read_heads(directory: &Path) -> Result<BTreeMap<Ulid, Head>, Refused> {
    let path = directory.join(HEADS);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(failed("read", &path, source)),
    };
    let line = |line: &str| {
        let mut words = line.split(' ');
        let log = checkpoint::ulid(words.next()?)?;
        Some((log, Head { size: words.next()?.parse().ok()?, root: words.next()?.parse().ok()? }))
    };
    let heads = text.lines().map(line).collect::<Option<_>>();
    heads.ok_or_else(|| Refused::Unusable { path, why: "it is not what was written".to_owned() })
}

/// Puts the next key into the place of the one before, which is overwritten first.
fn put_in_place(directory: &Path) -> io::Result<()> {
    let path = directory.join(KEY);
    let old = OpenOptions::new().write(true).open(&path)?;
    let length = old.metadata()?.len();
    old.write_all_at(&vec![0; usize::try_from(length).unwrap_or_default()], 0)?;
    old.sync_all()?;
    fs::rename(directory.join(NEXT), &path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
