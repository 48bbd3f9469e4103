//! The two sides of a WebSocket whose messages are judged, as streams: read, they give what is allowed.

use std::io;
use std::pin::Pin;
use std::task::{Context as Waking, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::{Came, Judge, Reader, Refused, close};
use crate::codec::websocket::Frames;
use crate::engine::http::masked::Side;
use crate::stream::BoxStream;
use crate::types::action::Speaker;

/// How long a frame to the client that is under way holds the close frame up, and how long the client has to take that.
const GOODBYE: Duration = Duration::from_secs(5);

/// The client's side. When a message of the client's is refused, it gets a close frame that says why; then reading fails with
/// [`Refused`].
pub(in crate::engine::http) struct Client {
    inner: BoxStream,
    reader: Reader,
    /// What was written to the client.
    down: Frames,
    goodbye: Option<Goodbye>,
}

struct Goodbye {
    refused: Refused,
    frame: BytesMut,
    patience: Pin<Box<Sleep>>,
}

impl Client {
    pub(in crate::engine::http) fn new(inner: BoxStream, judge: Judge, masked: Option<Side>) -> Self {
        let reader = Reader::new(judge, masked, Speaker::Client);
        Self { inner, reader, down: Frames::default(), goodbye: None }
    }

    /// Says goodbye to the client between two frames; then, or when that takes too long, it is over.
    fn poll_goodbye(&mut self, cx: &mut Waking<'_>) -> Poll<io::Error> {
        let Some(goodbye) = &mut self.goodbye else { return Poll::Pending };
        let over = Poll::Ready(io::Error::other(goodbye.refused.clone()));
        if goodbye.patience.as_mut().poll(cx).is_ready() || self.down.broken || self.down.closed {
            return over;
        }
        if self.down.under_way() > 0 {
            return Poll::Pending;
        }
        while !goodbye.frame.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &goodbye.frame)) {
                Ok(n) if n > 0 => goodbye.frame.advance(n),
                Ok(_) | Err(_) => return over,
            }
        }
        ready!(Pin::new(&mut self.inner).poll_flush(cx)).map_or_else(Poll::Ready, |()| over)
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Waking<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.goodbye.is_none() {
            match ready!(this.reader.poll(&mut this.inner, cx, buf))? {
                Came::Read => return Poll::Ready(Ok(())),
                Came::Refused(refused) => {
                    let frame = close(refused.status, &refused.denied.reason, None);
                    let patience = Box::pin(tokio::time::sleep(GOODBYE));
                    this.goodbye = Some(Goodbye { refused, frame, patience });
                }
            }
        }
        this.poll_goodbye(cx).map(Err)
    }
}

impl AsyncWrite for Client {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Waking<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut buf = buf;
        if this.goodbye.is_some() {
            // To the end of the frame under way, and no further.
            let left = usize::try_from(this.down.under_way()).unwrap_or(usize::MAX);
            if left == 0 {
                // The other direction says goodbye, and ends it.
                return Poll::Pending;
            }
            buf = &buf[..left.min(buf.len())];
        }
        let n = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
        this.down.count(&buf[..n]);
        if this.goodbye.is_some() {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Waking<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Waking<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The server's side. When a message of the server's is refused, reading fails with [`Refused`]: all that was read before is
/// whole frames.
pub(in crate::engine::http) struct Server {
    inner: BoxStream,
    reader: Reader,
}

impl Server {
    pub(in crate::engine::http) fn new(inner: BoxStream, judge: Judge, masked: Option<Side>) -> Self {
        Self { inner, reader: Reader::new(judge, masked, Speaker::Server) }
    }
}

impl AsyncRead for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Waking<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        Poll::Ready(match ready!(this.reader.poll(&mut this.inner, cx, buf))? {
            Came::Read => Ok(()),
            Came::Refused(refused) => Err(io::Error::other(refused)),
        })
    }
}

impl AsyncWrite for Server {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Waking<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Waking<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Waking<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
