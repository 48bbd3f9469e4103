//! Bytes both ways between two streams, with half-close. An idle pair holds no buffer: reads go through one scratch
//! buffer of the thread, and only what the other side would not take at once is kept (one buffer a direction at most).

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use crate::record::Unrecordable;
use crate::stream::BoxStream;

/// Bytes read at once; also the bound of what is kept for a side that does not take it.
const SCRATCH: usize = 64 * 1024;
/// Reads in a row before other tasks get their turn.
const BUDGET: u32 = 32;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Sees the bytes before they are passed on.
pub(super) trait Tap: Send {
    /// Towards the upstream.
    ///
    /// # Errors
    /// [`Unrecordable`]: nothing more is passed.
    fn up(&mut self, bytes: &[u8]) -> Result<(), Unrecordable>;
    /// Towards the client.
    ///
    /// # Errors
    /// [`Unrecordable`]: nothing more is passed.
    fn down(&mut self, bytes: &[u8]) -> Result<(), Unrecordable>;
}

/// Why a pair ended but by both sides' closing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client's side failed.
    #[error("the client's connection broke")]
    Client(#[source] io::Error),
    /// The upstream's side failed.
    #[error("the upstream's connection broke")]
    Upstream(#[source] io::Error),
    /// The record cannot take the bytes.
    #[error("the bytes cannot be recorded")]
    Unrecordable(#[source] Unrecordable),
    /// No byte either way for so long.
    #[error("no byte passed for {} seconds", .0.as_secs())]
    Idle(Duration),
}

/// One direction.
#[derive(Default)]
struct Way {
    /// What was read and not yet written, from `at`.
    rest: Vec<u8>,
    at: usize,
    eof: bool,
    done: bool,
    moved: bool,
}

enum Failed {
    Reading(io::Error),
    Writing(io::Error),
    Recording(Unrecordable),
}

/// Passes bytes until both sides have closed. `idle` bounds the time without any byte.
///
/// # Errors
/// [`Error`]; bytes that were read and not yet written are lost.
pub(super) async fn pump(
    client: &mut BoxStream,
    upstream: &mut BoxStream,
    tap: &mut impl Tap,
    idle: Duration,
) -> Result<(), Error> {
    let (mut up, mut down) = (Way::default(), Way::default());
    let mut last = Instant::now();
    let mut timer = pin!(sleep_until(last + idle));
    poll_fn(|cx| {
        let mut scratch = BUFFER.take();
        if scratch.is_empty() {
            scratch = vec![0; SCRATCH];
        }
        let upwards = up.poll(cx, client, upstream, &mut scratch, |b| tap.up(b));
        let downwards = down.poll(cx, upstream, client, &mut scratch, |b| tap.down(b));
        BUFFER.set(scratch);
        if let Poll::Ready(Err(failed)) = upwards {
            return Poll::Ready(Err(failed.between(Error::Client, Error::Upstream)));
        }
        if let Poll::Ready(Err(failed)) = downwards {
            return Poll::Ready(Err(failed.between(Error::Upstream, Error::Client)));
        }
        if up.done && down.done {
            return Poll::Ready(Ok(()));
        }
        if std::mem::take(&mut up.moved) | std::mem::take(&mut down.moved) {
            last = Instant::now();
        }
        while timer.as_mut().poll(cx).is_ready() {
            if last.elapsed() >= idle {
                return Poll::Ready(Err(Error::Idle(idle)));
            }
            timer.as_mut().reset(last + idle);
        }
        Poll::Pending
    })
    .await
}

impl Failed {
    fn between(self, from: fn(io::Error) -> Error, to: fn(io::Error) -> Error) -> Error {
        match self {
            Self::Reading(e) => from(e),
            Self::Writing(e) => to(e),
            Self::Recording(e) => Error::Unrecordable(e),
        }
    }
}

impl Way {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut BoxStream,
        to: &mut BoxStream,
        scratch: &mut [u8],
        mut tap: impl FnMut(&[u8]) -> Result<(), Unrecordable>,
    ) -> Poll<Result<(), Failed>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..BUDGET {
            ready!(self.poll_rest(cx, to)).map_err(Failed::Writing)?;
            if self.eof {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Failed::Writing)?;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(scratch);
            if Pin::new(&mut *from).poll_read(cx, &mut buf).map_err(Failed::Reading)?.is_pending() {
                // Each time: what the other side seemed to have taken may be stuck, or lost, since.
                ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Failed::Writing)?;
                return Poll::Pending;
            }
            let bytes = buf.filled();
            self.moved = true;
            if bytes.is_empty() {
                self.eof = true;
                continue;
            }
            tap(bytes).map_err(Failed::Recording)?;
            let written = match Pin::new(&mut *to).poll_write(cx, bytes).map_err(Failed::Writing)? {
                Poll::Ready(n) => n,
                Poll::Pending => 0,
            };
            if written < bytes.len() {
                self.rest = bytes[written..].to_vec();
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>, to: &mut BoxStream) -> Poll<io::Result<()>> {
        while self.at < self.rest.len() {
            match ready!(Pin::new(&mut *to).poll_write(cx, &self.rest[self.at..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.at += n,
            }
            self.moved = true;
        }
        if self.at > 0 {
            (self.rest, self.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}
