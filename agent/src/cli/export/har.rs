//! HTTP archive 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>), with the fields that Chromium adds for WebSockets and
//! what Sluice knows beyond it under `_sluice`. Header lists are as recorded: secrets are redacted in them.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{Exporter, Said};
use crate::look::body::{Body, text};
use crate::look::item::Item;
use crate::look::messages::{Timed, both_ways};
use crate::look::plain;
use crate::record::Direction;
use crate::record::headers::Stored;
use crate::record::payload::stamp;

/// See the module.
#[derive(Default)]
pub struct Har {
    any: bool,
}

impl Exporter for Har {
    fn add(&mut self, out: &mut dyn Write, item: &Item) -> io::Result<Said> {
        if !item.is_http() {
            return Ok(Said::No("HAR holds HTTP only"));
        }
        self.open(out)?;
        out.write_all(if std::mem::replace(&mut self.any, true) { b",\n" } else { b"\n" })?;
        plain::write(out, &entry(item))?;
        Ok(Said::Yes)
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.open(out)?;
        out.write_all(b"\n]}}\n")
    }
}

impl Har {
    fn open(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.any {
            return Ok(());
        }
        let creator = json!({"name": "Sluice", "version": env!("CARGO_PKG_VERSION")});
        write!(out, "{{\"log\":{{\"version\":\"1.2\",\"creator\":{creator},\"entries\":[")
    }
}

fn entry(item: &Item) -> Value {
    let (began, answered, ended) = (item.began(), item.answered(), item.ended());
    let ms = |from: i128, to: Option<i128>| to.map_or(0.0, |to| (to - from).max(0) as f64 / 1e6);
    let wait = ms(began, answered.or(ended));
    let receive = answered.map_or(0.0, |answered| ms(answered, ended));
    let mut entry = json!({
        "startedDateTime": OffsetDateTime::from_unix_timestamp_nanos(began).map(stamp).unwrap_or_default(),
        "time": wait + receive,
        "request": request(item),
        "response": response(item),
        "cache": {},
        "timings": {"blocked": -1, "dns": -1, "connect": -1, "ssl": -1, "send": 0, "wait": wait, "receive": receive},
        "connection": item.summary.session,
        "_sluice": sluice(item),
    });
    if let Some(session) = &item.session {
        entry["serverIPAddress"] = json!(session.destination.socket().ip().to_string());
    }
    if item.is_websocket() {
        entry["_resourceType"] = json!("websocket");
        entry["_webSocketMessages"] = both_ways(item).into_iter().map(message).collect();
    }
    entry
}

/// What no field of HAR is there for.
fn sluice(item: &Item) -> Value {
    let mut sluice = json!(item.summary);
    sluice["request_body"] = json!(Body::of(&item.exchange, Direction::Up).kept);
    sluice["response_body"] = json!(Body::of(&item.exchange, Direction::Down).kept);
    sluice["client"] = json!(item.session.as_ref().map(|session| session.client));
    sluice
}

/// As Chromium has them: `time` in seconds since 1970, binary data in Base64.
fn message(timed: Timed) -> Value {
    let message = timed.message;
    let data =
        match text(&message.data).filter(|text| message.opcode != 2 && text.len() == message.data.len()) {
            Some(text) => text.to_owned(),
            None => STANDARD.encode(&message.data),
        };
    let kind = if timed.down { "receive" } else { "send" };
    json!({"type": kind, "time": timed.at as f64 / 1e9, "opcode": message.opcode, "data": data})
}

fn version(protocol: &str) -> String {
    match protocol {
        "h2" => "HTTP/2".to_owned(),
        other => other.to_ascii_uppercase(),
    }
}

fn headers(all: &[(String, Stored<'static>)]) -> Value {
    let pair = |(name, value): &(String, Stored<'static>)| match value {
        Stored::Text(value) => json!({"name": name, "value": value}),
        Stored::Raw { base64 } => json!({"name": name, "value": base64, "comment": "no text: Base64"}),
    };
    all.iter().map(pair).collect()
}

fn request(item: &Item) -> Value {
    let head = item.exchange.head.as_ref();
    let protocol = head.map_or(item.summary.protocol.as_str(), |head| &head.protocol);
    let url = item.url();
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pair = |(name, value)| json!({"name": name, "value": value});
    let body = Body::of(&item.exchange, Direction::Up);
    let mut request = json!({
        "method": item.summary.method,
        "url": url,
        "httpVersion": version(protocol),
        "cookies": [],
        "headers": headers(item.asked()),
        "queryString": form_urlencoded::parse(query.as_bytes()).map(pair).collect::<Vec<_>>(),
        "headersSize": -1,
        "bodySize": body.kept.total,
    });
    if !body.bytes.is_empty() || body.kept.total > 0 {
        let (said, comment) = (said(&body), comment(&body));
        let mut post = json!({"mimeType": body.content_type(), "text": said.text});
        if said.base64 {
            post["_encoding"] = json!("base64");
        } else if body.media() == "application/x-www-form-urlencoded" {
            post["params"] = form_urlencoded::parse(said.text.as_bytes()).map(pair).collect();
        }
        if let Some(comment) = comment {
            post["comment"] = json!(comment);
        }
        // A WebSocket's bytes stand among its messages.
        if !item.is_websocket() {
            request["postData"] = post;
        }
    }
    request
}

fn response(item: &Item) -> Value {
    let body = Body::of(&item.exchange, Direction::Down);
    let answer = item.answer();
    // Without an answer: Chromium's status for it is 0.
    let status = answer.map_or(0, |answer| answer.status);
    let reason = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    let protocol = item.exchange.head.as_ref().map_or(item.summary.protocol.as_str(), |head| &head.protocol);
    let mut content = json!({"size": 0, "mimeType": body.content_type()});
    if !item.is_websocket() {
        let said = said(&body);
        content["size"] = json!(said.size);
        content["text"] = json!(said.text);
        if said.coded {
            content["compression"] = json!(said.size as i64 - body.bytes.len() as i64);
        }
        if said.base64 {
            content["encoding"] = json!("base64");
        }
        if let Some(comment) = comment(&body) {
            content["comment"] = json!(comment);
        }
    }
    let mut response = json!({
        "status": status,
        "statusText": reason.unwrap_or_default(),
        "httpVersion": version(protocol),
        "cookies": [],
        "headers": answer.map_or(json!([]), |answer| headers(&answer.headers)),
        "content": content,
        "redirectURL": item.answers("location").unwrap_or_default(),
        "headersSize": -1,
        "bodySize": body.kept.total,
    });
    if let Some(error) = &item.summary.error {
        response["_error"] = json!(error);
    }
    response
}

struct Told {
    text: String,
    base64: bool,
    size: usize,
    /// A content coding was undone.
    coded: bool,
}

fn said(body: &Body<'_>) -> Told {
    let decoded = body.decoded();
    let (size, coded) = (decoded.bytes.len(), decoded.coding.is_some());
    match text(&decoded.bytes).filter(|text| text.len() == size) {
        Some(text) => Told { text: text.to_owned(), base64: false, size, coded },
        None => Told { text: STANDARD.encode(&decoded.bytes), base64: true, size, coded },
    }
}

fn comment(body: &Body<'_>) -> Option<String> {
    let said: Vec<String> = body.cut().into_iter().chain(body.decoded().trouble).collect();
    (!said.is_empty()).then(|| said.join("; "))
}
