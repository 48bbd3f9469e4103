//! JSON within a string of JSON: the arguments of a tool, a body in a log. Its escapes are escaped once more (`\\n`, `\\u0040`,
//! `\\\"`), and say what they say in it: a value stands behind a line's end, not behind the letter `n`.
//!
//! A string holds JSON from where a quote of JSON's own stands in it: behind `{` or `[`, or, where it begins with one of these, behind
//! `,` or `:`; and where it begins with a quote. Elsewhere a backslash is one, but where it is an escape that stands there as it was
//! written.

use crate::mask::body::Spell;
use crate::mask::text::unit::{json_escape_length, json_says};

/// Deepest JSON within JSON whose escapes are read.
const DEEPEST: u8 = 4;

/// So many texts are known that go on in other events.
const TEXTS: usize = 8;

/// Texts that go on in other events, the one that came last at the end: what is known of each.
#[derive(Default)]
pub struct Inners {
    known: Vec<(u64, Inner)>,
    key: u64,
}

impl Inners {
    /// One begins, or goes on.
    pub fn begin(&mut self, key: u64, holds: bool) -> Inner {
        self.key = key;
        let known = self.known.iter().find(|(other, _)| *other == key);
        known.map_or_else(|| Inner::new(holds), |(_, inner)| *inner)
    }

    /// Its part in this event has ended.
    pub fn end(&mut self, inner: &Inner) {
        let at = self.known.iter().position(|(key, _)| *key == self.key);
        let at = at.or((self.known.len() == TEXTS).then_some(0));
        at.map(|at| self.known.remove(at));
        self.known.push((self.key, *inner));
    }
}

/// What is known of a string.
#[derive(Clone, Copy)]
pub struct Inner {
    /// 1: it is a string of the text; 2: it holds JSON.
    level: u8,
    /// The first byte of it and the last that came that are no spaces; 0: there are none.
    first: u8,
    last: u8,
    /// Whether an escape has begun, and the piece has ended there.
    open: bool,
}

impl Inner {
    /// A string begins. `holds`: it holds JSON, or a piece of it.
    pub fn new(holds: bool) -> Self {
        Self { level: 1 + u8::from(holds), first: 0, last: 0, open: false }
    }

    /// How what replaces a value is written here.
    pub fn spell(&self) -> Spell {
        if self.level == 1 { Spell::Json } else { Spell::Nested(self.level) }
    }

    /// How long the rest is of an escape that the last piece has begun; `Some(0)`: there is none, `None`: more must come.
    pub fn behind(&mut self, rest: &[u8]) -> Option<usize> {
        let length = match rest.first() {
            _ if !self.open => 0,
            None => return None,
            Some(b'n' | b'r' | b't') => 1,
            Some(b'u') => unicode(0, &rest[1..])?,
            Some(_) => 0,
        };
        self.open = false;
        Some(length)
    }

    /// More of the string.
    pub fn note(&mut self, text: &[u8]) {
        self.open = false;
        let is_sign = |b: &&u8| !b.is_ascii_whitespace();
        if self.first == 0 {
            self.first = text.iter().find(is_sign).copied().unwrap_or(0);
        }
        self.last = text.iter().rfind(is_sign).copied().unwrap_or(self.last);
    }

    /// How long the escape is that begins there, and what it says; `Ok(None)`: more must come.
    ///
    /// # Errors
    /// It is none.
    pub fn escape(&mut self, rest: &[u8]) -> Result<Option<(usize, [u8; 4], usize)>, ()> {
        let length = match self.length(rest) {
            Some(0) => json_escape_length(rest)?,
            other => other,
        };
        let Some(length) = length else { return Ok(None) };
        let raw = &rest[..length];
        let (says, count) = json_says(raw);
        if says[..count] == *b"\"" {
            let run = raw.iter().take_while(|b| **b == b'\\').count() as u32;
            let level = ((run + 1).ilog2() as u8 + 1).min(DEEPEST);
            // The quote of a text further out ends those in it.
            if level < self.level || self.is_begin() {
                self.level = level;
            }
        }
        // An escape goes on in another event.
        let open = self.level > 1 && raw == b"\\\\" && rest.get(length) == Some(&b'"');
        let count = if open { 0 } else { count };
        self.note(&says[..count]);
        self.open = open;
        Ok(Some((length, says, count)))
    }

    /// Whether a string of JSON may begin here.
    fn is_begin(&self) -> bool {
        match self.last {
            0 | b'{' | b'[' => true,
            b',' | b':' => matches!(self.first, b'{' | b'['),
            _ => false,
        }
    }

    /// How long an escape of the JSON in the string is; `Some(0)`: it is none, `None`: more must come.
    fn length(&self, rest: &[u8]) -> Option<usize> {
        if self.level == 1 {
            return written(rest);
        }
        let pair = 1 << self.level;
        let run = rest.iter().take(pair).take_while(|b| **b == b'\\').count();
        if run == pair {
            return Some(pair);
        }
        let behind = rest.get(run..).unwrap_or_default();
        match behind.first()? {
            b'"' if run > 1 && (run + 1).is_power_of_two() => Some(run + 1),
            b'n' | b'r' | b't' | b'b' | b'f' | b'/' if run > 1 && run.is_power_of_two() => Some(run + 1),
            b'u' if run > 1 && run.is_power_of_two() => unicode(run, &behind[1..]),
            _ => Some(0),
        }
    }
}

/// An escape with four digits behind so many backslashes and a `u`.
fn unicode(run: usize, digits: &[u8]) -> Option<usize> {
    let digits = &digits[..digits.len().min(4)];
    match digits.iter().all(u8::is_ascii_hexdigit) {
        false => Some(0),
        true if digits.len() < 4 => None,
        true => Some(run + 5),
    }
}

/// An escape that stands in a text as it was written: `a\\n4111`, of which JSON makes `a\n4111`.
fn written(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'\\'] | [b'\\', b'\\'] => None,
        [b'\\', b'\\', b'n' | b'r' | b't', ..] => Some(3),
        [b'\\', b'\\', b'u', digits @ ..] => unicode(2, digits),
        _ => Some(0),
    }
}
