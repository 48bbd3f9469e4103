//! Hellos as they come over a bad wire, and from who does not mean well.

use super::*;

const HOST: &str = "api.example.com";

/// A ClientHello of rustls for `host`, as one record.
fn client_hello(fixture: &Fixture, host: &str) -> Vec<u8> {
    let mut session = rustls::ClientConnection::new(fixture.client(&["h2"]), name(host)).expect("session");
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).expect("hello");
    bytes
}

/// What `bytes` sent in pieces of `piece` come to, the client closing after them when `close`, with the bytes that the
/// agent answered.
async fn sent(fixture: &Fixture, bytes: &[u8], piece: usize, close: bool) -> (Refused, Vec<u8>) {
    let (mut client_end, agent_client) = tokio::io::duplex(piece);
    let (agent_upstream, upstream_end) = pipe();
    drop(upstream_end); // an upstream that is gone: whoever gets so far is refused there
    let agent =
        async { fixture.open("ci", Box::new(agent_client), agent_upstream).await.err().expect("refused") };
    let client = async move {
        let mut answer = Vec::new();
        // The agent may answer and close before all is sent.
        let _ = client_end.write_all(bytes).await;
        if close {
            let _ = client_end.shutdown().await;
        }
        let _ = client_end.read_to_end(&mut answer).await;
        answer
    };
    tokio::join!(agent, client)
}

#[tokio::test]
async fn in_pieces_and_in_many_records() {
    let fixture = Fixture::new();
    let whole = client_hello(&fixture, HOST);
    let mut records = Vec::new();
    for part in whole[5..].chunks(100) {
        records.extend_from_slice(&[22, 3, 1, 0, u8::try_from(part.len()).expect("small")]);
        records.extend_from_slice(part);
    }
    for bytes in [&whole, &records] {
        for piece in [1, 7, 1400, 32 * 1024] {
            let (refused, _) = sent(&fixture, bytes, piece, false).await;
            assert_eq!(
                (refused.stage, refused.facts.sni.as_deref()),
                (Stage::Upstream, Some(HOST)),
                "{refused}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_hello() {
    let fixture = Fixture::new();
    let whole = client_hello(&fixture, HOST);
    let half = &whole[..whole.len() / 2];
    let (refused, answer) = sent(&fixture, half, 4096, false).await;
    assert!(refused.reason.contains("did not finish its TLS hello in time"), "{refused}");
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 90], "user_canceled");
    let (refused, _) = sent(&fixture, half, 4096, true).await;
    assert!(refused.reason.contains("closed within its TLS hello"), "{refused}");
    assert_eq!((refused.stage, refused.alert), (Stage::Hello, None));
}

#[tokio::test]
async fn garbage() {
    let fixture = Fixture::new();
    let hello = client_hello(&fixture, HOST);
    let mut bent = hello.clone();
    bent[9..60].fill(0xff);
    let mut endless = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    endless.resize(200 * 1024, 0);
    for bytes in [
        &b"\x16\x03\x01\x00\x05garba"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 4096],
        &[0xff; 4096],
        &bent,
        &endless,
    ] {
        let (refused, answer) = sent(&fixture, bytes, 32 * 1024, true).await;
        assert_eq!(refused.stage, Stage::Hello, "{refused}");
        assert!(refused.reason.contains("not valid"), "{refused}");
        assert_eq!(answer.first(), Some(&21), "an alert");
        assert_eq!(fixture.signed(), 0);
    }
}

#[tokio::test]
async fn names_that_are_none() {
    let fixture = Fixture::new();
    for (bad, words) in [
        ("api.exam\0le.com", "no host name"),
        ("api.exam le.com", "no host name"),
        ("api/example/com", "no host name"),
        ("api.example.123", "no host name"),
        ("-pi.example.com", "no host name"),
        ("192.0.2.12.1.11", "no host name"),
    ] {
        let mut hello = client_hello(&fixture, HOST);
        let at = hello.windows(HOST.len()).position(|w| w == HOST.as_bytes()).expect("SNI");
        hello[at..at + HOST.len()].copy_from_slice(bad.as_bytes());
        let (refused, answer) = sent(&fixture, &hello, 32 * 1024, false).await;
        assert_eq!(refused.stage, Stage::Hello, "{bad:?} {refused}");
        assert!(refused.reason.contains(words), "{bad:?} {refused}");
        assert_eq!((answer.first(), answer.get(5)), (Some(&21), Some(&2)), "{bad:?}: a fatal alert");
    }
    // An address in the name's place counts as no name.
    let mut hello = client_hello(&fixture, "a.example.c");
    let at = hello.windows(11).position(|w| w == b"a.example.c").expect("SNI");
    hello[at..at + 11].copy_from_slice(b"203.0.113.9");
    let (refused, _) = sent(&fixture, &hello, 32 * 1024, false).await;
    assert_eq!((refused.stage, refused.facts.sni), (Stage::Upstream, None));
}
