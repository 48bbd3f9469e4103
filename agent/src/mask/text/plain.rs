//! Plain text. Much that is called so is JSON: what begins as JSON is read as such, as long as it is.

use std::sync::Arc;

use super::json::{How, Json};
use super::{Feed, Flow, Spell};
use crate::mask::body::MARK;
use crate::mask::{Plan, Refused};

/// Plain text, or JSON by another name.
pub struct Soft {
    pub(super) json: Json,
    mode: Mode,
}

#[derive(PartialEq, Eq)]
enum Mode {
    Unknown,
    Json,
    Text,
}

impl Soft {
    pub fn new(plan: Option<Arc<Plan>>) -> Self {
        Self { json: Json::new(plan, How::Whole), mode: Mode::Unknown }
    }

    pub fn read(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<Flow, Refused> {
        if self.mode == Mode::Unknown {
            // Letters come whole.
            feed.fixed(if feed.rest(upto).starts_with(MARK) { MARK.len() } else { 0 });
            let rest = feed.rest(upto);
            let blank = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
            feed.fixed(blank);
            self.mode = match rest.get(blank) {
                None => return Ok(Flow::On),
                Some(b'{' | b'[') => Mode::Json,
                Some(_) => Mode::Text,
            };
        }
        if self.mode == Mode::Json {
            let read = self.json.read(feed, upto, last);
            if read.is_ok() && (!last || feed.at() == upto) {
                return Ok(Flow::On);
            }
            self.json.abandon(feed);
            self.mode = Mode::Text;
        }
        feed.plain(upto - feed.at(), Spell::Plain);
        Ok(Flow::On)
    }
}
