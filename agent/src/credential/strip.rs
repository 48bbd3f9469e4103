//! Takes the caller's own credential out of a request that is to bear another: wherever a server could find one. What is
//! left would decide in whose name, and into whose account, the request goes.

use http::header::{COOKIE, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Uri};

use crate::codec::websocket::protocols;
use crate::types::credential::Inject;

/// Fields that hold a key or a token, and nothing else. A `_` in a field's name counts as `-`: servers that hand fields on
/// as variables (RFC 3875 §4.1.18) cannot tell them apart.
const FIELDS: [&str; 20] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "apikey",
    "x-apikey",
    "x-auth-token",
    "x-auth-key",
    "x-access-token",
    "x-session-token",
    "x-goog-api-key",
    "x-goog-iam-authorization-token",
    "x-amz-security-token",
    "x-vault-token",
    "x-gitlab-token",
    "private-token",
    "job-token",
    "deploy-token",
    "x-github-token",
    "ocp-apim-subscription-key",
];

/// Parameters of a query that hold a key or a token (RFC 6750 §2.3, and what is common).
const PARAMETERS: [&str; 7] =
    ["access_token", "api_key", "apikey", "api-key", "private_token", "job_token", "x-amz-security-token"];

/// What a signature in the query (SigV4, Google's V4) is made of. Others that begin like these are the request's own: which
/// part of an upload, which access an object gets.
const SIGNED: [&str; 14] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-region-set",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-content-sha256",
    "x-goog-algorithm",
    "x-goog-credential",
    "x-goog-date",
    "x-goog-expires",
    "x-goog-signedheaders",
    "x-goog-signature",
];

/// Strips a request's head.
pub fn strip<B>(inject: &Inject, request: &mut Request<B>) {
    let own = match inject {
        Inject::Header { name, .. } => Some(name.as_str()),
        _ => None,
    };
    if request.headers().keys().any(|name| holds(name.as_str(), own)) {
        // Built anew: taking one out would change the order of the others.
        let all = std::mem::take(request.headers_mut());
        let kept = all.iter().filter(|(name, _)| !holds(name.as_str(), own));
        let headers = request.headers_mut();
        headers.reserve(all.len());
        for (name, value) in kept {
            headers.append(name, value.clone());
        }
    }
    if let Inject::Cookie { name } = inject {
        without_cookie(request.headers_mut(), name);
    }
    without_keys_among_protocols(request.headers_mut());
    let own = match inject {
        Inject::Query { name } => Some(name.as_str()),
        _ => None,
    };
    without_parameters(request.uri_mut(), own);
}

fn holds(field: &str, own: Option<&str>) -> bool {
    let alike = |other: &str| {
        field.len() == other.len()
            && field.bytes().zip(other.bytes()).all(|(a, b)| {
                let fold = |b: u8| if b == b'_' { b'-' } else { b.to_ascii_lowercase() };
                fold(a) == fold(b)
            })
    };
    FIELDS.iter().any(|name| alike(name)) || own.is_some_and(alike)
}

/// Takes one cookie out, by name; the others stay as they are.
fn without_cookie(headers: &mut HeaderMap, name: &str) {
    let is = |pair: &[u8]| {
        pair.trim_ascii().split(|b| *b == b'=').next().map(<[u8]>::trim_ascii) == Some(name.as_bytes())
    };
    let fields: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    if !fields.iter().any(|field| field.as_bytes().split(|b| *b == b';').any(is)) {
        return;
    }
    headers.remove(COOKIE);
    for field in fields {
        let left: Vec<&[u8]> = field.as_bytes().split(|b| *b == b';').filter(|pair| !is(pair)).collect();
        let left = left.join(&b';');
        if let Ok(value) = HeaderValue::from_bytes(left.trim_ascii())
            && !value.is_empty()
        {
            headers.append(COOKIE, value);
        }
    }
}

/// Takes keys out of the names of a WebSocket's subprotocols; the others stay in order.
fn without_keys_among_protocols(headers: &mut HeaderMap) {
    let fields: Vec<HeaderValue> = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().cloned().collect();
    if fields.is_empty() {
        return;
    }
    // Several fields are one list (RFC 9110 §5.3). What is no text is no name.
    let all =
        fields.iter().map(|field| String::from_utf8_lossy(field.as_bytes())).collect::<Vec<_>>().join(",");
    let names = protocols(&all);
    if names.iter().all(|(_, secret)| !secret) {
        return;
    }
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    let left: Vec<&str> = names.iter().filter(|(_, secret)| !secret).map(|(name, _)| *name).collect();
    if let Ok(value) = HeaderValue::from_str(&left.join(", "))
        && !value.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
}

