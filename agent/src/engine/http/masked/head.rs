//! Heads and trailers: which fields are searched, and what becomes of those that speak of a body which is rewritten.

use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderName, HeaderValue,
    IF_RANGE, RANGE, TRAILER,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Uri};

use super::Masking;
use super::reader::How;
use crate::mask::{Counts, Plan, Scope, Spelling, text};

/// Fields that frame or route a message, say how it is read, or prove who sends it: a mask looks at them where it names them
/// under `headers`, and not else. A credential for the very host is no leak to it; in the record it is a fingerprint.
const LEFT: [&str; 62] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "alt-svc",
    "api-key",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "grpc-encoding",
    "grpc-status",
    "grpc-timeout",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "keep-alive",
    "last-modified",
    "ocp-apim-subscription-key",
    "proxy-authenticate",
    "proxy-authorization",
    "retry-after",
    "sec-ch-ua",
    "sec-ch-ua-full-version",
    "sec-ch-ua-full-version-list",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "server",
    "server-timing",
    "set-cookie",
    "strict-transport-security",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-api-key",
    "x-csrf-token",
    "x-goog-api-key",
];

/// Sums over a body (RFC 9530, RFC 1864, S3, GCS, Azure).
const SUMS: [&str; 10] = [
    "content-md5",
    "digest",
    "content-digest",
    "repr-digest",
    "x-goog-hash",
    "x-amz-sha256-tree-hash",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-trailer",
    "x-ms-content-crc64",
    "x-ms-blob-content-md5",
];

fn is_sum(name: &str) -> bool {
    SUMS.contains(&name) || name.starts_with("x-amz-checksum-")
}

/// Takes out the sums over a body that is now another.
pub(super) fn drop_sums(headers: &mut HeaderMap) {
    let sums: Vec<_> = headers.keys().filter(|name| is_sum(name.as_str())).cloned().collect();
    sums.iter().for_each(|sum| drop(headers.remove(sum)));
}

/// Whether a field is searched by masks that name these.
fn is_searched(name: &HeaderName, named: &[String]) -> bool {
    LEFT.binary_search(&name.as_str()).is_err() || named.iter().any(|named| named == name.as_str())
}

impl Masking {
    /// One value, as it is to be passed on. `None`: as it came.
    fn value(&self, how: &How, name: &str, value: &[u8], counts: &mut Counts) -> Option<Vec<u8>> {
        match how {
            How::Hide(plan) | How::Both(plan) => {
                text(plan, &self.scope, Spelling::Header, Some(name), value, counts)
            }
            // Tokens stay in fields: where one names a place to go to, the caller would carry the value there.
            How::Restore => None,
        }
    }

    /// Rewrites the fields that are searched. What cannot stand in a field any more is left empty.
    fn fields(&self, how: &How, headers: &mut HeaderMap, counts: &mut Counts) {
        for (name, value) in headers.iter_mut().filter(|(name, _)| is_searched(name, &self.masks.headers)) {
            if let Some(now) = self.value(how, name.as_str(), value.as_bytes(), counts) {
                *value = HeaderValue::from_bytes(&now).unwrap_or_else(|_| HeaderValue::from_static(""));
            }
        }
    }

    /// Trailers, whichever way.
    pub(super) fn trailers(&self, how: &How, trailers: &mut HeaderMap, counted: bool) {
        let mut counts = Counts::default();
        self.fields(how, trailers, &mut counts);
        if counted {
            self.count(&counts);
        }
    }

    /// A request's line and fields, hidden from the upstream.
    ///
    /// # Errors
    /// What comes of it is no path.
    pub(in crate::engine::http) fn hide_head<B>(
        &self,
        plan: &Arc<Plan>,
        request: &mut Request<B>,
    ) -> Result<(), String> {
        let mut counts = Counts::default();
        if let Some(uri) = uri(request.uri(), plan, &self.scope, &mut counts)? {
            *request.uri_mut() = uri;
        }
        self.fields(&How::Hide(Arc::clone(plan)), request.headers_mut(), &mut counts);
        self.count(&counts);
        Ok(())
    }

    /// A request's path and fields as the record may have them. `body`: its body is recorded decoded.
    pub(super) fn record_head(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: bool,
    ) -> (Option<String>, HeaderMap) {
        let (mut counts, plan) = (Counts::default(), &self.masks.record);
        // Where that fails, nothing of it is shown.
        let hidden = match path.parse::<PathAndQuery>() {
            Ok(parsed) => path_and_query(&parsed, plan, &self.scope, &mut counts),
            Err(_) => Ok(text(plan, &self.scope, Spelling::Header, None, path.as_bytes(), &mut counts)
                .map(|hidden| String::from_utf8_lossy(&hidden).into_owned())),
        };
        let mut headers = headers.clone();
        self.fields(&How::Hide(Arc::clone(plan)), &mut headers, &mut counts);
        if body {
            headers.remove(CONTENT_ENCODING);
        }
        if self.masks.request.is_none() {
            self.count(&counts);
        }
        (hidden.unwrap_or_else(|_| Some("/[masked]".to_owned())), headers)
    }

