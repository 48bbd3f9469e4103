//! HTTP/2 on both sides: streams, trailers, resets, extended CONNECT, and what a hostile client is held to.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use sluice::engine::{Verified, http::Version};
use sluice::policy::{
    Mode, Policy,
    rule::{Effect, Rule, Source},
};
use sluice::types::HostName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::rig::{Ends, PATIENCE, Rig, to_the_end};

type Accepted = Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>;
type Server = h2::server::Connection<DuplexStream, Bytes>;

struct Pair {
    rig: Rig,
    client: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    server: Server,
    done: JoinHandle<Result<(), String>>,
}

async fn pair(extended: bool) -> Pair {
    pair_of(Rig::new(), extended).await
}

async fn pair_of(rig: Rig, extended: bool) -> Pair {
    let Ends { client, upstream, done } = rig.http(Version::Http2);
    let mut builder = h2::server::Builder::new();
    if extended {
        builder.enable_connect_protocol();
    }
    let server = tokio::spawn(async move { builder.handshake(upstream).await.expect("server") });
    let (client, connection) = h2::client::handshake(client).await.expect("client");
    let connection = tokio::spawn(connection);
    let client = client.ready().await.expect("ready");
    Pair { rig, client, connection, server: server.await.expect("server"), done }
}

fn request(path: &str) -> Request<()> {
    Request::builder().uri(format!("https://api.example{path}")).body(()).expect("request")
}

/// Asks for a WebSocket.
fn chat() -> Request<()> {
    let mut ask = request("/chat");
    *ask.method_mut() = Method::CONNECT;
    ask.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    ask
}

async fn body(mut stream: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.expect("data");
        stream.flow_control().release_capacity(data.len()).expect("capacity");
        all.extend_from_slice(&data);
    }
    (all, stream.trailers().await.expect("trailers"))
}

async fn accept(server: &mut Server) -> (Request<RecvStream>, SendResponse<Bytes>) {
    timeout(PATIENCE, server.accept()).await.expect("in time").expect("a request").expect("no error")
}

/// Drives the server's connection while `work` is done.
async fn with<T>(server: &mut Server, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(timeout(PATIENCE, work));
    tokio::select! {
        done = &mut work => return done.expect("in time"),
        more = server.accept() => ended(more),
    }
    work.await.expect("in time")
}

/// Nothing more comes. A client may close as soon as it was told to go away; in memory that is a broken pipe.
fn ended(more: Option<Accepted>) {
    match more {
        None => (),
        Some(Err(error)) => assert!(error.is_io(), "{error:?}"),
        Some(Ok((request, _))) => panic!("unexpected: {request:?}"),
    }
}

async fn finish(server: &mut Server) {
    ended(timeout(PATIENCE, server.accept()).await.expect("in time"));
}

#[tokio::test]
async fn requests_pass_with_bodies_and_trailers_both_ways() {
    let mut p = pair(false).await;
    let mut ask = request("/pkg.Service/Method?x=y");
    *ask.method_mut() = Method::POST;
    ask.headers_mut().insert("te", "trailers".parse().expect("value"));
    ask.headers_mut().insert("content-type", "application/grpc".parse().expect("value"));
    let (answer, mut up) = p.client.send_request(ask, false).expect("sent");
    up.send_data(Bytes::from_static(b"up"), false).expect("data");
    let (heard, mut respond) = accept(&mut p.server).await;
    assert_eq!(heard.uri(), "https://api.example/pkg.Service/Method?x=y");
    assert_eq!(heard.headers()["te"], "trailers");
    assert_eq!(heard.headers().len(), 2, "nothing added: {:?}", heard.headers());
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().expect("value"));
    up.send_trailers(trailers).expect("trailers");
    let (bytes, trailers) = with(&mut p.server, body(heard.into_body())).await;
    assert_eq!((&bytes[..], trailers.expect("trailers").len()), (&b"up"[..], 1));

    let mut down = respond.send_response(Response::new(()), false).expect("head");
    down.send_data(Bytes::from_static(b"down"), false).expect("data");
    let mut status = HeaderMap::new();
    status.insert("grpc-status", "0".parse().expect("value"));
    down.send_trailers(status).expect("trailers");
    let answer = with(&mut p.server, answer).await.expect("answer");
    assert_eq!(answer.headers().len(), 0, "nothing added: {:?}", answer.headers());
    let (bytes, trailers) = with(&mut p.server, body(answer.into_body())).await;
    assert_eq!(
        (&bytes[..], &trailers.expect("trailers")["grpc-status"]),
        (&b"down"[..], &"0".parse().expect("value"))
    );
    let record = p.rig.record().await;
    assert_eq!(
        (record.protocol.as_str(), record.bytes_up, record.bytes_down, record.error),
        ("h2", 2, 4, None)
    );
}

