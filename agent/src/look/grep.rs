//! Full-text search in one exchange: heads, trailers, bodies without their content codings, messages of WebSockets. Letters
//! match whatever their case. Of a coded body [`DECODED`](super::body::DECODED) bytes are looked through.

use regex::bytes::{Regex, RegexBuilder};

use super::body::Body;
use super::item::Item;
use super::messages::both_ways;
use crate::record::Direction;
use crate::record::headers::Stored;

/// Longest text that is looked for.
const LONGEST: usize = 4096;

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Needle(Regex);

impl Needle {
    /// This text, as it is.
    ///
    /// # Errors
    /// It is empty or too long.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(format!("a text of 1 to {LONGEST} bytes can be looked for"));
        }
        let regex = RegexBuilder::new(&regex::escape(text)).case_insensitive(true).build();
        regex.map(Self).map_err(|error| error.to_string())
    }

    /// Whether it stands anywhere in an exchange.
    pub fn is_in(&self, item: &Item) -> bool {
        let s = &item.summary;
        let words = [Some(&s.host), s.method.as_ref(), s.path.as_ref(), s.error.as_ref()];
        words.into_iter().flatten().any(|word| self.matches(word.as_bytes()))
            || self.in_headers(item.asked())
            || item.exchange.responses.iter().any(|response| self.in_headers(&response.headers))
            || item.exchange.trailers.iter().any(|trailers| self.in_headers(&trailers.headers))
            || self.in_bodies(item)
    }

    fn matches(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }

    fn in_headers(&self, headers: &[(String, Stored<'static>)]) -> bool {
        headers.iter().any(|(name, value)| {
            let value = match value {
                Stored::Text(text) => text.as_ref(),
                Stored::Raw { base64 } => base64,
            };
            self.matches(format!("{name}: {value}").as_bytes())
        })
    }

    fn in_bodies(&self, item: &Item) -> bool {
        if item.is_websocket() {
            return both_ways(item).iter().any(|timed| self.matches(&timed.message.data));
        }
        let body = |direction| Body::of(&item.exchange, direction);
        [Direction::Up, Direction::Down].into_iter().any(|way| self.matches(&body(way).decoded().bytes))
    }
}
