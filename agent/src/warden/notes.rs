//! What the control socket has the gate record of the store's own use: see [`Note`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::gate_process::Mailbox;
use crate::types::note::Note;
use crate::wire::ToGate;

/// How long the gate may take: keys are destroyed on the disk.
const WITHIN: Duration = Duration::from_secs(30);
/// Notes under way at once.
const MOST: usize = 64;

type Outcome = Result<Vec<u64>, String>;

/// Asks whichever gate there is. Cheap to clone.
#[derive(Clone, Default)]
pub struct Notes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    gate: Mutex<Option<Mailbox>>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Outcome>>>,
    calls: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notes {
    /// This gate records from now on.
    pub fn gate(&self, gate: Mailbox) {
        *lock(&self.0.gate) = Some(gate);
    }

    /// Has it recorded, and done; gives the numbers of destroyed keys.
    ///
    /// # Errors
    /// In words.
    pub async fn note(&self, note: Note) -> Outcome {
        let gate = lock(&self.0.gate).clone().ok_or("there is no gate now: try again")?;
        let (sender, noted) = oneshot::channel();
        let call = self.0.calls.fetch_add(1, Ordering::Relaxed);
        {
            let mut waiting = lock(&self.0.waiting);
            waiting.retain(|_, sender| !sender.is_closed());
            if waiting.len() >= MOST {
                return Err("too much is being asked of the store".to_owned());
            }
            waiting.insert(call, sender);
        }
        gate.post(vec![(ToGate::Note { call, note: Box::new(note) }, None)])
            .map_err(|_| "the gate does not read")?;
        match tokio::time::timeout(WITHIN, noted).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("the gate has ended".to_owned()),
            Err(_) => Err(format!("the gate did not answer within {} s", WITHIN.as_secs())),
        }
    }

    /// The gate's answer.
    pub fn noted(&self, call: u64, outcome: Outcome) {
        if let Some(sender) = lock(&self.0.waiting).remove(&call) {
            let _ = sender.send(outcome); // who asked has left
        }
    }
}
