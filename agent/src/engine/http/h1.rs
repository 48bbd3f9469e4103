//! HTTP/1: two hyper connections in one task, and none while nothing happens.

use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};

use super::body::{Down, Up};
use super::exchange::{Exchanges, Sender, Unanswered};
use super::shared::Shared;
use super::strict::Gate;
use super::together::{Part, together};
use super::upgrade::Switched;
use super::{BUFFER_MAX, Error, GOODBYE, client_end, parked};
use crate::codec::http1::{FIELDS_MAX, HEAD_MAX};
use crate::engine::Context;
use crate::policy::InForce;
use crate::stream::{BoxStream, Replay};

/// What a refused client may still be sending is read and dropped for so long and so far, so that its system does not
/// drop our answer with a reset.
const LINGER: (Duration, u64) = (Duration::from_secs(1), 256 * 1024);

/// One side, which takes back what was read of it too early.
pub(super) type Side = Replay<BoxStream>;
type ToUpstream = hyper::client::conn::http1::Connection<TokioIo<Side>, Up>;
type ToClient<S> = hyper::server::conn::http1::UpgradeableConnection<TokioIo<Gate<Side>>, S>;
/// What a connection goes on as, when its protocol was changed.
type Slot = Arc<Mutex<Option<Switched>>>;

/// A connection without any exchange for one to two of these is taken out of hyper until there is something to read:
/// hyper holds four buffers of 8 KiB for it, whether they are used or not.
const IDLE: Duration = Duration::from_secs(1);

pub(super) async fn serve(client: BoxStream, upstream: BoxStream, cx: Context) -> Result<(), Error> {
    let (mut client, mut upstream) = (Side::new(Bytes::new(), client), Side::new(Bytes::new(), upstream));
    let mut served = 0;
    while let Some(idle) = exchanges(client, upstream, &cx, &mut served).await? {
        match parked::wait(idle.0, idle.1, &cx.drain).await {
            Some(pair) => (client, upstream) = pair,
            None => break,
        }
    }
    Ok(())
}

/// Serves exchanges until the connection ends, or is idle: then both streams come back.
async fn exchanges(
    client: Side,
    upstream: Side,
    cx: &Context,
    served: &mut u64,
) -> Result<Option<(Side, Side)>, Error> {
    let handshake = hyper::client::conn::http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(FIELDS_MAX)
        .max_header_size(HEAD_MAX)
        .max_buf_size(BUFFER_MAX)
        .handshake(TokioIo::new(upstream));
    let (sender, up) = handshake.await.map_err(Error::Upstream)?;
    let mut up = Box::pin(up);

    let shared = Arc::new(Shared::default());
    let switched = Slot::default();
    let slot = Arc::clone(&switched);
    let on_switch = Box::new(move |s| *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(s));
    let sender = Sender::Http1(Mutex::new(Some(sender)));
    let exchanges =
        Arc::new(Exchanges::new(cx.clone(), sender, Some(Arc::clone(&shared)), on_switch, *served));
    let service = Arc::clone(&exchanges);
    let service = service_fn(move |request| Arc::clone(&service).answer(request));
    let gate = TokioIo::new(Gate::new(client, Arc::clone(&shared)));
    let mut down = Box::pin(server().serve_connection(gate, service).with_upgrades());
    let over = drive(&mut down, &mut up, &switched, &exchanges, &shared).await;

    exchanges.close();
    *served = exchanges.served();
    let down = Pin::into_inner(down).into_parts();
    let switched = switched.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (over, switched, down) {
        (Over::Idle, _, Some(down)) => {
            let mut client = down.io.into_inner().into_inner();
            client.unread(down.read_buf);
            Ok(Some((client, take_back(up))))
        }
        (_, Some(switched), _) => {
            switched.run(Some(Box::new(take_back(up))), Arc::clone(&cx.again)).await;
            Ok(None)
        }
        (Over::Ended { result, upstream_too }, None, down) => {
            if let Some(down) = down.filter(|_| shared.refused()) {
                linger(down.io.into_inner().into_inner()).await;
            }
            if !upstream_too {
                // Whether it says goodbye in time or not, it is over.
                let _ = timeout(GOODBYE, up).await;
            }
            result.or_else(client_end).map(|()| None)
        }
        (Over::Idle, None, None) => Ok(None),
    }
}