#[tokio::test]
async fn a_trailers_only_answer_stays_one() {
    let mut p = pair(false).await;
    let (answer, _) = p.client.send_request(request("/"), true).expect("sent");
    let (_, mut respond) = accept(&mut p.server).await;
    let head = Response::builder().header("grpc-status", "5").body(()).expect("head");
    respond.send_response(head, true).expect("sent");
    let answer = with(&mut p.server, answer).await.expect("answer");
    assert_eq!(answer.headers()["grpc-status"], "5");
    assert!(answer.body().is_end_stream());
    assert_eq!(p.rig.record().await.error, None);
}

#[tokio::test]
async fn a_hundred_streams_at_once() {
    let mut p = pair(false).await;
    let mut answers = Vec::new();
    for n in 0..100 {
        let (answer, _) = p.client.send_request(request(&format!("/{n}")), true).expect("sent");
        answers.push(answer);
    }
    let mut responds = Vec::new();
    for _ in 0..100 {
        let (heard, respond) = accept(&mut p.server).await;
        responds.push((heard.uri().path().to_owned(), respond));
    }
    for (path, respond) in responds.iter_mut().rev() {
        let mut down = respond.send_response(Response::new(()), false).expect("head");
        down.send_data(Bytes::from(path.clone()), true).expect("data");
    }
    for (n, answer) in answers.into_iter().enumerate() {
        let answer = with(&mut p.server, answer).await.expect("answer");
        let (bytes, _) = with(&mut p.server, body(answer.into_body())).await;
        assert_eq!(bytes, format!("/{n}").into_bytes());
    }
    p.rig.records(100).await;
}

#[tokio::test]
async fn resets_pass_both_ways() {
    let mut p = pair(false).await;
    let (answer, _) = p.client.send_request(request("/"), true).expect("sent");
    let (_, mut respond) = accept(&mut p.server).await;
    respond.send_reset(Reason::ENHANCE_YOUR_CALM);
    let error = with(&mut p.server, answer).await.expect_err("reset");
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    assert!(p.rig.record().await.error.is_some());

    let (answer, mut up) = p.client.send_request(request("/"), false).expect("sent");
    let (_heard, mut respond) = accept(&mut p.server).await;
    up.send_reset(Reason::CANCEL);
    let reason = with(&mut p.server, std::future::poll_fn(|cx| respond.poll_reset(cx))).await.expect("reset");
    assert_eq!(reason, Reason::CANCEL);
    drop(answer);
    assert!(p.rig.records(2).await[1].error.as_deref().expect("an error").contains("client went away"));
}

#[tokio::test]
async fn names_must_agree() {
    let mut p = pair(false).await;
    let ask = Request::builder().uri("https://other.example/").body(()).expect("request");
    let (answer, _) = p.client.send_request(ask, true).expect("sent");
    let answer = with(&mut p.server, answer).await.expect("answer");
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    let (bytes, _) = body(answer.into_body()).await;
    assert!(String::from_utf8_lossy(&bytes).contains("other.example"));
    // The connection lives on.
    let (_answer, _) = p.client.send_request(request("/"), true).expect("sent");
    accept(&mut p.server).await;
}

