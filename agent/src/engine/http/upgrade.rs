//! What becomes of a connection after its protocol was changed: WebSocket frames are counted as they pass, their
//! messages judged where rules ask for them; everything else (CONNECT, other upgrades) goes back to detection, so that a
//! tunnelled ClientHello is read like any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::body::Finish;
use super::masked::Side;
use super::messages::{self, Judge, Refused, Tally};
use crate::codec::websocket::Frames;
use crate::engine::live;
use crate::engine::pump::{self, Tap};
use crate::engine::{Again, Verified};
use crate::policy::Hears;
use crate::record::{Direction, Unrecordable};
use crate::report::Chain;
use crate::stream::BoxStream;
use crate::types::action::Speaker;

/// A WebSocket without a byte either way for so long is closed (as [`crate::engine::tunnel`]).
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// How long both sides have to end a WebSocket of which a message was refused.
const FAREWELL: Duration = Duration::from_secs(3);

/// A connection whose protocol is changing.
pub(super) struct Switched {
    client: OnUpgrade,
    upstream: OnUpgrade,
    websocket: bool,
    /// What is proved of the peer, if it stays the same after the change.
    peer: Option<Verified>,
    finish: Finish,
    /// Set where rules ask for a WebSocket's messages.
    judge: Option<Judge>,
}

impl Switched {
    /// Both ends as they will be once the answer is out; the exchange goes on in `finish`. `asked` is set when an
    /// extended CONNECT asked for a WebSocket (RFC 8441): its answer names no protocol again.
    pub(super) fn new<B>(
        client: OnUpgrade,
        upstream: OnUpgrade,
        response: &Response<B>,
        asked: bool,
        peer: Option<Verified>,
        finish: Finish,
    ) -> Self {
        let named = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"websocket");
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS
            && response.headers().get(UPGRADE).is_some_and(named);
        Self { client, upstream, websocket: asked || switched, peer, finish, judge: None }
    }

    /// Its messages are judged, where it is a WebSocket.
    pub(super) fn judged(mut self, judge: Option<Judge>) -> Self {
        self.judge = judge;
        self
    }

    /// Goes on with the changed connection to its end. `upstream` is its upstream side, where that was taken back
    /// from hyper by hand.
    pub(super) async fn run(self, upstream: Option<BoxStream>, again: Again) {
        let Self { client, upstream: later, websocket, peer, mut finish, judge } = self;
        let upstream = async {
            match upstream {
                Some(upstream) => Ok(upstream),
                None => later.await.map(boxed),
            }
        };
        let (mut client, mut upstream) = match tokio::join!(client, upstream) {
            (Ok(client), Ok(upstream)) => (boxed(client), upstream),
            (Err(error), _) | (_, Err(error)) => {
                finish.finish(Some(format!("the protocol could not be changed: {}", Chain(&error))));
                return;
            }
        };
        if !websocket {
            finish.finish(None);
            return again(client, upstream, peer).await;
        }
        finish.exchange().became("websocket");
        let mut live = finish.take_live();
        let heard = judge.as_ref().filter(|judge| judge.hears > Hears::Nobody);
        let tally = heard.map(|judge| Arc::clone(&judge.tally));
        let records = judge.is_none() || finish.masking().is_none();
        if let Some(judge) = judge {
            (client, upstream) = read(client, upstream, judge, &finish);
        }
        let mut tap = Counted { up: Frames::default(), down: Frames::default(), tally, records, finish };
        let refused = async {
            match &mut live {
                Some(live) => live.refused().await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            biased;
            denied = refused => return tap.ended(Some(live::cut(&denied))),
            result = pump::pump(&mut client, &mut upstream, &mut tap, IDLE) => result,
        };
        if let Err(pump::Error::Client(error) | pump::Error::Upstream(error)) = &result
            && let Some(refused) = error.get_ref().and_then(|error| error.downcast_ref::<Refused>())
        {
            tap.finish.exchange().denied(&refused.denied.rule);
            tap.ended(Some(refused.to_string()));
            return close(client, upstream, refused).await;
        }
        // After both close frames the conversation is over (RFC 6455 §7.1.1), however the connection is then ended: many
        // clients close TCP without TLS's close_notify.
        let over = tap.up.closed && tap.down.closed;
        let broke = result.err().filter(|e| !over || matches!(e, pump::Error::Unrecordable(_)));
        tap.ended(broke.map(|e| Chain(&e).to_string()));
    }
}

/// Both sides, their messages read by who judges or masks them.
fn read(client: BoxStream, upstream: BoxStream, judge: Judge, finish: &Finish) -> (BoxStream, BoxStream) {
    let side = |from| finish.masking().map(|masking| Side::new(masking, finish.exchange(), from));
    let upstream = match judge.hears == Hears::Both || finish.masking().is_some() {
        true => Box::new(messages::Server::new(upstream, judge.clone(), side(Speaker::Server))),
        false => upstream,
    };
    (Box::new(messages::Client::new(client, judge, side(Speaker::Client))), upstream)
}

/// Ends a WebSocket of which a message was refused; where that was the client's, it has its close frame.
async fn close(mut client: BoxStream, mut upstream: BoxStream, refused: &Refused) {
    // A connection that is closed on bytes that nobody has read, and a stream that is let go, lose what was sent last.
    let server = async {
        // Going away (RFC 6455 §7.4.1): the server is not told of rules. What masks it is no secret.
        let frame = messages::close(1001, "", Some(*b"gone"));
        upstream.write_all(&frame).await?;
        upstream.shutdown().await?;
        tokio::io::copy(&mut upstream, &mut tokio::io::sink()).await
    };
    let client = async {
        if refused.from == Speaker::Server {
            // Whole frames only went before it.
            let frame = messages::close(refused.status, &refused.denied.reason, None);
            client.write_all(&frame).await?;
        }
        client.shutdown().await?;
        tokio::io::copy(&mut client, &mut tokio::io::sink()).await
    };
    // Whoever is gone already, or does not end, is told nothing more.
    let (server, client) =
        tokio::join!(tokio::time::timeout(FAREWELL, server), tokio::time::timeout(FAREWELL, client));
    let _told = (server, client);
}

