//! Forms and queries (`application/x-www-form-urlencoded`, WHATWG URL section 5), and paths: percent signs. Much that is called a form is
//! JSON, as what `curl -d` sends: a body that begins as JSON is read as such, as long as it is.

use std::sync::Arc;

use super::json::{How, Json};
use super::unit::percent;
use super::{Feed, Flow, Sign, Spell, sign, sign_says};
use crate::mask::body::{Stood, char_of};
use crate::mask::{Plan, Refused};

/// Where a text with percent signs stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Where {
    /// It is a body.
    Form,
    /// It is the query of a URL, without its question mark.
    Query,
    /// It is the path of a URL.
    Path,
}

/// Longest name that is compared.
const NAME: usize = 256;

/// Reads such a text.
pub struct Form {
    plan: Option<Arc<Plan>>,
    stands: Where,
    name: Vec<u8>,
    in_value: bool,
    /// A body that may be JSON, or is; and whether that is known.
    json: Option<Box<Json>>,
    begun: bool,
}

impl Form {
    pub fn new(plan: Option<Arc<Plan>>, stands: Where) -> Self {
        let json = (stands == Where::Form).then(|| Box::new(Json::new(plan.clone(), How::Whole)));
        Self { plan, stands, name: Vec::new(), in_value: false, json, begun: false }
    }

    fn spell(&self) -> Spell {
        if self.stands == Where::Path { Spell::Path } else { Spell::Form }
    }

    /// Bytes of memory that it has taken.
    pub fn memory(&self) -> usize {
        self.name.capacity() + self.json.as_ref().map_or(0, |json| json.memory())
    }

    pub fn read(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<Flow, Refused> {
        if self.json.is_some() {
            self.read_json(feed, upto, last);
        }
        if self.json.is_some() {
            return Ok(Flow::On);
        }
        while feed.at() < upto {
            let rest = feed.rest(upto);
            let plain = rest.iter().take_while(|b| !self.is_sign(**b)).count();
            self.note(&rest[..plain]);
            feed.plain(plain, self.spell());
            match rest.get(plain) {
                None => {}
                Some(b'%') if !self.escape(feed, upto, last)? => return Ok(Flow::On),
                Some(b'%') => {}
                Some(b'+') => {
                    self.note(b" ");
                    feed.unit(1, b" ", self.spell());
                }
                Some(sign) => self.sign(feed, *sign),
            }
        }
        if last && feed.swaps() {
            feed.swap_end();
        }
        Ok(Flow::On)
    }

    /// Reads what may be JSON; where it is none, what is left is a form.
    fn read_json(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) {
        let rest = feed.rest(upto);
        if !self.begun {
            match rest.iter().find(|b| !b.is_ascii_whitespace()) {
                None if last => return self.json = None,
                // Spaces may be many: they are a form's as well as JSON's.
                None => {
                    self.note(rest);
                    return feed.fixed(rest.len());
                }
                Some(b'{' | b'[') => self.begun = true,
                Some(_) => return self.json = None,
            }
        }
        if let Some(json) = &mut self.json {
            let read = json.read(feed, upto, last);
            if read.is_err() || (last && feed.at() < upto) {
                json.abandon(feed);
                self.json = None;
            }
        }
    }

    fn is_sign(&self, byte: u8) -> bool {
        match byte {
            b'%' => true,
            b'/' | b';' => self.stands == Where::Path,
            b'+' | b'&' => self.stands != Where::Path,
            b'=' => self.stands != Where::Path && !self.in_value,
            _ => false,
        }
    }

    fn sign(&mut self, feed: &mut Feed<'_, '_>, sign: u8) {
        if feed.swaps() {
            feed.swap_end();
        }
        if sign == b'&' {
            // One may stand in an address; here it stands between two.
            feed.parts(b'"');
        } else {
            feed.fixed(1);
        }
        self.in_value = sign == b'=';
        if self.in_value {
            let field = self.plan.as_ref().and_then(|plan| {
                let name = str::from_utf8(&self.name).ok()?;
                Some(if self.stands == Where::Form {
                    plan.form_field(name)?
                } else {
                    plan.query_field(name)?
                })
            });
            if let Some(field) = field {
                feed.swap(&field.name, field.with, Stood::Text(self.spell()));
            }
        }
        self.name.clear();
    }

    /// Reads what percent signs say. Whether it was there whole.
    fn escape(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<bool, Refused> {
        let rest = feed.rest(upto);
        if let Sign::Says(length) = sign(rest, true)
            && length > 3
        {
            // What is encoded again is decoded as often.
            let (says, count) = sign_says(&rest[..length]);
            self.note(&says[..count]);
            feed.unit(length, &says[..count], self.spell());
            return Ok(true);
        }
        match percent(rest, last) {
            Ok(Some((raw, says, count))) => {
                self.note(&says[..count]);
                feed.unit(raw, &says[..count], self.spell());
            }
            Ok(None) => return Ok(false),
            Err(()) if self.stands == Where::Form && !feed.is_latin1() => {
                let what = "percent signs that say no UTF-8";
                return Err(Refused::Charset(what.into()));
            }
            Err(()) => {
                let byte = str::from_utf8(&rest[1..3]).ok().and_then(|two| u8::from_str_radix(two, 16).ok());
                let letter = char_of(byte.unwrap_or(b'?'));
                feed.unit(3, letter.encode_utf8(&mut [0; 4]).as_bytes(), self.spell());
            }
        }
        Ok(true)
    }

    fn note(&mut self, text: &[u8]) {
        if !self.in_value && self.name.len() <= NAME {
            self.name.extend_from_slice(&text[..text.len().min(NAME + 1 - self.name.len())]);
        }
    }
}
