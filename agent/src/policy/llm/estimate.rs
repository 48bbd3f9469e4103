//! What a request to a model may cost in tokens, before anybody has counted them.

use http::header::CONTENT_LENGTH;

use super::{Llm, route};
use crate::policy::readings;
use crate::types::action::{Body, Http};

/// Octets of text that one token stands for, about: four in English, less in other languages and in code.
pub const OCTETS: u64 = 4;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The prompt.
    pub prompt: u64,
    /// The prompt, and as many answers as long as the request allows where it says so.
    pub most: u64,
}

/// Of one request; `None` where it asks no model to read or write anything, however servers read its line. Its body need not
/// be known: that makes it coarse.
pub fn estimate(http: &Http<'_>) -> Option<Estimate> {
    // One that has too many readings is refused.
    let others = readings::others(http).unwrap_or_default();
    let all = std::iter::once(*http).chain(others.iter().map(|reading| reading.of(http)));
    all.filter_map(|http| as_read(&http)).max_by_key(|estimate| estimate.most)
}

fn as_read(http: &Http<'_>) -> Option<Estimate> {
    // What is read back, listed or deleted costs nothing again. A WebSocket begins with a GET.
    let idle =
        ["GET", "HEAD", "DELETE", "OPTIONS"].iter().any(|method| http.method.eq_ignore_ascii_case(method));
    if (idle && http.protocol != "websocket") || counts_only(http.path) {
        return None;
    }
    route(http)?;
    let (octets, answer) = match http.body {
        Body::Whole(body) => match Llm::of(http, body) {
            Ok(Some(llm)) => {
                let each = llm.max_tokens.unwrap_or(0);
                (llm.prompt.len() as u64, each.saturating_mul(llm.answers.unwrap_or(1).max(1)))
            }
            // Whoever can read it will find no more in it than it has octets.
            Ok(None) | Err(_) => (body.len() as u64, 0),
        },
        // What goes over a WebSocket is counted as it passes.
        Body::Handshake | Body::Message(_) => (0, 0),
        Body::Unread | Body::Unknowable(_) => {
            let length =
                http.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            (length.unwrap_or(0), 0)
        }
    };
    let prompt = octets / OCTETS;
    Some(Estimate { prompt, most: prompt.saturating_add(answer) })
}

/// Paths of the providers where nothing is generated.
fn counts_only(path: &str) -> bool {
    const ENDS: [&str; 8] = [
        "/count_tokens",
        ":countTokens",
        "/input_tokens",
        "/files",
        "/moderations",
        "/client_secrets",
        "/realtime/sessions",
        "/transcription_sessions",
    ];
    ENDS.iter().any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::types::Destination;

    #[test]
    fn estimates() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("4000"));
        let of = |method, path, body| {
            let destination = Destination::new([192, 0, 2, 1].into(), 443);
            let (host, query, protocol) = (None, None, "h2");
            estimate(&Http { destination, host, protocol, method, path, query, headers: &headers, body })
                .map(|estimate| (estimate.prompt, estimate.most))
        };
        const CHAT: &str = "/v1/chat/completions";
        let bounded =
            br#"{"model":"m","max_tokens":100,"messages":[{"role":"user","content":"0123456789012345678"}]}"#;
        assert_eq!(of("POST", CHAT, Body::Whole(bounded)), Some((5, 105)));
        let several = br#"{"model":"m","max_tokens":100,"n":2,"best_of":3,"messages":[{"role":"user","content":"0123456789012345678"}]}"#;
        assert_eq!(of("POST", CHAT, Body::Whole(several)), Some((5, 305)));
        let free = br#"{"model":"m","messages":[{"role":"user","content":"0123456789012345678"}]}"#;
        assert_eq!(of("POST", CHAT, Body::Whole(free)), Some((5, 5)));
        let endless = br#"{"max_response_output_tokens":"inf","input":"0123456"}"#;
        assert_eq!(of("POST", "/v1/responses", Body::Whole(endless)), Some((2, u64::MAX)));
        assert_eq!(of("POST", CHAT, Body::Whole(b"no JSON at all..")), Some((4, 4)));
        assert_eq!(of("POST", CHAT, Body::Unknowable("long")), Some((1000, 1000)));
        for path in ["/v1/chat/completions;x=1", "/v1/files/../chat/completions", "/v1/chat/%63ompletions"] {
            assert_eq!(of("POST", path, Body::Whole(bounded)), Some((5, 105)), "{path}");
        }
        for (method, path) in [
            ("GET", CHAT),
            ("POST", "/v1/messages/count_tokens"),
            ("POST", "/v1beta/models/x:countTokens"),
            ("POST", "/v1/files"),
            ("POST", "/else"),
        ] {
            assert_eq!(of(method, path, Body::Whole(bounded)), None, "{method} {path}");
        }
    }
}
