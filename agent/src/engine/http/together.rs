//! Futures that talk to each other, driven as one task without going through the scheduler between them.
//!
//! hyper's two connections (the client's and the upstream's) pass requests, answers and body chunks over channels. Left
//! to the task's own waker each hand-over would schedule the task again, with a poll of everything. Here each part has a
//! bell: a wake-up that happens while the parts are polled says "once more", and only those that rang are polled.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// What is driven together. The numbers are bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Part {
    /// The client's connection.
    Down = 1,
    /// The upstream's connection.
    Up = 2,
    /// Everything else: timers, the drain, tasks beside.
    Rest = 4,
}

const PARTS: [Part; 3] = [Part::Down, Part::Up, Part::Rest];
const ALL: u8 = 7;
/// Beside the parts' bits while they are polled.
const POLLING: u8 = 8;

/// Rounds before other tasks get their turn.
const ROUNDS: u32 = 16;

struct Bells {
    /// Bits of the parts that rang, and [`POLLING`].
    state: AtomicU8,
    task: AtomicWaker,
}

struct Bell {
    bells: Arc<Bells>,
    part: Part,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Whoever rings first wakes the task; while it polls it looks by itself.
        if self.bells.state.fetch_or(self.part as u8, Ordering::AcqRel) == 0 {
            self.bells.task.wake();
        }
    }
}

/// One round: which parts rang.
pub(super) struct Turn<'a> {
    rang: u8,
    wakers: &'a [Waker; 3],
}

impl Turn<'_> {
    /// The context to poll a part with, if it rang.
    pub(super) fn of(&self, part: Part) -> Option<Context<'_>> {
        let rang = self.rang & part as u8 != 0;
        rang.then(|| Context::from_waker(&self.wakers[PARTS.iter().position(|p| *p == part).unwrap_or(0)]))
    }

    /// Has a part polled in this round too, if its place is still to come, and in the next in any case.
    pub(super) fn ring(&mut self, part: Part) {
        self.rang |= part as u8;
        self.wakers[PARTS.iter().position(|p| *p == part).unwrap_or(0)].wake_by_ref();
    }

    /// The context of [`Part::Rest`], for rounds that poll all that there is.
    pub(super) fn all(&self) -> Context<'_> {
        Context::from_waker(&self.wakers[2])
    }
}

/// Calls `poll` until it is ready, again at once whenever a part of it rang meanwhile. In the first round all do.
pub(super) async fn together<T>(mut poll: impl FnMut(&mut Turn<'_>) -> Poll<T>) -> T {
    let bells = Arc::new(Bells { state: AtomicU8::new(ALL), task: AtomicWaker::new() });
    let wakers = PARTS.map(|part| Waker::from(Arc::new(Bell { bells: Arc::clone(&bells), part })));
    poll_fn(move |cx| {
        bells.task.register(cx.waker());
        for _ in 0..ROUNDS {
            let rang = bells.state.swap(POLLING, Ordering::AcqRel) & ALL;
            if rang != 0
                && let Poll::Ready(done) = poll(&mut Turn { rang, wakers: &wakers })
            {
                return Poll::Ready(done);
            }
            if bells.state.compare_exchange(POLLING, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Poll::Pending;
            }
        }
        // Still busy, and it stays to be seen what rang: the bits stand, so nobody else wakes the task.
        bells.state.fetch_and(ALL, Ordering::AcqRel);
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
        let done = together(|turn| {
            rounds += 1;
            if rounds == 40 {
                return Poll::Ready(rounds);
            }
            assert_eq!(turn.of(Part::Up).is_some(), rounds == 1, "only what rang");
            turn.ring(Part::Down);
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
        together(|turn| {
            let Some(mut cx) = turn.of(Part::Rest) else { return Poll::Pending };
            loop {
                match rx.poll_recv(&mut cx) {
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
