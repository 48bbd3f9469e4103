//! What of headers and paths goes into the store: names and values in order, secrets taken out, the sum bounded.
//!
//! The rule: the value of a header that carries a secret by its name (see [`secret_name`]) is never stored. In its place
//! stands `[redacted LENGTH bytes FINGERPRINT]`, where the fingerprint is the first 8 hex digits of SHA-256 over a salt
//! and the value. The salt is drawn when the agent starts and is never written, so that within one run an auditor sees
//! whether two exchanges bore the same credential, and nobody can try guesses against a copy of the store. Of a key of a
//! known kind (`codec/keys.toml`) it is HMAC-SHA-256 under the host's salt, 16 digits, the same as among the exchange's
//! `caller_keys` and for as long as the store's directory is there: nobody guesses such a key. An
//! authentication scheme (`Bearer`, `Basic` …) stays. Parameters of a query with such a name lose their value likewise,
//! in the path and in the headers that hold a URL. Bodies are stored as they are: masking them is policy's.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use super::Borne;
pub use super::salt::Salt;
use crate::codec::percent::decoded;
use crate::codec::websocket::protocols;
use crate::types::CredentialName;

/// Bytes of names and values that are stored of one head; what is beyond is counted.
pub const LIMIT: usize = 256 * 1024;

/// A header's or parameter's value as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stored<'a> {
    /// UTF-8.
    Text(Cow<'a, str>),
    /// Anything else.
    Raw {
        /// The bytes in Base64 (RFC 4648 §4).
        base64: String,
    },
}

/// Headers on their way into the store: a JSON array of `[name, value]`.
pub struct Redacted<'a> {
    headers: &'a HeaderMap,
    salt: &'a Salt,
    take: usize,
    /// A field that is put in on the way, and what stands for its value.
    borne: Option<(&'a str, String)>,
}

impl<'a> Redacted<'a> {
    /// `headers` as they may be stored, cut at [`LIMIT`].
    pub fn new(headers: &'a HeaderMap, salt: &'a Salt) -> Self {
        let mut bytes = 0;
        let take = headers.iter().take_while(|(name, value)| {
            bytes += name.as_str().len() + value.len();
            bytes <= LIMIT
        });
        Self { headers, salt, take: take.count(), borne: None }
    }

    /// With the field of a credential that is put in when the request is sent: its name stands for its value.
    #[must_use]
    pub fn with(mut self, borne: Option<&'a Borne>) -> Self {
        self.borne = borne.and_then(|borne| Some((borne.field.as_ref()?.as_str(), mark(&borne.name))));
        self
    }

    /// How many headers were left out.
    pub fn cut(&self) -> usize {
        self.headers.len() - self.take
    }
}

impl Serialize for Redacted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.take + usize::from(self.borne.is_some())))?;
        for (name, value) in self.headers.iter().take(self.take) {
            seq.serialize_element(&(name.as_str(), stored(name.as_str(), value, self.salt)))?;
        }
        if let Some(borne) = &self.borne {
            seq.serialize_element(borne)?;
        }
        seq.end()
    }
}

/// What stands in a record in place of a credential's value.
fn mark(name: &CredentialName) -> String {
    format!("[credential {name}]")
}

/// A path and query with the parameter of a credential that is put in when the request is sent.
pub fn with_parameter(path: Cow<'_, str>, borne: Option<&Borne>) -> String {
    match borne.and_then(|borne| Some((borne.parameter.as_ref()?, mark(&borne.name)))) {
        None => path.into_owned(),
        Some((parameter, mark)) => {
            let sign = if path.contains('?') { '&' } else { '?' };
            format!("{path}{sign}{parameter}={mark}")
        }
    }
}

fn stored<'a>(name: &str, value: &'a HeaderValue, salt: &Salt) -> Stored<'a> {
    if value.is_sensitive() || (secret_name(name) && name != PROTOCOLS) {
        return Stored::Text(Cow::Owned(without_secret(value.as_bytes(), salt)));
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) if name == PROTOCOLS => Stored::Text(Cow::Owned(protocols_without_keys(text, salt))),
        Ok(text)
            if matches!(
                name,
                "location" | "content-location" | "referer" | "refresh" | "link" | "origin"
            ) =>
        {
            Stored::Text(path(text, salt))
        }
        Ok(text) => Stored::Text(Cow::Borrowed(text)),
        Err(_) => {
            use base64::Engine;
            Stored::Raw { base64: base64::engine::general_purpose::STANDARD.encode(value.as_bytes()) }
        }
    }
}

