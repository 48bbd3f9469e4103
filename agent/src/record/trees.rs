//! The tree over the log that is written, as far as it is synced: its tiles and checkpoints on disk, and when it is due to
//! be signed. `logs/<log>/` in the store is a directory of C2SP tlog-tiles: `tile/…`, and `checkpoint`, the last one;
//! `checkpoints` beside it has all of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::payload::LogEnd;
use super::segment::{MODE, open_plain};
use crate::evidence::note::{self, Note, Piece};
use crate::evidence::tile::{At, Collector, HASH, Tile, WIDTH};
use crate::evidence::tree::{self, Growth, Hash, Head};

/// The directory of all logs, below the store's.
pub const LOGS: &str = "logs";
/// All checkpoints of a log, each followed by an empty line.
pub const CHECKPOINTS: &str = "checkpoints";
/// The last one.
pub const CHECKPOINT: &str = "checkpoint";
/// The certificates of the keys that sign, in the store's directory.
pub const KEYS: &str = "keys";
/// Below it, tiles.
const TILES: &str = "tile";
/// More bytes than a tile has.
const TILE: u64 = 64 * 1024;
/// At least so long lies between two checkpoints, and under load no more.
const EVERY: Duration = Duration::from_secs(1);

/// Has trees signed: of which store and log, what they have become, and whether nothing follows. Never waits: the answer
/// comes by [`super::Store::signed`].
pub type Notary = Arc<dyn Fn(Due) + Send + Sync>;

/// A tree that is to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The store.
    pub store: String,
    /// The log.
    pub log: String,
    /// Since it was signed last.
    pub growth: Growth,
    /// Nothing follows.
    pub last: bool,
}

/// Where a log's tiles and checkpoints are.
pub fn directory(store: &Path, log: &str) -> PathBuf {
    store.join(LOGS).join(log)
}

/// The file of a tile.
pub fn tile_path(directory: &Path, at: At) -> PathBuf {
    directory.join(TILES).join(at.to_string())
}

/// A tile as it lies on disk; `None` when it is not there whole.
pub fn read_tile(directory: &Path, at: At) -> Option<Tile> {
    let mut bytes = Vec::new();
    let file = open_plain(&tile_path(directory, at)).ok()?;
    file.take(TILE).read_to_end(&mut bytes).ok()?;
    Tile::read(at, &bytes)
}

/// What was signed of a log is not what is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tree of {0} leaves that was signed is not the one of the store's records")]
pub struct Changed(u64);

/// See the module.
#[derive(Debug)]
pub struct Tree {
    store: String,
    log: String,
    directory: PathBuf,
    collector: Collector,
    signed: Head,
    asked: Option<Instant>,
    /// Why the last file could not be written. The records are not in danger: proofs are made from them then.
    trouble: Option<String>,
}

impl Tree {
    /// That of a log in which nothing is synced yet.
    pub fn new(dir: &Path, store: &str, log: &str) -> Self {
        Self {
            store: store.to_owned(),
            log: log.to_owned(),
            directory: directory(dir, log),
            collector: Collector::default(),
            signed: Head::empty(),
            asked: None,
            trouble: None,
        }
    }

    /// Of which log.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// How far it is, for the log that follows.
    pub fn end(&self, ended: bool) -> LogEnd {
        let Head { size, root } = self.collector.head();
        LogEnd { log: self.log.clone(), size, root: root.to_string(), ended }
    }

    /// These leaves are on disk.
    pub fn grow(&mut self, leaves: &[Hash]) {
        let Self { collector, directory, trouble, .. } = self;
        for leaf in leaves {
            collector.push(*leaf, |tile| {
                if let Err(error) = write_tile(directory, &tile) {
                    *trouble = Some(format!("{}: {error}", tile_path(directory, tile.at).display()));
                }
            });
        }
    }

    /// Why a file could not be written, once.
    pub fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// What is to be signed now; `now` whatever was asked for a moment ago.
    pub fn unsigned(&mut self, now: bool) -> Option<Due> {
        let new = self.collector.head();
        if new.size == self.signed.size || !now && self.due().is_some_and(|due| due > Instant::now()) {
            return None;
        }
        let directory = &self.directory;
        let subtree = |level, index| self.collector.subtree(level, index, |at| read_tile(directory, at));
        // A tile that cannot be read: the next one may do without it.
        let proof = tree::consistency(self.signed.size, new.size, subtree);
        self.asked = Some(Instant::now());
        let growth = Growth { old: self.signed, new, proof: proof? };
        Some(Due { store: self.store.clone(), log: self.log.clone(), growth, last: now })
    }

    /// When it is to be signed next; `None` when nothing is new, or at once.
    pub fn due(&self) -> Option<Instant> {
        let asked = self.asked?;
        (self.collector.size() != self.signed.size).then(|| asked + EVERY)
    }

    /// Another tree of the log was signed last, by the word of whoever signs: an answer was lost. The next proof begins there.
    ///
    /// # Errors
    /// It is none of this log's.
    pub fn behind(&mut self, head: Head) -> Result<(), Changed> {
        let directory = &self.directory;
        let subtree = |level, index| self.collector.subtree(level, index, |at| read_tile(directory, at));
        if head.size > self.collector.size() || tree::root(head.size, subtree) != Some(head.root) {
            return Err(Changed(head.size));
        }
        self.signed = head;
        self.asked = None;
        Ok(())
    }

