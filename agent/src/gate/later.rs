//! What the warden says later than its answer, of the same question: kept for who waits, as long as somebody does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Who waits, by question.
pub(super) struct Waiting<T>(Mutex<HashMap<u64, oneshot::Sender<T>>>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Waiting<T> {
    fn map(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<T>>> {
        // Nothing panics while the map is held; a poisoned one is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits from now on.
    pub fn await_for(self: &Arc<Self>, call: u64) -> Later<T> {
        let (sender, coming) = oneshot::channel();
        self.map().insert(call, sender);
        Later { waiting: Arc::clone(self), call, coming }
    }

    /// It has come.
    pub fn came(&self, call: u64, what: T) {
        if let Some(asker) = self.map().remove(&call) {
            let _ = asker.send(what); // a connection that has ended needs none
        }
    }
}

/// What will come. Dropped, it is no longer waited for.
pub struct Later<T> {
    waiting: Arc<Waiting<T>>,
    call: u64,
    coming: oneshot::Receiver<T>,
}

impl<T> Later<T> {
    /// What came; `None` when that took longer.
    pub async fn found(mut self, within: Duration) -> Option<T> {
        tokio::time::timeout(within, &mut self.coming).await.ok()?.ok()
    }
}

impl<T> Drop for Later<T> {
    fn drop(&mut self) {
        self.waiting.map().remove(&self.call);
    }
}
