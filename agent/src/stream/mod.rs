//! Byte streams as the line passes them on: boxed, so that every stage has one shape whatever lies below.

mod ask;
mod socket;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use ask::{Once, ask};
pub use socket::Socket;

/// Anything that bytes flow through both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A stream of any kind. One virtual call a read is lost beside the system call below it.
pub type BoxStream = Box<dyn Stream>;

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