/// Takes parameters out; what stays stays byte for byte.
fn without_parameters(uri: &mut Uri, own: Option<&str>) {
    let Some(query) = uri.query() else { return };
    let named = |part: &str| {
        let Some((name, _)) = form_urlencoded::parse(part.as_bytes()).next() else { return false };
        let lower = name.to_ascii_lowercase();
        // `key[]` and `key[0]` are `key` to servers that read lists so.
        let plain = lower.split('[').next().unwrap_or_default();
        PARAMETERS.contains(&plain)
            || SIGNED.contains(&plain)
            || own.is_some_and(|own| own.eq_ignore_ascii_case(plain))
    };
    // To some servers `;` separates, too.
    let gone = |pair: &str| named(pair) || pair.split(';').any(named);
    if !query.split('&').any(gone) {
        return;
    }
    let left: Vec<&str> = query.split('&').filter(|pair| !gone(pair)).collect();
    let path = uri.path().to_owned();
    let whole = if left.is_empty() { path } else { format!("{path}?{}", left.join("&")) };
    put(uri, &whole);
}

/// Puts another path and query into an URI. What is made of parts of one is one.
pub(super) fn put(uri: &mut Uri, path_and_query: &str) {
    let mut parts = std::mem::take(uri).into_parts();
    let whole = PathAndQuery::try_from(path_and_query).expect("parts of an URI make one");
    parts.path_and_query = Some(whole);
    *uri = Uri::from_parts(parts).expect("parts of an URI make one");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(inject: &Inject, uri: &str, fields: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        let mut request = Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).expect("request");
        strip(inject, &mut request);
        let text = |v: &HeaderValue| v.to_str().expect("text").to_owned();
        let left =
            request.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        (request.uri().to_string(), left)
    }

    #[test]
    fn every_place_that_could_hold_one_is_emptied() {
        let fields = [
            ("authorization", "Bearer mine"),
            ("Authorization", "Basic twice"),
            ("X_API_KEY", "mine"),
            ("x-api-key", "mine"),
            ("proxy-authorization", "mine"),
            ("X-Amz-Security-Token", "mine"),
            ("accept", "*/*"),
            ("cookie", "a=1; session=x"),
        ];
        let (uri, left) =
            stripped(&Inject::Bearer, "/v1?a=1&access_token=x&b=%20&API_KEY=y&X-Amz-Signature=z", &fields);
        assert_eq!(uri, "/v1?a=1&b=%20");
        let names: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["accept", "cookie"]);
        let ws = [
            ("sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-mine"),
            ("sec-websocket-protocol", "v1"),
        ];
        let left = stripped(&Inject::Bearer, "/v1", &ws).1;
        assert_eq!(left, [("sec-websocket-protocol".to_owned(), "realtime, v1".to_owned())]);
        let ws = [("sec-websocket-protocol", "token"), ("sec-websocket-protocol", "mine")];
        assert!(stripped(&Inject::Bearer, "/v1", &ws).1.is_empty());
        let (uri, _) = stripped(&Inject::Bearer, "https://a.example/v1?%61ccess_token=x", &[]);
        assert_eq!(uri, "https://a.example/v1", "an encoded name is the same name");
        let (uri, _) = stripped(&Inject::Bearer, "/v1?key=legit&token=page", &[]);
        assert_eq!(uri, "/v1?key=legit&token=page", "what has other uses stays");
    }

    #[test]
    fn the_place_of_the_injected_one_is_emptied_too() {
        let own = Inject::Header { name: "x-team-key".into(), prefix: String::new() };
        assert!(stripped(&own, "/", &[("X_Team-Key", "mine")]).1.is_empty());
        let query = Inject::Query { name: "key".into() };
        assert_eq!(stripped(&query, "/?key=a&key=b&c=d&k%65y=e", &[]).0, "/?c=d");
        assert_eq!(stripped(&query, "/?KEY=a&key[]=b&key%5B0%5D=c&d=e;key=f&g=h", &[]).0, "/?g=h");
        let cookie = Inject::Cookie { name: "session".into() };
        let (_, left) = stripped(
            &cookie,
            "/",
            &[("cookie", "a=1; session=x ;b=2"), ("cookie", "session=y"), ("cookie", "c=3")],
        );
        let values: Vec<&str> = left.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["a=1;b=2", "c=3"]);
    }
}
