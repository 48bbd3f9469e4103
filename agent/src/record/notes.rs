//! What was done with the store itself: who read bodies, and whose keys were destroyed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use time::OffsetDateTime;

use super::bodies::{KEY, beside};
use super::frame::{Batch, Kind};
use super::log::Log;
use super::open::Store;
use super::payload::{Erased, ReadBy, stamp};
use super::segment;
use super::writer::Need;
use crate::types::note::{Note, Noted};

impl Store {
    /// Records what somebody did, and does it where it is the store's to do; gives the numbers of the keys that were
    /// destroyed. Blocks for the disk.
    ///
    /// # Errors
    /// In words. What was to be erased may be erased in part: the record says what was begun.
    pub fn note(&self, note: &Note) -> Result<Vec<u64>, String> {
        let log = self.shared_log();
        let (time, uid, user) = (stamp(OffsetDateTime::now_utc()), note.uid, note.user.clone());
        match &note.what {
            Noted::Read(what) => {
                let what = what.clone();
                record(log, Kind::Read, &ReadBy { time, uid, user, what })?;
                Ok(Vec::new())
            }
            Noted::Erase { before, segments, why } => {
                let keys = match before {
                    Some(before) => ended(log, before).map_err(|error| error.to_string())?,
                    None => segments.clone(),
                };
                let keys = erasable(log, keys)?;
                if !keys.is_empty() {
                    // First: a key that is gone without a word would be one that somebody else took.
                    let why = why.clone();
                    record(log, Kind::Erased, &Erased { time, keys: keys.clone(), why, uid, user })?;
                    destroy(log.dir(), &keys)
                        .map_err(|error| format!("not all keys could be destroyed: {error}"))?;
                }
                Ok(keys)
            }
        }
    }
}

fn record(log: &Log, kind: Kind, payload: &impl serde::Serialize) -> Result<(), String> {
    let mut batch = Batch::default();
    batch.json(kind, payload).map_err(|error| error.to_string())?;
    log.append(&mut batch, Need::More).map(drop).map_err(|error| error.to_string())
}

/// Segments whose last body was sealed before this time: the next one began before it.
fn ended(log: &Log, before: &str) -> io::Result<Vec<u64>> {
    let (segments, _) = segment::list(log.dir())?;
    let mut ended = Vec::new();
    for two in segments.windows(2) {
        let next = segment::head(&two[1].path)?;
        // One that a writer began beside another says nothing of the other's end.
        if next.is_some_and(|head| !head.apart && head.time.as_str() <= before) {
            ended.push(two[0].number);
        }
    }
    Ok(ended)
}

/// Those of which there is a key, none of them in use.
fn erasable(log: &Log, mut keys: Vec<u64>) -> Result<Vec<u64>, String> {
    if log.another_drains() {
        return Err("the last gate still ends what it recorded: try again when it has".to_owned());
    }
    let current = log.last_number();
    if let Some(in_use) = keys.iter().find(|number| **number >= current) {
        return Err(format!(
            "segment {in_use} is in use: its key can be destroyed when the next one has begun"
        ));
    }
    keys.sort_unstable();
    keys.dedup();
    keys.retain(|number| key(log.dir(), *number).exists());
    Ok(keys)
}

fn key(dir: &Path, number: u64) -> std::path::PathBuf {
    beside(&dir.join(segment::name(number)).with_extension(""), KEY)
}

/// Overwrites and removes. On a file system that writes elsewhere, or a disk that does, the old blocks live on until they
/// are used again: `docs/store.md` says so.
fn destroy(dir: &Path, keys: &[u64]) -> io::Result<()> {
    for number in keys {
        let path = key(dir, *number);
        let file = OpenOptions::new().write(true).open(&path)?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        file.write_all_at(&vec![0; length], 0)?;
        file.sync_all()?;
        fs::remove_file(&path)?;
    }
    File::open(dir)?.sync_all()
}
