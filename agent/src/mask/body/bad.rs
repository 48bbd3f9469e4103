//! What is bad on purpose: refused, or masked, in bounded memory and time.

use std::time::{Duration, Instant};

use super::tests::{mask, plan, scope, through};
use super::*;
use crate::mask::{Custom, Mask, Replacement};

/// So many events; MASK_EVENTS says more, a million in release.
#[expect(clippy::disallowed_methods, reason = "how long a test takes is for its runner to say")]
fn events() -> usize {
    std::env::var("MASK_EVENTS").map_or(20_000, |events| events.parse().expect("a number"))
}

#[test]
fn a_million_tiny_events() {
    let (token, scope) = (plan(Replacement::Token), scope());
    let mut seed = Body::hiding(token.clone(), scope.clone(), Kind::Text);
    seed.last(b"jane@corp.test", &mut Vec::new()).expect("text");
    let mut body = Body::both(token, scope, Kind::Sse);
    assert!(body.keeps());
    let (mut out, mut came, mut passed, mut kept) = (Vec::new(), 0, 0, 0);
    for at in 0..events() {
        let event = match at % 4 {
            0 => "data: a\n\n",
            1 => "data: {\"delta\":\"x \",\"index\":1}\n\n",
            2 => ":\n\n",
            _ => "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\". \"}}]}\n\n",
        };
        out.clear();
        body.push(event.as_bytes(), &mut out).expect("events");
        assert!(body.memory() <= MEMORY && body.held() <= MEMORY, "{}", body.memory());
        (came, passed, kept) = (came + event.len(), passed + out.len(), kept + body.kept(&out).len());
    }
    out.clear();
    body.end(&mut out).expect("events");
    assert_eq!((came, came), (passed + out.len(), kept + body.kept(&out).len()));
}

/// In one line, behind ten megabytes of it, and in the middle of it.
#[test]
fn a_line_of_ten_megabytes() {
    let filler = "nothing to be seen here, ".repeat((10 << 20) / 50);
    let line = format!("{filler}jane@corp.test {filler}4111 1111 1111 1111");
    let want = format!("{filler}[email] {filler}[card]");
    let quoted = |text: &str| format!("[\"{text}\"]");
    for (kind, line, want) in [
        (Kind::Text, line.clone(), want.clone()),
        (Kind::Ndjson, quoted(&line), quoted(&want)),
        (Kind::Csv, format!("a,{line}"), format!("a,{want}")),
    ] {
        let got =
            through(Body::hiding(plan(Replacement::Redact), scope(), kind.clone()), line.as_bytes(), 16384);
        assert!(got.as_deref() == Ok(want.as_bytes()), "{kind:?}");
    }
}

/// Overlong UTF-8 (RFC 3629 section 10) says the letters of an address: in text it is refused, and where bytes need not be text it is none.
#[test]
fn overlong_letters_and_halves_of_them() {
    for bad in [
        &b"jane\xc1\x80corp.test"[..],
        b"jane\xe0\x81\x80corp.test",
        b"jane\xf0\x80\x81\x80corp.test",
        b"a\xed\xa0\x80",
        b"\xff",
    ] {
        for kind in
            [Kind::Json, Kind::Text, Kind::Csv, Kind::Xml, Kind::Html, Kind::Form, Kind::Sse, Kind::Ndjson]
        {
            let text = [b"\"", bad, b"\""].concat();
            for cut in [1, 99] {
                let got = through(Body::hiding(plan(Replacement::Redact), scope(), kind.clone()), &text, cut);
                assert!(matches!(got, Err(Refused::Charset(_))), "{kind:?} {bad:?}");
            }
        }
    }
    // The same in percent signs.
    let got =
        through(Body::hiding(plan(Replacement::Redact), scope(), Kind::Form), b"a=jane%C1%80corp.test", 1);
    assert!(matches!(got, Err(Refused::Charset(_))));
}

#[test]
fn text_in_wide_letters() {
    let wide: Vec<u8> = "{\"a\":\"jane@corp.test\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for kind in
        [Kind::Json, Kind::Text, Kind::Csv, Kind::Xml, Kind::Html, Kind::Form, Kind::Sse, Kind::Ndjson]
    {
        let got = through(Body::hiding(plan(Replacement::Redact), scope(), kind.clone()), &wide, 7);
        assert!(got.is_err(), "{kind:?}");
    }
    let parts =
        [b"--b\r\ncontent-type: application/octet-stream\r\n\r\n", &wide[..], b"\r\n--b--\r\n"].concat();
    let kind = Kind::Multipart { boundary: b"b".to_vec() };
    assert!(through(Body::hiding(plan(Replacement::Redact), scope(), kind), &parts, 7).is_err());
}

/// Expressions over which engines that try one way after another never end: no bound and they are refused, with one they take linear
/// time.
#[test]
fn expressions_from_hell() {
    let custom = |pattern: &str| {
        let custom = vec![Custom::Regex { name: "hell".into(), pattern: pattern.into() }];
        Plan::compile(&[Mask { detect: Vec::new(), custom, ..mask(Replacement::Redact) }])
    };
    for endless in
        ["(a+)+b", "(a|a)*b", "(x+x+)+y", "(?:a{1,500}){1,500}", "(.*)*", r"(\w+\s?)+$", "(?:[a-z]{64}){64}"]
    {
        assert!(custom(endless).is_err(), "{endless}");
    }
    let (text, begun) = ("a".repeat(256 << 10), Instant::now());
    for bounded in ["(?:a?){28}a{28}b", "(?:a{1,8}){1,8}b", "(?:a|aa|aaa){1,20}[^a]", "a{1,200}b"] {
        let plan = Arc::new(custom(bounded).expect(bounded));
        let got = through(Body::hiding(plan, scope(), Kind::Text), text.as_bytes(), 4096);
        assert_eq!(got.map(|got| got.len()), Ok(text.len()), "{bounded}");
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}