    /// Takes a signed checkpoint of `head`.
    ///
    /// # Errors
    /// It cannot be kept in its files.
    pub fn signed(&mut self, head: Head, note: &str) -> io::Result<()> {
        if head.size > self.signed.size {
            self.signed = head;
        }
        make_dir(&self.directory)?;
        let path = self.directory.join(CHECKPOINTS);
        let mut all = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
        all.write_all(format!("{note}\n").as_bytes())?;
        put(&self.directory.join(CHECKPOINT), note.as_bytes())
    }

    /// Writes the tiles that are not full: nothing is added any more.
    ///
    /// # Errors
    /// What the file system says.
    pub fn close(&self) -> io::Result<()> {
        self.collector.partial().try_for_each(|tile| write_tile(&self.directory, &tile))
    }
}

/// So many leaves of a log are on disk for certain: what was signed was, and what full tiles have.
pub fn known(store: &Path, log: &str) -> u64 {
    let directory = directory(store, log);
    let mut text = String::new();
    let read =
        open_plain(&directory.join(CHECKPOINT)).and_then(|file| file.take(TILE).read_to_string(&mut text));
    let signed = read.ok().and_then(|_| text.lines().nth(1)?.parse::<u64>().ok()).unwrap_or(0);
    let full = |index: &u64| read_tile(&directory, At { level: 0, index: *index, width: WIDTH }).is_some();
    let width = WIDTH as u64;
    let tiles = (signed / width..).take_while(full).last();
    tiles.map_or(signed, |last| signed.max((last + 1) * width))
}

/// Removes what the machine's end left of files that are not synced: nothing of them, or half. What they have is in the
/// records, and in other files.
///
/// # Errors
/// What the file system says.
pub fn mend(store: &Path) -> io::Result<()> {
    let logs = match fs::read_dir(store.join(LOGS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        logs => logs?,
    };
    for log in logs {
        let log = log?.path();
        let checkpoint = log.join(CHECKPOINT);
        match fs::read_to_string(&checkpoint) {
            Ok(text) if Note::parse(&text).is_err() => fs::remove_file(&checkpoint)?,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => fs::remove_file(&checkpoint)?,
            _ => {}
        }
        mend_tiles(&log.join(TILES), MAX_DEPTH)?;
    }
    Ok(())
}

/// Directories below one another that tiles lie in at most: level, three digits each of a number, and the one of a tile
/// that is not full.
const MAX_DEPTH: usize = 9;

fn mend_tiles(directory: &Path, depth: usize) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    let partial = directory.extension().is_some_and(|extension| extension == "p");
    for entry in entries {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let width = match entry.file_name().to_str().and_then(|name| name.parse::<usize>().ok()) {
            Some(width) if partial => width,
            _ => WIDTH,
        };
        if kind.is_dir() && depth > 0 {
            mend_tiles(&path, depth - 1)?;
        } else if kind.is_file() && entry.metadata()?.len() != (width * HASH) as u64 {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// How many certificates of keys there are. What a crash cut short is cut off.
///
/// # Errors
/// What the file system says.
pub fn count_keys(store: &Path) -> io::Result<u64> {
    let path = store.join(KEYS);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut count = 0;
    for (at, piece) in note::split(&bytes) {
        match piece {
            Piece::Note(_) => count += 1,
            Piece::Torn(_) => {
                OpenOptions::new().write(true).open(&path)?.set_len(at as u64)?;
                break;
            }
        }
    }
    Ok(count)
}

/// Adds certificates of keys, each followed by an empty line.
///
/// # Errors
/// What the file system says.
pub fn add_keys(store: &Path, certificates: &[String]) -> io::Result<()> {
    let all: String = certificates.iter().flat_map(|certificate| [certificate, "\n"]).collect();
    let mut file = OpenOptions::new().append(true).create(true).mode(MODE).open(store.join(KEYS))?;
    file.write_all(all.as_bytes())?;
    // Checkpoints and records that follow are worth nothing without, whatever becomes of the machine.
    file.sync_all()
}

/// The records of a log are no more: what its tree was made of goes too. Its last checkpoint stays.
///
/// # Errors
/// What the file system says.
pub fn forget(store: &Path, log: &str) -> io::Result<()> {
    let directory = directory(store, log);
    let gone = |done: io::Result<()>| match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    };
    gone(fs::remove_dir_all(directory.join(TILES)))?;
    gone(fs::remove_file(directory.join(CHECKPOINTS)))
}

fn write_tile(directory: &Path, tile: &Tile) -> io::Result<()> {
    let path = tile_path(directory, tile.at);
    match put(&path, &tile.bytes()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), make_dir)?;
            put(&path, &tile.bytes())
        }
        done => done,
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(path)
}

/// Writes a whole file under another name first, so that nobody reads half of it.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&new)?;
    file.write_all(bytes)?;
    fs::rename(&new, path)
}