fn server() -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .auto_date_header(false)
        .preserve_header_case(true)
        .max_headers(FIELDS_MAX)
        .max_buf_size(BUFFER_MAX);
    builder
}

fn take_back(up: Pin<Box<ToUpstream>>) -> Side {
    let parts = Pin::into_inner(up).into_parts();
    let mut upstream = parts.io.into_inner();
    upstream.unread(parts.read_buf);
    upstream
}

/// How [`drive`] ends.
enum Over {
    Ended { result: hyper::Result<()>, upstream_too: bool },
    Idle,
}

/// Drives both connections until the client's is over, or both are idle.
async fn drive<S>(
    down: &mut Pin<Box<ToClient<S>>>,
    up: &mut Pin<Box<ToUpstream>>,
    switched: &Slot,
    exchanges: &Exchanges,
    shared: &Shared,
) -> Over
where
    S: Service<Request<Incoming>, Response = Response<Down>, Error = Unanswered>,
{
    let mut begun = Some(Box::pin(exchanges.may_close()));
    let mut rules = Rules::of(exchanges.cx.policy.clone());
    let mut tick = Box::pin(sleep(IDLE));
    let (mut at_tick, mut upstream_too, mut closing) = (exchanges.served(), false, false);
    together(|turn| {
        if begun.as_mut().is_some_and(|begun| ready(turn.of(Part::Rest), begun.as_mut())) {
            begun = None;
            down.as_mut().graceful_shutdown();
            turn.ring(Part::Down);
        }
        if rules.have_changed(turn.of(Part::Rest)) {
            // The exchanges under way look at them when they are polled.
            turn.ring(Part::Down);
        }
        if let Some(mut task) = turn.of(Part::Down)
            && let Poll::Ready(result) = down.as_mut().poll(&mut task)
        {
            return Poll::Ready(Over::Ended { result, upstream_too });
        }
        if !upstream_too {
            if let Some(mut task) = turn.of(Part::Up)
                && let Poll::Ready(result) = up.as_mut().poll(&mut task)
            {
                result.unwrap_or_else(|error| tracing::debug!(%error, "the upstream's connection ended"));
                upstream_too = true;
                exchanges.gone.store(true, Ordering::Release);
                turn.ring(Part::Down);
                turn.ring(Part::Rest);
                return Poll::Pending;
            }
        } else if !closing {
            // An upstream that closes closes the client's side too, after what is under way; a round later, so that
            // an answer that came with the end is on its way as it was said. Not one that changed its protocol.
            closing = true;
            if switched.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                down.as_mut().graceful_shutdown();
                turn.ring(Part::Down);
            }
        }
        while ready(turn.of(Part::Rest), tick.as_mut()) {
            let still = std::mem::replace(&mut at_tick, exchanges.served()) == at_tick && at_tick > 0;
            if still && begun.is_some() && !upstream_too && exchanges.idle() && shared.quiet() {
                return Poll::Ready(Over::Idle);
            }
            tick.as_mut().reset(Instant::now() + IDLE);
        }
        Poll::Pending
    })
    .await
}

/// Watches for other rules.
struct Rules(BoxFuture<'static, InForce>);

impl Rules {
    fn of(mut rules: InForce) -> Self {
        Self(Box::pin(async move {
            if rules.changed().await.is_err() {
                // Without a sender the agent is ending, and the drain has the say.
                pending::<()>().await;
            }
            rules
        }))
    }

    /// Whether there are others than when it was last asked; else its part rings when there are.
    fn have_changed(&mut self, task: Option<TaskContext<'_>>) -> bool {
        let Some(mut task) = task else { return false };
        let mut changed = false;
        while let Poll::Ready(seen) = self.0.as_mut().poll(&mut task) {
            (*self, changed) = (Self::of(seen), true);
        }
        changed
    }
}

/// Polls what comes to `()`, if its part rang.
fn ready(task: Option<TaskContext<'_>>, future: Pin<&mut impl Future<Output = ()>>) -> bool {
    task.is_some_and(|mut task| future.poll(&mut task).is_ready())
}

async fn linger(mut client: Side) {
    let (time, octets) = LINGER;
    let mut rest = (&mut client).take(octets);
    let _ = timeout(time, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}
