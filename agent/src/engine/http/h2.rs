//! HTTP/2: hyper's server and client connections and all their streams in one task, so that a session that is cut
//! takes all of them with it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{sleep, timeout};

use super::exchange::{Exchanges, Sender};
use super::together::together;
use super::{Error, GOODBYE, client_end};
use crate::engine::Context;
use crate::stream::BoxStream;

/// Streams at once, both ways; further requests wait at the client.
const STREAMS_MAX: u32 = 128;
/// Octets of a decoded header list (HPACK bombs, CONTINUATION floods).
const HEADERS_MAX: u32 = 64 * 1024;
/// Octets in flight on one stream, and on a connection: what a side that does not read costs at most.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Octets of answers waiting for a slow client, a stream.
const SEND_MAX: usize = 64 * 1024;
/// Streams reset by the peer before they were accepted (Rapid Reset, CVE-2023-44487), and by us for its errors
/// (MadeYouReset, CVE-2025-8671): beyond it the connection is closed.
const PENDING_RESETS: usize = 64;
const LOCAL_RESETS: usize = 256;
/// How long the upstream's SETTINGS are waited for: they say whether extended CONNECT may be offered. Every server
/// sends them first and at once (RFC 9113 §3.4).
const SETTINGS_TIME: Duration = Duration::from_secs(1);

pub(super) async fn serve(client: BoxStream, upstream: BoxStream, cx: Context) -> Result<(), Error> {
    let tasks = Tasks::default();
    let settled = Arc::new(AtomicBool::new(false));
    let upstream = FirstFrame { inner: upstream, seen: Vec::new(), left: 0, settled: Arc::clone(&settled) };
    let handshake = hyper::client::conn::http2::Builder::new(tasks.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS_MAX as usize)
        .max_header_list_size(HEADERS_MAX)
        .max_send_buf_size(SEND_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .handshake(TokioIo::new(upstream));
    let (sender, up) = handshake.await.map_err(Error::Upstream)?;
    let mut up = Some(Box::pin(up));
    let mut running = Running { queue: tasks.clone(), running: FuturesUnordered::new() };

    let mut wait = Box::pin(sleep(SETTINGS_TIME));
    together(|task| {
        running.poll(task);
        if up.as_mut().is_none_or(|up| up.as_mut().poll(task).is_ready()) {
            up = None;
        }
        running.poll(task);
        match up.is_none() || settled.load(Ordering::Relaxed) || wait.as_mut().poll(task).is_ready() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;

    let extended = up.as_ref().is_some_and(|up| up.is_extended_connect_protocol_enabled());
    let (queue, again) = (tasks.clone(), Arc::clone(&cx.again));
    let on_switch = Box::new(move |switched: super::upgrade::Switched| {
        queue.push(Box::pin(switched.run(Arc::clone(&again))));
    });
    let exchanges = Arc::new(Exchanges::new(cx.clone(), Sender::Http2(sender), None, on_switch));
    let mut builder = hyper::server::conn::http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_MAX)
        .max_send_buf_size(SEND_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS);
    if extended {
        builder.enable_connect_protocol();
    }
    let service = service_fn(move |request| Arc::clone(&exchanges).answer(request));
    let mut down = Box::pin(builder.serve_connection(TokioIo::new(client), service));

    let mut begun = Some(Box::pin(cx.drain.begun()));
    let result = together(|task| {
        if begun.as_mut().is_some_and(|begun| begun.as_mut().poll(task).is_ready()) {
            begun = None;
            down.as_mut().graceful_shutdown();
        }
        running.poll(task);
        if let Poll::Ready(result) = down.as_mut().poll(task) {
            return Poll::Ready(result);
        }
        if let Some(conn) = &mut up
            && conn.as_mut().poll(task).is_ready()
        {
            up = None;
            down.as_mut().graceful_shutdown();
            task.waker().wake_by_ref();
        }
        running.poll(task);
        Poll::Pending
    })
    .await;

    // With the client's side the way upstream is let go: the upstream is told goodbye.
    drop(down);
    let rest = together(|task| {
        running.poll(task);
        if up.as_mut().is_some_and(|up| up.as_mut().poll(task).is_ready()) {
            up = None;
        }
        if running.running.is_empty() && running.queue.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    });
    let _ = timeout(GOODBYE, rest).await;
    result.or_else(client_end)
}

/// Where hyper puts its futures: they run in the session's own task.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Tasks {
    fn push(&self, future: BoxFuture<'static, ()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(future);
    }

    fn take(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        self.push(Box::pin(future));
    }
}

struct Running {
    queue: Tasks,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Running {
    /// Polls what was woken, and what was queued meanwhile.
    fn poll(&mut self, cx: &mut TaskContext<'_>) {
        loop {
            self.running.extend(self.queue.take());
            while let Poll::Ready(Some(())) = Pin::new(&mut self.running).poll_next(cx) {}
            if self.queue.is_empty() {
                return;
            }
        }
    }
}

/// The upstream's stream; says when the first frame, its SETTINGS, was read whole.
struct FirstFrame {
    inner: BoxStream,
    seen: Vec<u8>,
    left: usize,
    settled: Arc<AtomicBool>,
}

impl FirstFrame {
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
        cx: &mut TaskContext<'_>,
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
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
