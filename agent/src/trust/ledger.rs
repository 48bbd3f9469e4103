//! What was changed on this host, and what stood there before: `trust.json` and the backups beside it, below the state
//! directory, readable by root only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tree::{self, Entry, Snapshot, Tree};
use super::{Error, hex_sha256};
use crate::paths;

const FILE: &str = "trust.json";
/// Backups, each named by its SHA-256.
const BACKUPS: &str = "trust";

/// The whole record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// The CA that was installed (PEM).
    pub(super) ca: String,
    /// In the order in which they were changed.
    pub(super) stores: Vec<Record>,
}

/// One store's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The store's name, as `trust status` prints it.
    pub(super) store: String,
    /// What differs, by path. Empty while the change is under way: then nothing is known of the state after, and removal
    /// takes the CA out by the store's own tool.
    pub(super) changes: BTreeMap<PathBuf, Change>,
}

/// One path before and after: `None` is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) before: Option<Entry>,
    pub(super) after: Option<Entry>,
}

impl Record {
    /// What differs between two snapshots.
    pub(super) fn between(store: &str, before: &Snapshot, after: &Snapshot) -> Self {
        let mut changes = BTreeMap::new();
        for path in before.keys().chain(after.keys()) {
            let change = Change { before: before.get(path).cloned(), after: after.get(path).cloned() };
            if change.before != change.after {
                changes.insert(path.clone(), change);
            }
        }
        Self { store: store.to_owned(), changes }
    }
}

impl Ledger {
    /// What is on record; empty where there is none.
    pub(super) fn load(host: &Tree) -> Result<Self, Error> {
        let path = host.at(Path::new(paths::STATE_DIR)).join(FILE);
        match tree::read(&path) {
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(error),
            Ok(text) => serde_json::from_slice(&text).map_err(|source| Error::Ledger { path, source }),
        }
    }

    /// Writes the record, and removes it with its backups when nothing is left on it.
    pub(super) fn save(&self, host: &Tree) -> Result<(), Error> {
        let state = host.at(Path::new(paths::STATE_DIR));
        let path = state.join(FILE);
        if self.stores.is_empty() {
            tree::gone(fs::remove_file(&path)).map_err(|source| Error::Write { path, source })?;
            let backups = state.join(BACKUPS);
            return tree::gone(fs::remove_dir_all(&backups))
                .map_err(|source| Error::Write { path: backups, source });
        }
        make_folder(&state)?;
        let text =
            serde_json::to_vec_pretty(self).map_err(|source| Error::Ledger { path: path.clone(), source })?;
        tree::replace(&path, &text, 0o600)?;
        self.prune(&state.join(BACKUPS))
    }

    /// Keeps only backups that a restore would need. While a change is under way, all are kept.
    fn prune(&self, backups: &Path) -> Result<(), Error> {
        if self.stores.iter().any(|record| record.changes.is_empty()) {
            return Ok(());
        }
        let needed = |name: &str| {
            let mut changes = self.stores.iter().flat_map(|record| record.changes.values());
            changes.any(|change| matches!(&change.before, Some(Entry::File { sha256, .. }) if sha256 == name))
        };
        for entry in fs::read_dir(backups).into_iter().flatten().filter_map(Result::ok) {
            if !needed(&entry.file_name().to_string_lossy()) {
                let path = entry.path();
                fs::remove_file(&path).map_err(|source| Error::Write { path, source })?;
            }
        }
        Ok(())
    }
}

/// Copies every file of a snapshot into the backups, before the first of them changes.
pub(super) fn back_up(host: &Tree, before: &Snapshot) -> Result<(), Error> {
    let backups = host.at(Path::new(paths::STATE_DIR)).join(BACKUPS);
    make_folder(&backups)?;
    for (path, entry) in before {
        let Entry::File { sha256, .. } = entry else { continue };
        let backup = backups.join(sha256);
        if !backup.exists() {
            tree::replace(&backup, &tree::read(&host.at(path))?, 0o600)?;
        }
    }
    Ok(())
}

/// A file's bytes from the backups, checked against their name.
pub(super) fn backup(host: &Tree, entry: Option<&Entry>) -> Result<Vec<u8>, Error> {
    let Some(Entry::File { sha256, .. }) = entry else { return Ok(Vec::new()) };
    let path = host.at(Path::new(paths::STATE_DIR)).join(BACKUPS).join(sha256);
    let content = tree::read(&path)?;
    if hex_sha256(&content) != *sha256 {
        let source = io::Error::new(io::ErrorKind::InvalidData, "the backup is damaged");
        return Err(Error::Read { path, source });
    }
    Ok(content)
}

