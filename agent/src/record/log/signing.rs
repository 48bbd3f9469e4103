//! How the tree over what is synced comes to be signed, and what the agent says of itself.

use std::sync::{Mutex, OnceLock};

use time::OffsetDateTime;
use tokio::sync::watch;

use super::super::before;
use super::super::frame::{Batch, Kind};
use super::super::lock::Lock;
use super::super::logs::{boot_id, boottime_us};
use super::super::payload::{Heartbeat, Key, stamp};
use super::super::trees::{self, Due, Notary, Tree};
use super::super::writer::Need;
use super::{Log, locked};
use crate::evidence::tree::{Hash, Head};

/// What a log needs to have its trees signed.
pub struct Evidence {
    notary: OnceLock<Notary>,
    /// Leaves of the tree that are signed.
    signed: watch::Sender<u64>,
    /// The log of a writer that drained when this one began, whose end is still to be told.
    draining: Mutex<Option<String>>,
    /// Certificates of keys in the store.
    keys: Mutex<u64>,
}

impl Evidence {
    /// Beside a writer of the log `draining`, in a store with so many certificates.
    pub fn new(draining: Option<String>, keys: u64) -> Self {
        Self {
            notary: OnceLock::new(),
            signed: watch::Sender::new(0),
            draining: Mutex::new(draining),
            keys: Mutex::new(keys),
        }
    }
}

impl Log {
    /// Has trees signed from now on. Only the first call counts.
    pub fn keep_evidence(&self, notary: Notary) {
        let _ = self.evidence.notary.set(notary);
        self.wake.urgent();
    }

    /// Keeps a signed checkpoint of a tree, and certificates of keys. One of a log that is no more is not kept.
    pub fn signed(&self, log: &str, head: Head, note: &str, keys: &[String]) {
        if !keys.is_empty() {
            self.add_keys(keys);
        }
        let mut tree = locked(&self.tree);
        if tree.log() != log {
            return;
        }
        let kept = tree.signed(head, note);
        drop(tree);
        self.evidence.signed.send_replace(head.size);
        if let Err(error) = kept {
            self.trouble(format!("a checkpoint cannot be kept: {error}"));
        }
    }

    /// Another tree of this log was signed last: gives what is to be signed in place of what was asked for.
    pub fn behind(&self, log: &str, head: Head, last: bool) -> Option<Due> {
        let mut tree = locked(&self.tree);
        if tree.log() != log {
            return None;
        }
        match tree.behind(head) {
            Ok(()) => tree.unsigned(true).map(|due| Due { last, ..due }),
            Err(changed) => {
                drop(tree);
                self.trouble(changed.to_string());
                None
            }
        }
    }

    /// Nothing more is signed of this log.
    pub fn log_closed(&self, log: &str) {
        if locked(&self.tree).log() == log {
            self.restart();
        }
    }

    /// How many certificates of keys the store has.
    pub fn keys(&self) -> u64 {
        *locked(&self.evidence.keys)
    }

    fn add_keys(&self, certificates: &[String]) {
        let mut count = locked(&self.evidence.keys);
        match trees::add_keys(&self.dir, certificates) {
            Ok(()) => *count += certificates.len() as u64,
            Err(error) => return self.trouble(format!("a key's certificate cannot be kept: {error}")),
        }
        drop(count);
        for certificate in certificates {
            let certificate = certificate.as_str().into();
            self.note(Kind::Key, &Key { time: stamp(OffsetDateTime::now_utc()), certificate });
        }
    }

    /// Waits until all that is synced is signed.
    pub async fn sealed(&self) {
        let size = locked(&self.tree).end(true).size;
        // The sender is this log's own.
        let _ = self.evidence.signed.subscribe().wait_for(|signed| *signed >= size).await;
    }

    /// Has the tree signed when that is due, or `now`.
    pub(super) fn ask(&self, now: bool) {
        let Some(notary) = self.evidence.notary.get() else { return };
        let mut tree = locked(&self.tree);
        let (due, trouble) = (tree.unsigned(now), tree.trouble());
        drop(tree);
        if let Some(due) = due {
            notary(due);
        }
        if let Some(trouble) = trouble {
            self.trouble(format!("a tile cannot be written: {trouble}"));
        }
    }

    /// These leaves, all of them the log's, are on disk.
    pub(super) fn grow(&self, log: &str, leaves: &[Hash]) {
        let mut tree = locked(&self.tree);
        if tree.log() != log {
            *tree = Tree::new(&self.dir, &locked(&self.writer).store, log);
        }
        tree.grow(leaves);
    }

    /// Some frames of the log are not known to be on disk: what follows is another log's.
    pub(in crate::record) fn restart(&self) {
        let last = locked(&self.tree).end(true);
        let restarted = locked(&self.writer).restart_log(last);
        if let Err(why) = restarted {
            self.refusing(&why);
        }
        self.wake.dirty();
    }

    /// Says that the agent lives, and how a writer ended that drained beside it.
    pub(super) fn beat(&self) {
        let open = locked(&self.writer).open;
        let (time, boottime_us) = (stamp(OffsetDateTime::now_utc()), boottime_us());
        self.note(Kind::Heartbeat, &Heartbeat { time, boot_id: boot_id(), boottime_us, open });
        if locked(&self.lock).as_ref().is_some_and(Lock::another_drains) {
            return;
        }
        let Some(log) = locked(&self.evidence.draining).take() else { return };
        match before::end_of(&self.dir, &log) {
            Ok(Some(end)) => self.note(Kind::LogEnd, &end),
            Ok(None) => {}
            Err(error) => self.trouble(format!("the log {log}, which drained, cannot be read: {error}")),
        }
    }

    pub(super) fn note(&self, kind: Kind, payload: &impl serde::Serialize) {
        // The store's own notes come after everybody's records: when there is no room they are in the journal only.
        let _ = self.numbered(kind, payload);
    }

    /// Notes something, and gives its sequence number; `None` when there is no room.
    pub(super) fn numbered(&self, kind: Kind, payload: &impl serde::Serialize) -> Option<u64> {
        let mut batch = Batch::default();
        batch.json(kind, payload).ok()?;
        self.append(&mut batch, Need::More).ok()
    }

    /// Whether nobody signs trees of this store.
    pub(super) fn is_unsigned(&self) -> bool {
        self.evidence.notary.get().is_none()
    }

    /// How far the log that is written is synced.
    pub(super) fn synced_tree(&self) -> (String, u64) {
        let end = locked(&self.tree).end(false);
        (end.log, end.size)
    }

    /// Whether so much of this log, if it is the one that is written, is signed.
    pub(super) fn is_signed(&self, log: &str, size: u64) -> bool {
        locked(&self.tree).log() == log && *self.evidence.signed.borrow() >= size
    }
}
