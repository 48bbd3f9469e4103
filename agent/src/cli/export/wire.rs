//! Exchanges as HTTP/1.1 text, whatever they came in: what a reader of packets understands without keys and tables.

use std::fmt::Write as _;

use crate::look::body::Body;
use crate::look::item::Item;
use crate::record::Direction;
use crate::record::headers::Stored;
use crate::record::payload::Response;
use crate::record::read::whole::Headers;

/// A message, and what is to be said of it.
#[derive(Debug, Default)]
pub struct Written {
    /// Head.
    pub head: Vec<u8>,
    /// Body as it is framed.
    pub body: Vec<u8>,
    /// Where in it the body's own bytes begin, behind what frames them.
    pub lead: usize,
    /// What differs from what went over the wire.
    pub notes: Vec<String>,
}

/// How a body is written.
enum Framing {
    /// As its head says.
    AsSaid,
    /// With this Content-Length in place of what the head says.
    Length(usize),
    /// In one chunk, with trailers.
    Chunked,
    /// There is none, whatever the head says.
    None,
}

/// The request.
pub fn request(item: &Item) -> Written {
    let head = item.exchange.head.as_ref();
    let protocol = head.map_or(item.summary.protocol.as_str(), |head| &head.protocol);
    let two = protocol == "h2";
    let mut written = Written::default();
    if two {
        written.notes.push("HTTP/2, written here as HTTP/1.1 text".to_owned());
    }
    let websocket = item.is_websocket();
    // An extended CONNECT (RFC 8441) is the GET that it stands for.
    let method = if websocket { "GET" } else { item.summary.method.as_deref().unwrap_or("GET") };
    let path = item.summary.path.as_deref().unwrap_or("/");
    let mut text = format!("{} {} HTTP/1.{}\r\n", word(method), word(path), u8::from(protocol != "http/1.0"));
    if item.asks("host").is_none() {
        let _ = write!(text, "host: {}\r\n", word(&item.summary.host));
    }
    if websocket && two {
        text.push_str("connection: upgrade\r\nupgrade: websocket\r\n");
    }
    let body = if websocket { None } else { Some(Body::of(&item.exchange, Direction::Up)) };
    let framing = framing(item, Direction::Up, item.asked(), body.as_ref(), false);
    write_out(item, Direction::Up, (text, item.asked()), body, framing, &mut written);
    written
}

/// One of the answers; `last`: the body is its.
pub fn response(item: &Item, response: &Response<'static, Headers>, last: bool) -> Written {
    let mut written = Written::default();
    let two = item.exchange.head.as_ref().is_some_and(|head| head.protocol == "h2");
    let websocket = item.is_websocket() && last;
    let status = if websocket { 101 } else { response.status };
    let reason = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    let mut text = format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("-"));
    if websocket && two {
        text.push_str("connection: upgrade\r\nupgrade: websocket\r\n");
    }
    let body = (last && !websocket).then(|| Body::of(&item.exchange, Direction::Down));
    let bodiless = item.summary.method.as_deref() == Some("HEAD") || matches!(status, 100..200 | 204 | 304);
    let framing = framing(item, Direction::Down, &response.headers, body.as_ref(), bodiless);
    write_out(item, Direction::Down, (text, &response.headers), body, framing, &mut written);
    written
}

fn framing(
    item: &Item,
    direction: Direction,
    headers: &[(String, Stored<'static>)],
    body: Option<&Body<'_>>,
    bodiless: bool,
) -> Framing {
    let Some(body) = body.filter(|_| !bodiless) else { return Framing::None };
    let said = |name| crate::look::body::header(headers, name);
    let trailers = item.exchange.trailers.iter().any(|t| t.direction == direction);
    if trailers || said("transfer-encoding").is_some() {
        return Framing::Chunked;
    }
    let length = said("content-length").and_then(|length| length.parse::<usize>().ok());
    match length {
        Some(length) if length == body.bytes.len() => Framing::AsSaid,
        None if direction == Direction::Up && body.bytes.is_empty() => Framing::AsSaid,
        _ => Framing::Length(body.bytes.len()),
    }
}

fn write_out(
    item: &Item,
    direction: Direction,
    (mut text, headers): (String, &[(String, Stored<'static>)]),
    body: Option<Body<'_>>,
    framing: Framing,
    written: &mut Written,
) {
    let replaced = !matches!(framing, Framing::AsSaid | Framing::None);
    fields(&mut text, headers, replaced);
    let bytes = body.as_ref().map_or(&[][..], |body| body.bytes);
    if let Some(cut) = body.as_ref().and_then(Body::cut) {
        let way = if direction == Direction::Up { "request's" } else { "answer's" };
        written.notes.push(format!("the {way} body is {cut}; its length is written to fit"));
    }
    match framing {
        Framing::AsSaid => written.body = bytes.to_vec(),
        Framing::None => {}
        Framing::Length(length) => {
            let _ = write!(text, "content-length: {length}\r\n");
            written.body = bytes.to_vec();
        }
        Framing::Chunked => {
            text.push_str("transfer-encoding: chunked\r\n");
            let mut framed = Vec::with_capacity(bytes.len() + 64);
            if !bytes.is_empty() {
                framed.extend(format!("{:x}\r\n", bytes.len()).into_bytes());
                written.lead = framed.len();
                framed.extend(bytes);
                framed.extend(b"\r\n");
            }
            framed.extend(b"0\r\n");
            let mut last = String::new();
            for trailers in item.exchange.trailers.iter().filter(|t| t.direction == direction) {
                fields(&mut last, &trailers.headers, true);
            }
            framed.extend(last.into_bytes());
            framed.extend(b"\r\n");
            written.body = framed;
        }
    }
    text.push_str("\r\n");
    written.head = text.into_bytes();
}

/// Fields, without those of the framing where that is written anew.
fn fields(text: &mut String, headers: &[(String, Stored<'static>)], without_framing: bool) {
    for (name, value) in headers {
        let framing = ["content-length", "transfer-encoding"].iter().any(|f| name.eq_ignore_ascii_case(f));
        if framing && without_framing {
            continue;
        }
        let value = match value {
            Stored::Text(value) => value.as_ref(),
            Stored::Raw { base64 } => base64,
        };
        let value: String = value.chars().filter(|c| *c == '\t' || !c.is_control()).collect();
        let _ = write!(text, "{}: {value}\r\n", word(name));
    }
}

/// Without what would end a word of the head: a record that was tampered with makes no other message.
fn word(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == ' ' { '_' } else { c }).collect()
}
