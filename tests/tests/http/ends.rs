//! What becomes of a connection that stops being HTTP, and of one that never was.

use sluice::engine::http::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::{Rig, to_the_end, until};

const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[tokio::test]
async fn websocket_frames_pass_untouched_and_are_recorded() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    // The client may not speak before the answer; if it does, its octets wait.
    ends.ask(format!("{WEBSOCKET}\u{1}\u{0}")).await;
    ends.heard(WEBSOCKET).await;
    ends.answer(SWITCHING).await;
    ends.told(SWITCHING).await;
    ends.heard("\u{1}\u{0}").await;
    let (up, down) = (b"\xc1\x83\x01\x02\x03\x04abc", b"\xc1\x05hello");
    ends.ask(up).await;
    let mut bytes = [0; 9];
    ends.upstream.read_exact(&mut bytes).await.expect("frame");
    assert_eq!(&bytes, up);
    ends.answer(down).await;
    ends.client.read_exact(&mut bytes[..7]).await.expect("frame");
    assert_eq!(&bytes[..7], down);
    ends.upstream.shutdown().await.expect("close");
    assert_eq!(to_the_end(&mut ends.client).await, "");
    ends.client.shutdown().await.expect("close");
    assert_eq!(ends.done.await.expect("task"), Ok(()));
    let record = rig.record().await;
    assert_eq!((record.protocol.as_str(), record.status), ("websocket", Some(101)));
    assert_eq!((record.bytes_up, record.bytes_down, record.error), (11, 7, None));
}

#[tokio::test]
async fn a_refused_upgrade_goes_on_as_http() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    let next = "GET /next HTTP/1.1\r\nHost: api.example\r\n\r\n";
    ends.ask(format!("{WEBSOCKET}{next}")).await;
    ends.heard(WEBSOCKET).await;
    ends.answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    ends.told("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
    ends.heard(next).await;
    ends.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    ends.told("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    rig.records(2).await;
}

#[tokio::test]
async fn an_upgrade_that_is_not_passed_on_holds_nothing_up() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    let next = "GET /next HTTP/1.1\r\nHost: api.example\r\n\r\n";
    let h2c = "GET / HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let elsewhere = WEBSOCKET.replace("api.example", "other.example");
    ends.ask(format!("{elsewhere}{h2c}{next}")).await;
    let (head, _) = ends.refusal().await;
    assert!(head.starts_with("HTTP/1.1 421 "), "{head}");
    for heard in ["GET / HTTP/1.1\r\nHost: api.example\r\n\r\n", next] {
        ends.heard(heard).await;
        ends.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        ends.told("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    }
    rig.records(3).await;
}

#[tokio::test]
async fn connect_and_other_upgrades_go_back_to_detection() {
    for (request, answer) in [
        (
            "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n",
            "HTTP/1.1 200 Connection established\r\n\r\n",
        ),
        (
            "POST /attach HTTP/1.1\r\nHost: api.example\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        ),
    ] {
        let rig = if request.starts_with("CONNECT") { Rig::plain() } else { Rig::new() };
        let mut ends = rig.http(Version::Http1);
        ends.ask(request).await;
        ends.heard(request).await;
        ends.answer(format!("{answer}from upstream")).await;
        ends.told(answer).await;
        assert_eq!(ends.done.await.expect("task"), Ok(()));
        let (mut client, mut upstream) = rig.again.lock().expect("again").pop().expect("a pair of streams");
        let mut bytes = [0; 13];
        upstream.read_exact(&mut bytes).await.expect("upstream's bytes");
        assert_eq!(&bytes, b"from upstream");
        ends.client.write_all(b"from client").await.expect("write");
        client.read_exact(&mut bytes[..11]).await.expect("client's bytes");
        assert_eq!(&bytes[..11], b"from client");
        client.write_all(b"x").await.expect("write");
        client.flush().await.expect("flush");
        ends.client.read_exact(&mut bytes[..1]).await.expect("read");
        assert_eq!(rig.record().await.error, None);
    }
}

#[tokio::test]
async fn a_refused_connect_is_an_answer() {
    let rig = Rig::plain();
    let mut ends = rig.http(Version::Http1);
    ends.ask("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n").await;
    until(&mut ends.upstream, "\r\n\r\n").await;
    let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 2\r\n\r\nno";
    ends.answer(answer).await;
    ends.told(answer).await;
    assert_eq!(rig.record().await.status, Some(407));
}

#[tokio::test]
async fn a_tunnel_passes_everything_and_half_closes() {
    let rig = Rig::plain();
    let mut ends = rig.tunnel("the server speaks first");
    let size = 1 << 20;
    let (mut client_read, mut client_write) = tokio::io::split(ends.client);
    let (mut upstream_read, mut upstream_write) = tokio::io::split(ends.upstream);
    let up = tokio::spawn(async move {
        client_write.write_all(&vec![1; size]).await.expect("write");
        client_write.shutdown().await.expect("half-close");
    });
    let mut heard = Vec::new();
    upstream_read.read_to_end(&mut heard).await.expect("all of it");
    assert_eq!(heard.len(), size);
    up.await.expect("client");
    let down = tokio::spawn(async move {
        upstream_write.write_all(&vec![2; size + 1]).await.expect("write");
        upstream_write.shutdown().await.expect("close");
    });
    heard.clear();
    client_read.read_to_end(&mut heard).await.expect("all of it");
    assert_eq!(heard.len(), size + 1);
    down.await.expect("upstream");
    assert_eq!((&mut ends.done).await.expect("task"), Ok(()));
    let record = rig.record().await;
    assert_eq!((record.protocol.as_str(), record.host.as_str()), ("tunnel", "192.0.2.1"));
    assert_eq!((record.bytes_up, record.bytes_down), (size as u64, size as u64 + 1));
    assert_eq!(record.error.as_deref(), Some("not read: the server speaks first"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_tunnel_ends_after_a_day() {
    let rig = Rig::plain();
    let ends = rig.tunnel("no known protocol begins like this");
    let error = ends.done.await.expect("task").expect_err("idle");
    assert!(error.contains("86400 seconds"), "{error}");
    assert!(rig.record().await.error.expect("an error").contains("86400 seconds"));
}

#[tokio::test]
async fn a_tunnel_that_is_cut_is_recorded() {
    let rig = Rig::plain();
    let mut ends = rig.tunnel("no known protocol begins like this");
    ends.ask("abc").await;
    ends.heard("abc").await;
    ends.done.abort();
    assert!(rig.record().await.error.expect("an error").contains("the agent ended it"));
}
