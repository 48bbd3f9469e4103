//! The well-behaved HTTP upstream: one route for each thing that a client may ask of a server.
//!
//! | route | answers |
//! |---|---|
//! | `/bytes/N` | N bytes, Content-Length |
//! | `/chunked/N` | N bytes in frames of 1 KiB, no length |
//! | `/echo` | the request's body and Content-Type |
//! | `/headers/N` | N headers `x-h-I: I` |
//! | `/mirror/HOW` | the request's own headers and query, in the form HOW |
//! | `/noise/N` | N bytes that no coding shortens, the same each time |
//! | `/redirect/URL` | 307 there, whatever it is |
//! | `/sink` | the number of body bytes that came |
//! | `/slow?ms=M` | after M ms |
//! | `/sse?n=N&ms=M&more=P` | N events, M ms apart (P more after each), each with the time it was sent |
//! | `/status/N` | status N |
//! | `/trailers` | a body and the trailer `x-checksum: ok` |
//! | `/ws` | WebSocket echo |
//! | `/echo.Echo/*` | gRPC: the message comes back, grpc-status 0 in the trailers |
//! | `/git/*` | git over smart HTTP |
//! | `/v1/messages` | what the Anthropic packages ask |
//! | `/v1/…` | what the OpenAI packages ask |

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Shared, anthropic, git, mirror, openai, websocket};

/// Prefix of an SSE event's data; nanoseconds of CLOCK_MONOTONIC at sending follow.
pub const SSE_STAMP: &str = "at=";

pub(super) type Body = BoxBody<Bytes, std::io::Error>;
pub(super) type Answer = Response<Body>;

/// Serves one connection to its end.
pub(super) async fn serve<S>(io: S, h2: bool, shared: Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(request, shared).await) }
    });
    let io = TokioIo::new(io);
    if h2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(io, service)
            .await;
    } else {
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await;
    }
}

async fn answer(request: Request<Incoming>, shared: Shared) -> Answer {
    note(&request, &shared);
    let seen = Arc::clone(&shared.seen);
    let read = |request: Request<Incoming>| {
        request.map(|body| {
            let tee = move |frame: Frame<Bytes>| {
                seen.body(frame.data_ref().map_or(&[][..], |data| data));
                frame
            };
            body.map_frame(tee).map_err(std::io::Error::other).boxed()
        })
    };
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (first, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    match first {
        "" => text(StatusCode::OK, "hello from upstream\n"),
        "bytes" => counted(number(rest), true),
        "noise" => with_type(StatusCode::OK, "application/octet-stream", full(noise(number(rest)))),
        "chunked" => counted(number(rest), false),
        "echo" => echo(read(request)),
        "headers" => many_headers(number(rest)),
        "mirror" => mirror::answer(&request, rest),
        "redirect" => redirect(rest),
        "sink" => sink(read(request).into_body()).await,
        "slow" => {
            tokio::time::sleep(Duration::from_millis(parameter(&query, "ms"))).await;
            text(StatusCode::OK, "slept\n")
        }
        "sse" => events(
            parameter(&query, "n"),
            ["ms", "more"].map(|name| Duration::from_millis(parameter(&query, name))),
        ),
        "status" => {
            let status = StatusCode::from_u16(u16::try_from(number(rest)).unwrap_or(0))
                .unwrap_or(StatusCode::BAD_REQUEST);
            text(status, format!("status {}\n", status.as_u16()))
        }
        "trailers" => trailers(),
        "ws" => websocket::upgrade(request, shared.seen),
        "echo.Echo" => grpc(read(request)),
        "git" => git::answer(request, &shared.repositories).await,
        "v1" if rest == "messages" => anthropic::answer(read(request)).await,
        "v1" => openai::answer(read(request)).await,
        _ => text(StatusCode::NOT_FOUND, "no such route\n"),
    }
}

fn note(request: &Request<Incoming>, shared: &Shared) {
    let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok());
    let headers = request.headers().iter();
    shared.seen.requested(super::Request {
        version: format!("{:?}", request.version()),
        method: request.method().to_string(),
        path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        host: request.uri().authority().map(|a| a.as_str()).or(host).unwrap_or_default().to_owned(),
        headers: headers
            .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
            .collect(),
    });
}

