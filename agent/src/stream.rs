//! Byte streams as the line passes them on: boxed, so that every stage has one shape whatever lies below.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Anything that bytes flow through both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A stream of any kind. One virtual call a read is lost beside the system call below it.
pub type BoxStream = Box<dyn Stream>;

/// A TCP socket of the line.
///
/// Somebody else may look at it while its bytes flow: see `broken` in the gate's session. What is written waits until
/// every task that can run now has run: under load the answers of many connections then leave one behind the other, and
/// who waits for them is woken once, not once for each (a wake-up of a sleeping processor costs as much as the write).
/// A connection alone pays one empty look for events.
pub struct Socket {
    io: Arc<TcpStream>,
    later: Arc<Later>,
    waker: Waker,
    /// A write waits for its turn.
    waiting: bool,
}

/// The end of a turn.
#[derive(Default)]
struct Later {
    come: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Later {
    fn wake(self: Arc<Self>) {
        self.come.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Socket {
    /// `io`, to be read and written here only.
    pub fn new(io: Arc<TcpStream>) -> Self {
        let later = Arc::new(Later::default());
        Self { io, waker: Waker::from(Arc::clone(&later)), later, waiting: false }
    }

    /// Ready when a write may go out: once for each write.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.later.task.register(cx.waker());
        if !self.waiting {
            self.waiting = true;
            self.later.come.store(false, Ordering::Relaxed);
            // tokio wakes it when its queue of tasks is empty and it has looked for events.
            let yielded = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&self.waker));
            debug_assert!(yielded.is_pending(), "tokio's yield_now yields once");
        }
        if !self.later.come.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.waiting = false;
        Poll::Ready(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.io.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            let mut got = None;
            // Less than there was room for: the socket is empty. Said as "would block", it is believed without asking the
            // kernel once more; what arrives meanwhile is a new event (epoll is edge-triggered here).
            let read = self.io.try_io(Interest::READABLE, || {
                let n = rustix::net::recv(&*self.io, &mut *room, RecvFlags::empty())?.0;
                got = Some(n);
                if n > 0 && n < room.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (got, read) {
                (Some(n), _) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => {}
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // nothing is held back
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&*self.io, rustix::net::Shutdown::Write).map_err(Into::into))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_turn(cx));
        loop {
            ready!(this.io.poll_write_ready(cx))?;
            match this.io.try_write_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// A stream whose first bytes were read already: it gives them back before it reads on.
pub struct Replay<S> {
    seen: Bytes,
    inner: S,
}

impl<S> Replay<S> {
    /// `seen` was read from `inner` and nobody has consumed it yet.
    pub fn new(seen: Bytes, inner: S) -> Self {
        Self { seen, inner }
    }

    /// Gives `bytes`, which were read last, back to be read again.
    pub fn unread(&mut self, bytes: Bytes) {
        self.seen = if self.seen.is_empty() { bytes } else { [&bytes[..], &self.seen[..]].concat().into() };
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.seen.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let n = self.seen.len().min(buf.remaining());
        buf.put_slice(&self.seen[..n]);
        self.seen.advance(n);
        if self.seen.is_empty() {
            self.seen = Bytes::new(); // let the buffer go
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replay<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
