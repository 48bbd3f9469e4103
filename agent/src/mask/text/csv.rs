//! Comma-separated values (RFC 4180), or with semicolons, tabs or bars between them: which it is, the first line tells. It may name
//! the columns: those that are named as a field of JSON is go as a whole.

use std::sync::Arc;

use super::{Feed, Flow, Spell};
use crate::mask::body::Stood;
use crate::mask::replace::Replacement;
use crate::mask::{Plan, Refused};

/// Longest name that is compared, and most columns that are told apart.
const NAME: usize = 256;
const COLUMNS: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Begin,
    Bare,
    Quoted,
}

/// Reads such values.
pub struct Csv {
    plan: Option<Arc<Plan>>,
    place: Place,
    sign: Option<u8>,
    first_line: bool,
    name: Vec<u8>,
    column: usize,
    /// Of the columns that go as a whole: which, and how.
    whole: Vec<(usize, String, Replacement)>,
}

impl Csv {
    pub fn new(plan: Option<Arc<Plan>>) -> Self {
        Self {
            plan,
            place: Place::Begin,
            sign: None,
            first_line: true,
            name: Vec::new(),
            column: 0,
            whole: Vec::new(),
        }
    }

    /// Bytes of memory that it has taken.
    pub fn memory(&self) -> usize {
        let names =
            self.whole.iter().map(|(_, name, _)| name.len() + size_of::<(usize, String, Replacement)>());
        names.sum::<usize>() + self.name.capacity()
    }

    pub fn read(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<Flow, Refused> {
        while feed.at() < upto {
            let rest = feed.rest(upto);
            match self.place {
                Place::Begin => self.begin(feed, rest[0]),
                Place::Bare => self.bare(feed, rest),
                Place::Quoted => {
                    if !self.quoted(feed, rest, last) {
                        break;
                    }
                }
            }
        }
        if last && feed.swaps() {
            feed.swap_end();
        }
        Ok(Flow::On)
    }

    fn begin(&mut self, feed: &mut Feed<'_, '_>, first: u8) {
        let quoted = first == b'"';
        feed.fixed(usize::from(quoted));
        self.place = if quoted { Place::Quoted } else { Place::Bare };
        let spell = if quoted { Spell::Quoted } else { Spell::Bare };
        if let Some((_, name, with)) = self.whole.iter().find(|(column, ..)| *column == self.column)
            && !self.first_line
        {
            feed.swap(name, *with, Stood::Text(spell));
        }
    }

    fn bare(&mut self, feed: &mut Feed<'_, '_>, rest: &[u8]) {
        let sign = self.sign;
        let is_sign = |b: &u8| match sign {
            Some(sign) => *b == sign,
            None => b",;\t|".contains(b),
        };
        let length = rest.iter().position(|b| is_sign(b) || *b == b'\n' || *b == b'\r').unwrap_or(rest.len());
        self.note(&rest[..length]);
        feed.plain(length, Spell::Bare);
        let Some(end) = rest.get(length) else { return };
        if feed.swaps() {
            feed.swap_end();
        }
        feed.fixed(1);
        self.named();
        self.place = Place::Begin;
        if is_sign(end) {
            self.sign = Some(*end);
            self.column += 1;
        } else {
            (self.column, self.first_line) = (0, false);
        }
    }

    /// Reads on between quotes. Whether what is there tells what it is.
    fn quoted(&mut self, feed: &mut Feed<'_, '_>, rest: &[u8], last: bool) -> bool {
        let length = memchr::memchr(b'"', rest).unwrap_or(rest.len());
        self.note(&rest[..length]);
        feed.plain(length, Spell::Quoted);
        match rest.get(length..).unwrap_or_default() {
            [] => {}
            [_] if !last => return false,
            [_, b'"', ..] => {
                self.note(b"\"");
                feed.unit(2, b"\"", Spell::Quoted);
            }
            _ => {
                if feed.swaps() {
                    feed.swap_end();
                }
                feed.fixed(1);
                self.place = Place::Bare;
            }
        }
        true
    }

    fn note(&mut self, text: &[u8]) {
        if self.first_line && self.name.len() <= NAME {
            self.name.extend_from_slice(&text[..text.len().min(NAME + 1 - self.name.len())]);
        }
    }

    /// A column's name has come.
    fn named(&mut self) {
        let name = std::mem::take(&mut self.name);
        if !self.first_line || self.column >= COLUMNS {
            return;
        }
        let name = str::from_utf8(&name).unwrap_or_default().trim();
        if let Some(field) = self.plan.as_ref().and_then(|plan| plan.column_field(name)) {
            self.whole.push((self.column, field.name.clone(), field.with));
        }
    }
}
