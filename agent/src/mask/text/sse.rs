//! JSON texts, one a line; and events (`text/event-stream`, WHATWG HTML section 9.2.6), whose data is read as JSON where it
//! begins as such, and is text from where it is none.

use std::sync::Arc;

use memchr::{memchr, memchr2};

use super::json::{How, Json};
use super::{Feed, Flow, Spell};
use crate::mask::{Plan, Refused};

/// JSON texts, one a line.
pub struct Lines {
    pub(super) json: Json,
    begun: bool,
}

impl Lines {
    pub fn new(plan: Option<Arc<Plan>>) -> Self {
        Self { json: Json::new(plan, How::Line), begun: false }
    }

    pub fn read(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<Flow, Refused> {
        loop {
            let rest = feed.rest(upto);
            if !self.begun {
                // RFC 7464 has a record separator before each text.
                let blank = rest.iter().take_while(|b| b.is_ascii_whitespace() || **b == 0x1e).count();
                feed.fixed(blank);
                if blank == rest.len() {
                    return Ok(Flow::On);
                }
                let position = feed.position();
                feed.joins().event(position);
                self.begun = true;
            }
            let line = memchr(b'\n', feed.rest(upto)).map(|end| feed.at() + end);
            let whole = line.is_some() || last;
            if self.json.read(feed, line.unwrap_or(upto), whole)? == Flow::Event {
                return Ok(Flow::Event);
            }
            if !whole {
                return Ok(Flow::On);
            }
            self.json.finish(feed, line.unwrap_or(upto))?;
            feed.fixed(usize::from(line.is_some()));
            self.json.renew();
            self.begun = false;
            if feed.has_joined() {
                return Ok(Flow::Event);
            }
            if line.is_none() {
                return Ok(Flow::On);
            }
        }
    }
}

/// Events.
pub struct Sse {
    pub(super) json: Json,
    line: Line,
    data: Data,
    /// Whether the event has begun, and whether a line feed would belong to the end of the last line.
    begun: bool,
    after_cr: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Start,
    Data,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Data {
    Unknown,
    Json,
    Text,
}

const FIELD: &[u8] = b"data:";

impl Sse {
    pub fn new(plan: Option<Arc<Plan>>) -> Self {
        Self {
            json: Json::new(plan, How::Event),
            line: Line::Start,
            data: Data::Unknown,
            begun: false,
            after_cr: false,
        }
    }

    pub fn read(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<Flow, Refused> {
        while feed.at() < upto {
            if std::mem::take(&mut self.after_cr) && feed.rest(upto)[0] == b'\n' {
                feed.fixed(1);
                continue;
            }
            if self.begun && self.data != Data::Json && feed.is_long(0) {
                feed.joins().hurry();
                return Ok(Flow::Event);
            }
            let end = memchr2(b'\r', b'\n', feed.rest(upto)).map(|end| feed.at() + end);
            if self.line == Line::Start && !self.begin_line(feed, end, upto, last) {
                return Ok(Flow::On);
            }
            let until = end.unwrap_or(upto);
            let blank = self.line == Line::Start;
            match self.line {
                Line::Start => {}
                Line::Data => {
                    if self.data(feed, until, end.is_some() || last) == Flow::Event {
                        return Ok(Flow::Event);
                    }
                }
                Line::Other => feed.plain(until - feed.at(), Spell::Header),
            }
            let Some(end) = end else { return Ok(Flow::On) };
            self.after_cr = feed.raw()[end] == b'\r';
            feed.fixed(1);
            self.line = Line::Start;
            if blank && self.end_event(feed) {
                return Ok(Flow::Event);
            }
        }
        Ok(Flow::On)
    }

    /// Tells what the line is; `false`: more must come. A blank one stays what it was.
    fn begin_line(&mut self, feed: &mut Feed<'_, '_>, end: Option<usize>, upto: usize, last: bool) -> bool {
        let rest = feed.rest(end.unwrap_or(upto));
        if end.is_some() && rest.is_empty() {
            return true;
        }
        if end.is_none()
            && !last
            && rest.len() <= FIELD.len()
            && FIELD.starts_with(&rest[..rest.len().min(5)])
        {
            return false;
        }
        if !std::mem::replace(&mut self.begun, true) {
            let position = feed.position();
            feed.joins().event(position);
        }
        self.line = Line::Other;
        if let Some(data) = rest.strip_prefix(FIELD) {
            feed.fixed(FIELD.len() + usize::from(data.first() == Some(&b' ')));
            self.line = Line::Data;
        }
        true
    }

    fn data(&mut self, feed: &mut Feed<'_, '_>, until: usize, whole: bool) -> Flow {
        if self.data == Data::Unknown {
            let rest = feed.rest(until);
            let blank = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
            feed.fixed(blank);
            match rest.get(blank) {
                Some(b'{' | b'[' | b'"') => self.data = Data::Json,
                Some(_) => self.data = Data::Text,
                None => return Flow::On,
            }
        }
        if self.data == Data::Json {
            match self.json.read(feed, until, whole) {
                Ok(Flow::Event) => return Flow::Event,
                Ok(Flow::On) if !whole || feed.at() == until => return Flow::On,
                _ => {}
            }
            self.json.abandon(feed);
            self.data = Data::Text;
        }
        feed.plain(until - feed.at(), Spell::Event);
        Flow::On
    }

    /// Whether texts that go on must be seen to.
    fn end_event(&mut self, feed: &mut Feed<'_, '_>) -> bool {
        if self.data == Data::Json {
            self.json.abandon(feed);
        }
        // `[DONE]`, and whatever else stands between events of JSON.
        if self.data == Data::Text {
            feed.joins().over();
        }
        (self.begun, self.data) = (false, Data::Unknown);
        feed.has_joined()
    }
}
