//! The one place from which requests go upstream, with the credential that they are to bear.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http::header::CONNECTION;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};

use super::credential::Bearing;
use super::{Asked, Exchanges, Failed, Sender};
use crate::credential::sigv4::Chunks;
use crate::engine::http::body::{Leaving, Length, Up};
use crate::engine::http::came::Came;
use crate::engine::http::clean;
use crate::engine::http::source::Source;
use crate::engine::http::upstream_answer;
use crate::limit::Spent;
use crate::policy::Permit;
use crate::record::Exchange;

/// A refusal of the upstream's that is put aside: it is read to its end, so that the connection can be used again. One that
/// is longer is the client's.
const ASIDE: usize = 64 * 1024;
/// So long that may take.
const ASIDE_WITHIN: Duration = Duration::from_secs(2);

impl Exchanges {
    /// Sends an exchange's request; it costs the permit. Where the upstream refuses the credential that was put in (401),
    /// that is fetched anew once, and the request sent once more if all of it is there and the value is another. Where that
    /// cannot be done, or comes to nothing, the upstream's refusal is the answer.
    pub(super) async fn deliver(
        &self,
        permit: Permit,
        bearing: Option<Bearing>,
        asked: &Asked,
        request: Request<Source>,
        (exchange, spent): (Exchange, Option<Arc<Spent>>),
    ) -> Result<Response<Came<Incoming>>, Failed> {
        let _spent = permit;
        let Some(bearing) = bearing else {
            let request = self.leaving(request, (Some(exchange), spent), None, asked.length);
            return self.send(request).await.map(|response| response.map(Came::new));
        };
        // Beside: few requests bear one, and all would be as large.
        Box::pin(self.deliver_bearing(bearing, asked, request, (exchange, spent))).await
    }

    async fn deliver_bearing(
        &self,
        bearing: Bearing,
        asked: &Asked,
        mut request: Request<Source>,
        (exchange, spent): (Exchange, Option<Arc<Spent>>),
    ) -> Result<Response<Came<Incoming>>, Failed> {
        let again = asked.switch.is_none().then(|| copy(&mut request)).flatten();
        let signing = self.put_in(&bearing, asked, &mut request)?;
        let request = self.leaving(request, (Some(exchange), spent.clone()), signing, asked.length);
        let mut response = self.send(request).await?.map(Came::new);
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(bearing) = self.renewed(bearing).await else { return Ok(response) };
        let Some(mut request) = again.filter(|_| stays(&response)) else { return Ok(response) };
        if upstream_answer::check(&mut response, false).is_err() {
            return Ok(response); // refused where answers are
        }
        let signing = self.put_in(&bearing, asked, &mut request)?;
        let ended = response.body_mut().read(ASIDE, ASIDE_WITHIN).await;
        // HTTP/2 has another stream for it.
        if !ended && response.version() != Version::HTTP_2 {
            return Ok(response);
        }
        tracing::info!(
            "credential {}: the upstream refused it; sent once more with a new value",
            bearing.name()
        );
        let sent = self.send(self.leaving(request, (None, spent), signing, asked.length)).await;
        sent.map_or_else(
            |_| {
                tracing::info!("credential {}: nothing came of that", bearing.name());
                Ok(response)
            },
            |again| Ok(again.map(Came::new)),
        )
    }

    /// A request as it leaves: its body is recorded, counted and signed on the way.
    fn leaving(
        &self,
        request: Request<Source>,
        (exchange, spent): (Option<Exchange>, Option<Arc<Spent>>),
        signing: Option<Box<Chunks>>,
        length: Length,
    ) -> Request<Up> {
        let _open = Arc::clone(&self.open);
        request.map(|inner| Up(Box::new(Leaving { inner, exchange, spent, signing, length, _open })))
    }

    async fn send(&self, request: Request<Up>) -> Result<Response<Incoming>, Failed> {
        match &self.sender {
            Sender::Http1(slot) => self.send_http1(slot, request).await,
            Sender::Http2(sender) => send_http2(sender.clone(), request).await,
        }
    }

    async fn send_http1(
        &self,
        slot: &Mutex<Option<http1::SendRequest<Up>>>,
        mut request: Request<Up>,
    ) -> Result<Response<Incoming>, Failed> {
        if request.version() == Version::HTTP_11
            && let Some(gate) = self.gate.clone()
        {
            let veil = Arc::clone(self.cx.session.veil());
            hyper::ext::on_informational(&mut request, move |r| {
                let headers = clean::hints(veil.needles().as_deref(), r.headers());
                gate.informational(r.status(), &headers)
            });
        }
        let taken = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut sender = taken.ok_or(Failed::Closed)?;
        self.unless_gone(sender.ready()).await?;
        let response = sender.send_request(request);
        slot.lock().unwrap_or_else(PoisonError::into_inner).replace(sender);
        self.unless_gone(response).await
    }

    /// What the upstream's connection says; one that ended in due form answers nobody who waits for it. Whoever polls
    /// that connection polls its exchanges when it is gone.
    async fn unless_gone<T>(&self, said: impl Future<Output = hyper::Result<T>>) -> Result<T, Failed> {
        let mut said = pin!(said);
        poll_fn(|cx| match said.as_mut().poll(cx) {
            Poll::Ready(said) => Poll::Ready(said.map_err(Failed::Upstream)),
            Poll::Pending if self.gone.load(Ordering::Acquire) => Poll::Ready(Err(Failed::Closed)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

async fn send_http2(
    mut sender: http2::SendRequest<Up>,
    request: Request<Up>,
) -> Result<Response<Incoming>, Failed> {
    sender.ready().await.map_err(|_| Failed::Closed)?;
    match sender.try_send_request(request).await {
        Ok(response) => Ok(response),
        Err(error) if error.message().is_some() => Err(Failed::Closed),
        Err(error) => Err(Failed::Upstream(error.into_error())),
    }
}

/// The request once more, where its body can be sent once more.
fn copy(request: &mut Request<Source>) -> Option<Request<Source>> {
    let body = request.body_mut().replay()?;
    let mut copy = Request::new(body);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    *copy.version_mut() = request.version();
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    Some(copy)
}

/// Whether the connection can be used after this answer, as far as it says.
fn stays<B>(response: &Response<B>) -> bool {
    let closes = |value: &http::HeaderValue| {
        value.as_bytes().split(|b| *b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
    };
    match response.version() {
        Version::HTTP_2 => true,
        Version::HTTP_11 => !response.headers().get_all(CONNECTION).iter().any(closes),
        _ => false,
    }
}
