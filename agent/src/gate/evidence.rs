//! Has the warden sign what the store recorded: the store says when a tree is due, the warden's answer goes back to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::link::Warden;
use crate::record::Store;
use crate::record::trees::Due;
use crate::wire::{Signed, Unsigned};

/// Trees that wait for the warden. Beyond it one is dropped: the next, a second later, covers it.
const WAITING: usize = 4;

/// How long the end of the gate waits for the last signature. What has none is said by the next log.
const LAST: Duration = Duration::from_secs(2);

/// Has trees signed from now on, as long as the gate lives.
pub fn keep(store: &Store, warden: &Warden) {
    let (due, trees) = mpsc::channel(WAITING);
    store.keep_evidence(Arc::new(move |tree| drop(due.try_send(tree))));
    #[expect(clippy::disallowed_methods, reason = "lives as long as the gate, not as a session")]
    tokio::spawn(sign(trees, store.clone(), warden.clone()));
}

/// Waits, after the store was closed, for the last signature.
pub async fn seal(store: &Store) {
    if tokio::time::timeout(LAST, store.sealed()).await.is_err() {
        tracing::warn!("the last records are not signed: the next start says what they are");
    }
}

async fn sign(mut trees: mpsc::Receiver<Due>, store: Store, warden: Warden) {
    while let Some(Due { store: name, log, growth, last }) = trees.recv().await {
        let new = growth.new;
        let unsigned = Unsigned { store: name, log: log.clone(), growth, keys: store.keys(), last };
        match warden.checkpoint(unsigned).await {
            Ok(Signed::Note { note, keys }) => store.signed(&log, new, &note, &keys),
            Ok(Signed::Behind(head)) => store.behind(&log, head),
            Ok(Signed::NotNow) => {}
            // The warden has told the journal.
            Err(why) => tracing::warn!(log, why, "a tree is not signed"),
        }
    }
}