#[tokio::test]
async fn extended_connect_is_offered_when_the_upstream_has_it_only() {
    let p = pair(false).await;
    assert!(!p.client.is_extended_connect_protocol_enabled());

    let mut p = pair(true).await;
    assert!(p.client.is_extended_connect_protocol_enabled());
    let ask = chat();
    let (answer, mut up) = p.client.send_request(ask, false).expect("sent");
    let (heard, mut respond) = accept(&mut p.server).await;
    assert_eq!(
        heard.extensions().get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str),
        Some("websocket")
    );
    let mut down = respond.send_response(Response::new(()), false).expect("head");
    let mut from_server = with(&mut p.server, answer).await.expect("answer").into_body();
    up.send_data(Bytes::from_static(b"\x81\x82\0\0\0\0hi"), false).expect("frame");
    down.send_data(Bytes::from_static(b"\x81\x02yo"), false).expect("frame");
    let data = with(&mut p.server, from_server.data()).await.expect("a frame").expect("data");
    assert_eq!(&data[..], b"\x81\x02yo");
    let mut from_client = heard.into_body();
    let data = with(&mut p.server, from_client.data()).await.expect("a frame").expect("data");
    assert_eq!(&data[..], b"\x81\x82\0\0\0\0hi");
    up.send_data(Bytes::new(), true).expect("end");
    down.send_data(Bytes::new(), true).expect("end");
    while with(&mut p.server, from_server.data()).await.is_some() {}
    let record = p.rig.record().await;
    assert_eq!((record.protocol.as_str(), record.bytes_up, record.bytes_down), ("websocket", 8, 4));
}

#[tokio::test]
async fn messages_in_an_extended_connect_are_judged() {
    let (name, when) = ("greet".to_owned(), Some("message.text == \"hi\"".to_owned()));
    let rule = Rule { name, verdict: Effect::Allow, when, body_max: 100, ..Rule::default() };
    let source = Source { mode: Mode::Enforce, rules: vec![rule], ..Source::default() };
    let policy = Policy::compile(source).expect("a policy");
    let name = Verified::Name(HostName::parse("api.example").expect("name"));
    let mut p = pair_of(Rig::judging(name, policy), true).await;
    let mut ask = chat();
    ask.headers_mut().insert("sec-websocket-extensions", HeaderValue::from_static("permessage-deflate"));
    let (answer, mut up) = p.client.send_request(ask, false).expect("sent");
    let (heard, mut respond) = accept(&mut p.server).await;
    assert!(!heard.headers().contains_key("sec-websocket-extensions"));
    let mut down = respond.send_response(Response::new(()), false).expect("head");
    let mut from_server = with(&mut p.server, answer).await.expect("answer").into_body();
    let (good, bad) = (b"\x81\x82\0\0\0\0hi", b"\x81\x82\0\0\0\0no");
    up.send_data(Bytes::from_static(good), false).expect("frame");
    let mut from_client = heard.into_body();
    let data = with(&mut p.server, from_client.data()).await.expect("a frame").expect("data");
    assert_eq!(&data[..], good);
    // A frame to the client is under way: the close frame waits for its end.
    down.send_data(Bytes::from_static(b"\x81\x04yo"), false).expect("begin");
    let data = with(&mut p.server, from_server.data()).await.expect("a frame").expect("data");
    assert_eq!(&data[..], b"\x81\x04yo");
    up.send_data(Bytes::from_static(bad), false).expect("frame");
    down.send_data(Bytes::from_static(b"yo\x81\x01!"), false).expect("its end, and another");
    let (came, _) = with(&mut p.server, body(from_server)).await;
    assert!(came.starts_with(b"yo"), "{came:?}");
    assert!(came.ends_with(b"\x88\x13\x03\xf0no rule allows it"), "{}", came.escape_ascii());
    let mut reached = Vec::new();
    while reached.len() < 8 {
        let data = with(&mut p.server, from_client.data()).await.expect("a close frame").expect("data");
        reached.extend_from_slice(&data);
    }
    down.send_data(Bytes::new(), true).expect("end");
    assert!(
        with(&mut p.server, from_client.data()).await.is_none_or(|more| more.is_ok_and(|b| b.is_empty()))
    );
    assert_eq!(reached[..2], [0x88, 0x82], "a client's close frame, and nothing of the message");
    let record = p.rig.record().await;
    assert_eq!(
        (record.protocol.as_str(), record.bytes_up, record.rule.as_deref()),
        ("websocket", 8, Some("(none)"))
    );
}

#[tokio::test]
async fn an_upstream_that_closes_closes_the_client() {
    let mut p = pair(false).await;
    let (answer, _) = p.client.send_request(request("/"), true).expect("sent");
    let (_, mut respond) = accept(&mut p.server).await;
    respond.send_response(Response::new(()), true).expect("sent");
    with(&mut p.server, answer).await.expect("answer");
    p.server.graceful_shutdown();
    finish(&mut p.server).await;
    drop(p.server);
    timeout(PATIENCE, p.connection).await.expect("in time").expect("task").expect("a clean end");
    assert_eq!(p.done.await.expect("task"), Ok(()));
}

