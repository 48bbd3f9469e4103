//! Documents of every kind, made at random: with planted values, in every spelling, in every cut. `MASK_ROUNDS` says how many.

mod make;
mod nested;

use super::tests::{plan, scope};
use super::*;
use crate::mask::Replacement;
use make::{Dice, document};

fn cut(body: &mut Body, text: &[u8], lengths: &mut dyn FnMut() -> usize) -> Result<Vec<u8>, Refused> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let end = text.len().min(at.saturating_add(lengths()));
        if (at, end) == (0, text.len()) {
            return body.last(text, &mut out).map(|()| out);
        }
        body.push(&text[at..end], &mut out)?;
        assert!(body.memory() <= MEMORY, "{}", body.memory());
        at = end;
    }
    body.end(&mut out).map(|()| out)
}

/// What the caller and what the record has.
fn kept(body: &mut Body, text: &[u8], lengths: &mut dyn FnMut() -> usize) -> (Vec<u8>, Vec<u8>) {
    let (mut whole, mut kept, mut at) = (Vec::new(), Vec::new(), 0);
    loop {
        let (mut out, end) = (Vec::new(), text.len().min(at + lengths()));
        let done = if end < text.len() {
            body.push(&text[at..end], &mut out)
        } else {
            body.last(&text[at..], &mut out)
        };
        done.expect("a document still");
        kept.extend_from_slice(&body.kept(&out));
        whole.extend_from_slice(&out);
        assert!(body.memory() <= MEMORY, "{}", body.memory());
        at = end;
        if at == text.len() {
            return (whole, kept);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a test takes is for its runner to say")]
fn rounds(default: usize) -> usize {
    std::env::var("MASK_ROUNDS").map_or(default, |rounds| rounds.parse().expect("a number"))
}

/// Another seed for each of several that run at once.
#[expect(clippy::disallowed_methods, reason = "how long a test takes is for its runner to say")]
fn seed(of: u64) -> Dice {
    let seed = std::env::var("MASK_SEED").map_or(0, |seed| seed.parse::<u64>().expect("a number"));
    Dice::new(of ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[test]
fn what_comes_out_never_depends_on_cut_and_spelling() {
    let (redact, token) = (plan(Replacement::Redact), plan(Replacement::Token));
    let mut dice = seed(0x5eed);
    let mut values = 0;
    for round in 0..rounds(150) {
        let (kind, doc) = document(&mut dice);
        values += doc.values.len();
        let pieces = dice.roll(60) + 1;
        for way in 0..4 {
            let mut lengths: Box<dyn FnMut() -> usize> = match way {
                0 => Box::new(|| usize::MAX >> 1),
                1 => Box::new(|| 1),
                2 => Box::new(|| pieces),
                _ => Box::new(|| dice.roll(40) + 1),
            };
            let mut body = Body::hiding(redact.clone(), scope(), kind.clone());
            let got = cut(&mut body, &doc.raw, &mut *lengths).expect("a document of its kind");
            assert_eq!(
                shown(&got),
                shown(&doc.want),
                "round {round}, {kind:?}, way {way}: {}",
                shown(&doc.raw)
            );
            for value in &doc.values {
                let half = &value.as_bytes()[..value.len() / 2 + 1];
                let half = str::from_utf8(half).unwrap_or(value);
                assert!(!value.is_ascii() || !shown(&got).contains(half), "round {round}: {half}");
            }
            if kind == Kind::Json {
                serde_json::from_slice::<serde_json::Value>(&got).expect("JSON stays JSON");
            }
        }
        let scope = scope();
        let hidden = cut(&mut Body::hiding(token.clone(), scope.clone(), kind.clone()), &doc.raw, &mut || 99);
        let hidden = hidden.expect("a document of its kind");
        assert!(doc.values.iter().all(|value| !shown(&hidden).contains(value)), "{}", shown(&hidden));
        for mut body in [
            Body::restoring(scope.clone(), kind.clone()),
            Body::both(token.clone(), scope.clone(), kind.clone()),
            Body::both(redact.clone(), scope.clone(), kind.clone()),
        ] {
            assert!(body.keeps());
            let (back, kept) = kept(&mut body, &hidden, &mut || dice.roll(90) + 1);
            assert_eq!(shown(&back), shown(&doc.back), "round {round}, {kind:?}: {}", shown(&hidden));
            assert_eq!(shown(&kept), shown(&hidden), "round {round}, {kind:?}: the record");
        }
    }
    assert!(values > rounds(150), "few values: {values}");
}

/// What documents are made of, and what is none of them.
#[rustfmt::skip]
const BITS: &[&str] = &[
    "\"", "{", "}", "[", "]", ":", ",", "\\", "\\u00", "40", "\n", "\r\n", "data: ", "data:", "\n\n",
    "<", ">", "<!--", "-->", "<![CDATA[", "]]>", "&", "&#64", ";", "%", "%4", "%C3", "+", "=", "--b0",
    "--b0\r\n\r\n", "--", "é", "😀", "jo@corp.example.org", "EMP-123456", "4111111111111111",
    "{\"delta\":\"", "{\"choices\":[{\"delta\":{\"content\":\"", "\"}}],\"index\":1}", "\"index\":",
    "nick", "\"nick\":", "null", "1e", "-", " ", "who", "<who>", "</who>", "<script>", "</script>",
    "ghp_", "-----BEGIN PRIVATE KEY-----", "eyJhbGciOiJIUzI1NiJ9.", "password=", "\u{0}", "\u{1e}",
    "4111\u{a0}1111\u{2009}1111\u{202f}1111", "41\u{ad}11", "\u{200b}", "–", "\u{a0}", "\\u00a0", "\\u200b", "４",
    "Content-Type: application/json\r\n\r\n", "\\\\", "\\\\n", "\\\\u00", "\"{\\\"", "\\\"",
    "\\\\\\\"", "partial_json\":\"", "{\"delta\":{\"partial_json\":\"",
    "%40", "%2540", "%25", "%0", "%ff", "\u{1b}", "\u{1b}[", "31", "m", "\u{1b}[1;31m", "\\n", "\\u0040", "\\x40",
    "\\u001b", "[0m", "\\u001b[1m", "\\\\u001b[", "\\e[", "\\033",
];

/// Whatever comes: the same for every cut, and within bounds.
#[test]
fn what_is_no_document_is_treated_the_same_in_every_cut() {
    let redact = plan(Replacement::Redact);
    let mut dice = seed(0xbad);
    for round in 0..rounds(150) {
        let mut text = Vec::new();
        for _ in 0..dice.roll(60) {
            text.extend_from_slice(dice.one(BITS).as_bytes());
            if dice.roll(200) == 0 {
                text.push(dice.roll(256) as u8);
            }
        }
        let kind = match dice.roll(11) {
            0 => Kind::Json,
            1 => Kind::Ndjson,
            2 | 3 => Kind::Sse,
            4 => Kind::Form,
            5 => Kind::Multipart { boundary: b"b0".to_vec() },
            6 => Kind::Xml,
            7 => Kind::Html,
            8 => Kind::Csv,
            9 => Kind::Opaque,
            _ => Kind::Text,
        };
        let body = || Body::hiding(redact.clone(), scope(), kind.clone());
        let want = cut(&mut body(), &text, &mut || usize::MAX >> 1);
        for way in 0..3 {
            let mut lengths: Box<dyn FnMut() -> usize> =
                if way == 0 { Box::new(|| 1) } else { Box::new(|| dice.roll(20) + 1) };
            let got = cut(&mut body(), &text, &mut *lengths);
            let both = (got.as_deref().map(shown), want.as_deref().map(shown));
            assert_eq!(both.0, both.1, "round {round}, {kind:?}, way {way}: {}", shown(&text));
        }
    }
}

#[test]
fn whatever_comes_is_bounded() {
    let redact = plan(Replacement::Redact);
    let long = |unit: &str, length: usize| unit.repeat(length / unit.len());
    for (kind, text) in [
        (Kind::Text, long("a", 400_000)),
        (Kind::Text, long("x@", 400_000)),
        (Kind::Json, format!("\"{}\"", long("\\u0061", 400_000))),
        (Kind::Json, format!("[{}1]", long("1,", 400_000))),
        (Kind::Json, format!("[\"{{\\\"a{}\"]", long("\\\\u0061", 400_000))),
        (Kind::Json, format!("[\"[\\\"[\\\\\\\"[\\\\\\\\\\\\\\\"{}\"]", long(r"\\\\u0061", 400_000))),
        (Kind::Json, format!("\"a{}\"", long("\u{200b}", 400_000))),
        (Kind::Text, long("4\u{200b}", 400_000)),
        (Kind::Text, format!("-----BEGIN PRIVATE KEY-----{}", long("4\u{200b}", 400_000))),
        (Kind::Text, format!("password=\"{}", long("4\u{200b}", 400_000))),
        (Kind::Sse, format!("data: {{\"delta\":\"4{}\"}}\n\n", long("\u{200b}", 400_000))),
        (Kind::Sse, long("data: {\"delta\":\"a\u{200b}\"}\n\n", 400_000)),
        (Kind::Json, format!("[{}1]", long("\"a\",", 400_000))),
        (Kind::Json, format!("{{\"nick\":\"{}\"}}", long("abc ", 400_000))),
        (Kind::Json, format!("{{\"nick\":[{}1]}}", long("1,", 400_000))),
        (Kind::Ndjson, long("{\"message\":{\"content\":\"a\"}}\n", 400_000)),
        (Kind::Sse, long("data: {\"delta\":\"a\"}\n\n", 400_000)),
        (Kind::Sse, long("\n", 400_000)),
        (Kind::Sse, long("data: x\n\n", 400_000)),
        (Kind::Sse, format!("data: {{\"delta\":\"ja\"}}\n\ndata: \"{}\"\n\n", long("abc ", 400_000))),
        (Kind::Sse, format!("data: {{\"delta\":\"{}\"}}\n\n", long("abc", 400_000))),
        (Kind::Form, long("%40", 400_000)),
        (Kind::Xml, long("&#64;", 400_000)),
        (Kind::Xml, format!("<{}", long("a", 400_000))),
        (Kind::Csv, long(",", 400_000)),
        (Kind::Csv, format!("nick\n\"{}", long("\"\"", 400_000))),
    ] {
        for length in [1, 1000, 400_000] {
            if length == 1 && cfg!(debug_assertions) && rounds(0) == 0 {
                continue;
            }
            let mut body = Body::hiding(redact.clone(), scope(), kind.clone());
            let done = cut(&mut body, text.as_bytes(), &mut || length);
            assert!(done.is_ok(), "{kind:?} {:?} {}", done.err(), &text[..20]);
        }
    }
}