fn boxed(upgraded: Upgraded) -> BoxStream {
    Box::new(TokioIo::new(upgraded))
}

/// Whether an answer changes the protocol.
pub(super) fn granted<B>(method: &Method, response: &Response<B>) -> bool {
    match *method {
        Method::CONNECT => response.status().is_success(),
        _ => response.status() == StatusCode::SWITCHING_PROTOCOLS,
    }
}

/// Checks an answer that changes the protocol: a WebSocket that nobody asked for in due form was not judged as one.
pub(super) fn check<B>(switched: bool, handshake: bool, response: &Response<B>) -> Result<(), &'static str> {
    if switched && !handshake && asks_websocket(response.headers()) {
        return Err("the upstream changed to a WebSocket, which the request did not ask for in due form");
    }
    Ok(())
}

/// Whether Upgrade asks for a WebSocket, beside whatever else.
pub(super) fn asks_websocket(headers: &HeaderMap) -> bool {
    let name = |token: &[u8]| token.split(|b| *b == b'/').next().unwrap_or_default().to_ascii_lowercase();
    headers.get_all(UPGRADE).iter().any(|v| tokens(v).any(|token| name(token) == b"websocket"))
}

/// Takes `h2c` out of Upgrade: an upgrade to HTTP/2 would carry the answer to this request into a protocol that began
/// without a preface. The server then answers in HTTP/1.1, as RFC 9110 §7.8 lets it (RFC 9113 has dropped h2c).
pub(super) fn drop_h2c(headers: &mut HeaderMap) {
    const SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
    let is_h2c = |t: &[u8]| t.eq_ignore_ascii_case(b"h2c");
    if !headers.get_all(UPGRADE).iter().any(|v| tokens(v).any(is_h2c)) {
        return;
    }
    let kept = join(headers.get_all(UPGRADE).iter().flat_map(tokens).filter(|t| !is_h2c(t)));
    let gone = |t: &&[u8]| {
        t.eq_ignore_ascii_case(b"http2-settings") || (kept.is_none() && t.eq_ignore_ascii_case(b"upgrade"))
    };
    let connection = join(headers.get_all(CONNECTION).iter().flat_map(tokens).filter(|t| !gone(t)));
    headers.remove(SETTINGS);
    for (name, value) in [(UPGRADE, kept), (CONNECTION, connection)] {
        match value {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|t| !t.is_empty())
}

fn join<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Option<HeaderValue> {
    let all = tokens.collect::<Vec<_>>().join(&b", "[..]);
    HeaderValue::from_bytes(&all).ok().filter(|v| !v.is_empty())
}

struct Counted {
    up: Frames,
    down: Frames,
    tally: Option<Arc<[Tally; 2]>>,
    /// Whether what passes is recorded as it is; else by whoever masks it.
    records: bool,
    finish: Finish,
}

impl Counted {
    fn passed(&mut self, bytes: &[u8]) {
        if let Some(meter) = self.finish.meter() {
            meter.passed(bytes.len());
        }
    }

    fn ended(&mut self, error: Option<String>) {
        for (direction, frames) in [(Direction::Up, self.up), (Direction::Down, self.down)] {
            let mut counts = HeaderMap::new();
            counts.insert("websocket-frames", HeaderValue::from(frames.frames));
            counts.insert("websocket-messages", HeaderValue::from(frames.messages));
            let side = usize::from(direction == Direction::Down);
            if let Some(tally) = self.tally.as_ref().map(|tally| &tally[side]) {
                let count = |n: &AtomicU64| HeaderValue::from(n.load(Ordering::Relaxed));
                counts.insert("websocket-judged", count(&tally.judged));
                counts.insert("websocket-would-refuse", count(&tally.observed));
            }
            // A count that cannot be kept is no reason to fail an exchange that is over.
            let _ = self.finish.exchange().trailers(direction, &counts);
        }
        self.finish.finish(error);
    }
}

impl Tap for Counted {
    fn up(&mut self, bytes: &[u8]) -> Result<(), Unrecordable> {
        self.up.count(bytes);
        self.passed(bytes);
        if self.records { self.finish.exchange().up(bytes) } else { Ok(()) }
    }

    fn down(&mut self, bytes: &[u8]) -> Result<(), Unrecordable> {
        self.down.count(bytes);
        self.passed(bytes);
        if self.records { self.finish.exchange().down(bytes) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2c_is_taken_out_and_the_rest_stays() {
        let headers = |upgrade: &'static str, connection: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
            headers.insert("http2-settings", HeaderValue::from_static("AAM"));
            drop_h2c(&mut headers);
            let text = |n: HeaderName| headers.get(n).map(|v| v.to_str().expect("ASCII").to_owned());
            (text(UPGRADE), text(CONNECTION), headers.len())
        };
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(headers("h2c", "Upgrade, HTTP2-Settings"), (None, None, 0));
        assert_eq!(
            headers("H2C, websocket", "keep-alive, Upgrade"),
            (some("websocket"), some("keep-alive, Upgrade"), 2)
        );
        assert_eq!(headers("websocket", "Upgrade"), (some("websocket"), some("Upgrade"), 3));
    }
}
