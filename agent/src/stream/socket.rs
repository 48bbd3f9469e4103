//! A TCP socket of the line.
//!
//! Small writes wait for the end of the worker's turn (see [`turn`]), as if the kernel had taken them: a failure shows
//! at the next use, as it does there. At most [`HELD`] bytes wait; what is larger goes out at once, after what waits.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::turn;

/// Bytes of a socket that wait at most.
const HELD: usize = 16 * 1024;

/// A socket that somebody else may look at while its bytes flow: see `broken` in the gate's session.
pub struct Socket(Arc<Out>);

/// The writing half, which the end of a turn finds.
struct Out {
    io: Arc<TcpStream>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// It is on the list of the turn.
    listed: bool,
    /// The kernel did not take all of it: its writer must come back, and is woken for that.
    stuck: bool,
    failed: Option<io::Error>,
    writer: Option<Waker>,
}

impl Socket {
    /// `io`, to be read and written here only.
    pub fn new(io: Arc<TcpStream>) -> Self {
        Self(Arc::new(Out { io, waiting: Mutex::default() }))
    }

    /// Ready when nothing waits that the kernel has refused once.
    fn poll_unstuck(&self, waiting: &mut Waiting, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = waiting.failed.take() {
            return Poll::Ready(Err(error));
        }
        if waiting.stuck { self.poll_out(waiting, cx) } else { Poll::Ready(Ok(())) }
    }

    /// Ready when nothing waits any more.
    fn poll_out(&self, waiting: &mut Waiting, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.0.write(waiting) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.0.io.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Out {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every holder leaves the value whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits; the error is "would block" when some of it stays.
    fn write(&self, waiting: &mut Waiting) -> io::Result<()> {
        let mut written = 0;
        let result = loop {
            if written == waiting.bytes.len() {
                break Ok(());
            }
            match self.io.try_write(&waiting.bytes[written..]) {
                Ok(n) => written += n,
                Err(error) => break Err(error),
            }
        };
        waiting.stuck = result.is_err();
        if result.is_ok() {
            // An idle connection holds no buffer.
            waiting.bytes = Vec::new();
        } else {
            waiting.bytes.drain(..written);
        }
        result
    }
}

impl turn::Due for Out {
    fn end(&self) {
        let mut waiting = self.waiting();
        waiting.listed = false;
        let Err(error) = self.write(&mut waiting) else { return };
        if error.kind() != io::ErrorKind::WouldBlock {
            waiting.bytes = Vec::new();
            waiting.failed = Some(error);
        }
        let writer = waiting.writer.take();
        drop(waiting);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Its owner has said all: what the kernel does not take now, it would not have taken before either.
        let _ = self.0.write(&mut self.0.waiting());
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        turn::look();
        let io = &self.0.io;
        loop {
            ready!(io.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            let mut got = None;
            // Less than there was room for: the socket is empty. Said as "would block", it is believed without asking the
            // kernel once more; what arrives meanwhile is a new event (epoll is edge-triggered here).
            let read = io.try_io(Interest::READABLE, || {
                let n = rustix::net::recv(&**io, &mut *room, RecvFlags::empty())?.0;
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

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.0.waiting();
        self.poll_unstuck(&mut waiting, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.0.waiting();
        ready!(self.poll_unstuck(&mut waiting, cx))?;
        ready!(self.poll_out(&mut waiting, cx))?;
        Poll::Ready(rustix::net::shutdown(&*self.0.io, rustix::net::Shutdown::Write).map_err(Into::into))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        turn::look();
        let mut waiting = self.0.waiting();
        ready!(self.poll_unstuck(&mut waiting, cx))?;
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if waiting.bytes.len() + length <= HELD && (waiting.listed || turn::wait(&self.0)) {
            waiting.listed = true;
            bufs.iter().for_each(|buf| waiting.bytes.extend_from_slice(buf));
            if !waiting.writer.as_ref().is_some_and(|writer| writer.will_wake(cx.waker())) {
                waiting.writer = Some(cx.waker().clone());
            }
            return Poll::Ready(Ok(length));
        }
        ready!(self.poll_out(&mut waiting, cx))?;
        loop {
            ready!(self.0.io.poll_write_ready(cx))?;
            match self.0.io.try_write_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
