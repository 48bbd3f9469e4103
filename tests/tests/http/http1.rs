//! HTTP/1 as it passes: byte for byte where hyper can, and how connections end.

use sluice::engine::http::Version;
use tokio::io::AsyncWriteExt;

use super::rig::{Ends, Rig, asked, until};

const GET: &str =
    "GET /a?b=c HTTP/1.1\r\nHost: api.example\r\nX-Odd: 1\r\naccept: */*\r\nAccept: text/html\r\n\r\n";

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A connection with one exchange behind it.
async fn answered() -> (Rig, Ends) {
    let (rig, mut ends) = asked(GET).await;
    ends.answer(OK).await;
    until(&mut ends.client, "\r\n\r\n").await;
    (rig, ends)
}

#[tokio::test]
async fn requests_and_answers_pass_in_their_own_words() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    for _ in 0..3 {
        ends.ask(GET).await;
        ends.heard("GET /a?b=c HTTP/1.1\r\nHost: api.example\r\nX-Odd: 1\r\naccept: */*\r\nAccept: text/html\r\n\r\n")
            .await;
        let answer = "HTTP/1.1 200 Fine\r\nSERVER: x\r\nContent-Length: 5\r\nX-a: 1\r\n\r\nhello";
        ends.answer(answer).await;
        ends.told(answer).await;
    }
    drop(ends.client);
    assert_eq!(super::rig::to_the_end(&mut ends.upstream).await, "");
    assert_eq!(ends.done.await.expect("task"), Ok(()));
    let records = rig.records(3).await;
    let record = &records[2];
    assert_eq!((record.protocol.as_str(), record.host.as_str()), ("http/1.1", "api.example"));
    assert_eq!((record.method.as_deref(), record.path.as_deref()), (Some("GET"), Some("/a?b=c")));
    assert_eq!((record.status, record.bytes_down, record.error.as_deref()), (Some(200), 5, None));
    assert_eq!(record.rule.as_deref(), Some("observe"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    let request = |n| format!("POST /{n} HTTP/1.1\r\nhost: api.example\r\ncontent-length: 2\r\n\r\n0{n}");
    ends.ask([request(1), request(2), request(3)].concat()).await;
    for n in 1..=3 {
        ends.heard(&request(n)).await;
        ends.answer(format!("HTTP/1.1 20{n} OK\r\ncontent-length: 1\r\n\r\n{n}")).await;
        ends.told(&format!("HTTP/1.1 20{n} ")).await;
        assert!(until(&mut ends.client, "\r\n\r\n").await.contains("content-length: 1"));
        ends.told(&n.to_string()).await;
    }
    rig.records(3).await;
}

#[tokio::test]
async fn chunks_leave_at_once_both_ways_and_trailers_follow() {
    let request = "POST / HTTP/1.1\r\nhost: api.example\r\nte: trailers\r\n\
                   transfer-encoding: chunked\r\ntrailer: x-up\r\n\r\n";
    let (rig, mut ends) = asked(request).await;
    ends.ask("3\r\nabc\r\n").await;
    ends.heard("3\r\nabc\r\n").await;
    ends.answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-down\r\n\r\n").await;
    until(&mut ends.client, "\r\n\r\n").await;
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        ends.answer(format!("9\r\n{event}\r\n")).await;
        ends.told(&format!("9\r\n{event}\r\n")).await;
    }
    ends.ask("0\r\nx-up: 1\r\n\r\n").await;
    ends.heard("0\r\nx-up: 1\r\n\r\n").await;
    ends.answer("0\r\nx-down: 2\r\n\r\n").await;
    ends.told("0\r\nx-down: 2\r\n\r\n").await;
    let record = rig.record().await;
    assert_eq!((record.bytes_up, record.bytes_down, record.error), (3, 18, None));
}

#[tokio::test]
async fn answers_without_body_have_none() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nx: y\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n"),
        ("PUT", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ] {
        ends.ask(format!("{method} / HTTP/1.1\r\nhost: api.example\r\n\r\n")).await;
        until(&mut ends.upstream, "\r\n\r\n").await;
        ends.answer(answer).await;
        ends.told(answer).await;
    }
    rig.records(4).await;
}

