//! An idle HTTP/1 connection: two streams and no buffer, until the client speaks or somebody leaves.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::GOODBYE;
use super::h1::Side;
use crate::drain::Drain;

/// Octets read at once, on the stack.
const PIECE: usize = 1024;

enum Woken {
    /// The client speaks.
    Request(Bytes),
    /// The client left.
    Client,
    /// The upstream left, or spoke out of turn: to the client it is the same.
    Upstream,
    /// The agent is ending.
    Drain,
}

/// Waits for the client's next request; `None` when the connection is over, and both sides were told.
pub(super) async fn wait(mut client: Side, mut upstream: Side, drain: &Drain) -> Option<(Side, Side)> {
    let mut begun = Box::pin(drain.begun());
    let woken = poll_fn(|cx| {
        match poll_piece(&mut client, cx) {
            Poll::Ready(Ok(bytes)) if !bytes.is_empty() => return Poll::Ready(Woken::Request(bytes)),
            Poll::Ready(_) => return Poll::Ready(Woken::Client),
            Poll::Pending => (),
        }
        if poll_piece(&mut upstream, cx).is_ready() {
            return Poll::Ready(Woken::Upstream);
        }
        begun.as_mut().poll(cx).map(|()| Woken::Drain)
    })
    .await;
    // A goodbye that cannot be said is no error.
    let _ = match woken {
        Woken::Request(bytes) => {
            client.unread(bytes);
            return Some((client, upstream));
        }
        Woken::Client => timeout(GOODBYE, upstream.shutdown()).await,
        Woken::Upstream => timeout(GOODBYE, client.shutdown()).await,
        Woken::Drain => {
            timeout(GOODBYE, async { client.shutdown().await.and(upstream.shutdown().await) }).await
        }
    };
    None
}

fn poll_piece(stream: &mut Side, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    let mut bytes = [0; PIECE];
    let mut buf = ReadBuf::new(&mut bytes);
    Pin::new(stream).poll_read(cx, &mut buf).map_ok(|()| Bytes::copy_from_slice(buf.filled()))
}
