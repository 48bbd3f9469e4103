//! OpenTelemetry logs in OTLP's JSON (the file exporter's form: one request a line), with the semantic conventions' names
//! for HTTP and generative AI where these apply, and Sluice's own under `sluice.`.

use std::io::{self, Write};
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Exporter, Said};
use crate::look::body::{Body, text};
use crate::look::item::Item;
use crate::look::llm::{Conversation, Part, Turn};
use crate::look::plain;
use crate::record::Direction;
use crate::record::headers::Stored;
use crate::types::Verdict;

/// Records of one line.
const TOGETHER: usize = 100;
/// Bytes of bodies of one line: beyond them it is written.
const BYTES: usize = 8 << 20;

/// See the module.
#[derive(Default)]
pub struct Otlp {
    records: Vec<Value>,
    bytes: usize,
}

impl Exporter for Otlp {
    fn add(&mut self, out: &mut dyn Write, item: &Item) -> io::Result<Said> {
        self.records.push(record(item));
        self.bytes += item.exchange.up.len() + item.exchange.down.len();
        if self.records.len() >= TOGETHER || self.bytes >= BYTES {
            self.flush(out)?;
        }
        Ok(Said::Yes)
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.records.is_empty() { Ok(()) } else { self.flush(out) }
    }
}

impl Otlp {
    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.bytes = 0;
        let mut resource = Attributes::default();
        resource.text("service.name", Some("sluice"));
        resource.text("service.version", Some(env!("CARGO_PKG_VERSION")));
        let scope = json!({"name": "sluice", "version": env!("CARGO_PKG_VERSION")});
        let logs = json!([{"scope": scope, "logRecords": std::mem::take(&mut self.records)}]);
        let request = json!({"resourceLogs": [{"resource": {"attributes": resource.0}, "scopeLogs": logs}]});
        plain::write(out, &request)?;
        out.write_all(b"\n")
    }
}

/// `[{key, value: {stringValue: …}}]`; what is not there is left out.
#[derive(Default)]
struct Attributes(Vec<Value>);

impl Attributes {
    fn put(&mut self, key: &str, value: Value) {
        self.0.push(json!({"key": key, "value": value}));
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.put(key, json!({"stringValue": value}));
        }
    }

    /// 64-bit numbers are texts in OTLP's JSON.
    fn number(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.put(key, json!({"intValue": value.to_string()}));
        }
    }

    fn list<'a>(&mut self, key: &str, values: impl IntoIterator<Item = &'a str>) {
        let values: Vec<Value> = values.into_iter().map(|value| json!({"stringValue": value})).collect();
        if !values.is_empty() {
            self.put(key, json!({"arrayValue": {"values": values}}));
        }
    }
}

fn record(item: &Item) -> Value {
    let s = &item.summary;
    let mut attributes = Attributes::default();
    caller(&mut attributes, item);
    if item.is_http() {
        http(&mut attributes, item);
    }
    for (name, direction) in [("request", Direction::Up), ("response", Direction::Down)] {
        body(&mut attributes, name, &Body::of(&item.exchange, direction));
    }
    if let Some(conversation) = Conversation::of(&item.exchange) {
        gen_ai(&mut attributes, &conversation);
    }
    let (number, word) = match (s.verdict, &s.error) {
        (Verdict::Deny, _) => (13, "WARN"),
        (Verdict::Allow, Some(_)) => (17, "ERROR"),
        (Verdict::Allow, None) => (9, "INFO"),
    };
    let mut record = json!({
        "timeUnixNano": item.began().to_string(),
        "observedTimeUnixNano": item.ended().unwrap_or_else(|| item.began()).to_string(),
        "severityNumber": number,
        "severityText": word,
        "eventName": "sluice.exchange",
        "body": {"stringValue": s.line()},
        "attributes": attributes.0,
    });
    // The job's own trace, where it said one (W3C Trace Context §3.2).
    let parent: Vec<&str> = item.asks("traceparent").unwrap_or_default().split('-').collect();
    if let [_, trace, span, flags, ..] = parent[..]
        && (trace.len(), span.len()) == (32, 16)
        && parent.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        record["traceId"] = json!(trace);
        record["spanId"] = json!(span);
        record["flags"] = json!(u32::from_str_radix(flags, 16).unwrap_or(0));
    }
    record
}

