//! Two futures that talk to each other, driven as one task without going through the scheduler between them.
//!
//! hyper's two connections (the client's and the upstream's) pass requests, answers and body chunks over channels. Left
//! to the task's own waker each hand-over would schedule the task again, with a poll of everything; here a wake-up
//! that happens while the pair is being polled only says "once more".

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

const IDLE: u8 = 0;
const POLLING: u8 = 1;
const AGAIN: u8 = 2;

/// Rounds before other tasks get their turn.
const ROUNDS: u32 = 16;

struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(AGAIN, Ordering::AcqRel) == IDLE {
            self.task.wake();
        }
    }
}

/// Calls `poll` until it is ready, again at once whenever something in it was woken meanwhile.
pub(super) async fn together<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let bell = Arc::new(Bell { state: AtomicU8::new(IDLE), task: AtomicWaker::new() });
    let waker = Waker::from(Arc::clone(&bell));
    poll_fn(move |cx| {
        bell.task.register(cx.waker());
        let mut inner = Context::from_waker(&waker);
        for _ in 0..ROUNDS {
            bell.state.store(POLLING, Ordering::Release);
            if let Poll::Ready(done) = poll(&mut inner) {
                return Poll::Ready(done);
            }
            if bell.state.compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Poll::Pending;
            }
        }
        // Still busy: IDLE first, so that a wake-up from now on reaches the task.
        bell.state.store(IDLE, Ordering::Release);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own task, joined by it")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_up_while_polling_polls_again_at_once() {
        let mut rounds = 0;
        let done = together(|cx| {
            rounds += 1;
            if rounds == 40 {
                return Poll::Ready(rounds);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!(done.await, 40);
    }

    #[tokio::test]
    async fn wake_ups_from_elsewhere_arrive() {
        let (tx, mut rx) = tokio::sync::mpsc::channel::<u32>(1);
        let sender = tokio::spawn(async move {
            for n in 0..1000 {
                tx.send(n).await.expect("receiver");
            }
        });
        let mut got = 0;
        together(|cx| {
            loop {
                match rx.poll_recv(cx) {
                    Poll::Ready(Some(_)) => got += 1,
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        sender.await.expect("sender");
        assert_eq!(got, 1000);
    }
}
