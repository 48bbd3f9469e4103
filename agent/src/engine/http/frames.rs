//! The upstream's HTTP/2 frames, looked at as they are read: when the first was read whole, and what no library bounds.
//!
//! h2 keeps every informational answer (RFC 9113 §8.1) until somebody asks for it, and takes in whatever is there in one
//! go: an upstream that sends ten octets after another of these fills the memory. So they are counted for each stream, and
//! reading pauses now and then so that what was read is dealt with.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::BoxStream;

/// Octets of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// Field sections of one answer that do not end it: informational ones, and the answer's own.
const SECTIONS: u8 = 64;
/// Streams of which that is remembered; the oldest are forgotten first.
const REMEMBERED: usize = 1024;
/// Octets that are read before others get their turn.
const AT_ONCE: usize = 64 * 1024;

/// The upstream's stream.
pub(super) struct Frames {
    inner: BoxStream,
    settled: Arc<AtomicBool>,
    head: [u8; HEAD],
    /// Octets of the head that are there.
    have: usize,
    /// Octets of the frame that are yet to come.
    left: usize,
    /// Field sections so far, of streams that are not over.
    sections: BTreeMap<u32, u8>,
    /// Octets read since the last pause.
    read: usize,
}

impl Frames {
    /// `settled` is set when the first frame was read: from a server that is its SETTINGS (RFC 9113 §3.4).
    pub(super) fn new(inner: BoxStream, settled: Arc<AtomicBool>) -> Self {
        Self { inner, settled, head: [0; HEAD], have: 0, left: 0, sections: BTreeMap::new(), read: 0 }
    }

    fn look(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.have < HEAD {
                let n = bytes.len().min(HEAD - self.have);
                self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
                self.have += n;
                bytes = &bytes[n..];
                if self.have < HEAD {
                    break;
                }
                let [a, b, c, ..] = self.head;
                self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.count()?;
            }
            let n = bytes.len().min(self.left);
            self.left -= n;
            bytes = &bytes[n..];
            if self.left == 0 {
                self.have = 0;
                self.settled.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Counts the frame whose head is there.
    fn count(&mut self) -> io::Result<()> {
        let [_, _, _, kind, flags, stream @ ..] = self.head;
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        match kind {
            HEADERS | 0 if flags & END_STREAM != 0 => drop(self.sections.remove(&stream)),
            RST_STREAM => drop(self.sections.remove(&stream)),
            HEADERS => {
                let sections = self.sections.entry(stream).or_default();
                *sections += 1;
                if *sections > SECTIONS {
                    return Err(io::Error::other("the upstream sends informational answers without end"));
                }
                if self.sections.len() > REMEMBERED {
                    self.sections.pop_first();
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl AsyncRead for Frames {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read >= AT_ONCE {
            this.read = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let start = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let bytes = &buf.filled()[start..];
                this.read += bytes.len();
                let seen = this.look(bytes);
                if seen.is_err() {
                    buf.set_filled(start);
                }
                Poll::Ready(seen)
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                this.read = 0;
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Frames {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(length).expect("length").to_be_bytes();
        let mut frame = vec![a, b, c, kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.resize(HEAD + length, 0);
        frame
    }

    async fn read(bytes: Vec<u8>) -> (io::Result<usize>, bool) {
        let (mut far, near) = tokio::io::duplex(1 << 20);
        let settled = Arc::new(AtomicBool::new(false));
        let mut frames = Frames::new(Box::new(near), Arc::clone(&settled));
        far.write_all(&bytes).await.expect("room");
        drop(far);
        let mut got = Vec::new();
        let read = frames.read_to_end(&mut got).await;
        assert!(read.is_err() || got == bytes, "passed on as it came");
        (read, settled.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn the_first_frame_is_seen_when_it_is_whole() {
        let settings = frame(4, 0, 0, 18);
        assert!(!read(settings[..20].to_vec()).await.1);
        assert!(read(settings).await.1);
        assert!(read(frame(4, 0, 0, 0)).await.1, "an empty one");
    }

    #[tokio::test]
    async fn informational_answers_have_an_end() {
        let answers = |n: usize| (0..n).flat_map(|_| frame(HEADERS, 4, 1, 1)).collect::<Vec<u8>>();
        assert!(read(answers(64)).await.0.is_ok());
        assert!(read(answers(65)).await.0.is_err());
        let ended = [answers(64), frame(0, END_STREAM, 1, 3), answers(64)].concat();
        assert!(read(ended).await.0.is_ok(), "counted for each answer");
        let many = (0..5000).flat_map(|n| frame(HEADERS, 4, 2 * n + 1, 1)).collect();
        assert!(read(many).await.0.is_ok(), "of many streams the oldest are forgotten");
    }

    #[tokio::test]
    async fn what_is_read_at_once_is_bounded() {
        let (mut far, near) = tokio::io::duplex(1 << 20);
        let mut frames = Frames::new(Box::new(near), Arc::default());
        far.write_all(&frame(0, 0, 1, 1 << 19)).await.expect("room");
        let mut once = 0;
        std::future::poll_fn(|cx| {
            let mut room = vec![0; 16 * 1024];
            loop {
                let mut buf = ReadBuf::new(&mut room);
                match Pin::new(&mut frames).poll_read(cx, &mut buf) {
                    Poll::Ready(read) => read.expect("reads"),
                    Poll::Pending => return Poll::Ready(()),
                }
                once += buf.filled().len();
            }
        })
        .await;
        assert!((AT_ONCE..AT_ONCE + 16 * 1024).contains(&once), "{once}");
    }
}
