use super::*;

fn read(bytes: &[u8]) -> (Progress, Framer) {
    let mut framer = Framer::default();
    let progress = framer.advance(&mut bytes.to_vec());
    (progress, framer)
}

/// Shows `bytes` in pieces of `size`, holding back what is not cleared, as the gate does.
fn read_in_pieces(bytes: &[u8], size: usize) -> (usize, Option<Refused>, u64) {
    let mut framer = Framer::default();
    let mut held = Vec::new();
    let mut cleared = 0;
    for piece in bytes.chunks(size) {
        held.extend_from_slice(piece);
        let progress = framer.advance(&mut held);
        cleared += progress.cleared;
        held.drain(..progress.cleared);
        if progress.refused.is_some() {
            return (cleared, progress.refused, framer.heads());
        }
    }
    (cleared, None, framer.heads())
}

const GOOD: [&str; 12] = [
    "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "GET /{\"a\":1}?q={a:[1]}|^`x HTTP/1.1\r\nhost:\ta.example:8080 \r\nX: \u{e9}\r\nEmpty:\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0a\r\n0123456789\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n",
    "GET http://a.example:80/x HTTP/1.1\r\nHost: A.example:80\r\n\r\n",
    "GET http://a.example HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /old HTTP/1.0\r\n\r\n",
    "PROPFIND / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, TE\r\nTE: trailers\r\n\r\n",
    "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
];

#[test]
fn good_messages_pass_whole_however_they_are_cut() {
    for text in GOOD {
        for size in 1..=text.len() {
            let (cleared, refused, heads) = read_in_pieces(text.as_bytes(), size);
            assert_eq!((cleared, refused), (text.len(), None), "{text:?} in pieces of {size}");
            assert!(heads >= 1);
        }
    }
}

#[test]
fn expectations_are_altered_in_place() {
    let mut bytes = GOOD[11].as_bytes().to_vec();
    let mut framer = Framer::default();
    assert_eq!(framer.advance(&mut bytes).refused, None);
    assert_eq!(bytes, GOOD[11].replace("100-Continue", EXPECT_ALTERED).into_bytes());
}

#[test]
fn bytes_behind_a_request_to_change_the_protocol_wait() {
    let head = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let all = format!("{head}\x01\x02GET");
    for raw in [true, false] {
        let (progress, mut framer) = read(all.as_bytes());
        assert_eq!(progress, Progress { cleared: head.len(), refused: None });
        assert!(framer.undecided());
        framer.decide(raw);
        let progress = framer.advance(&mut all.as_bytes()[head.len()..].to_vec());
        assert_eq!(progress.cleared, if raw { 5 } else { 0 });
    }
    let (progress, framer) = read(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\nrest");
    assert_eq!((progress.cleared, framer.undecided()), (55, true));
}

#[test]
fn a_violation_behind_a_good_message_leaves_the_message() {
    let good = GOOD[2];
    let (progress, framer) = read(format!("{good}GET /\n\n").as_bytes());
    let refused = Some(Refused { violation: Violation::BareLf, begun: false });
    assert_eq!((progress, framer.heads()), (Progress { cleared: good.len(), refused }, 1));
}

#[test]
fn a_bad_chunk_takes_its_head_back_when_nobody_saw_it_yet() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (progress, framer) = read(format!("{head}5;x\r\nhello\r\n0\r\n\r\n").as_bytes());
    let refused = |begun| Some(Refused { violation: Violation::ChunkExtension, begun });
    assert_eq!((progress, framer.heads()), (Progress { cleared: 0, refused: refused(false) }, 0));
    let mut framer = Framer::default();
    assert_eq!(framer.advance(&mut head.as_bytes().to_vec()).cleared, head.len());
    assert_eq!(framer.advance(&mut b"5;".to_vec()), Progress { cleared: 0, refused: refused(true) });
}

#[test]
fn bounds() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(HEAD_MAX));
    for size in [1000, long.len()] {
        assert_eq!(
            read_in_pieces(long.as_bytes(), size).1.map(|r| r.violation),
            Some(Violation::HeadTooLong)
        );
    }
    let many = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(n));
    assert_eq!(read(many(FIELDS_MAX - 1).as_bytes()).0.refused, None);
    assert_eq!(
        read(many(FIELDS_MAX).as_bytes()).0.refused.map(|r| r.violation),
        Some(Violation::TooManyFields)
    );
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    let trailers = format!("{head}a: {}\r\n\r\n", "b".repeat(TRAILERS_MAX));
    assert_eq!(read(trailers.as_bytes()).0.refused.map(|r| r.violation), Some(Violation::TrailersTooLong));
}

/// Whatever target this reader lets through, the URI type below it reads to the same text.
#[test]
fn targets_are_read_alike_by_the_uri_type() {
    for b in 0..=255_u8 {
        for place in ["/a", "/?", "/a?b=c"] {
            let mut target = place.as_bytes().to_vec();
            target.push(b);
            target.extend_from_slice(b"z");
            let mut head = b"GET ".to_vec();
            head.extend_from_slice(&target);
            head.extend_from_slice(b" HTTP/1.1\r\nHost: a\r\n\r\n");
            if read(&head).0.refused.is_none() {
                let uri = http::Uri::from_maybe_shared(bytes::Bytes::from(target.clone()))
                    .unwrap_or_else(|e| panic!("{b:#x} in {place}: {e}"));
                assert_eq!(uri.to_string().as_bytes(), target, "{b:#x}");
            }
        }
    }
}
