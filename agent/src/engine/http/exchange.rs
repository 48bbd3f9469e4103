//! One HTTP exchange, the same for HTTP/1 and HTTP/2: names, decide, record, send, record, answer.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{EXPECT, HeaderValue, SEC_WEBSOCKET_EXTENSIONS, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::upgrade::OnUpgrade;
use tokio_util::sync::CancellationToken;

use super::body::{Down, Finish, Length, Open, Up};
use super::came::Came;
use super::clean::{Answered, Cleaner};
use super::fault::{h2_reset, is_io};
use super::masked;
use super::messages::Judge;
use super::meter::Meter;
use super::names::{self, Host};
use super::refusal::{Refusal, Shape};
use super::shared::{Shared, Undecided};
use super::source::Source;
use super::upgrade::{self, Switched};
use super::upstream_answer;
use crate::codec::http1::EXPECT_ALTERED;
use crate::engine::Context;
use crate::identity::Standing;
use crate::limit::Spent;
use crate::policy::Hears;
use crate::record::ExchangeHead;
use crate::report::Chain;
use crate::types;

mod credential;
mod hide;
mod judge;
mod leaked;
mod send;
mod told;

use credential::{Bearing, Echoes};
use judge::{Leave, protocol};
use told::unread;

/// The way to the upstream.
pub(super) enum Sender {
    /// One request at a time; taken while it is used, and for good when the client's side has ended.
    Http1(Mutex<Option<http1::SendRequest<Up>>>),
    /// Many at a time.
    Http2(http2::SendRequest<Up>),
}

/// What takes a connection over after the protocol was changed.
pub(super) type OnSwitch = Box<dyn Fn(Switched) + Send + Sync>;

/// How long a drain waits for the first request of a connection that was opened before it began.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// The exchanges of one connection.
pub(super) struct Exchanges {
    pub(super) cx: Context,
    pub(super) sender: Sender,
    /// The gate's side of the count; none for HTTP/2.
    pub(super) gate: Option<Arc<Shared>>,
    pub(super) on_switch: OnSwitch,
    begun: AtomicU64,
    /// Requests on this connection before these.
    before: u64,
    /// Cancelled when the connection's first request has come.
    first: CancellationToken,
    open: Open,
    echoes: Echoes,
    /// The upstream's connection is over (HTTP/1): what is handed to it then is never answered. Whoever sets it has the
    /// exchanges polled.
    pub(super) gone: AtomicBool,
}

