//! What a refused client is told: in the shape that the destination's clients parse, with rule, reason and session.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use serde_json::json;

use crate::limit::Over;
use crate::policy::{Denied, is_grpc};
use crate::types::SessionId;

/// An exchange that does not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// One sentence for the client and the record.
    pub(super) reason: String,
    /// The rule that refused, when a rule did.
    pub(super) rule: Option<String>,
    /// Whether the connection cannot go on after it.
    pub(super) last: bool,
    /// Set when a limit refused: what is spent, and for how many seconds.
    pub(super) over: Option<(&'static str, u64)>,
}

/// In whose words a refusal is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// OpenAI's error object (Azure's deployment of it has the same).
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// gRPC: a trailers-only answer.
    Grpc,
    /// RFC 9457.
    Problem,
}

impl Shape {
    /// The shape that the client of a request to `host` parses.
    pub(super) fn of(host: &str, headers: &HeaderMap) -> Self {
        match host {
            _ if is_grpc(headers) => Self::Grpc,
            "api.openai.com" => Self::OpenAi,
            "api.anthropic.com" => Self::Anthropic,
            _ if host.ends_with(".openai.azure.com") => Self::OpenAi,
            _ => Self::Problem,
        }
    }
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), rule: None, last: false, over: None }
    }

    /// What policy says.
    pub(super) fn of(denied: Denied) -> Self {
        let reason = format!("{} (rule {})", denied.reason, denied.rule);
        Self { rule: Some(denied.rule), ..Self::new(StatusCode::FORBIDDEN, reason) }
    }

    /// What a limit says.
    pub(super) fn over(over: Over) -> Self {
        let reason = format!("{over} (rule {})", over.rule);
        let told = Some((over.what, over.seconds()));
        Self { rule: Some(over.rule), over: told, ..Self::new(StatusCode::TOO_MANY_REQUESTS, reason) }
    }

    /// The connection ends with it.
    pub(super) fn last(mut self) -> Self {
        self.last = true;
        self
    }

    /// The answer, whole.
    pub(super) fn answer(&self, shape: Shape, session: SessionId) -> Response<Bytes> {
        let mut response = match shape {
            Shape::Grpc => self.grpc(session),
            _ => {
                let mut response = Response::new(Bytes::from(self.body(shape, session).to_string()));
                *response.status_mut() = self.status;
                let kind =
                    if shape == Shape::Problem { "application/problem+json" } else { "application/json" };
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                response
            }
        };
        if let Some((_, seconds)) = self.over {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.last {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn body(&self, shape: Shape, session: SessionId) -> serde_json::Value {
        let session = session.to_string();
        let message = format!("sluice: {}", self.reason);
        match shape {
            Shape::OpenAi => {
                let (kind, code) = match self.over {
                    Some((what, _)) => (what, "rate_limit_exceeded".to_owned()),
                    None => ("sluice_refused", self.status.as_u16().to_string()),
                };
                json!({ "error": {
                    "message": message, "type": kind, "param": null, "code": code,
                    "rule": self.rule, "session": session,
                }})
            }
            Shape::Anthropic => json!({ "type": "error", "request_id": session, "error": {
                "type": self.anthropic_type(), "message": message, "rule": self.rule, "session": session,
            }}),
            Shape::Grpc | Shape::Problem => json!({
                "type": "about:blank", "title": self.status.canonical_reason(), "status": self.status.as_u16(),
                "detail": message, "rule": self.rule, "session": session,
            }),
        }
    }

    fn anthropic_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 | 421 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        }
    }

    fn grpc(&self, session: SessionId) -> Response<Bytes> {
        // https://grpc.github.io/grpc/core/md_doc_statuscodes.html
        let code = match self.status.as_u16() {
            400 | 417 | 422 | 431 => 3,
            403 | 421 => 7,
            429 => 8,
            408 | 504 => 4,
            500 => 13,
            _ => 14,
        };
        let mut message = String::new();
        for b in format!("sluice: {} (session {session})", self.reason).bytes() {
            match b {
                b' '..=b'~' if b != b'%' => message.push(char::from(b)),
                _ => message.push_str(&format!("%{b:02X}")),
            }
        }
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(code));
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert("grpc-message", message);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(host: &str, headers: &HeaderMap) -> Response<Bytes> {
        let refusal = Refusal::new(StatusCode::FORBIDDEN, "not \"here\"\u{e9}");
        refusal.answer(Shape::of(host, headers), SessionId(ulid::Ulid::nil()))
    }

    #[test]
    fn limits() {
        let refused = |host: &str, headers: &HeaderMap| {
            let mut refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "full");
            refusal.over = Some(("tokens", 61));
            let response = refusal.answer(Shape::of(host, headers), SessionId(ulid::Ulid::nil()));
            assert_eq!(response.headers()[RETRY_AFTER], "61", "{host}");
            response
        };
        let none = HeaderMap::new();
        for (host, pointer, want) in [
            ("api.openai.com", "/error/type", "tokens"),
            ("api.openai.com", "/error/code", "rate_limit_exceeded"),
            ("api.anthropic.com", "/error/type", "rate_limit_error"),
            ("example.org", "/title", "Too Many Requests"),
        ] {
            let response = refused(host, &none);
            assert_eq!(response.status(), 429);
            let body: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
            assert_eq!(body.pointer(pointer).and_then(|v| v.as_str()), Some(want), "{host}: {body}");
        }
        let mut grpc = HeaderMap::new();
        grpc.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let response = refused("example.org", &grpc);
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"]),
            (200, &HeaderValue::from(8))
        );
    }

    #[test]
    fn shapes() {
        let none = HeaderMap::new();
        for (host, pointer, want) in [
            ("api.openai.com", "/error/message", "sluice: not \"here\"\u{e9}"),
            ("x.openai.azure.com", "/error/code", "403"),
            ("api.anthropic.com", "/error/type", "permission_error"),
            ("example.org", "/detail", "sluice: not \"here\"\u{e9}"),
        ] {
            let response = answer(host, &none);
            assert_eq!(response.status(), 403);
            let body: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
            assert_eq!(body.pointer(pointer).and_then(|v| v.as_str()), Some(want), "{host}: {body}");
        }
        let mut grpc = HeaderMap::new();
        grpc.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        let response = answer("api.openai.com", &grpc);
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"]),
            (200, &HeaderValue::from(7))
        );
        assert!(response.headers()["grpc-message"].to_str().expect("ASCII").contains("%C3%A9"));
    }
}