#[tokio::test]
async fn the_upstream_decides_about_100_continue() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    let head = "PUT / HTTP/1.1\r\nHost: api.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    ends.ask(head).await;
    ends.heard(head).await;
    // Nothing was said to the client yet: the first thing that it hears is what the upstream says.
    ends.answer("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n").await;
    ends.told("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n").await;
    ends.ask("body").await;
    ends.heard("body").await;
    ends.answer("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await;
    ends.told("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await;
    // And it may say no.
    ends.ask(head).await;
    ends.heard(head).await;
    ends.answer("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    ends.told("HTTP/1.1 413 Payload Too Large\r\n").await;
    rig.records(2).await;
}

#[tokio::test]
async fn http_1_0_stays_http_1_0() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    ends.ask("GET / HTTP/1.0\r\n\r\n").await;
    ends.heard("GET / HTTP/1.0\r\n\r\n").await;
    ends.answer("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    ends.upstream.shutdown().await.expect("close");
    assert_eq!(ends.told_to_the_end().await, "HTTP/1.0 200 OK\r\n\r\nuntil the end");
    assert_eq!(rig.record().await.protocol, "http/1.0");
}

#[tokio::test]
async fn an_answer_that_ends_with_the_connection_ends_so() {
    let (rig, mut ends) = asked(GET).await;
    ends.answer("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc").await;
    ends.upstream.shutdown().await.expect("close");
    let told = ends.told_to_the_end().await;
    assert!(told.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{told:?}");
    assert_eq!(rig.record().await.bytes_down, 3);
}

#[tokio::test]
async fn names_must_agree() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    ends.ask("POST /x HTTP/1.1\r\nHost: other.example\r\nContent-Length: 2\r\n\r\nab").await;
    let (head, body) = ends.refusal().await;
    assert!(head.starts_with("HTTP/1.1 421 "), "{head}");
    assert_eq!(body["session"], rig.session.id().to_string());
    assert!(body["detail"].as_str().expect("text").contains("other.example"), "{body}");
    drop(ends.client);
    assert_eq!(super::rig::to_the_end(&mut ends.upstream).await, "");
    let record = rig.record().await;
    assert_eq!((record.status, record.verdict), (Some(421), sluice::types::Verdict::Deny));
}

#[tokio::test]
async fn an_idle_upstream_that_closes_closes_the_client() {
    let (rig, mut ends) = answered().await;
    drop(ends.upstream);
    assert_eq!(super::rig::to_the_end(&mut ends.client).await, "");
    assert_eq!(ends.done.await.expect("task"), Ok(()));
    assert_eq!(rig.record().await.error, None);
}

#[tokio::test]
async fn an_upstream_that_dies_says_so_once_and_then_only_closes() {
    let (rig, mut ends) = asked(GET).await;
    drop(std::mem::replace(&mut ends.upstream, tokio::io::duplex(1).0));
    let (head, _) = ends.refusal().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert_eq!(ends.told_to_the_end().await, "");
    let record = rig.record().await;
    assert_eq!(record.status, Some(502));
    assert!(record.error.expect("an error").contains("no answer"));

    let (rig, mut ends) = answered().await;
    ends.ask(GET).await;
    until(&mut ends.upstream, "\r\n\r\n").await;
    drop(std::mem::replace(&mut ends.upstream, tokio::io::duplex(1).0));
    assert_eq!(ends.told_to_the_end().await, "", "closed without an answer");
    assert!(rig.records(2).await[1].error.as_deref().expect("an error").contains("no answer"));
}

#[tokio::test]
async fn a_client_that_goes_away_is_noted_and_the_upstream_let_go() {
    let (rig, mut ends) = asked(GET).await;
    ends.answer("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc").await;
    until(&mut ends.client, "abc").await;
    drop(ends.client);
    super::rig::to_the_end(&mut ends.upstream).await;
    assert!(rig.record().await.error.expect("an error").contains("client went away"));
    assert_eq!(ends.done.await.expect("task"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_answered_408() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    ends.ask("GET / HTTP/1.1\r\nHost: api.ex").await;
    let (head, body) = ends.refusal().await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert!(body["detail"].as_str().expect("text").contains("30 seconds"));
    assert_eq!(ends.told_to_the_end().await, "");
    assert_eq!(rig.record().await.status, Some(408));
}

#[tokio::test]
async fn drain_ends_after_the_exchange_under_way() {
    let (rig, mut ends) = asked(GET).await;
    let drain = rig.drain.clone();
    let run = tokio::spawn(async move { drain.run(super::rig::PATIENCE).await });
    ends.answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let told = ends.told_to_the_end().await;
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n") && told.ends_with("\r\n\r\nok"), "{told:?}");
    assert_eq!(ends.done.await.expect("task"), Ok(()));
    run.await.expect("drain");
    // An idle connection is closed at once.
    let mut ends = rig.http(Version::Http1);
    assert_eq!(ends.told_to_the_end().await, "");
}

#[tokio::test]
async fn bodies_pass_whole_under_back_pressure() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    let size = 8 << 20;
    ends.ask(format!("POST / HTTP/1.1\r\nhost: api.example\r\ncontent-length: {size}\r\n\r\n")).await;
    let (mut read, mut write) = tokio::io::split(ends.client);
    let asking = tokio::spawn(async move { write.write_all(&vec![b'u'; size]).await.expect("body") });
    until(&mut ends.upstream, "\r\n\r\n").await;
    let mut body = vec![0; size];
    tokio::io::AsyncReadExt::read_exact(&mut ends.upstream, &mut body).await.expect("body");
    assert!(body.iter().all(|b| *b == b'u'));
    asking.await.expect("asked");
    let upstream = ends.upstream;
    let answering = tokio::spawn(async move {
        let mut upstream = upstream;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
        upstream.write_all(head.as_bytes()).await.expect("head");
        upstream.write_all(&vec![b'd'; size]).await.expect("body");
        upstream
    });
    let mut all = vec![0; 40 + size];
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").len();
    all.truncate(head + size);
    tokio::io::AsyncReadExt::read_exact(&mut read, &mut all).await.expect("answer");
    assert!(all[head..].iter().all(|b| *b == b'd'));
    answering.await.expect("answered");
    let record = rig.record().await;
    assert_eq!((record.bytes_up, record.bytes_down), (size as u64, size as u64));
}

/// Time enough for an idle connection to be taken out of hyper (the clock is the test's).
async fn idle() {
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_goes_on_where_it_was() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    for round in 0..5 {
        // Whole, in pieces, and with pauses in the middle of things.
        ends.ask(&GET[..10 * round]).await;
        idle().await;
        ends.ask(&GET[10 * round..]).await;
        ends.heard(GET).await;
        idle().await;
        ends.answer(&OK[..20]).await;
        idle().await;
        ends.answer(&OK[20..]).await;
        ends.told(OK).await;
        idle().await;
    }
    drop(ends.client);
    assert_eq!(super::rig::to_the_end(&mut ends.upstream).await, "");
    assert_eq!(ends.done.await.expect("task"), Ok(()));
    assert!(rig.records(5).await.iter().all(|r| r.error.is_none()));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_like_any_other() {
    for how in ["upstream closes", "upstream speaks", "drain", "upstream dies at the next request"] {
        let rig = Rig::new();
        let mut ends = rig.http(Version::Http1);
        ends.ask(GET).await;
        ends.heard(GET).await;
        ends.answer(OK).await;
        ends.told(OK).await;
        idle().await;
        match how {
            "upstream closes" => ends.upstream.shutdown().await.expect("close"),
            "upstream speaks" => ends.answer("HTTP/1.1 408 Request Timeout\r\n\r\n").await,
            "drain" => {
                let drain = rig.drain.clone();
                tokio::spawn(async move { drain.run(super::rig::PATIENCE).await });
            }
            _ => {
                ends.ask(GET).await;
                ends.heard(GET).await;
                drop(std::mem::replace(&mut ends.upstream, tokio::io::duplex(1).0));
            }
        }
        assert_eq!(ends.told_to_the_end().await, "", "{how}");
        assert_eq!(ends.done.await.expect("task"), Ok(()), "{how}");
    }
}
