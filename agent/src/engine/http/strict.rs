//! The gate in front of hyper's HTTP/1 server: a stream that lets through only what has one meaning.
//!
//! It reads into hyper's own buffer and looks at it there; bytes are copied only when a head comes in pieces. What it
//! refuses never reaches hyper: in its place hyper reads one request of ours ([`SYNTHETIC`]), so that the answers to
//! earlier, pipelined requests stay in order and the refusal is answered like any request. The gate and the service
//! count requests alike, which is how the service knows ours from the client's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::shared::{Place, Shared};
use crate::codec::http1::{Framer, Progress, Violation};

/// From a head's first octet to its last.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Octets taken in while an upgrade is undecided; then the client waits.
const UNDECIDED_MAX: usize = 16 * 1024;
/// Octets read at once while a head is incomplete.
const PIECE: usize = 4096;
/// What hyper reads in place of what was refused.
const SYNTHETIC: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Reading,
    /// A violation was found; the request in its place is still to be given.
    Replaced,
    /// Nothing is read any more.
    Stopped,
    /// The body under way is cut off.
    Cut(Violation),
}

/// The stream that hyper reads.
pub(super) struct Gate<S> {
    inner: S,
    shared: Arc<Shared>,
    framer: Framer,
    mode: Mode,
    /// Read and not yet given to hyper; the first `cleared` octets of it may be.
    pending: BytesMut,
    cleared: usize,
    timer: Option<Pin<Box<Sleep>>>,
    /// Octets of ours to write before any of hyper's.
    out: BytesMut,
    /// Nothing of hyper's was written since it flushed: it has no answer in its buffer.
    clean: bool,
}

impl<S> Gate<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self {
            inner,
            shared,
            framer: Framer::default(),
            mode: Mode::Reading,
            pending: BytesMut::new(),
            cleared: 0,
            timer: None,
            out: BytesMut::new(),
            clean: true,
        }
    }

    /// The stream below, without what was read of it.
    pub(super) fn into_inner(self) -> S {
        self.inner
    }

    fn settle(&mut self, progress: Progress) -> usize {
        let mut state = self.shared.state();
        state.heads = self.framer.heads();
        if let Some(refused) = progress.refused {
            if refused.begun {
                self.mode = Mode::Cut(refused.violation);
                state.refused = Some((Place::Body, refused.violation));
            } else {
                self.mode = Mode::Replaced;
                state.heads += 1;
                state.refused = Some((Place::Request(state.heads), refused.violation));
            }
            self.timer = None;
        }
        progress.cleared
    }
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// Nothing is held back: hyper's buffer is read into and looked at in place.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<Given>> {
        let start = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if buf.filled().len() == start {
            return Poll::Ready(Ok(Given::End));
        }
        let new = &mut buf.filled_mut()[start..];
        let progress = self.framer.advance(new);
        if progress.refused.is_none() && progress.cleared < new.len() {
            self.pending.extend_from_slice(&new[progress.cleared..]);
        }
        let cleared = self.settle(progress);
        buf.set_filled(start + cleared);
        Poll::Ready(Ok(if cleared > 0 { Given::Bytes } else { Given::Nothing }))
    }

    /// Something is held back: more is read behind it.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Given>> {
        if self.framer.undecided() && self.pending.len() >= UNDECIDED_MAX {
            return Poll::Pending;
        }
        self.pending.reserve(PIECE);
        let n = ready!(tokio_util::io::poll_read_buf(Pin::new(&mut self.inner), cx, &mut self.pending))?;
        if n == 0 {
            return Poll::Ready(Ok(Given::End));
        }
        self.look_again();
        Poll::Ready(Ok(Given::Nothing))
    }

    fn look_again(&mut self) {
        let progress = self.framer.advance(&mut self.pending);
        self.cleared = self.settle(progress);
        if self.cleared > 0 {
            self.timer = None;
        }
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.cleared.min(buf.remaining());
        buf.put_slice(&self.pending[..n]);
        self.pending.advance(n);
        self.cleared -= n;
        if self.pending.is_empty() {
            self.pending = BytesMut::new();
        }
    }

    /// A head that has begun must end in time.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pending.is_empty() || !self.framer.between_messages() {
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(HEAD_TIME)));
        ready!(timer.as_mut().poll(cx));
        let violation = Violation::TooSlow;
        let refused = Some(crate::codec::http1::Refused { violation, begun: false });
        self.settle(Progress { cleared: 0, refused });
        Poll::Ready(())
    }
}

enum Given {
    Bytes,
    Nothing,
    End,
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.shared.waiting.store(false, Ordering::Relaxed);
        loop {
            if this.cleared > 0 {
                this.give(buf);
                return Poll::Ready(Ok(()));
            }
            match this.mode {
                Mode::Reading => (),
                Mode::Replaced => {
                    this.mode = Mode::Stopped;
                    this.pending = BytesMut::from(SYNTHETIC);
                    this.cleared = SYNTHETIC.len();
                    continue;
                }
                Mode::Stopped => return Poll::Pending,
                Mode::Cut(violation) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)));
                }
            }
            let decision = this.shared.state().decision.take();
            if let Some(raw) = decision {
                this.framer.decide(raw);
                this.look_again();
                continue;
            }
            let given =
                if this.pending.is_empty() { this.poll_direct(cx, buf) } else { this.poll_pending(cx) };
            match given {
                Poll::Ready(given) => match given? {
                    Given::Nothing => (),
                    Given::Bytes | Given::End => return Poll::Ready(Ok(())),
                },
                Poll::Pending if this.poll_timer(cx).is_ready() => (),
                Poll::Pending => {
                    let mut state = this.shared.state();
                    if state.decision.is_none() {
                        let waiting = this.pending.is_empty() && this.framer.between_messages();
                        this.shared.waiting.store(waiting, Ordering::Relaxed);
                        state.reader = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Gate<S> {
    /// Writes what is ours. Informational answers go out only between hyper's flushes: then no answer of an earlier
    /// request is half written.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.clean {
            let mut state = self.shared.state();
            if !state.informational.is_empty() {
                self.out.extend_from_slice(&std::mem::take(&mut state.informational));
            }
        }
        while !self.out.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.out))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.out.advance(n),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.shared.flushed.store(false, Ordering::Relaxed);
        ready!(this.poll_out(cx))?;
        this.clean = false;
        Pin::new(&mut this.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.shared.flushed.store(false, Ordering::Relaxed);
        ready!(this.poll_out(cx))?;
        this.clean = false;
        Pin::new(&mut this.inner).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.clean = true;
        this.shared.flushed.store(false, Ordering::Relaxed);
        ready!(this.poll_out(cx))?;
        ready!(Pin::new(&mut this.inner).poll_flush(cx))?;
        this.shared.flushed.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
