//! One direction's body: what of it there is, of what type it is, and what it says without its content codings.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::codec::coding::Decoder;
use crate::record::Direction;
use crate::record::headers::Stored;
use crate::record::payload::Kept;
use crate::record::read::unseal::Hidden;
use crate::record::read::whole::Exchange;

/// Bytes that a coded body is decoded to at most, to be looked at: a bomb stays small.
pub const DECODED: usize = 16 << 20;

/// One direction's body.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// As far as they were read.
    pub bytes: &'a [u8],
    /// As far as they are in the store, and how many went through.
    pub kept: Kept,
    /// Why it is not here to its end, and how many bytes are not.
    pub hidden: Option<(Hidden, u64)>,
    /// The head that it came with.
    headers: &'a [(String, Stored<'static>)],
}

/// A body without its content codings.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// As far as they could be decoded.
    pub bytes: Cow<'a, [u8]>,
    /// The codings that were undone.
    pub coding: Option<&'a str>,
    /// Why not all is there, where the recorded bytes were not decoded to their end.
    pub trouble: Option<String>,
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// A header's value, where it is there and is text.
pub fn header<'a>(headers: &'a [(String, Stored<'static>)], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
    match value {
        Stored::Text(text) => Some(text.as_ref()),
        Stored::Raw { .. } => None,
    }
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
            exchange.head.as_ref().map(|head| &head.headers)
        } else {
            exchange.responses.last().map(|response| &response.headers)
        };
        Self { bytes, kept, hidden, headers: headers.map_or(&[], Vec::as_slice) }
    }

    /// Whether bytes of it are missing.
    pub fn is_cut(&self) -> bool {
        (self.bytes.len() as u64) < self.kept.total
    }

    /// What is missing, in words.
    pub fn cut(&self) -> Option<String> {
        let (there, total) = (self.bytes.len(), self.kept.total);
        match self.unread() {
            Some(why) => Some(why),
            None => self.is_cut().then(|| format!("cut: the first {there} of {total} bytes are here")),
        }
    }

    /// What of it is in the store and cannot be read, in words.
    pub fn unread(&self) -> Option<String> {
        let (why, bytes) = self.hidden?;
        let bytes = thousands(bytes);
        Some(match why {
            Hidden::Sealed => format!("body sealed: {bytes} bytes; give --identity FILE"),
            Hidden::Erased => format!("body erased: {bytes} bytes; their key was destroyed"),
            Hidden::Deleted => format!("body deleted: {bytes} bytes went with an old segment"),
            Hidden::Damaged => {
                format!("body damaged: {bytes} bytes are not what was written, or cannot be read")
            }
        })
    }

    /// Content-Encoding.
    pub fn coding(&self) -> Option<&'a str> {
        header(self.headers, CONTENT_ENCODING.as_str())
            .filter(|coding| !coding.eq_ignore_ascii_case("identity"))
    }

    /// The media type, without parameters, in small letters; empty where none is said.
    pub fn media(&self) -> String {
        let said = header(self.headers, "content-type").unwrap_or_default();
        said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Content-Type as it was said.
    pub fn content_type(&self) -> &'a str {
        header(self.headers, "content-type").unwrap_or_default()
    }

    /// Whether it is JSON by its type.
    pub fn is_json(&self) -> bool {
        let media = self.media();
        media == "application/json" || media.ends_with("+json")
    }

    /// Whether it is a stream of server-sent events.
    pub fn is_events(&self) -> bool {
        self.media() == "text/event-stream"
    }

    /// How its codings are undone, piece by piece.
    ///
    /// # Errors
    /// It has one that is not known here.
    pub fn decoder(&self) -> Result<Option<Decoder>, String> {
        let mut map = HeaderMap::new();
        for (name, value) in self.headers {
            if let Stored::Text(text) = value
                && name.eq_ignore_ascii_case(CONTENT_ENCODING.as_str())
                && let Ok(value) = HeaderValue::from_str(text)
            {
                map.append(CONTENT_ENCODING, value);
            }
        }
        Decoder::of(&map).map_err(|error| error.to_string())
    }

    /// It without its content codings, [`DECODED`] bytes at most; as it is where they are not known.
    pub fn decoded(&self) -> Decoded<'a> {
        let as_it_is = |trouble| Decoded { bytes: Cow::Borrowed(self.bytes), coding: None, trouble };
        let mut decoder = match self.decoder() {
            Ok(Some(decoder)) => decoder,
            Ok(None) => return as_it_is(None),
            Err(why) => return as_it_is(Some(why)),
        };
        let mut out = Vec::new();
        let pushed = decoder.push(self.bytes, &mut out, DECODED);
        let finished = pushed.and_then(|()| if self.is_cut() { Ok(()) } else { decoder.finish() });
        match finished {
            // Nothing came out of it: what was recorded says more.
            Err(why) if out.is_empty() => as_it_is(Some(why.to_string())),
            finished => Decoded {
                bytes: Cow::Owned(out),
                coding: self.coding(),
                trouble: finished.err().map(|why| why.to_string()),
            },
        }
    }

    /// `kept`, `total`, and the bytes as `text` or `base64`; where a content coding was undone, that under `decoded`.
    pub fn json(&self, headers_only: bool) -> Value {
        let mut body = json!({"kept": self.kept.kept, "total": self.kept.total});
        if let Some((why, bytes)) = self.hidden {
            body[why.as_str()] = json!(bytes);
        }
        if headers_only || (self.hidden.is_some() && self.bytes.is_empty()) {
            return body;
        }
        put(&mut body, self.bytes);
        if self.coding().is_some() {
            let decoded = self.decoded();
            let mut inner = json!({});
            if let Some(trouble) = &decoded.trouble {
                inner["trouble"] = json!(trouble);
            }
            if decoded.coding.is_some() {
                put(&mut inner, &decoded.bytes);
            }
            body["decoded"] = inner;
        }
        body
    }
}

/// Text only where nothing is lost by it.
pub fn put(value: &mut Value, bytes: &[u8]) {
    match text(bytes).filter(|text| text.len() == bytes.len()) {
        Some(text) => value["text"] = json!(text),
        None => value["base64"] = json!(STANDARD.encode(bytes)),
    }
}

/// Bytes when they are text: UTF-8 (a character cut at the end is let go), with hardly any control characters.
pub fn text(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let controls = text.bytes().filter(|b| *b < 0x20 && !matches!(b, b'\n' | b'\r' | b'\t' | 0x1b)).count();
    (controls * 20 <= text.len() && !text.contains('\0')).then_some(text)
}
