//! Drain: how the gate ends without losing what is under way. One file, one order: stop accepting, let exchanges
//! finish for the grace period, cut the rest.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The drain's state, shared by every session. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    started: CancellationToken,
    forced: CancellationToken,
    tasks: TaskTracker,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every session ended by itself.
    Finished,
    /// The grace period ran out and this many tasks were cut.
    Cut(usize),
}

impl Drain {
    /// Runs a session's future as a task that drain waits for, and cuts at the end of the grace period.
    pub fn spawn(&self, session: impl Future<Output = ()> + Send + 'static) {
        let forced = self.forced.clone();
        // Boxed: each layer around it would have room for it twice.
        let session = Box::pin(session);
        self.tasks.spawn(async move {
            // The future is dropped when cut: its guards write the records.
            let _ = forced.run_until_cancelled(session).await;
        });
    }

    /// How many sessions run.
    pub fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Completes when drain has begun: finish the exchange under way and begin no other.
    pub async fn begun(&self) {
        self.started.cancelled().await;
    }

    /// Whether drain has begun.
    pub fn has_begun(&self) -> bool {
        self.started.is_cancelled()
    }

    /// Begins the drain and waits until all is over.
    pub async fn run(&self, grace: Duration) -> Drained {
        self.started.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_ok() {
            return Drained::Finished;
        }
        let cut = self.tasks.len();
        self.forced.cancel();
        self.tasks.wait().await;
        Drained::Cut(cut)
    }
}
