//! What a client speaks, from its first bytes.
//!
//! A finding never changes when more bytes come. What looks like HTTP but is malformed is found as HTTP, so that the
//! HTTP engine refuses it with a reason: were it opaque, a misspelt request line would be a way around the engine.

use memchr::memchr;

/// What the bytes so far say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Too little to say; it may become this.
    Need(Maybe),
    /// Found.
    Found(Protocol),
    /// None of the protocols that are read.
    Opaque(Why),
}

/// What unfinished bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maybe {
    /// A TLS record.
    Tls,
    /// A request line, or the HTTP/2 preface.
    Http,
    /// Nothing yet.
    Anything,
}

/// A protocol that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A TLS record with a handshake message in it.
    Tls,
    /// HTTP/1.0 or HTTP/1.1, well-formed or not.
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3).
    Http2,
}

/// Why bytes are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The upstream spoke first (SSH, SMTP, MySQL …).
    #[error("the server speaks first")]
    ServerSpeaksFirst,
    /// Some bytes, too few for any protocol, and no more within the time given.
    #[error("too few bytes to tell the protocol")]
    TooShort,
    /// No known protocol begins so.
    #[error("no known protocol begins like this")]
    NoMatch,
}

/// A request line longer than this is HTTP if its first word is a method, and opaque otherwise.
pub const LINE_MAX: usize = 8 * 1024;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const METHODS: [&[u8]; 9] =
    [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT"];

/// Looks at the first bytes of a connection.
pub fn sniff(bytes: &[u8]) -> Step {
    match bytes {
        [] => Step::Need(Maybe::Anything),
        [0x16, ..] => tls(bytes),
        _ if PREFACE.starts_with(bytes) && bytes.len() < PREFACE.len() => Step::Need(Maybe::Http),
        _ if bytes.starts_with(PREFACE) => Step::Found(Protocol::Http2),
        _ => http1(bytes),
    }
}

/// Whether a server's first bytes are HTTP/2's: a SETTINGS frame that is no acknowledgement (RFC 9113 §3.4, §6.5).
/// `None`: too few to say.
pub fn greets_http2(bytes: &[u8]) -> Option<bool> {
    const TYPE_FLAGS_STREAM: [u8; 6] = [4, 0, 0, 0, 0, 0];
    let long = |b: &[u8]| {
        b.first().is_none_or(|b| *b == 0) && (b.len() < 3 || u16::from_be_bytes([b[1], b[2]]) % 6 == 0)
    };
    let rest = bytes.get(3..).unwrap_or_default();
    let good = long(bytes) && rest.iter().zip(TYPE_FLAGS_STREAM).all(|(b, want)| *b == want);
    match good {
        true if rest.len() < TYPE_FLAGS_STREAM.len() => None,
        good => Some(good),
    }
}

/// Record type 22, version 3.0 to 3.4, a length that a record may have, handshake message 1 (RFC 8446 §5.1, §4).
fn tls(bytes: &[u8]) -> Step {
    let good = [
        |_: &[u8]| true,
        |b: &[u8]| b[1] == 3,
        |b: &[u8]| b[2] <= 4,
        |b: &[u8]| b[3] <= 0x40,
        |b: &[u8]| (b[3], b[4]) != (0, 0),
        |b: &[u8]| b[5] == 1,
    ];
    if !good.iter().take(bytes.len()).all(|test| test(bytes)) {
        Step::Opaque(Why::NoMatch)
    } else if bytes.len() < good.len() {
        Step::Need(Maybe::Tls)
    } else {
        Step::Found(Protocol::Tls)
    }
}

/// `token SP target SP HTTP/…`, after what lenient servers skip. A line is judged when it is whole: `get KEY` is
/// memcached, `GET KEY` Redis.
fn http1(bytes: &[u8]) -> Step {
    let skipped = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
    if skipped > 64 {
        return Step::Opaque(Why::NoMatch);
    }
    let line = &bytes[skipped..];
    let end = memchr(b'\n', line);
    let line = &line[..end.unwrap_or(line.len())];
    let word_end = line.iter().position(|b| !is_token(*b));
    let word = &line[..word_end.unwrap_or(line.len())];
    if word.len() > 32 || (word.is_empty() && !line.is_empty()) {
        return Step::Opaque(Why::NoMatch);
    }
    match word_end.map(|i| line[i]) {
        None if end.is_none() => return Step::Need(maybe(word)),
        Some(b' ' | b'\t' | 0x0b | 0x0c | b'\r') => (),
        _ => return Step::Opaque(Why::NoMatch),
    }
    let known = METHODS.iter().any(|m| m.eq_ignore_ascii_case(word));
    if end.is_none() && line.len() < LINE_MAX {
        // Control octets do not belong in a request line: decide before a binary protocol waits for its newline.
        let binary = line.iter().any(|b| (*b < b' ' && !b.is_ascii_whitespace() && *b != 0x0b) || *b == 0x7f);
        return match (binary, known) {
            (true, true) => Step::Found(Protocol::Http1),
            (true, false) => Step::Opaque(Why::NoMatch),
            (false, _) => Step::Need(maybe(word)),
        };
    }
    // HTTP/0.9 is `GET` and a path, no more.
    let simple = word.eq_ignore_ascii_case(b"GET") && line[word.len()..].trim_ascii().starts_with(b"/");
    let versioned = line.windows(5).any(|w| w.eq_ignore_ascii_case(b"HTTP/"));
    if versioned || simple || (known && end.is_none()) {
        Step::Found(Protocol::Http1)
    } else {
        Step::Opaque(Why::NoMatch)
    }
}

fn maybe(word: &[u8]) -> Maybe {
    let begins = |m: &&[u8]| m.get(..word.len()).is_some_and(|m| m.eq_ignore_ascii_case(word));
    if METHODS.iter().any(begins) && !word.is_empty() { Maybe::Http } else { Maybe::Anything }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLES: [(&[u8], Step); 24] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Step::Found(Protocol::Tls)),
        (b"\x16\x03\x03\x00\x05\x01....", Step::Found(Protocol::Tls)),
        (b"\x16\x03\x05\x00\x05\x01", Step::Opaque(Why::NoMatch)),
        (b"\x16\x02\x01\x00\x05\x01", Step::Opaque(Why::NoMatch)),
        (b"\x16\x03\x01\x00\x00\x01", Step::Opaque(Why::NoMatch)),
        (b"\x16\x03\x01\x00\x05\x02", Step::Opaque(Why::NoMatch)),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Step::Found(Protocol::Http1)),
        (b"post /x?y HTTP/1.0\n\n", Step::Found(Protocol::Http1)),
        (b"M-SEARCH * HTTP/1.1\r\n", Step::Found(Protocol::Http1)),
        (b"\r\n\r\nGET / HTTP/1.1\r\n", Step::Found(Protocol::Http1)),
        (b"GET  /  HTTP/1.1\r\n", Step::Found(Protocol::Http1)),
        (b"GET\t/ HTTP/1.1\r\n", Step::Found(Protocol::Http1)),
        (b"GET /\r\n", Step::Found(Protocol::Http1)),
        (b"GET / HTTP/9.9\r\n", Step::Found(Protocol::Http1)),
        (b"GET /\x00 HTTP/1.1\r\n", Step::Found(Protocol::Http1)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Step::Found(Protocol::Http2)),
        (b"PRI * HTTP/2.0\r\n\r\nXX", Step::Found(Protocol::Http1)),
        (b"PRI foo\r\n", Step::Opaque(Why::NoMatch)),
        (b"get key\r\n", Step::Opaque(Why::NoMatch)),
        (b"EHLO mail.example\r\n", Step::Opaque(Why::NoMatch)),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Step::Opaque(Why::NoMatch)),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Step::Opaque(Why::NoMatch)),
        (b"*1\r\n$4\r\nPING\r\n", Step::Opaque(Why::NoMatch)),
        (b"AMQP\x00\x00\x09\x01", Step::Opaque(Why::NoMatch)),
    ];

    /// Every prefix of every example needs more or is decided, and a decision stays.
    #[test]
    fn every_prefix() {
        for (bytes, want) in EXAMPLES {
            let mut decided = None;
            for n in 0..=bytes.len() {
                let step = sniff(&bytes[..n]);
                match (decided, step) {
                    (None, Step::Need(_)) => (),
                    (None, step) => decided = Some(step),
                    (Some(before), step) => {
                        assert_eq!(before, step, "{:?} at {n}", bytes.escape_ascii().to_string())
                    }
                }
            }
            assert_eq!(decided, Some(want), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn unfinished_bytes_say_what_they_look_like() {
        for (bytes, want) in [
            (&b""[..], Maybe::Anything),
            (b"\x16", Maybe::Tls),
            (b"\x16\x03\x01\x02\x00", Maybe::Tls),
            (b"G", Maybe::Http),
            (b"GET /long", Maybe::Http),
            (b"PRI * HT", Maybe::Http),
            (b"hello", Maybe::Anything),
        ] {
            assert_eq!(sniff(bytes), Step::Need(want), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn long_lines_end() {
        let long = |start: &str| [start.as_bytes(), &vec![b'a'; LINE_MAX][..]].concat();
        assert_eq!(sniff(&long("GET /")), Step::Found(Protocol::Http1));
        assert_eq!(sniff(&long("XYZ /")), Step::Opaque(Why::NoMatch));
        assert_eq!(sniff(&[b'a'; 33]), Step::Opaque(Why::NoMatch));
        assert_eq!(sniff(&[b' '; 65]), Step::Opaque(Why::NoMatch));
    }
}
