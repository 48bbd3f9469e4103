//! What `sluice show` makes of bodies, and its JSON.

use base64::Engine;
use serde_json::{Value, json};

use crate::record::Direction;
use crate::record::headers::Stored;
use crate::record::payload::Kept;
use crate::record::read::unseal::Hidden;
use crate::record::read::whole::{Exchange, Session};

/// One direction's body.
pub struct Body<'a> {
    /// As far as they were read.
    pub bytes: &'a [u8],
    /// As far as they are in the store, and how many went through.
    pub kept: Kept,
    /// Content-Encoding.
    pub coding: Option<&'a str>,
    /// Why it is not shown to its end, and how much of it is not.
    pub hidden: Option<(Hidden, u64)>,
}

impl<'a> Body<'a> {
    /// Of an exchange.
    pub fn of(exchange: &'a Exchange, direction: Direction) -> Self {
        let up = direction == Direction::Up;
        let bytes = if up { &exchange.up } else { &exchange.down };
        let hidden = if up { exchange.up_hidden } else { exchange.down_hidden };
        let seen = bytes.len() as u64 + hidden.map_or(0, |(_, bytes)| bytes);
        let kept = exchange
            .end
            .as_ref()
            .map_or(Kept { kept: seen, total: seen }, |end| if up { end.up } else { end.down });
        let headers = if up {
            exchange.head.as_ref().map(|h| &h.headers)
        } else {
            exchange.responses.last().map(|r| &r.headers)
        };
        let coding = headers.and_then(|headers| {
            headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-encoding")).and_then(
                |(_, value)| match value {
                    Stored::Text(text) => Some(text.as_ref()),
                    Stored::Raw { .. } => None,
                },
            )
        });
        Self { bytes, kept, coding, hidden }
    }

    /// The body when it is text: UTF-8 (a character cut at the end is let go), with hardly any control characters.
    pub fn text(&self) -> Option<&'a str> {
        let text = match std::str::from_utf8(self.bytes) {
            Ok(text) => text,
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&self.bytes[..error.valid_up_to()]).ok()?
            }
            Err(_) => return None,
        };
        let controls =
            text.bytes().filter(|b| *b < 0x20 && !matches!(b, b'\n' | b'\r' | b'\t' | 0x1b)).count();
        (controls * 20 <= text.len() && !text.contains('\0')).then_some(text)
    }

    fn json(&self, headers_only: bool) -> Value {
        let mut body = json!({"kept": self.kept.kept, "total": self.kept.total});
        if let Some((why, bytes)) = self.hidden {
            body[why.as_str()] = json!(bytes);
        }
        if !headers_only && (self.hidden.is_none() || !self.bytes.is_empty()) {
            // Text only where nothing is lost by it.
            match self.text().filter(|text| text.len() == self.bytes.len()) {
                Some(text) => body["text"] = json!(text),
                None => body["base64"] = json!(base64::engine::general_purpose::STANDARD.encode(self.bytes)),
            }
        }
        body
    }
}

/// All that `show --json` prints.
pub fn as_json(session: &Session, headers_only: bool) -> Value {
    let exchanges: Vec<Value> =
        session.exchanges.iter().map(|(n, e)| exchange_json(*n, e, headers_only)).collect();
    json!({
        "session": session.begin,
        "tls": session.tls,
        "end": session.end,
        "interrupted": session.interrupted,
        "exchanges": exchanges,
        "more": session.more,
    })
}

/// One exchange of it.
pub fn exchange_json(number: u32, exchange: &Exchange, headers_only: bool) -> Value {
    let trailers =
        |direction| -> Vec<_> { exchange.trailers.iter().filter(|t| t.direction == direction).collect() };
    json!({
        "exchange": number,
        "summary": exchange.end.as_ref().map(|end| &end.summary),
        "request": {
            "head": exchange.head,
            "body": Body::of(exchange, Direction::Up).json(headers_only),
            "trailers": trailers(Direction::Up),
        },
        "response": {
            "heads": exchange.responses,
            "body": Body::of(exchange, Direction::Down).json(headers_only),
            "trailers": trailers(Direction::Down),
        },
    })
}
