//! What a hostile server and a client that colludes with it try against the engine.

use std::time::Duration;

use sluice::engine::Verified;
use sluice::engine::http::Version;
use sluice::types::HostName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::rig::{HOST, PATIENCE, Rig, asked, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: api.example\r\n\r\n";

/// A client that does not read while it pipelines, and hints that come just before the second answer: they must not
/// end up inside of it.
#[tokio::test(start_paused = true)]
async fn hints_never_stand_within_an_answer() {
    // Around what the client's side takes without its reading: the tail of the first answer waits somewhere inside.
    for first in [60_000, 65_000, 65_480, 65_500, 65_520, 66_000, 70_000, 80_000] {
        hints_around(first).await;
    }
}

async fn hints_around(first: usize) {
    let (_rig, mut ends) = asked(&format!("{GET}{GET}")).await;
    let mut upstream = ends.upstream;
    let answers = tokio::spawn(async move {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {first}\r\n\r\n");
        upstream.write_all(format!("{head}{}", "a".repeat(first)).as_bytes()).await.expect("first");
        until(&mut upstream, "\r\n\r\n").await;
        let hint = "HTTP/1.1 103 Early Hints\r\nx-hint: smuggled\r\n\r\n";
        upstream.write_all(hint.as_bytes()).await.expect("hint");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
        upstream.write_all(format!("{head}{}", "b".repeat(50_000)).as_bytes()).await.expect("second");
        tokio::time::sleep(Duration::from_millis(50)).await;
        upstream.write_all("b".repeat(50_000).as_bytes()).await.expect("second");
        upstream
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut told = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = timeout(Duration::from_secs(20), ends.client.read(&mut piece)).await;
        match read {
            Ok(Ok(n @ 1..)) => told.extend_from_slice(&piece[..n]),
            _ => break,
        }
    }
    answers.await.expect("answers");
    let text = String::from_utf8(told).expect("text");
    let heads: Vec<_> = text.match_indices("HTTP/1.1 ").map(|(at, _)| (at, &text[at..at + 12])).collect();
    let body = text.rsplit("\r\n\r\n").next().expect("a body");
    assert_eq!(body.len(), 100_000, "the second body after a first of {first}: {heads:?}");
    assert!(body.bytes().all(|b| b == b'b'), "{heads:?}");
}

/// The protocol is switched while the request's body is under way: what was announced as body goes up as body.
#[tokio::test(start_paused = true)]
async fn a_switch_within_the_body_ends_cleanly() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: x\r\n";
    let (rig, mut ends) =
        asked(&format!("POST /up HTTP/1.1\r\nHost: api.example\r\n{upgrade}Content-Length: 100\r\n\r\n"))
            .await;
    ends.ask("0123456789").await;
    ends.answer(format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}\r\n")).await;
    ends.ask("GET /hidden HTTP/1.1\r\nHost: api.example\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.again.lock().expect("again").len(), 0);
    drop((ends.client, ends.upstream));
    timeout(PATIENCE, ends.done).await.expect("it ends").expect("task").expect("in peace");
    assert_eq!(rig.record().await.bytes_up, 53);
}

/// Client and server agree on an upgrade to nothing, to speak HTTP for another host behind it.
#[tokio::test(start_paused = true)]
async fn an_upgrade_keeps_the_name_that_tls_verified() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: x\r\n";
    let (rig, mut ends) = asked(&format!("GET / HTTP/1.1\r\nHost: api.example\r\n{upgrade}\r\n")).await;
    ends.answer(format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}\r\n")).await;
    timeout(PATIENCE, ends.done).await.expect("it ends").expect("task").expect("in peace");
    let name = HostName::parse(HOST).expect("name");
    assert_eq!(*rig.behind.lock().expect("behind"), [Some(Verified::Name(name))]);

    // Behind a CONNECT is somebody else.
    let (rig, mut ends) = asked("CONNECT other.example:80 HTTP/1.1\r\nHost: other.example:80\r\n\r\n").await;
    ends.answer("HTTP/1.1 200 OK\r\n\r\n").await;
    timeout(PATIENCE, ends.done).await.expect("it ends").expect("task").expect("in peace");
    assert_eq!(*rig.behind.lock().expect("behind"), [None], "another peer, of whom nothing is known");
}

#[tokio::test(start_paused = true)]
async fn codings_that_readers_count_differently_are_refused() {
    for fields in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: \"x, chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent_Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5\r\nConnection: close, content-length\r\n",
        "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n",
    ] {
        let (rig, mut ends) = asked(GET).await;
        ends.answer(format!("HTTP/1.1 200 OK\r\n{fields}\r\n0\r\n\r\n")).await;
        ends.upstream.shutdown().await.expect("close");
        let told = ends.told_to_the_end().await;
        assert!(told.starts_with("HTTP/1.1 502 "), "{fields:?}: {told}");
        assert!(rig.record().await.error.is_some(), "{fields:?}");
    }
}