/// A field of names, and of keys where a client can set no other.
const PROTOCOLS: &str = "sec-websocket-protocol";

fn protocols_without_keys(field: &str, salt: &Salt) -> String {
    let shown =
        |(name, secret): (&str, bool)| if secret { salt.redacted(name.as_bytes()) } else { name.to_owned() };
    protocols(field).into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// The scheme stays, where it is one that is known: it is no secret and tells an auditor what was sent.
fn without_secret(value: &[u8], salt: &Salt) -> String {
    const SCHEMES: [&str; 8] = [
        "Basic",
        "Bearer",
        "Digest",
        "Negotiate",
        "NTLM",
        "AWS4-HMAC-SHA256",
        "AWS4-ECDSA-P256-SHA256",
        "token",
    ];
    if let Some(space) = value.iter().position(|b| *b == b' ') {
        let (scheme, rest) = (&value[..space], &value[space + 1..]);
        if let Some(known) = SCHEMES.iter().find(|s| s.as_bytes().eq_ignore_ascii_case(scheme)) {
            return format!("{known} {}", salt.redacted(rest));
        }
    }
    salt.redacted(value)
}

/// Words that make a name a secret's.
const WORDS: [&str; 20] = [
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "passwd",
    "pwd",
    "credential",
    "signature",
    "apikey",
    "jwt",
    "assertion",
    "auth-",
    "-auth",
    "x-auth",
    "sessionid",
    "session-id",
    "passphrase",
    "otp",
    "accesskeyid",
];

/// Whether a header or a parameter of this name carries a secret: any name with one of the words below in it, and any
/// that ends in `key`, save for those known to be harmless. It rather takes too much: a name costs nothing to redact.
pub fn secret_name(name: &str) -> bool {
    if harmless(name) {
        return false;
    }
    let lower = name.to_ascii_lowercase();
    WORDS.iter().any(|word| lower.contains(word))
        || lower.ends_with("key")
        || lower == "sig"
        || lower == PROTOCOLS
        || lower == "auth"
}

/// The names that nearly every message has, decided without a search, and those that only look like a secret's.
fn harmless(name: &str) -> bool {
    matches!(
        name,
        "accept"
            | "accept-encoding"
            | "accept-language"
            | "accept-ranges"
            | "age"
            | "alt-svc"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-type"
            | "date"
            | "etag"
            | "expires"
            | "host"
            | "if-none-match"
            | "last-modified"
            | "location"
            | "origin"
            | "referer"
            | "server"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "user-agent"
            | "vary"
            | "via"
            | "sec-websocket-key"
            | "idempotency-key"
            | "surrogate-key"
            | "x-idempotency-key"
            | "x-cache-key"
    )
}

/// A path and query (or a URL) with the values of secret parameters replaced by their fingerprint. The fragment counts as
/// a query: OAuth answers put tokens there. A user's part in a URL goes too.
pub fn path<'a>(text: &'a str, salt: &Salt) -> Cow<'a, str> {
    let user = text.find("://").and_then(|scheme| {
        let rest = &text[scheme + 3..];
        let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        rest[..authority].rfind('@').map(|at| (scheme + 3, scheme + 3 + at))
    });
    if user.is_none() && !text.contains(['?', '#']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    if let Some((from, to)) = user {
        out.push_str(&text[..from]);
        out.push_str("redacted-");
        out.push_str(&salt.fingerprint(&text.as_bytes()[from..to]));
        rest = &text[to..];
    }
    while !rest.is_empty() {
        // A piece is what stands between two delimiters; the first is the path itself.
        let end = rest.find(['?', '#', '&', ';']).map_or(rest.len(), |at| at + 1);
        let (piece, delimiter) = match rest[..end].char_indices().next_back() {
            Some((at, '?' | '#' | '&' | ';')) => rest[..end].split_at(at),
            _ => (&rest[..end], ""),
        };
        match piece.split_once('=') {
            Some((name, value)) if !value.is_empty() && secret_name(&decoded(name)) => {
                out.push_str(name);
                out.push_str("=redacted-");
                out.push_str(&salt.fingerprint(value.as_bytes()));
            }
            _ => out.push_str(piece),
        }
        out.push_str(delimiter);
        rest = &rest[end..];
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(headers: &HeaderMap) -> String {
        serde_json::to_string(&Redacted::new(headers, &Salt { run: [7; 32], host: [7; 32] })).expect("json")
    }

    #[test]
    fn no_secret_is_stored() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer hunter2-hunter2-hunter2"),
            ("authorization", "hunter2"),
            ("proxy-authorization", "basic dXNlcjpodW50ZXIy"),
            ("cookie", "a=hunter2; b=hunter2"),
            ("set-cookie", "sid=hunter2; Path=/"),
            ("x-api-key", "hunter2"),
            ("api-key", "hunter2"),
            ("x-goog-api-key", "hunter2"),
            ("x-amz-security-token", "hunter2"),
            ("private-token", "hunter2"),
            ("x-vault-token", "hunter2"),
            ("ocp-apim-subscription-key", "hunter2"),
            ("x-auth", "hunter2"),
            ("sec-websocket-protocol", "realtime, openai-insecure-api-key.hunter2"),
            ("location", "https://user:hunter2@h.example/cb?x=1&code=2#access_token=hunter2"),
            ("referer", "https://h.example/?API%5FKey=hunter2"),
        ] {
            headers.append(name, value.parse().expect("value"));
        }
        let text = json(&headers);
        assert!(!text.contains("hunter2") && !text.contains("dXNlcjpodW50ZXIy"), "{text}");
        assert!(text.contains(r#"["sec-websocket-protocol","realtime, [redacted 31 bytes "#), "{text}");
        assert!(text.contains(r#"["authorization","Bearer [redacted 23 bytes "#), "{text}");
        assert!(text.contains(r#"["proxy-authorization","Basic [redacted 16 bytes "#), "{text}");
        assert!(text.contains("/cb?x=1&code=2#access_token=redacted-"), "{text}");
    }

    #[test]
    fn the_same_secret_has_the_same_fingerprint_only_under_the_same_salt() {
        let (a, b) = (Salt::draw(), Salt::draw());
        assert_eq!(a.fingerprint(b"x"), a.fingerprint(b"x"));
        assert_ne!(a.run, b.run);
        assert_ne!(a.fingerprint(b"x"), a.fingerprint(b"y"));
    }

    #[test]
    fn other_values_are_stored_as_they_are() {
        let mut headers = HeaderMap::new();
        headers.append("accept", "*/*".parse().expect("value"));
        headers.append("x-name", HeaderValue::from_bytes("bücher".as_bytes()).expect("value"));
        headers.append("x-raw", HeaderValue::from_bytes(&[0xff, 0xfe]).expect("value"));
        headers.append("idempotency-key", "7".parse().expect("value"));
        let want =
            r#"[["accept","*/*"],["x-name","bücher"],["x-raw",{"base64":"//4="}],["idempotency-key","7"]]"#;
        assert_eq!(json(&headers), want);
        let back: Vec<(String, Stored<'_>)> = serde_json::from_str(want).expect("back");
        assert_eq!(back[2].1, Stored::Raw { base64: "//4=".to_owned() });
    }

    #[test]
    fn many_headers_are_cut_and_counted() {
        let mut headers = HeaderMap::new();
        for n in 0..10_000 {
            headers.append("x", format!("{n:050}").parse().expect("value"));
        }
        let redacted = Redacted::new(&headers, &Salt { run: [0; 32], host: [0; 32] });
        assert!(redacted.cut() > 4_000, "{}", redacted.cut());
        assert!(serde_json::to_string(&redacted).expect("json").len() < 2 * LIMIT);
    }

    #[test]
    fn paths_keep_all_but_secrets() {
        let salt = Salt { run: [7; 32], host: [7; 32] };
        for same in ["/", "/a/b", "/a?b=c&d=e#f", "/key=1", "*", "/a?&&==&x=", "/a?token"] {
            assert_eq!(path(same, &salt), same);
        }
        let cut = path("/a?x=1&Key=hunter2&X-Amz-Signature=hunter2;sig=hunter2&y=2", &salt);
        assert!(
            !cut.contains("hunter2") && cut.ends_with("&y=2") && cut.starts_with("/a?x=1&Key=redacted-"),
            "{cut}"
        );
    }
}
