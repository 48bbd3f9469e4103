//! HTTP/2: hyper's server and client connections and all their streams in one task, so that a session that is cut
//! takes all of them with it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{sleep, timeout};

use super::body::Up;
use super::exchange::{Exchanges, Sender};
use super::frames::Frames;
use super::tasks::{Running, Tasks};
use super::together::{Part, together};
use super::upgrade::Switched;
use super::{Error, GOODBYE, client_end};
use crate::engine::Context;
use crate::stream::BoxStream;

/// Streams at once, both ways; further requests wait at the client.
const STREAMS_MAX: u32 = 128;
/// Octets of a decoded header list (HPACK bombs, CONTINUATION floods).
const HEADERS_MAX: u32 = 64 * 1024;
/// Octets in flight on one stream, and on a connection: what a side that does not read costs at most …
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// … while there are few sessions; all of them together are to stay about here, and a new connection gets its share, but
/// never less than the protocol's own default (RFC 9113 §6.9.2).
const ALL_WINDOWS: usize = 1024 * 1024 * 1024;
const SMALLEST_WINDOW: u32 = 65_535;
/// Octets of answers waiting for a slow client, a stream.
const SEND_MAX: usize = 64 * 1024;
/// Streams reset by the peer before they were accepted (Rapid Reset, CVE-2023-44487), and by us for its errors
/// (MadeYouReset, CVE-2025-8671): beyond it the connection is closed.
const PENDING_RESETS: usize = 64;
const LOCAL_RESETS: usize = 256;
/// How long the upstream's SETTINGS are waited for: they say whether extended CONNECT may be offered. Every server
/// sends them first and at once (RFC 9113 §3.4).
const SETTINGS_TIME: Duration = Duration::from_secs(1);

type ToUpstream = hyper::client::conn::http2::Connection<TokioIo<Frames>, Up, Tasks>;

/// What a connection may have in flight, each way.
#[derive(Clone, Copy)]
struct Windows {
    stream: u32,
    connection: u32,
}

impl Windows {
    /// The share of one of so many sessions, each of which has two sides.
    fn of(sessions: usize) -> Self {
        let share = u32::try_from(ALL_WINDOWS / (2 * sessions.max(1))).unwrap_or(u32::MAX);
        let connection = share.clamp(SMALLEST_WINDOW, CONNECTION_WINDOW);
        Self { stream: connection.min(STREAM_WINDOW), connection }
    }
}

pub(super) async fn serve(client: BoxStream, upstream: BoxStream, cx: Context) -> Result<(), Error> {
    let tasks = Tasks::default();
    let settled = Arc::new(AtomicBool::new(false));
    let windows = Windows::of(cx.drain.running());
    let handshake = hyper::client::conn::http2::Builder::new(tasks.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .initial_max_send_streams(STREAMS_MAX as usize)
        .max_header_list_size(HEADERS_MAX)
        .max_send_buf_size(SEND_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .handshake(TokioIo::new(Frames::new(upstream, Arc::clone(&settled))));
    let (sender, up) = handshake.await.map_err(Error::Upstream)?;
    let mut up = Some(Box::pin(up));
    let mut running = Running::new(tasks.clone());
    settle(&mut up, &mut running, &settled).await;

    let (queue, again) = (tasks.clone(), Arc::clone(&cx.again));
    let on_switch =
        Box::new(move |switched: Switched| queue.push(Box::pin(switched.run(None, Arc::clone(&again)))));
    let exchanges = Arc::new(Exchanges::new(cx.clone(), Sender::Http2(sender), None, on_switch, 0));
    // Boxed: hyper moves the future with what it keeps of a stream, several times.
    let service = service_fn(move |request| Box::pin(Arc::clone(&exchanges).answer(request)));
    let extended = up.as_ref().is_some_and(|up| up.is_extended_connect_protocol_enabled());
    let mut down = Box::pin(server(tasks, windows, extended).serve_connection(TokioIo::new(client), service));

    let mut begun = Some(Box::pin(cx.drain.begun()));
    let result = together(|turn| {
        if let Some(mut task) = turn.of(Part::Rest)
            && begun.as_mut().is_some_and(|begun| begun.as_mut().poll(&mut task).is_ready())
        {
            begun = None;
            down.as_mut().graceful_shutdown();
            turn.ring(Part::Down);
        }
        running.poll(&mut turn.all());
        if let Some(mut task) = turn.of(Part::Down)
            && let Poll::Ready(result) = down.as_mut().poll(&mut task)
        {
            return Poll::Ready(result);
        }
        if turn.of(Part::Up).is_some_and(|mut task| is_over(&mut up, &mut task)) && up.take().is_some() {
            down.as_mut().graceful_shutdown();
            turn.ring(Part::Down);
        }
        running.poll(&mut turn.all());
        Poll::Pending
    })
    .await;

    // With the client's side the way upstream is let go: the upstream is told goodbye.
    drop(down);
    let _ = timeout(GOODBYE, finish(up, running)).await;
    result.or_else(client_end)
}

/// Drives what is left to its end.
async fn finish(mut up: Option<Pin<Box<ToUpstream>>>, mut running: Running) {
    together(|turn| {
        let task = &mut turn.all();
        running.poll(task);
        if is_over(&mut up, task) {
            up = None;
        }
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Waits for the upstream's SETTINGS: they say whether extended CONNECT may be offered.
async fn settle(up: &mut Option<Pin<Box<ToUpstream>>>, running: &mut Running, settled: &AtomicBool) {
    let mut wait = Box::pin(sleep(SETTINGS_TIME));
    together(|turn| {
        let task = &mut turn.all();
        running.poll(task);
        if is_over(up, task) {
            *up = None;
        }
        running.poll(task);
        match up.is_none() || settled.load(Ordering::Relaxed) || wait.as_mut().poll(task).is_ready() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

fn is_over(up: &mut Option<Pin<Box<ToUpstream>>>, task: &mut TaskContext<'_>) -> bool {
    up.as_mut().is_some_and(|up| up.as_mut().poll(task).is_ready())
}

fn server(tasks: Tasks, windows: Windows, extended: bool) -> hyper::server::conn::http2::Builder<Tasks> {
    let mut builder = hyper::server::conn::http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_MAX)
        .max_send_buf_size(SEND_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS);
    if extended {
        builder.enable_connect_protocol();
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_shrink_with_the_number_of_sessions() {
        let few = Windows::of(1);
        assert_eq!((few.stream, few.connection), (STREAM_WINDOW, CONNECTION_WINDOW));
        let many = Windows::of(2_048);
        assert_eq!((many.stream, many.connection), (262_144, 262_144));
        let full = Windows::of(16_384);
        assert_eq!((full.stream, full.connection), (SMALLEST_WINDOW, SMALLEST_WINDOW));
        assert_eq!(Windows::of(0).connection, CONNECTION_WINDOW);
    }
}