    /// What a request must not ask for, where its answer is read: parts of it, and codings that are not known here.
    pub(in crate::engine::http) fn ask_plainly(headers: &mut HeaderMap) {
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
        if !headers.contains_key(ACCEPT_ENCODING) {
            return;
        }
        let known = |coding: &&str| {
            let name = coding.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            matches!(name.as_str(), "gzip" | "x-gzip" | "deflate" | "br" | "zstd" | "identity")
        };
        let values: Vec<_> =
            headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).collect();
        let kept: Vec<_> = values.iter().flat_map(|v| v.split(',')).map(str::trim).filter(known).collect();
        let kept = if kept.is_empty() { "identity".to_owned() } else { kept.join(", ") };
        if let Ok(value) = HeaderValue::from_str(&kept) {
            headers.insert(ACCEPT_ENCODING, value);
        }
    }

    /// An answer's fields: as the record may have them, and in place as the caller gets them. `body`: one follows, and it is
    /// rewritten where the answer is read.
    pub(super) fn answer_fields(&self, headers: &mut HeaderMap, body: bool) -> HeaderMap {
        let mut seen;
        if self.answer_is_record() {
            self.trailers(&How::Hide(Arc::clone(&self.masks.record)), headers, true);
            seen = headers.clone();
        } else {
            seen = headers.clone();
            let record = How::Hide(Arc::clone(&self.masks.record));
            self.trailers(&record, &mut seen, self.masks.answer.is_none());
            if let Some(how) = self.answers() {
                self.trailers(&how, headers, self.masks.answer.is_some());
            }
        }
        if self.answers().is_some() {
            if body {
                rewritten(headers);
                rewritten(&mut seen);
            }
        } else if body {
            seen.remove(CONTENT_ENCODING);
        }
        seen
    }

    /// What is done to an answer, if anything.
    pub(super) fn answers(&self) -> Option<How> {
        match (&self.masks.answer, self.masks.restores) {
            (Some(plan), true) => Some(How::Both(Arc::clone(plan))),
            (Some(plan), false) => Some(How::Hide(Arc::clone(plan))),
            (None, true) => Some(How::Restore),
            (None, false) => None,
        }
    }

    /// An informational answer's fields as the caller gets them.
    pub(in crate::engine::http) fn hints(&self, headers: &mut HeaderMap) {
        if let Some(how) = self.answers() {
            self.trailers(&how, headers, false);
        }
    }
}

/// Fields that speak of a body which is now another: its length, codings, sums and versions.
pub(super) fn rewritten(headers: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, ETAG] {
        headers.remove(name);
    }
    drop_sums(headers);
    if headers.contains_key(ACCEPT_RANGES) {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
    }
    let sums = |value: &HeaderValue| {
        let lower = value.as_bytes().to_ascii_lowercase();
        String::from_utf8(lower).is_ok_and(|lower| lower.split(',').any(|name| is_sum(name.trim())))
    };
    if headers.get_all(TRAILER).iter().any(sums) {
        headers.remove(TRAILER);
    }
}

fn uri(uri: &Uri, plan: &Arc<Plan>, scope: &Arc<Scope>, counts: &mut Counts) -> Result<Option<Uri>, String> {
    let Some(before) = uri.path_and_query() else { return Ok(None) };
    let Some(now) = path_and_query(before, plan, scope, counts)? else { return Ok(None) };
    let mut parts = uri.clone().into_parts();
    let why = |_| "what is hidden in its path leaves none".to_owned();
    parts.path_and_query = Some(now.parse().map_err(why)?);
    Uri::from_parts(parts).map(Some).map_err(|_| "what is hidden in its path leaves none".to_owned())
}

fn path_and_query(
    before: &PathAndQuery,
    plan: &Arc<Plan>,
    scope: &Arc<Scope>,
    counts: &mut Counts,
) -> Result<Option<String>, String> {
    let path = text(plan, scope, Spelling::Path, None, before.path().as_bytes(), counts);
    let query = before.query();
    let hidden = query.and_then(|query| text(plan, scope, Spelling::Query, None, query.as_bytes(), counts));
    if path.is_none() && hidden.is_none() {
        return Ok(None);
    }
    let mut now = path.unwrap_or_else(|| before.path().as_bytes().to_vec());
    if let Some(query) = query {
        now.push(b'?');
        now.extend_from_slice(hidden.as_deref().unwrap_or(query.as_bytes()));
    }
    String::from_utf8(now).map(Some).map_err(|_| "what is hidden in its path leaves none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_are_left_alone_are_in_order() {
        assert!(LEFT.is_sorted());
        let named = ["authorization".to_owned()];
        assert!(is_searched(&HeaderName::from_static("x-customer"), &[]));
        assert!(!is_searched(&HeaderName::from_static("authorization"), &[]));
        assert!(is_searched(&HeaderName::from_static("authorization"), &named));
    }

    #[test]
    fn codings_that_are_not_known_and_ranges_are_not_asked_for() {
        let asked = |value: &'static str| {
            let mut headers = HeaderMap::from_iter([
                (ACCEPT_ENCODING, HeaderValue::from_static(value)),
                (RANGE, HeaderValue::from_static("bytes=0-1")),
            ]);
            Masking::ask_plainly(&mut headers);
            assert!(!headers.contains_key(RANGE));
            headers[ACCEPT_ENCODING].to_str().expect("ASCII").to_owned()
        };
        assert_eq!(asked("gzip, deflate, br;q=0.9, zstd"), "gzip, deflate, br;q=0.9, zstd");
        assert_eq!(asked("dcb, compress"), "identity");
        assert_eq!(asked("*"), "identity");
        assert_eq!(asked("gzip, *;q=0"), "gzip");
    }

    #[test]
    fn what_speaks_of_the_body_goes() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-length", "3"),
            ("content-encoding", "gzip"),
            ("etag", "\"x\""),
            ("content-digest", "sha-256=:eA==:"),
            ("x-amz-checksum-crc32", "aGV5"),
            ("accept-ranges", "bytes"),
            ("trailer", "Digest"),
            ("x-kept", "yes"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        rewritten(&mut headers);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers[ACCEPT_RANGES], "none");
    }
}
