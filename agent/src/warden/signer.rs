//! Signs the trees over what is recorded, with a key that never leaves this process and does not stay: each start and each
//! hour has one of its own, certified by the one before, which is erased then. So whoever takes the host cannot sign
//! another past, and neither can a gate that was taken over: a tree is signed only when it grew from the last one.
//!
//! Files, in `audit/<store>/` of the state directory (0700): `key` (the seed, base64), `keys` (the certificates), `heads`
//! (what the key has signed). Formats of notes and certificates: [`crate::evidence`].

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::fcntl::Flock;
use time::OffsetDateTime;
use ulid::Ulid;
use zeroize::Zeroizing;

use super::ca::{self, file};
use crate::evidence::chain::{Broken, Certificate, Chain, Pin, key_name};
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
/// Bytes of certificates in one answer: less than half of what a message may have, and more than one certificate.
const ANSWER: usize = 30 * 1024;
/// Logs that one key signs trees of. A gate has one, and another after each failure of its disk.
const LOGS: usize = 128;

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
    /// The store has certificates of keys that are not here: a new chain would not go on from them.
    #[error(
        "the keys that signed this store so far are not in {0}; restore it, or move the store away: another begins then"
    )]
    Lost(PathBuf),
    /// What is in the files.
    #[error(
        "{path} is not usable: {why}; restore it, or move its directory and the store away: both begin anew then"
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
    /// All certificates; as they are in their file, too.
    chain: Chain,
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

    /// Signs a tree that grew from the last one that was signed of its log. After the last one of a gate's the key goes at
    /// once: none stays on a host on which nothing is recorded.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn sign(&mut self, unsigned: &Unsigned) -> Result<Signed, Refused> {
        let id = |text: &str| checkpoint::ulid(text).ok_or(Refused::Name);
        let origin = Origin { store: id(&unsigned.store)?, log: id(&unsigned.log)? };
        let opened = match &mut self.opened {
            Some(opened) if opened.store == origin.store => opened,
            Some(_) => return Err(Refused::Store),
            closed => closed.insert(Opened::open(&self.directory, origin.store, unsigned.keys)?),
        };
        if opened.since.elapsed() >= HOUR {
            opened.renew()?;
        }
        opened.sign(origin, unsigned)
    }
}

impl Opened {
    fn open(parent: &Path, store: Ulid, has: u64) -> Result<Self, Refused> {
        let made = fs::create_dir_all(parent);
        made.map_err(|source| failed("make", parent, source))?;
        let directory = parent.join(store.to_string());
        // Asked for what never was, nothing is made.
        if has > 0 && !directory.join(KEYS).exists() {
            return Err(Refused::Lost(directory));
        }
        let lock = file::prepare(&directory).map_err(Refused::Key)?;
        let keys = read_keys(&directory)?;
        if keys.is_empty() && has > 0 {
            return Err(Refused::Lost(directory));
        }
        if keys.is_empty() {
            return Self::begin(store, directory, lock);
        }
        let chain = chain_of(&keys).map_err(|why| unusable(&directory.join(KEYS), &why))?;
        let key = read_key(&directory, store, chain.last())?;
        let heads = read_heads(&directory)?;
        let mut opened =
            Self { store, directory, key, since: Instant::now(), chain, keys, heads, _lock: lock };
        opened.renew()?;
        Ok(opened)
    }

    /// The first key, which certifies itself.
    fn begin(store: Ulid, directory: PathBuf, lock: Flock<File>) -> Result<Self, Refused> {
        let (key, seed) = draw(store, 0)?;
        file::write(&directory, KEY, seed.as_bytes()).map_err(Refused::Key)?;
        let note = certificate(store, 0, key.verifier(), Vec::new(), &key)?;
        let chain =
            chain_of(std::slice::from_ref(&note)).map_err(|why| unusable(&directory.join(KEYS), &why))?;
        append(&directory.join(KEYS), &note)?;
        let (keys, heads) = (vec![note], BTreeMap::new());
        Ok(Self { store, directory, key, since: Instant::now(), chain, keys, heads, _lock: lock })
    }