fn caller(attributes: &mut Attributes, item: &Item) {
    let s = &item.summary;
    attributes.text("sluice.session", Some(&s.session));
    attributes.number("sluice.exchange", Some(u64::from(s.exchange)));
    attributes.text("sluice.tag", Some(&s.tag));
    attributes.text("sluice.unit", s.unit.as_deref());
    attributes.text("sluice.cgroup", Some(&s.cgroup));
    attributes.text("sluice.rule", s.rule.as_deref());
    attributes.text("sluice.verdict", Some(s.verdict.as_str()));
    attributes.text("sluice.credential", s.credential.as_deref());
    for (detector, count) in &s.masked {
        attributes.number(&format!("sluice.masked.{detector}"), Some(*count));
    }
    attributes.number("sluice.duration_us", s.duration_us);
    attributes.text("error.type", s.error.as_ref().map(|_| "sluice"));
    attributes.text("error.message", s.error.as_deref());
    attributes.number("process.pid", Some(u64::from(s.pid)));
    attributes.text("process.executable.path", s.exe.as_deref());
    attributes.text("process.owner", s.user.as_deref());
    attributes.text("container.id", s.container.as_deref());
    attributes.text("container.runtime.name", s.container_runtime.as_deref());
    attributes.text("container.image.name", s.image.as_deref());
    attributes.text("user.id", s.identity.as_deref());
    attributes.list("user.roles", s.groups.iter().map(String::as_str));
    attributes.text("server.address", Some(&s.host));
    attributes.number("server.port", item.port().map(u64::from));
    if let Ok(peer) = s.address.parse::<SocketAddr>() {
        attributes.text("network.peer.address", Some(&peer.ip().to_string()));
        attributes.number("network.peer.port", Some(u64::from(peer.port())));
    }
    if let Some(session) = &item.session {
        attributes.text("client.address", Some(&session.client.ip().to_string()));
        attributes.number("client.port", Some(u64::from(session.client.port())));
    }
    let (name, version) = match s.protocol.as_str() {
        "h2" => ("http", Some("2")),
        protocol => {
            protocol.split_once('/').map_or((protocol, None), |(name, version)| (name, Some(version)))
        }
    };
    attributes.text("network.protocol.name", Some(name));
    attributes.text("network.protocol.version", version);
}

fn http(attributes: &mut Attributes, item: &Item) {
    let s = &item.summary;
    let url = item.url();
    attributes.text("http.request.method", s.method.as_deref());
    attributes.text("url.full", Some(&url));
    attributes.text("url.scheme", url.split(':').next());
    let path = s.path.as_deref().unwrap_or("/");
    attributes.text("url.path", path.split('?').next());
    attributes.text("url.query", path.split_once('?').map(|(_, query)| query));
    attributes.number("http.response.status_code", s.status.map(u64::from));
    attributes.text("user_agent.original", item.asks("user-agent"));
    headers(attributes, "http.request.header.", item.asked());
    headers(attributes, "http.response.header.", item.answer().map_or(&[], |answer| &answer.headers));
}

/// `http.request.header.<name>`: all values of one name in one list.
fn headers(attributes: &mut Attributes, prefix: &str, all: &[(String, Stored<'static>)]) {
    let mut names: Vec<String> = all.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let values = all.iter().filter(|(found, _)| found.eq_ignore_ascii_case(&name));
        let value = |(_, value): &'_ (String, Stored<'static>)| match value {
            Stored::Text(value) => value.to_string(),
            Stored::Raw { base64 } => format!("base64:{base64}"),
        };
        let values: Vec<String> = values.map(value).collect();
        attributes.list(&format!("{prefix}{name}"), values.iter().map(String::as_str));
    }
}

/// `http.request.body.size` is the conventions'; the body itself has no name there.
fn body(attributes: &mut Attributes, name: &str, body: &Body<'_>) {
    attributes.number(&format!("http.{name}.body.size"), Some(body.kept.total));
    let decoded = body.decoded();
    if decoded.bytes.is_empty() {
        return;
    }
    match text(&decoded.bytes).filter(|text| text.len() == decoded.bytes.len()) {
        Some(text) => attributes.text(&format!("sluice.{name}.body.text"), Some(text)),
        None => {
            attributes.text(&format!("sluice.{name}.body.base64"), Some(&STANDARD.encode(&decoded.bytes)))
        }
    }
    let trouble: Vec<String> = body.cut().into_iter().chain(decoded.trouble).collect();
    attributes.text(
        &format!("sluice.{name}.body.trouble"),
        Some(&trouble.join("; ")).filter(|t| !t.is_empty()).map(|t| t.as_str()),
    );
}

/// Attributes of the semantic conventions for generative AI.
fn gen_ai(attributes: &mut Attributes, conversation: &Conversation) {
    attributes.text("gen_ai.operation.name", Some("chat"));
    attributes.text("gen_ai.provider.name", Some(conversation.api.provider()));
    attributes.text("gen_ai.request.model", conversation.model.as_deref());
    let asked: Vec<Value> = conversation.asked.iter().map(turn).collect();
    attributes.text("gen_ai.input.messages", Some(&json!(asked).to_string()));
    let Some(answer) = &conversation.answer else { return };
    attributes.text("gen_ai.response.id", answer.id.as_deref());
    attributes.text("gen_ai.response.model", answer.model.as_deref());
    attributes.list("gen_ai.response.finish_reasons", answer.finish.iter().map(String::as_str));
    attributes.number("gen_ai.usage.input_tokens", answer.input_tokens);
    attributes.number("gen_ai.usage.output_tokens", answer.output_tokens);
    let mut said: Vec<Value> = answer.turns.iter().map(turn).collect();
    for (turn, finish) in said.iter_mut().zip(&answer.finish) {
        turn["finish_reason"] = json!(finish);
    }
    attributes.text("gen_ai.output.messages", Some(&json!(said).to_string()));
}

/// A message in the conventions' schema: role and typed parts.
fn turn(turn: &Turn) -> Value {
    let part = |part: &Part| match part {
        Part::Other { kind } => json!({"type": kind}),
        part => json!(part),
    };
    json!({"role": turn.role, "parts": turn.parts.iter().map(part).collect::<Vec<_>>()})
}
