//! Private keys, JSON web tokens and the passwords in connection strings: secrets that a literal announces.

use super::{Begin, Detector, Shape, Step, Tail, Text, step};

pub const ALL: &[Detector] = &[
    Detector {
        name: "private-key",
        grammar: "`-----BEGIN`, up to 40 letters and spaces that end in `PRIVATE KEY` or `PRIVATE KEY BLOCK`, `-----`; all that \
                  follows up to the end of the `-----END` line, or to the first byte that no such file has. Of any length",
        source: "RFC 7468; OpenSSH PROTOCOL.key; RFC 9580 section 6.2",
        examples: &["«-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----»\n"],
        shapes: &[Shape::by(Begin::Literal(&["-----BEGIN "], pem))],
    },
    Detector {
        name: "jwt",
        grammar: "three or five parts in base64url between dots; the first a JSON object that names `alg`, `typ` or `enc`. Of \
                  any length",
        source: "RFC 7519, RFC 7515 section 3.1, RFC 7516 section 3.1",
        examples: &["Bearer «eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJleGFtcGxlIn0.EXAMPLEexampleEXAMPLEexample»"],
        shapes: &[Shape::by(Begin::Literal(&["eyJ", "ewog"], jwt))],
    },
    Detector {
        name: "connection-string",
        grammar: "user and password in `scheme://user:password@host`, the user up to 48 bytes, the password up to 256 without spaces, \
                  quotes and slashes; the value of \
                  `AccountKey=` and `SharedAccessKey=`",
        source: "RFC 3986 section 3.2.1; Azure Storage connection strings",
        examples: &[
            "postgres://«app:s3cr3t»@db.example/x",
            "AccountKey=«EXAMPLEexampleEXAMPLEexampleEXAMPLEexampleEXAMPLEex==»;",
        ],
        shapes: &[
            Shape::by(Begin::Literal(&["://"], credentials)),
            Shape::by(Begin::Literal(
                &["AccountKey=", "SharedAccessKey=", "SharedSecretValue="],
                account_key,
            )),
        ],
    },
];

fn pem(text: Text<'_>, at: usize) -> Option<(usize, Step)> {
    let from = at + b"-----BEGIN ".len();
    let found = (|| {
        let end = text.run(from, 41, |b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ')?;
        for place in end..end + 5 {
            if text.at(place)? != Some(b'-') {
                return Ok(Step::No);
            }
        }
        let label = text.slice(from, end);
        let private = label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK");
        Ok(if private { Step::Runs(end + 5, Tail::Pem) } else { Step::No })
    })();
    Some((at, step(found)))
}

/// Longest header of a token that is read; the beginning of a longer one is judged.
const HEADER: usize = 1024;

fn jwt(text: Text<'_>, at: usize) -> Option<(usize, Step)> {
    if text.before(at).is_some_and(is_base64) {
        return None;
    }
    let found = (|| {
        let end = text.run(at, HEADER, is_base64)?;
        let header = decoded(text.slice(at, end));
        let named = [&b"\"alg\""[..], b"\"typ\"", b"\"enc\""]
            .iter()
            .any(|name| memchr::memmem::find(&header, name).is_some());
        if !named || (end - at < HEADER && text.at(end)? != Some(b'.')) {
            return Ok(Step::No);
        }
        if end - at == HEADER {
            return Ok(Step::Runs(end, Tail::Token));
        }
        let payload = text.run(end + 1, 8, is_base64)?;
        // A JWE with a direct key has nothing in its second part.
        let empty = payload == end + 1 && text.at(payload)? == Some(b'.');
        Ok(if payload == end + 9 || empty { Step::Runs(payload, Tail::Token) } else { Step::No })
    })();
    Some((at, step(found)))
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// What base64 or base64url says, as far as it goes.
pub fn decoded(text: &[u8]) -> Vec<u8> {
    let text = text.split(|b| *b == b'=').next().unwrap_or_default();
    let value = |b: &u8| match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'-' | b'+' => 62,
        _ => 63,
    };
    let mut out = Vec::with_capacity(text.len());
    for four in text.chunks(4) {
        let bits = four.iter().fold(0, |bits, b| bits << 6 | u32::from(value(b))) << (6 * (4 - four.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..four.len().max(1)]);
    }
    out
}

fn credentials(text: Text<'_>, at: usize) -> Option<(usize, Step)> {
    let from = at + 3;
    let in_part = |b: u8| b > b' ' && !b"\"'<>`/\\:@{}()[],".contains(&b);
    let user = match text.run(from, 48, in_part) {
        Ok(end) => end,
        Err(more) => return Some((from, more)),
    };
    match text.at(user) {
        Err(more) => return Some((from, more)),
        Ok(Some(b':')) => {}
        Ok(_) => return None,
    }
    let found = (|| {
        let secret = user + 1;
        let end = text.run(secret, 257, |b| b > b' ' && !b"\"'<>`/\\?".contains(&b))?;
        let Some(password) = text.slice(secret, end).iter().rposition(|b| *b == b'@') else {
            return Ok(Step::No);
        };
        let host = text
            .at(secret + password + 1)?
            .is_some_and(|b| b.is_ascii_alphanumeric() || b"[{$%".contains(&b) || b > 127);
        let value = text.slice(secret, secret + password);
        Ok(if host && !is_placeholder(value) { Step::Found(secret + password) } else { Step::No })
    })();
    Some((from, step(found)))
}

/// What stands where a secret would, and is none.
pub fn is_placeholder(value: &[u8]) -> bool {
    let same = value.iter().all(|b| *b == value[0]);
    value.is_empty()
        || same
        || value.starts_with(b"$")
        || value.starts_with(b"{")
        || value.starts_with(b"<")
        || value.starts_with(b"[")
        || value.starts_with(b"%(")
        || value.iter().all(|b| b"*xX.".contains(b))
}

fn account_key(text: Text<'_>, at: usize) -> Option<(usize, Step)> {
    let name = text.slice(at, at + 24);
    let from = at + name.iter().position(|b| *b == b'=')? + 1;
    let found = (|| {
        let letters = text.run(from, 129, |b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')?;
        let end = text.run(letters, 3, |b| b == b'=')?;
        Ok(if (40..=128).contains(&(letters - from)) { Step::Found(end) } else { Step::No })
    })();
    Some((from, step(found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_without_an_algorithm_is_no_token() {
        let at = |text: &str| jwt(Text { bytes: text.as_bytes(), last: true }, 0).map(|(_, step)| step);
        assert_eq!(at("eyJzdWIiOiJleGFtcGxlIn0.eyJzdWIiOiJleGFtcGxlIn0.x"), Some(Step::No));
        assert_eq!(at("eyJhbGciOiJIUzI1NiJ9"), Some(Step::No));
        assert_eq!(decoded(b"eyJhbGciOiJIUzI1NiJ9"), br#"{"alg":"HS256"}"#);
    }

    #[test]
    fn passwords_may_hold_an_at_sign() {
        let text = "://u:p@ss@host/";
        let got = credentials(Text { bytes: text.as_bytes(), last: true }, 0);
        assert_eq!(got, Some((3, Step::Found(9))));
        for text in ["://host:8080/x@y", "://u:$PASS@host", "://u:***@host", "://u@host/"] {
            let got = credentials(Text { bytes: text.as_bytes(), last: true }, 0);
            assert!(matches!(got, None | Some((_, Step::No))), "{text} {got:?}");
        }
    }
}
