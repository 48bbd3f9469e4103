//! `Sec-WebSocket-Protocol` (RFC 6455 §11.3.4): names of subprotocols, and where a client can set no other field (a browser), its
//! key among them: OpenAI's `openai-insecure-api-key.KEY`, `base64url.bearer.authorization.k8s.io.TOKEN` of Kubernetes,
//! Deepgram's `token, KEY`.

use crate::codec::keys;

/// Words that say that a key stands in a name, or behind it.
const WORDS: [&str; 10] = [
    "api-key",
    "apikey",
    "api_key",
    "token",
    "bearer",
    "basic",
    "authorization",
    "secret",
    "password",
    "access-key",
];

/// The names in a field, in order, and whether each is a key or announces one.
pub fn protocols(field: &str) -> Vec<(&str, bool)> {
    let mut all: Vec<(&str, bool)> = Vec::new();
    let mut announced = false;
    for name in field.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let lower = name.to_ascii_lowercase();
        let says = WORDS.iter().any(|word| lower.contains(word));
        // Before 1970 every JWT lives long.
        let is = announced || says || !keys::find(name.as_bytes(), 0).is_empty();
        // `token, KEY`: what announces a key and has none in it.
        announced = !announced && says && !name.contains('.');
        all.push((name, is));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_names() {
        let left = |field| {
            let names = protocols(field).into_iter().filter(|(_, secret)| !secret).map(|(name, _)| name);
            names.collect::<Vec<_>>().join(" ")
        };
        for (field, want) in [
            (
                "realtime, openai-insecure-api-key.sk-EXAMPLEexample, openai-beta.realtime-v1",
                "realtime openai-beta.realtime-v1",
            ),
            ("base64url.bearer.authorization.k8s.io.ZXlK,v4.channel.k8s.io", "v4.channel.k8s.io"),
            ("Token, 1234567890abcdef, chat", "chat"),
            ("token, token, chat", "chat"),
            ("chat, sk-proj-EXAMPLEexampleEXAMPLEexample0", "chat"),
            ("graphql-transport-ws, graphql-ws", "graphql-transport-ws graphql-ws"),
            (",, mqtt ,", "mqtt"),
            ("", ""),
        ] {
            assert_eq!(left(field), want, "{field}");
        }
    }
}