    /// A key of its own for what follows; the one before is erased.
    fn renew(&mut self) -> Result<(), Refused> {
        let number = self.keys.len() as u64;
        let (key, seed) = draw(self.store, number)?;
        let pins = self.heads.iter().map(|(log, tree)| Pin { log: *log, tree: *tree }).collect();
        let note = certificate(self.store, number, key.verifier(), pins, &self.key)?;
        let mut chain = self.chain.clone();
        let goes_on = Note::parse(&note).map_err(Broken::Note).and_then(|note| chain.add(&note));
        goes_on.map_err(|why| unusable(&self.directory.join(KEYS), &why))?;
        // The new key is on disk before anything says that it is the one; the old one goes when that is on disk too.
        file::write(&self.directory, NEXT, seed.as_bytes()).map_err(Refused::Key)?;
        append(&self.directory.join(KEYS), &note)?;
        self.keys.push(note);
        self.chain = chain;
        self.key = key;
        self.since = Instant::now();
        self.heads.clear();
        put_in_place(&self.directory)
            .map_err(|source| failed("replace", &self.directory.join(KEY), source))?;
        self.write_heads()
    }

    fn sign(&mut self, origin: Origin, unsigned: &Unsigned) -> Result<Signed, Refused> {
        let Growth { old, new, .. } = &unsigned.growth;
        let Some(last) = self.last(origin.log) else { return Ok(Signed::Closed) };
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
        let note = Note::sign(text, &self.key).map_err(|why| unusable(&self.directory.join(KEY), &why))?;
        self.heads.insert(origin.log, *new);
        self.write_heads()?;
        if unsigned.last {
            self.renew()?;
        }
        Ok(Signed::Note { note: note.to_string(), keys: self.lacking(unsigned.keys) })
    }

    /// What was signed of a log last, nothing if it is new; `None` where it was closed: an epoch had nothing of it.
    fn last(&self, log: Ulid) -> Option<Head> {
        let now = self.heads.get(&log).copied().or_else(|| self.chain.last().pin(log));
        let closed = || self.chain.certificates().iter().any(|certificate| certificate.pin(log).is_some());
        now.or_else(|| (!closed()).then(Head::empty))
    }

    /// The certificates that follow so many, as far as they go into one answer.
    fn lacking(&self, has: u64) -> Vec<String> {
        let (mut room, has) = (ANSWER, usize::try_from(has).unwrap_or(usize::MAX));
        let fits = |key: &&String| {
            room = room.saturating_sub(key.len());
            room > 0
        };
        self.keys.iter().skip(has).take_while(fits).cloned().collect()
    }

    /// What this key has signed: the next certificate says it, also after a power cut.
    fn write_heads(&self) -> Result<(), Refused> {
        let line = |(log, head): (&Ulid, &Head)| format!("{log} {} {}\n", head.size, head.root);
        let lines: String = self.heads.iter().map(line).collect();
        file::write(&self.directory, HEADS, lines.as_bytes()).map_err(Refused::Key)
    }
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Refused {
    Refused::Unusable { path: path.to_owned(), why: why.to_string() }
}

/// The certificate of a key, signed.
fn certificate(
    store: Ulid,
    number: u64,
    key: &note::VerifierKey,
    pins: Vec<Pin>,
    by: &note::Signer,
) -> Result<String, Refused> {
    let time = stamp(OffsetDateTime::now_utc());
    let certificate = Certificate { store, number, key: key.clone(), time, pins };
    let signed = Note::sign(certificate.to_string(), by);
    signed.map(|note| note.to_string()).map_err(|why| unusable(Path::new(KEYS), &why))
}

fn chain_of(keys: &[String]) -> Result<Chain, Broken> {
    let mut notes = keys.iter().map(|key| Note::parse(key).map_err(Broken::Note));
    let first = notes.next().ok_or(Broken::Number)??;
    let mut chain = Chain::begin(&first, None)?;
    notes.try_for_each(|note| chain.add(&note?))?;
    Ok(chain)
}

/// Adds a certificate to the file, whole or not at all.
fn append(path: &Path, note: &str) -> Result<(), Refused> {
    let add = || {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let before = file.metadata()?.len();
        let added = file.write_all(format!("{note}\n").as_bytes()).and_then(|()| file.sync_all());
        if added.is_err() {
            file.set_len(before)?;
        }
        added
    };
    add().map_err(|source| failed("write", path, source))
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
fn read_key(directory: &Path, store: Ulid, last: &Certificate) -> Result<note::Signer, Refused> {
    for name in [KEY, NEXT] {
        let Some(text) = file::read(&directory.join(name), true).map_err(Refused::Key)? else { continue };
        let decoded = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
        let Ok(seed) = <&[u8; 32]>::try_from(decoded.as_slice()) else { continue };
        let key = note::Signer::new(&key_name(store, last.number), seed);
        if let Some(key) = key.filter(|key| *key.verifier() == last.key) {
            if name == NEXT {
                put_in_place(directory).map_err(|source| failed("replace", &directory.join(KEY), source))?;
            }
            return Ok(key);
        }
    }
    Err(unusable(&directory.join(KEY), &"it is not the key of the last certificate"))
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
