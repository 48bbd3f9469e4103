//! An executor of a session's own: hyper's futures run in the session's task and end with it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream};

/// Where hyper puts its futures: they run in the session's own task.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Tasks {
    pub(super) fn push(&self, future: BoxFuture<'static, ()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(future);
    }

    fn take(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        self.push(Box::pin(future));
    }
}

/// The futures that run.
pub(super) struct Running {
    queue: Tasks,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Running {
    pub(super) fn new(queue: Tasks) -> Self {
        Self { queue, running: FuturesUnordered::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.queue.is_empty()
    }

    /// Polls what was woken, and what was queued meanwhile.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        loop {
            self.running.extend(self.queue.take());
            while let Poll::Ready(Some(())) = Pin::new(&mut self.running).poll_next(cx) {}
            if self.queue.is_empty() {
                return;
            }
        }
    }
}
