//! The leak alarm: finds long-lived keys of the caller's own where requests bear credentials.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::Request;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::codec::keys;
use crate::record::headers::secret_name;

/// Keys of one request that are told apart.
const KEYS: usize = 8;
/// Bytes of one field that are looked at.
const FIELD: usize = 16 * 1024;
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key that was found. No Debug: it would show it.
pub struct Leaked {
    /// Whose keys look so.
    pub kind: &'static str,
    key: Zeroizing<Vec<u8>>,
}

impl Leaked {
    /// The key: to be hashed, never to be shown.
    pub fn expose(&self) -> &[u8] {
        &self.key
    }
}

/// Looks at fields whose name says that they hold a secret (Basic decoded), cookies, and the query.
pub fn find<B>(request: &Request<B>) -> Vec<Leaked> {
    // Before 1970 everything lives long.
    let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
    let mut found: Vec<Leaked> = Vec::new();
    let mut look = |text: &[u8]| {
        let text = &text[..text.len().min(FIELD)];
        for (kind, at) in keys::find(text, now) {
            let key = &text[at];
            if found.len() < KEYS && !found.iter().any(|other| *other.key == key) {
                found.push(Leaked { kind, key: Zeroizing::new(key.to_vec()) });
            }
        }
    };
    for (name, value) in request.headers() {
        if !secret_name(name.as_str()) {
            continue;
        }
        let value = value.as_bytes();
        look(value);
        if let Some((scheme, token)) = value.split_at_checked(6)
            && scheme.eq_ignore_ascii_case(b"basic ")
            && let Ok(pair) = BASIC.decode(token[..token.len().min(FIELD)].trim_ascii())
        {
            look(&Zeroizing::new(pair));
        }
    }
    if let Some(query) = request.uri().query() {
        look(query.as_bytes());
    }
    found
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    const KEY: &str = "sk-proj-EXAMPLEexampleEXAMPLEexample0";

    fn kinds(uri: &str, name: &str, value: &str) -> Vec<&'static str> {
        let request = Request::builder().uri(uri).header(name, value).body(()).expect("request");
        find(&request).iter().map(|leaked| leaked.kind).collect()
    }

    #[test]
    fn keys_are_found_where_requests_bear_them() {
        let basic = format!("basic {}", BASE64_STANDARD.encode(format!("{KEY}:")));
        let bearer = format!("Bearer {KEY}");
        for (name, value) in [
            ("authorization", bearer.as_str()),
            ("authorization", KEY),
            ("authorization", &basic),
            ("x-api-key", KEY),
            ("cookie", &format!("a=b; key={KEY}")),
            ("sec-websocket-protocol", &format!("realtime, openai-insecure-api-key.{KEY}")),
        ] {
            assert_eq!(kinds("/", name, value), ["openai"], "{name}: {value}");
        }
        assert_eq!(kinds(&format!("/?a=1&key={KEY}"), "accept", "*/*"), ["openai"]);
        assert_eq!(kinds("/", "authorization", "Bearer sk-sluice-EXAMPLEexampleEXAMPLEexample"), [""; 0]);
        assert_eq!(kinds("/", "user-agent", KEY), [""; 0], "no place for a credential");
        assert_eq!(kinds(&format!("/?a={KEY}"), "x-api-key", KEY), ["openai"], "one key, seen twice");
    }
}
