//! Answers of a hostile or broken upstream: a clean relay, or 502 with the reason; bounded memory either way.

use sluice::engine::http::Version;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::rig::{PATIENCE, Rig, asked, to_the_end, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: api.example\r\n\r\n";

#[tokio::test]
async fn answers_with_two_meanings_are_refused() {
    for (answer, why) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "both"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "content-length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello", "content-length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", "content-length"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", "chunked"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\nhello", "chunked"),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "transfer-encoding"),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "header"),
        ("HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n", "header"),
        ("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "header"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "without being asked"),
        ("SSH-2.0-OpenSSH\r\n", "version"),
        ("HTTP/2.0 200 OK\r\n\r\n", "version"),
        ("hello", ""),
    ] {
        let (rig, mut ends) = asked(GET).await;
        ends.answer(answer).await;
        ends.upstream.shutdown().await.expect("close");
        let (head, body) = ends.refusal().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{answer:?}: {head}");
        assert!(body["detail"].as_str().expect("text").to_lowercase().contains(why), "{answer:?}: {body}");
        assert_eq!(ends.told_to_the_end().await, "", "{answer:?}");
        let record = rig.record().await;
        assert_eq!(record.status, Some(502), "{answer:?}");
        assert!(record.error.is_some(), "{answer:?}");
    }
}

#[tokio::test]
async fn what_has_one_meaning_is_said_in_one_way() {
    for (answer, told) in [
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n002;x=y\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
    ] {
        for size in [answer.len(), 1] {
            let (rig, mut ends) = asked(GET).await;
            for piece in answer.as_bytes().chunks(size) {
                ends.answer(piece).await;
                tokio::task::yield_now().await;
            }
            let mut bytes = vec![0; told.len()];
            tokio::io::AsyncReadExt::read_exact(&mut ends.client, &mut bytes).await.expect("an answer");
            let heard = String::from_utf8_lossy(&bytes).into_owned();
            if size == 1 && told.ends_with("0\r\n\r\n") {
                continue; // a chunk an octet
            }
            assert!(heard.eq_ignore_ascii_case(told), "{answer:?} in pieces of {size}: {heard:?}");
            let record = rig.record().await;
            assert_eq!((record.status, record.bytes_down, record.error), (Some(200), 2, None));
        }
    }
}

#[tokio::test]
async fn ten_thousand_fields_and_an_endless_head_are_refused() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1 << 20));
    for answer in [many, long] {
        let (rig, mut ends) = asked(GET).await;
        let length = answer.len();
        let (mut read, mut write) = tokio::io::split(ends.upstream);
        let writer = tokio::spawn(async move { write.write_all(answer.as_bytes()).await });
        let head = until(&mut ends.client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        // The upstream's connection is closed: its writing fails rather than being taken in.
        let written = timeout(PATIENCE, writer).await.expect("it ends").expect("task");
        assert!(written.is_err() || length < 64 * 1024);
        assert_eq!(tokio::io::AsyncReadExt::read(&mut read, &mut [0]).await.expect("closed"), 0);
        assert_eq!(rig.record().await.status, Some(502));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_at_the_client() {
    for (answer, rest) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", ""),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", ""),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", "xyz\r\n"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", "fffffffffffffffff\r\n"),
    ] {
        let (rig, mut ends) = asked(GET).await;
        ends.answer(answer).await;
        until(&mut ends.client, "abc").await;
        ends.answer(rest).await;
        ends.upstream.shutdown().await.expect("close");
        let told = to_the_end(&mut ends.client).await;
        assert!(!told.ends_with("0\r\n\r\n"), "{told:?} looks whole");
        let record = rig.record().await;
        assert_eq!((record.status, record.bytes_down), (Some(200), 3));
        assert!(record.error.expect("an error").contains("broke off"));
    }
}

#[tokio::test]
async fn octets_that_nobody_asked_for_end_the_connection() {
    let (rig, mut ends) = asked(GET).await;
    ends.answer(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison",
    )
    .await;
    ends.told("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(ends.told_to_the_end().await, "");
    assert_eq!(rig.record().await.error, None);
}

#[tokio::test]
async fn a_flood_of_informational_answers_is_not_kept() {
    let (rig, mut ends) = asked(GET).await;
    let hint = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "x".repeat(900));
    let (_read, mut write) = tokio::io::split(ends.upstream);
    let writer = tokio::spawn(async move {
        for _ in 0..5000 {
            write.write_all(hint.as_bytes()).await.expect("hint");
        }
        write.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("answer");
        write
    });
    // The client reads nothing until the upstream is through.
    let _write = timeout(PATIENCE, writer).await.expect("taken in").expect("task");
    loop {
        let head = until(&mut ends.client, "\r\n\r\n").await;
        if head.starts_with("HTTP/1.1 200 ") {
            break;
        }
        assert!(head.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{head}");
    }
    assert_eq!(rig.record().await.error, None);
}

#[tokio::test]
async fn nothing_passes_unrecorded() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    rig.break_store();
    // What is allocated still takes records; then it is over.
    let request = format!("GET /{} HTTP/1.1\r\nHost: api.example\r\n\r\n", "x".repeat(30_000));
    let mut heard = 0;
    loop {
        ends.ask(&request).await;
        let upstream = &mut ends.upstream;
        let mut head = String::new();
        tokio::select! {
            biased;
            text = until(&mut ends.client, "\r\n\r\n") => head = text,
            _ = until(upstream, "\r\n\r\n") => {
                heard += 1;
                ends.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
        if head.is_empty() {
            head = until(&mut ends.client, "\r\n\r\n").await;
        }
        if !head.starts_with("HTTP/1.1 200 ") {
            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            break;
        }
        assert!(heard < 10_000, "the store takes records without a place for them");
    }
    let told = ends.told_to_the_end().await;
    assert!(told.contains("the record cannot be written"), "{told}");
    assert_eq!(to_the_end(&mut ends.upstream).await, "");
}
