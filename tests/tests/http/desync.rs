//! Every payload of `tests/desync`: refused without an octet upstream, or forwarded in the one form that stands there.

use serde_json::Value;
use sluice::engine::http::Version;
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::rig::{Ends, Rig, to_the_end, until};

struct Payload {
    name: String,
    bytes: Vec<u8>,
    status: u64,
    forwarded: Vec<Vec<u8>>,
}

fn octets(text: &Value) -> Vec<u8> {
    text.as_str().expect("text").chars().map(|c| u8::try_from(u32::from(c)).expect("an octet")).collect()
}

fn payloads() -> Vec<Payload> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../../desync/payloads.json")).expect("payloads");
    all.iter()
        .map(|p| Payload {
            name: p["name"].as_str().expect("name").to_owned(),
            bytes: octets(&p["bytes"]),
            status: p["status"].as_u64().expect("status"),
            forwarded: p["forwarded"].as_array().expect("list").iter().map(octets).collect(),
        })
        .collect()
}

/// Answers what must be forwarded, then reads how the client is told of the rest.
async fn play(ends: &mut Ends, payload: &Payload) {
    for message in &payload.forwarded {
        let mut bytes = vec![0; message.len()];
        tokio::io::AsyncReadExt::read_exact(&mut ends.upstream, &mut bytes).await.expect("upstream hears");
        assert_eq!(bytes.escape_ascii().to_string(), message.escape_ascii().to_string(), "{}", payload.name);
        ends.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let head = until(&mut ends.client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{}: {head}", payload.name);
    }
    if payload.status != 200 {
        let (head, _) = ends.refusal().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {} ", payload.status)), "{}: {head}", payload.name);
    }
}

#[test]
fn there_are_enough_of_them() {
    let refused = payloads().iter().filter(|p| p.status != 200).count();
    assert!(refused >= 76, "{refused}");
}

#[tokio::test]
async fn in_one_piece() {
    for payload in payloads() {
        let rig = Rig::new();
        let mut ends = rig.http(Version::Http1);
        ends.ask(&payload.bytes).await;
        play(&mut ends, &payload).await;
        drop(ends.client);
        assert_eq!(to_the_end(&mut ends.upstream).await, "", "{}: more than it should", payload.name);
        let records = rig.records(payload.forwarded.len() + usize::from(payload.status != 200)).await;
        let last = records.last().expect("a record");
        assert_eq!(last.status.map(u64::from), Some(payload.status), "{}", payload.name);
        assert_eq!(last.error.is_some(), payload.status != 200, "{}: {:?}", payload.name, last.error);
    }
}

/// The upstream gets `message`, whose chunks may be cut otherwise than they came.
async fn hears(upstream: &mut DuplexStream, message: &[u8], name: &str) {
    let mut bytes = vec![0; message.len()];
    tokio::io::AsyncReadExt::read_exact(upstream, &mut bytes).await.expect("upstream hears");
    let (bytes, message) = (bytes.escape_ascii().to_string(), message.escape_ascii().to_string());
    let same_but_for_chunking = message.contains("\\r\\n5\\r\\nhello") && bytes.starts_with(&message[..40]);
    assert!(bytes == message || same_but_for_chunking, "{name}: {bytes}");
    if same_but_for_chunking {
        until(upstream, "0\r\n\r\n").await;
    }
}

/// Octet by octet a bad chunk may find its head sent already; then the exchange is cut off, and the client hears why.
/// What never happens: a 200, or an octet of the smuggled request upstream.
#[tokio::test]
async fn octet_by_octet() {
    for payload in payloads() {
        let rig = Rig::new();
        let mut ends = rig.http(Version::Http1);
        let (mut read, mut write) = tokio::io::split(ends.client);
        let bytes = payload.bytes.clone();
        let writer = tokio::spawn(async move {
            for byte in bytes {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            write
        });
        let begun = payload.name.contains("chunk") || payload.name.contains("trailer");
        if payload.status != 200 && begun {
            let mut head = vec![0; 12];
            tokio::io::AsyncReadExt::read_exact(&mut read, &mut head).await.expect("an answer");
            assert_eq!(
                String::from_utf8_lossy(&head),
                format!("HTTP/1.1 {}", payload.status),
                "{}",
                payload.name
            );
            drop((read, writer.await.expect("writer")));
            let heard = to_the_end(&mut ends.upstream).await;
            assert!(!heard.contains("SMUGGLED"), "{}: {heard:?}", payload.name);
        } else {
            for message in &payload.forwarded {
                hears(&mut ends.upstream, message, &payload.name).await;
                ends.upstream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await
                    .expect("answer");
            }
            let mut head = vec![0; 12];
            for status in
                payload.forwarded.iter().map(|_| 200).chain((payload.status != 200).then_some(payload.status))
            {
                tokio::io::AsyncReadExt::read_exact(&mut read, &mut head).await.expect("an answer");
                assert_eq!(String::from_utf8_lossy(&head), format!("HTTP/1.1 {status}"), "{}", payload.name);
                let mut end = [0; 4];
                while &end != b"\r\n\r\n" {
                    end.rotate_left(1);
                    end[3] = tokio::io::AsyncReadExt::read_u8(&mut read).await.expect("head");
                }
            }
            drop((read, writer.await.expect("writer")));
            assert_eq!(to_the_end(&mut ends.upstream).await, "", "{}", payload.name);
        }
    }
}
