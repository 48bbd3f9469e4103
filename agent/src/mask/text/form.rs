//! Forms and queries (`application/x-www-form-urlencoded`, WHATWG URL section 5), and paths: percent signs.

use std::sync::Arc;

use super::unit::percent;
use super::{Feed, Flow, Spell};
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
}

impl Form {
    pub fn new(plan: Option<Arc<Plan>>, stands: Where) -> Self {
        Self { plan, stands, name: Vec::new(), in_value: false }
    }

    fn spell(&self) -> Spell {
        if self.stands == Where::Path { Spell::Path } else { Spell::Form }
    }

    pub fn read(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<Flow, Refused> {
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
        feed.fixed(1);
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