#[tokio::test]
async fn drain_lets_the_stream_under_way_finish() {
    let mut p = pair(false).await;
    let (answer, _) = p.client.send_request(request("/"), true).expect("sent");
    let (_, mut respond) = accept(&mut p.server).await;
    let drain = p.rig.drain.clone();
    let run = tokio::spawn(async move { drain.run(PATIENCE).await });
    respond.send_response(Response::new(()), true).expect("sent");
    with(&mut p.server, answer).await.expect("answer");
    drop(p.client);
    timeout(PATIENCE, p.connection).await.expect("in time").expect("task").expect("a clean end");
    finish(&mut p.server).await;
    assert_eq!(p.done.await.expect("task"), Ok(()));
    run.await.expect("drain");
}

#[tokio::test]
async fn rapid_reset_ends_the_connection() {
    let mut p = pair(false).await;
    let server = tokio::spawn(async move { while let Some(Ok(_)) = p.server.accept().await {} });
    for _ in 0..100_000 {
        let Ok(mut client) = p.client.clone().ready().await else { break };
        let Ok((_, mut up)) = client.send_request(request("/"), false) else { break };
        up.send_reset(Reason::CANCEL);
        if p.connection.is_finished() {
            break;
        }
    }
    let ended = timeout(PATIENCE, p.connection).await.expect("the flood was taken in").expect("task");
    let error = ended.expect_err("refused");
    assert!(error.reason() == Some(Reason::ENHANCE_YOUR_CALM) || error.is_io(), "{error:?}");
    server.abort();
}

/// Octets of a client that speaks HTTP/2 by hand.
async fn raw(frames: &[u8]) -> (Rig, String) {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http2);
    let mut upstream = ends.upstream;
    let server = tokio::spawn(async move {
        upstream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("settings");
        to_the_end(&mut upstream).await
    });
    ends.client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("preface");
    // A side that is flooded closes: then the rest cannot be written.
    let (mut read, mut write) = tokio::io::split(ends.client);
    let frames = frames.to_vec();
    let writer = tokio::spawn(async move { write.write_all(&frames).await });
    let mut told = Vec::new();
    let read = timeout(PATIENCE, read.read_to_end(&mut told)).await.expect("it closes in time");
    read.expect("it closes");
    writer.abort();
    let heard = timeout(PATIENCE, server).await.expect("in time").expect("server");
    (rig, heard)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn floods_end_the_connection_and_nothing_of_them_goes_upstream() {
    // HEADERS without END_HEADERS, then CONTINUATION for ever.
    let mut continuation = frame(1, 0, 1, &[0x82]);
    for _ in 0..200_000 {
        continuation.extend(frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']));
    }
    let mut long = frame(1, 0, 1, &[0x82]);
    for _ in 0..2_000 {
        long.extend(frame(9, 0, 1, &vec![0; 16_000]));
    }
    for flood in [continuation, long] {
        let (_rig, heard) = raw(&flood).await;
        assert!(heard.len() < 1000, "{} octets upstream", heard.len());
    }
}

#[tokio::test]
async fn a_header_bomb_is_refused() {
    // One large entry in the dynamic table, then thousands of one-octet references to it.
    let mut block = vec![0x82, 0x87, 0x84, 0x41, 11];
    block.extend_from_slice(b"api.example");
    block.extend_from_slice(&[0x40, 1, b'a', 0x7f, 0xf1, 0x1e]); // 4080 octets
    block.extend(vec![b'b'; 4080]);
    block.extend(vec![0xbe; 10_000]);
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http2);
    ends.upstream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("settings");
    ends.client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("preface");
    ends.client.write_all(&frame(1, 5, 1, &block)).await.expect("headers");
    let mut told = vec![0; 64 * 1024];
    let mut all = Vec::new();
    // 431, a reset or a closed connection: in any case no request.
    for _ in 0..3 {
        match timeout(std::time::Duration::from_millis(300), ends.client.read(&mut told)).await {
            Ok(Ok(n)) if n > 0 => all.extend_from_slice(&told[..n]),
            _ => break,
        }
    }
    assert!(!all.is_empty());
    drop(ends.client);
    let heard = to_the_end(&mut ends.upstream).await;
    assert!(heard.len() < 1000, "{} octets upstream", heard.len());
}
