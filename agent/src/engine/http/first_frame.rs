//! A stream that says when its first HTTP/2 frame was read whole.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::BoxStream;

/// The upstream's stream; says when the first frame, its SETTINGS, was read whole.
pub(super) struct FirstFrame {
    inner: BoxStream,
    seen: Vec<u8>,
    left: usize,
    settled: Arc<AtomicBool>,
}

impl FirstFrame {
    /// `settled` is set when the first frame was read: from a server that is its SETTINGS (RFC 9113 §3.4).
    pub(super) fn new(inner: BoxStream, settled: Arc<AtomicBool>) -> Self {
        Self { inner, seen: Vec::new(), left: 0, settled }
    }

    fn look(&mut self, mut bytes: &[u8]) {
        while self.seen.len() < 9 {
            let Some((first, rest)) = bytes.split_first() else { return };
            self.seen.push(*first);
            bytes = rest;
            if let [a, b, c, .., _] = self.seen[..]
                && self.seen.len() == 9
            {
                self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            }
        }
        self.left = self.left.saturating_sub(bytes.len());
        if self.left == 0 {
            self.settled.store(true, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for FirstFrame {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = &mut *self;
        let start = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if !this.settled.load(Ordering::Relaxed) && buf.filled().len() > start {
            this.look(&buf.filled()[start..]);
        }
        read
    }
}

impl AsyncWrite for FirstFrame {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
