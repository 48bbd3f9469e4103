//! HTTP/1: two hyper connections in one task.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::exchange::{Exchanges, Sender};
use super::strict::{Gate, Shared};
use super::together::together;
use super::upgrade::Switched;
use super::{BUFFER_MAX, Error, GOODBYE, client_end};
use crate::codec::http1::{FIELDS_MAX, HEAD_MAX};
use crate::engine::Context;
use crate::stream::BoxStream;

/// What a refused client may still be sending is read and dropped for so long and so far, so that its system does not
/// drop our answer with a reset.
const LINGER: (Duration, u64) = (Duration::from_secs(1), 256 * 1024);

pub(super) async fn serve(client: BoxStream, upstream: BoxStream, cx: Context) -> Result<(), Error> {
    let shared = Arc::new(Shared::default());
    let handshake = hyper::client::conn::http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(FIELDS_MAX)
        .max_header_size(HEAD_MAX)
        .max_buf_size(BUFFER_MAX)
        .handshake(TokioIo::new(upstream));
    let (sender, up) = handshake.await.map_err(Error::Upstream)?;
    let mut up = Some(Box::pin(up.with_upgrades()));

    let switched: Arc<Mutex<Option<Switched>>> = Arc::default();
    let slot = Arc::clone(&switched);
    let on_switch = Box::new(move |s| *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(s));
    let sender = Sender::Http1(Mutex::new(Some(sender)));
    let exchanges = Arc::new(Exchanges::new(cx.clone(), sender, Some(Arc::clone(&shared)), on_switch));
    let service = Arc::clone(&exchanges);
    let gate = Gate::new(client, Arc::clone(&shared));
    let down = hyper::server::conn::http1::Builder::new()
        .auto_date_header(false)
        .preserve_header_case(true)
        .max_headers(FIELDS_MAX)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(TokioIo::new(gate), service_fn(move |request| Arc::clone(&service).answer(request)))
        .with_upgrades();
    let mut down = Box::pin(down);

    let mut begun = Some(Box::pin(exchanges.may_close()));
    let result = together(|task| {
        if begun.as_mut().is_some_and(|begun| begun.as_mut().poll(task).is_ready()) {
            begun = None;
            down.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(result) = down.as_mut().poll(task) {
            return Poll::Ready(result);
        }
        if let Some(conn) = &mut up
            && let Poll::Ready(result) = conn.as_mut().poll(task)
        {
            // An upstream that closes closes the client's side too, after what is under way.
            if let Err(error) = result {
                tracing::debug!(%error, "the upstream's connection ended");
            }
            up = None;
            down.as_mut().graceful_shutdown();
            task.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;

    exchanges.close();
    if shared.refused()
        && let Some(parts) = std::pin::Pin::into_inner(down).into_parts()
    {
        linger(parts.io.into_inner().into_inner()).await;
    }
    if let Some(up) = up {
        // Whether it says goodbye in time or not, it is over.
        let _ = timeout(GOODBYE, up).await;
    }
    let switched = switched.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(switched) = switched {
        switched.run(cx.again).await;
    }
    result.or_else(client_end)
}

async fn linger(mut client: BoxStream) {
    let (time, octets) = LINGER;
    let mut rest = (&mut client).take(octets);
    let _ = timeout(time, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}