/// Answers that have no body, with one; what follows must not become the next answer.
#[tokio::test(start_paused = true)]
async fn bodies_where_none_belongs_do_not_answer_the_next_request() {
    for (ask, answer) in [
        ("HEAD", "200 OK\r\ncontent-length: 5"),
        ("HEAD", "200 OK\r\ntransfer-encoding: chunked"),
        ("GET", "204 No Content\r\ncontent-length: 5"),
        ("GET", "304 Not Modified\r\ncontent-length: 5"),
        ("GET", "204 No Content\r\ntransfer-encoding: chunked"),
    ] {
        let (_rig, mut ends) = asked(&GET.replace("GET", ask)).await;
        let poison = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
        ends.answer(format!("HTTP/1.1 {answer}\r\n\r\n{poison}")).await;
        let _ = ends.client.write_all(GET.as_bytes()).await;
        let told = ends.told_to_the_end().await;
        assert!(!told.contains("poison"), "{ask} {answer}: {told}");
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What a flood may cost, in KiB.
const LIMIT: u64 = 32 * 1024;

/// Resident memory of this process, KiB.
fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") * 4
}

/// An HTTP/2 upstream by hand, which answers the first request with `flood`, again and again; the client asks and then
/// reads nothing of its stream. Gives the KiB that this process grew by.
async fn flooded(first: &[u8], again: &[u8]) -> u64 {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http2);
    ends.upstream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("settings");
    ends.client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("preface");
    // No window at all for any stream.
    ends.client.write_all(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).await.expect("settings");
    let mut block = vec![0x82, 0x87, 0x84, 0x41, 11];
    block.extend_from_slice(b"api.example");
    ends.client.write_all(&frame(1, 5, 1, &block)).await.expect("headers");
    let (mut read, mut write) = tokio::io::split(ends.upstream);
    let mut seen = vec![0; 4096];
    let mut heard = 0;
    while heard < 24 + 9 + 30 {
        heard += timeout(PATIENCE, read.read(&mut seen)).await.expect("in time").expect("a request");
    }
    let drain = tokio::spawn(async move { while matches!(read.read(&mut seen).await, Ok(1..)) {} });
    let client = tokio::spawn(async move {
        let mut sink = vec![0; 4096];
        while matches!(ends.client.read(&mut sink).await, Ok(1..)) {}
    });
    let before = rss();
    write.write_all(first).await.expect("first");
    for _ in 0..200_000_000 / again.len().max(1) / 10 {
        match timeout(Duration::from_secs(2), write.write_all(again)).await {
            Ok(Ok(())) => (),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    let grown = rss().saturating_sub(before);
    drain.abort();
    client.abort();
    ends.done.abort();
    grown
}

#[tokio::test]
async fn an_upstream_that_floods_http2_is_bounded() {
    let ok = frame(1, 4, 1, &[0x88]);
    let many = |one: Vec<u8>, n: usize| one.repeat(n);
    let mut bomb = vec![0x88, 0x40, 1, b'a', 0x7f, 0xf1, 0x1e];
    bomb.extend(vec![b'b'; 4080]);
    bomb.extend(vec![0xbe; 10_000]);
    let early = frame(1, 4, 1, &[0x08, 3, b'1', b'0', b'3']);
    for (what, first, again) in [
        ("empty data", ok.clone(), many(frame(0, 0, 1, &[]), 1000)),
        ("padding only", ok.clone(), many(frame(0, 8, 1, &[vec![255], vec![0; 255]].concat()), 100)),
        ("one-octet data", ok.clone(), many(frame(0, 0, 1, b"x"), 1000)),
        ("continuation", frame(1, 0, 1, &[0x88]), many(frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']), 1000)),
        ("empty continuation", frame(1, 0, 1, &[0x88]), many(frame(9, 0, 1, &[]), 1000)),
        ("settings", ok.clone(), many(frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]), 1000)),
        ("table sizes", ok.clone(), many(frame(4, 0, 0, &[0, 1, 0, 0, 16, 0]), 1000)),
        ("ping", ok.clone(), many(frame(6, 0, 0, &[1; 8]), 1000)),
        ("early hints", vec![], many(early, 1000)),
        ("push", ok.clone(), many(frame(5, 4, 1, &[0, 0, 0, 2, 0x82, 0x87, 0x84]), 100)),
        ("goaway", ok.clone(), many(frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), 1000)),
        (
            "goaway with debug data",
            ok.clone(),
            frame(7, 0, 0, &[vec![0, 0, 0, 1, 0, 0, 0, 0], vec![0x1b; 16000]].concat()),
        ),
        ("reset", ok.clone(), many(frame(3, 0, 1, &[0, 0, 0, 8]), 1000)),
        ("window", ok.clone(), many(frame(8, 0, 0, &[0, 0, 0, 1]), 1000)),
        ("zero window", ok.clone(), many(frame(8, 0, 1, &[0, 0, 0, 0]), 1000)),
        ("priority", ok.clone(), many(frame(2, 0, 1, &[0, 0, 0, 3, 1]), 1000)),
        ("unknown", ok.clone(), many(frame(0x42, 0, 1, &[0; 100]), 1000)),
        ("data", ok.clone(), frame(0, 0, 1, &[b'x'; 16_000])),
        ("bomb", vec![], frame(1, 4, 1, &bomb)),
        ("trailers", ok.clone(), many(frame(1, 4, 1, &[0x40, 1, b'a', 1, b'b']), 1000)),
    ] {
        // Other tests of this process grow it too: what a flood costs it costs every time.
        let mut grown = u64::MAX;
        for _ in 0..4 {
            grown = grown.min(flooded(&first, &again).await);
            if grown < LIMIT {
                break;
            }
        }
        assert!(grown < LIMIT, "{what}: grown by {grown} KiB");
    }
}