/// An exchange that ends without an answer: the client sees what it would have seen of the upstream itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("the upstream gave no answer")]
    Upstream(#[source] hyper::Error),
    /// HTTP/2: the request was not sent; a client may try it elsewhere.
    #[error("the upstream takes no more requests")]
    NotSent(#[source] h2::Error),
}

type Answer = Result<Response<Down>, Unanswered>;

/// What is known of a request before it is sent.
struct Asked {
    number: u64,
    host: Host,
    shape: Shape,
    method: Method,
    /// As policy knows it.
    protocol: &'static str,
    /// Set when the request asks for another protocol.
    switch: Option<OnUpgrade>,
    /// Set when it is an extended CONNECT for a WebSocket.
    websocket: bool,
    /// Set when it opens a WebSocket in due form: that, or a GET without a body (RFC 6455 §4.1).
    handshake: bool,
    /// Set when it asks for a tunnel to elsewhere: a plain CONNECT.
    tunnels: bool,
    length: Length,
}

impl Exchanges {
    /// `before`: how many requests the connection has served.
    pub(super) fn new(
        cx: Context,
        sender: Sender,
        gate: Option<Arc<Shared>>,
        on_switch: OnSwitch,
        before: u64,
    ) -> Self {
        let first = CancellationToken::new();
        if before > 0 {
            first.cancel();
        }
        let (begun, open, echoes) = (AtomicU64::new(0), Open::default(), Echoes::default());
        let gone = AtomicBool::new(false);
        Self { cx, sender, gate, on_switch, begun, before, first, open, echoes, gone }
    }

    /// Completes when the drain has begun and the client has had its turn: a connection that has just been opened is
    /// there for a request, and to close it unanswered would lose that.
    pub(super) async fn may_close(&self) {
        self.cx.drain.begun().await;
        // A client that opens and says nothing does not hold the drain up for longer.
        let _ = tokio::time::timeout(FIRST_REQUEST, self.first.cancelled()).await;
    }

    /// How many requests the connection has served.
    pub(super) fn served(&self) -> u64 {
        self.before + self.begun.load(Ordering::Relaxed)
    }

    /// Whether nothing is left of any exchange, and the way upstream (HTTP/1) is free.
    pub(super) fn idle(&self) -> bool {
        let free = match &self.sender {
            Sender::Http1(sender) => {
                let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
                sender.as_ref().is_some_and(http1::SendRequest::is_ready)
            }
            Sender::Http2(_) => false,
        };
        free && Arc::strong_count(&self.open) == 1
    }

    /// Lets go of the way upstream: nothing more will be sent.
    pub(super) fn close(&self) {
        if let Sender::Http1(sender) = &self.sender {
            sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Answers one request: hyper's service.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let mut request = request.map(Source::new);
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let _open = Arc::clone(&self.open);
        self.first.cancel();
        let undecided = Undecided::of(self.gate.as_ref(), &request);
        let asked = match self.read(number, &mut request) {
            Ok(asked) => asked,
            Err((refusal, host, shape)) => {
                return Ok(self.refuse(&refusal, shape, head_of(&request, host), None));
            }
        };
        let who = self.cx.who.of_request(request.headers_mut()).await;
        let standing = who.standing().clone();
        let keys = self.leaked(&request);
        let Leave { permit, live, meter, messages } = match self.judge(&asked, who, &mut request).await {
            Ok(allowed) => allowed,
            Err(refusal) => {
                return Ok(self.turn_away(refusal, &asked, &mut request, (&standing, keys)).await);
            }
        };
        let (masking, bearing) = match self.prepare(&asked, &permit, &standing, &keys, &mut request).await {
            Ok(prepared) => prepared,
            Err(refusal) => {
                return Ok(self.turn_away(refusal, &asked, &mut request, (&standing, keys)).await);
            }
        };
        let mut head =
            masked::for_record(masking.as_ref(), known(&self.cx, &request, &asked, &standing, keys));
        head.credential = bearing.as_ref().and_then(Bearing::borne);
        head.rule = Some(permit.rule().to_owned());
        head.verdict = Spent::verdict(meter.as_ref().map(|meter| &**meter.spent()), &permit);
        let exchange = match self.cx.session.exchange_ahead(head) {
            Ok(exchange) => exchange,
            Err(error) => return Ok(self.unrecordable(&asked, &error)),
        };
        let finish = Finish::new(exchange, self.cx.drain.clone()).while_allowed(live).counted(meter);
        let mut finish = finish.masked(masking.as_ref());
        if permit.durable()
            && let Err(error) = finish.exchange().durable().await
        {
            finish.finish(Some(error.to_string()));
            return Ok(self.unrecordable(&asked, &error));
        }
        if messages.as_ref().is_some_and(|judge| judge.hears > Hears::Nobody) {
            // What is compressed could not be judged.
            request.headers_mut().remove(SEC_WEBSOCKET_EXTENSIONS);
        }
        let clean = self.cleaner(bearing.as_ref());
        let up = (finish.exchange().clone(), finish.meter().map(Meter::sent));
        let sent = tokio::select! {
            biased;
            denied = finish.refused() => return Ok(self.cut(&asked, denied, finish)),
            sent = self.deliver(permit, bearing, &asked, request, up) => sent,
        };
        match sent {
            Ok(response) => Ok(self.pass_on(asked, undecided, (response, clean), finish, messages)),
            Err(error) => self.failed(&asked, error, finish),
        }
    }

    /// Reads what a request is for, or why it is refused.
    fn read(&self, number: u64, request: &mut Request<Source>) -> Result<Asked, (Refusal, String, Shape)> {
        let (verified, destination) = (&self.cx.verified, self.cx.destination);
        if let Some(refusal) = self.gate.as_ref().and_then(|gate| unread(gate, number)) {
            let host = names::unnamed(verified, destination).text;
            let shape = Shape::of(&host, &http::HeaderMap::new());
            // Ours, not the client's: nothing of it belongs in the record.
            *request.method_mut() = Method::GET;
            request.headers_mut().clear();
            request.extensions_mut().insert(Unread);
            return Err((refusal, host, shape));
        }
        let facts = (request.method(), request.uri(), request.headers());
        let extended = request.extensions().get::<hyper::ext::Protocol>();
        let websocket = extended.is_some_and(|p| p.as_str() == "websocket");
        // A plain CONNECT names where the tunnel goes, not who is asked for it.
        let tunnels = request.method() == Method::CONNECT && extended.is_none();
        let host = names::host(facts, tunnels, verified, destination).map_err(|refusal| {
            let host = names::unnamed(verified, destination).text;
            let shape = Shape::of(&host, request.headers());
            (refusal, host, shape)
        })?;
        let shape = Shape::of(&host.text, request.headers());
        let http1 = self.gate.is_some();
        if http1 {
            if request.headers().get(EXPECT).is_some_and(|v| v.as_bytes() == EXPECT_ALTERED.as_bytes()) {
                request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
            }
            upgrade::drop_h2c(request.headers_mut());
        }
        let asks = request.method() == Method::CONNECT
            || (request.version() == Version::HTTP_11 && request.headers().contains_key(UPGRADE));
        // Taken out in any case: it must not travel with the request.
        let switch = Some(hyper::upgrade::on(&mut *request)).filter(|_| asks);
        let length = if http1 { Length::Told } else { Length::Untold };
        let method = request.method().clone();
        let protocol = protocol(request, websocket);
        let handshake = websocket
            || (asks && protocol == "websocket" && method == Method::GET && request.body().is_end_stream());
        Ok(Asked { number, host, shape, method, protocol, switch, websocket, handshake, tunnels, length })
    }

    /// The upstream answered: the answer is checked, recorded and given to the client.
    fn pass_on(
        &self,
        asked: Asked,
        undecided: Undecided,
        (mut response, clean): (Response<Came<Incoming>>, Option<Cleaner>),
        mut finish: Finish,
        messages: Option<Judge>,
    ) -> Response<Down> {
        if let Some(Err(what)) = clean.as_ref().map(|clean| clean.head(&mut response)) {
            return self.bad_upstream(&asked, what.to_owned(), finish);
        }
        let switched = asked.switch.is_some() && upgrade::granted(&asked.method, &response);
        let checked = upstream_answer::check(&mut response, switched)
            .and_then(|()| upgrade::check(switched, asked.handshake, &response));
        if let Err(what) = checked {
            return self.bad_upstream(&asked, what.to_owned(), finish);
        }
        let (seen, parts) = match hide::answer(&finish, &mut response, switched) {
            Ok(read) => read,
            Err(what) => return self.bad_upstream(&asked, what, finish),
        };
        let seen = seen.as_ref().unwrap_or(response.headers());
        if let Err(error) = finish.exchange().response(response.status().as_u16(), seen) {
            finish.finish(Some(error.to_string()));
            return self.unrecordable(&asked, &error);
        }
        if let Some(meter) = finish.meter() {
            meter.answered(response.status(), response.headers());
        }
        if switched && let Some(client) = asked.switch {
            undecided.grant();
            let upstream = hyper::upgrade::on(&mut response);
            let peer = (!asked.tunnels).then(|| self.cx.verified.clone());
            let switched = Switched::new(client, upstream, &response, asked.websocket, peer, finish);
            (self.on_switch)(switched.judged(messages));
            return response.map(|_| Down::Own(None));
        }
        let (mut head, inner) = response.into_parts();
        head.extensions.remove::<OnUpgrade>();
        if inner.is_end_stream() {
            finish.finish(None);
        }
        let _open = Arc::clone(&self.open);
        let inner = hide::answered(Answered::of(inner, &head.headers, clean), parts, &finish);
        Response::from_parts(head, Down::Upstream { inner, finish, length: asked.length, _open })
    }

    /// The upstream did not answer.
    fn failed(&self, asked: &Asked, error: Failed, mut finish: Finish) -> Answer {
        if let Some(violation) = self.gate.as_ref().and_then(|gate| gate.body_refused()) {
            let status = StatusCode::from_u16(violation.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let refusal = Refusal::new(status, format!("the request's body was cut off: {violation}")).last();
            return Ok(self.tell(asked.shape, &refusal, finish));
        }
        if let Some(refusal) = self.unmasked(&finish) {
            return Ok(self.tell(asked.shape, &refusal, finish));
        }
        let first = self.before + asked.number == 1;
        match error {
            Failed::Refused(refusal) => Ok(self.tell(asked.shape, &refusal, finish)),
            Failed::Upstream(error) => {
                let what = format!("the upstream gave no answer: {}", Chain(&error));
                // Died before the first octet of an answer, on a connection that has served others: a client of the
                // upstream itself would see the connection close, and try again. A reset stream is passed on as such.
                let silent = error.is_incomplete_message()
                    || error.is_closed()
                    || error.is_canceled()
                    || is_io(&error);
                let reset = h2_reset(&error);
                if reset || (silent && !first) {
                    finish.finish(Some(what));
                    return Err(Unanswered::Upstream(error));
                }
                Ok(self.bad_upstream(asked, what, finish))
            }
            Failed::Closed if first || self.gate.is_some() => {
                let what = "the upstream closed the connection before the request was sent";
                Ok(self.bad_upstream(asked, what.to_owned(), finish))
            }
            Failed::Closed => {
                finish.finish(Some("the upstream takes no more requests on this connection".to_owned()));
                Err(Unanswered::NotSent(h2::Reason::REFUSED_STREAM.into()))
            }
        }
    }
}

/// Marks the request that stands for a refused one.
#[derive(Clone)]
struct Unread;

enum Failed {
    Upstream(hyper::Error),
    Closed,
    /// It was not sent, and this is why.
    Refused(Refusal),
}

/// What is recorded of a request that was read.
fn known<'a>(
    cx: &Context,
    request: &'a Request<Source>,
    asked: &Asked,
    standing: &Standing,
    caller_keys: Vec<types::CallerKey>,
) -> ExchangeHead<'a> {
    let identity = cx.recognised(standing);
    ExchangeHead { identity, caller_keys, ..head_of(request, asked.host.text.clone()) }
}

fn head_of(request: &Request<Source>, host: String) -> ExchangeHead<'_> {
    let unread = request.extensions().get::<Unread>().is_some();
    let path = || match request.uri().path_and_query() {
        Some(path) => Cow::Borrowed(path.as_str()),
        None => Cow::Owned(request.uri().to_string()),
    };
    ExchangeHead {
        protocol: match request.version() {
            Version::HTTP_2 => "h2",
            Version::HTTP_10 => "http/1.0",
            _ => "http/1.1",
        },
        host,
        host_source: types::HostSource::Request,
        method: (!unread).then(|| Cow::Borrowed(request.method().as_str())),
        path: (!unread).then(path),
        headers: Cow::Borrowed(request.headers()),
        rule: None,
        verdict: types::Verdict::Allow,
        identity: None,
        credential: None,
        caller_keys: Vec::new(),
    }
}
