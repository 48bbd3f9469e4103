//! What happened when: an exchange's heads, pieces of its bodies, events and messages as words with their times.

use std::fmt::Write as _;

use crate::look::body::{self, Body, DECODED};
use crate::look::item::{Item, nanos};
use crate::look::messages::both_ways;
use crate::look::pace::Pace;
use crate::look::sse::{Event, Events};
use crate::record::Direction;
use crate::record::headers::Stored;
use crate::record::visible::{Keep, visible};

/// Coded bytes that are taken together where the store has no times of pieces.
const TOGETHER: usize = 16;

/// Words at a time.
pub struct Moment {
    /// Nanoseconds since 1970.
    pub at: i128,
    /// They, visible.
    pub said: Said,
}

/// How they are printed.
pub enum Said {
    /// On lines of their own, with the time before them.
    Lines(String),
    /// Where the last ended: more of a body.
    Text(String),
}

/// Of these exchanges, in order.
pub fn of(items: &[Item]) -> Vec<Moment> {
    let mut all = Vec::new();
    for item in items {
        request(&mut all, item);
        let pace = Pace::of(item);
        if !item.is_websocket() {
            pieces(&mut all, item, &pace, Direction::Up);
        }
        for response in &item.exchange.responses {
            let mut text = format!("< {}  (exchange {})\n", response.status, item.summary.exchange);
            headers(&mut text, '<', &response.headers);
            let at = nanos(&response.time).unwrap_or_else(|| item.began());
            all.push(Moment { at, said: Said::Lines(text) });
        }
        if item.is_websocket() {
            messages(&mut all, item);
        } else {
            pieces(&mut all, item, &pace, Direction::Down);
        }
        if let Some(ended) = item.ended() {
            let error = item.summary.error.as_deref().map(|e| format!(": {}", line(e))).unwrap_or_default();
            let text = format!("exchange {} ended{error}\n", item.summary.exchange);
            all.push(Moment { at: ended, said: Said::Lines(text) });
        }
    }
    // Stable: what has one time stays in the order of its exchange.
    all.sort_by_key(|moment| moment.at);
    all
}

fn line(text: &str) -> std::borrow::Cow<'_, str> {
    visible(text, Keep::Nothing)
}

fn request(all: &mut Vec<Moment>, item: &Item) {
    let s = &item.summary;
    let method = line(s.method.as_deref().unwrap_or(&s.protocol)).into_owned();
    let path = line(s.path.as_deref().unwrap_or_default()).into_owned();
    let mut text = format!("> {method} {}{path}  (exchange {})\n", line(&s.host), s.exchange);
    headers(&mut text, '>', item.asked());
    all.push(Moment { at: item.began(), said: Said::Lines(text) });
}

fn headers(text: &mut String, mark: char, headers: &[(String, Stored<'static>)]) {
    for (name, value) in headers {
        let value = match value {
            Stored::Text(value) => value.as_ref(),
            Stored::Raw { base64 } => base64,
        };
        let _ = writeln!(text, "{mark} {}: {}", line(name), line(value));
    }
}

/// A body in the pieces in which it came, without its content codings.
fn pieces(all: &mut Vec<Moment>, item: &Item, pace: &Pace<'_>, direction: Direction) {
    let body = Body::of(&item.exchange, direction);
    let down = direction == Direction::Down;
    let mut decoder = body.decoder().ok().flatten();
    let readable = body::text(&body.decoded().bytes).is_some();
    let (mut events, mut room) = (body.is_events().then(Events::default), DECODED);
    let mut held = Held::default();
    for (from, end) in cuts(item, pace, down) {
        let at = pace.at(down, end as u64);
        let bytes = body.bytes.get(from..end).unwrap_or_default();
        let mut decoded = Vec::new();
        match &mut decoder {
            // What cannot be decoded any more has been shown as far as it could.
            Some(decoder) => drop(decoder.push(bytes, &mut decoded, room)),
            None => decoded.extend_from_slice(bytes),
        }
        room = room.saturating_sub(decoded.len());
        match &mut events {
            Some(events) => all.extend(events.push(&decoded).iter().map(|event| self::event(at, event))),
            None if readable => held.add(all, at, &decoded),
            None => {
                let mark = if down { '<' } else { '>' };
                all.push(Moment { at, said: Said::Lines(format!("{mark} ({} bytes)\n", bytes.len())) });
            }
        }
    }
    let end = pace.at(down, body.bytes.len() as u64);
    if let Some(event) = events.and_then(Events::rest) {
        all.push(self::event(end, &event));
    }
    if let Some(cut) = body.cut() {
        all.push(Moment { at: end, said: Said::Lines(format!("({cut})\n")) });
    }
}

/// Where a body is cut: at its pieces where these have times, else into many.
fn cuts(item: &Item, pace: &Pace<'_>, down: bool) -> Vec<(usize, usize)> {
    if pace.is_known() {
        let own = item.exchange.pieces.iter().filter(|piece| piece.down == down);
        return own.map(|p| (p.offset as usize, (p.offset + p.length) as usize)).collect();
    }
    let length = if down { item.exchange.down.len() } else { item.exchange.up.len() };
    // At most a thousand or so.
    let together = TOGETHER.max(length / 1024);
    (0..length).step_by(together).map(|from| (from, (from + together).min(length))).collect()
}

/// Text whose last character may not be whole yet.
#[derive(Default)]
struct Held(Vec<u8>);

impl Held {
    fn add(&mut self, all: &mut Vec<Moment>, at: i128, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.0) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.0.len(),
        };
        let now: Vec<u8> = self.0.drain(..whole).collect();
        let text = String::from_utf8_lossy(&now);
        let text = visible(&text, Keep::Lines).into_owned();
        if !text.is_empty() {
            all.push(Moment { at, said: Said::Text(text) });
        }
    }
}

fn event(at: i128, event: &Event) -> Moment {
    let name = if event.name.is_empty() { "message" } else { &event.name };
    let mut text = format!("< event {}\n", line(name));
    for row in visible(&event.data, Keep::Lines).lines() {
        let _ = writeln!(text, "    {row}");
    }
    Moment { at, said: Said::Lines(text) }
}

fn messages(all: &mut Vec<Moment>, item: &Item) {
    for timed in both_ways(item) {
        let (mark, message) = (if timed.down { '<' } else { '>' }, &timed.message);
        let mut text = format!("{mark} {}", message.kind());
        match body::text(&message.data).filter(|_| message.opcode != 2) {
            Some(data) => {
                text.push('\n');
                for row in visible(data, Keep::Lines).lines() {
                    let _ = writeln!(text, "    {row}");
                }
            }
            None => {
                let _ = writeln!(text, " of {} bytes", message.data.len());
            }
        }
        all.push(Moment { at: timed.at, said: Said::Lines(text) });
    }
}