/// A whole body.
pub(super) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

/// A body whose frames come one by one.
pub(super) fn streamed(frames: impl Stream<Item = Frame<Bytes>> + Send + Sync + 'static) -> Body {
    BodyExt::boxed(StreamBody::new(frames.map(Ok)))
}

/// A short text answer.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "text/plain", full(body))
}

/// An answer of one content type.
pub(super) fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// The value of a number in a query string, 0 if there is none.
fn parameter(query: &str, name: &str) -> u64 {
    let pair = query.split('&').filter_map(|p| p.split_once('=')).find(|(n, _)| *n == name);
    pair.and_then(|(_, v)| v.parse().ok()).unwrap_or(0)
}

/// An open redirect.
fn redirect(to: &str) -> Answer {
    let mut answer = text(StatusCode::TEMPORARY_REDIRECT, "elsewhere\n");
    if let Ok(to) = HeaderValue::from_str(to) {
        answer.headers_mut().insert(header::LOCATION, to);
    }
    answer
}

/// Bytes without a pattern (xorshift).
fn noise(bytes: u64) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn counted(bytes: u64, with_length: bool) -> Answer {
    let step = if with_length { 64 * 1024 } else { 1024 };
    let block = Bytes::from(vec![b'x'; step as usize]);
    let frames = stream::unfold(bytes, move |left| {
        let block = block.clone();
        async move {
            let now = left.min(step);
            (now > 0).then(|| (Frame::data(block.slice(..now as usize)), left - now))
        }
    });
    let body = if bytes <= step { full(vec![b'x'; bytes as usize]) } else { streamed(frames) };
    let mut answer = with_type(StatusCode::OK, "application/octet-stream", body);
    if with_length {
        answer.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
    }
    answer
}

fn echo(request: Request<Body>) -> Answer {
    let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
    let mut answer = Response::new(request.into_body());
    if let Some(content_type) = content_type {
        answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    answer
}

fn many_headers(count: u64) -> Answer {
    let mut answer = text(StatusCode::OK, "headers\n");
    for i in 0..count.min(20_000) {
        if let Ok(name) = http::HeaderName::from_bytes(format!("x-h-{i}").as_bytes()) {
            answer.headers_mut().append(name, i.into());
        }
    }
    answer
}

async fn sink(mut body: Body) -> Answer {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
    text(StatusCode::OK, format!("{bytes}\n"))
}

fn events(count: u64, [gap, more]: [Duration; 2]) -> Answer {
    let frames = stream::unfold(0, move |n| async move {
        if n >= count {
            return None;
        }
        let gap = gap + more.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX).saturating_sub(1));
        if n > 0 && !gap.is_zero() {
            tokio::time::sleep(gap).await;
        }
        let event = format!("id: {n}\ndata: {SSE_STAMP}{}\n\n", monotonic_ns());
        Some((Frame::data(Bytes::from(event)), n + 1))
    });
    with_type(StatusCode::OK, "text/event-stream", streamed(frames))
}

fn trailers() -> Answer {
    let mut map = HeaderMap::new();
    map.insert("x-checksum", HeaderValue::from_static("ok"));
    let frames =
        stream::iter([Frame::data(Bytes::from_static(b"body then trailers\n")), Frame::trailers(map)]);
    let mut answer = with_type(StatusCode::OK, "text/plain", streamed(frames));
    answer.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-checksum"));
    answer
}

/// Unary gRPC without a schema: length-prefixed messages come back as they went (gRPC over HTTP/2, "Length-Prefixed-Message").
fn grpc(request: Request<Body>) -> Answer {
    let mut map = HeaderMap::new();
    map.insert("grpc-status", HeaderValue::from_static("0"));
    let body = request.into_body().with_trailers(async move { Some(Ok(map)) });
    with_type(StatusCode::OK, "application/grpc", body.boxed())
}

/// CLOCK_MONOTONIC, which every process of the machine shares.
pub fn monotonic_ns() -> i64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
}