/// Does one change to the watched paths, and puts it on the ledger: backups first, then the word that it is under way,
/// then the change, then what it changed. A change that fails is undone.
pub(super) fn change(
    host: &Tree,
    ledger: &mut Ledger,
    store: &str,
    watched: &[PathBuf],
    say: &mut dyn FnMut(&str),
    act: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let before = host.snapshot(watched)?;
    back_up(host, &before)?;
    ledger.stores.push(Record { store: store.to_owned(), changes: BTreeMap::new() });
    ledger.save(host)?;
    let acted = act();
    let record = Record::between(store, &before, &host.snapshot(watched)?);
    ledger.stores.pop();
    if let Err(error) = acted {
        undo(host, &record, &mut |_| {})?;
        ledger.save(host)?;
        return Err(error);
    }
    for (path, change) in &record.changes {
        let how = match change {
            Change { before: None, .. } => "added",
            Change { after: None, .. } => "removed",
            Change { .. } => "changed",
        };
        say(&format!("{how} {}", path.display()));
    }
    ledger.stores.push(record);
    ledger.save(host)
}

/// How far [`undo`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undone {
    /// Every path is what it was before.
    Wholly,
    /// Someone else changed a path since, or the change was never finished: those are left as they are.
    Partly,
}

/// Makes every path what it was before, except where someone else changed it since.
pub(super) fn undo(host: &Tree, record: &Record, say: &mut dyn FnMut(&str)) -> Result<Undone, Error> {
    let mut undone = if record.changes.is_empty() { Undone::Partly } else { Undone::Wholly };
    // Backwards: what lies in a folder before the folder.
    for (path, change) in record.changes.iter().rev() {
        let now = host.entry(path)?;
        if now == change.before {
            continue;
        }
        let folder = now == Some(Entry::Folder);
        if now != change.after || (folder && !host.names(path).is_empty()) {
            // A folder that we made and others use now stays; that is no reason to rebuild anything.
            if !folder {
                undone = Undone::Partly;
            }
            continue;
        }
        host.restore(path, change.before.as_ref(), &backup(host, change.before.as_ref())?)?;
        say(&format!("{} {}", if change.before.is_some() { "restored" } else { "removed" }, path.display()));
    }
    Ok(undone)
}

fn make_folder(path: &Path) -> Result<(), Error> {
    // Existing folders keep their mode: the state directory is systemd's to make.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|source| Error::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_and_its_backups_go_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = Tree::new(folder.path());
        fs::write(folder.path().join("a"), "kept").expect("a file");
        fs::write(folder.path().join("b"), "changed").expect("a file");
        let watched = [PathBuf::from("/a"), PathBuf::from("/b"), PathBuf::from("/c")];
        let before = host.snapshot(&watched).expect("a snapshot");
        back_up(&host, &before).expect("backups");
        let mut ledger = Ledger {
            ca: "x".to_owned(),
            stores: vec![Record { store: "s".to_owned(), changes: BTreeMap::new() }],
        };
        ledger.save(&host).expect("saved under way");
        fs::write(folder.path().join("b"), "by us").expect("a file");
        fs::write(folder.path().join("c"), "new").expect("a file");
        let after = host.snapshot(&watched).expect("a snapshot");
        ledger.stores = vec![Record::between("s", &before, &after)];
        assert_eq!(ledger.stores[0].changes.len(), 2);
        ledger.save(&host).expect("saved");
        assert_eq!(Ledger::load(&host).expect("loaded"), ledger);
        let backups = folder.path().join("var/lib/sluice/trust");
        assert_eq!(fs::read_dir(&backups).expect("backups").count(), 1, "only what a restore needs");
        assert_eq!(backup(&host, before.get(Path::new("/b"))).expect("a backup"), b"changed");

        ledger.stores.clear();
        ledger.save(&host).expect("saved");
        assert_eq!(Ledger::load(&host).expect("loaded"), Ledger::default());
        assert!(!backups.exists());
    }

    #[test]
    fn a_damaged_backup_is_not_restored() {
        let folder = tempfile::tempdir().expect("a folder");
        let host = Tree::new(folder.path());
        fs::write(folder.path().join("a"), "old").expect("a file");
        let before = host.snapshot(&[PathBuf::from("/a")]).expect("a snapshot");
        back_up(&host, &before).expect("backups");
        let backups = folder.path().join("var/lib/sluice/trust");
        for entry in fs::read_dir(backups).expect("backups") {
            fs::write(entry.expect("an entry").path(), "other").expect("damaged");
        }
        assert!(backup(&host, before.get(Path::new("/a"))).is_err());
    }
}
