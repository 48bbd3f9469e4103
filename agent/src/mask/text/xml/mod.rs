//! XML and HTML, as far as it takes to tell text from what holds it together: text, attributes, comments and CDATA sections are
//! searched, references in them read. Whether it is well formed is not asked. What defines entities of its own is refused: text could
//! stand anywhere.

mod entity;

use std::sync::Arc;

use memchr::{memchr, memchr2, memmem};

use super::{Feed, Flow, Spell, tail};
use crate::mask::body::{Stood, whole_text};
use crate::mask::{Plan, Refused};
use entity::entity;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tongue {
    Xml,
    Html,
}

/// Longest name that is compared; longest XML declaration.
const NAME: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Text,
    /// At `<`.
    Sign,
    /// In what ends with these bytes, and has no references.
    Until(&'static [u8]),
    Declaration,
    /// In the name of an element; of its end tag.
    Name {
        closes: bool,
    },
    /// Between attributes.
    Tag {
        closes: bool,
    },
    Attribute,
    /// Behind the name of an attribute.
    Named,
    /// Behind the sign of an attribute.
    Equals,
    /// In a value, and what ends it: a quote, or a space.
    Value(u8),
}

/// Reads XML or HTML.
pub struct Xml {
    plan: Option<Arc<Plan>>,
    tongue: Tongue,
    place: Place,
    /// The name of the element or attribute, in small letters.
    name: Vec<u8>,
    element: Vec<u8>,
    /// The element whose text goes as a whole, and how many of its name are open.
    whole: Option<(Vec<u8>, usize)>,
    slash: bool,
}

impl Xml {
    pub fn new(plan: Option<Arc<Plan>>, tongue: Tongue) -> Self {
        Self {
            plan,
            tongue,
            place: Place::Text,
            name: Vec::new(),
            element: Vec::new(),
            whole: None,
            slash: false,
        }
    }

    pub fn read(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<Flow, Refused> {
        while feed.at() < upto {
            let rest = feed.rest(upto);
            let goes_on = match self.place {
                Place::Text => self.text(feed, upto, last),
                Place::Sign => self.sign(feed, rest, last)?,
                Place::Until(end) => self.until(feed, rest, end, last),
                Place::Declaration => self.declaration(feed, rest)?,
                Place::Name { closes } => self.name(feed, rest, closes),
                Place::Tag { closes } => self.tag(feed, rest, closes),
                Place::Attribute => self.attribute(feed, rest),
                Place::Named => self.named(feed, rest),
                Place::Equals => self.equals(feed, rest),
                Place::Value(quote) => self.value(feed, upto, quote, last),
            };
            if !goes_on {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn text(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> bool {
        let rest = feed.rest(upto);
        let stop = memchr2(b'<', b'&', rest).unwrap_or(rest.len());
        feed.plain(stop, Spell::Xml);
        match rest.get(stop) {
            Some(b'&') => reference(feed, upto, last),
            Some(_) => {
                self.place = Place::Sign;
                true
            }
            None => true,
        }
    }

    /// Tells what `<` begins.
    fn sign(&mut self, feed: &mut Feed<'_, '_>, rest: &[u8], last: bool) -> Result<bool, Refused> {
        const KINDS: [(&[u8], &[u8]); 3] = [(b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>")];
        for (begins, ends) in KINDS {
            if rest.starts_with(begins) {
                let declares = self.tongue == Tongue::Xml && begins == b"<?";
                if declares && !self.encoding(rest, last)? {
                    return Ok(false);
                }
                feed.fixed(begins.len());
                self.place = Place::Until(ends);
                return Ok(true);
            }
            if begins.starts_with(rest) && !last {
                return Ok(false);
            }
        }
        self.name.clear();
        if self.whole.is_some() && !self.closes_whole(feed, rest, last) {
            return Ok(false);
        }
        let (length, place) = match rest.get(1) {
            Some(b'!') => (2, Place::Declaration),
            Some(b'/') => (2, Place::Name { closes: true }),
            Some(b) if b.is_ascii_alphabetic() || *b > 127 || *b == b'_' => {
                (1, Place::Name { closes: false })
            }
            // A sign that stands for itself.
            _ => (1, Place::Text),
        };
        feed.fixed(length);
        self.place = place;
        Ok(true)
    }

    /// The end tag of what goes as a whole is not a part of it. Whether what is there tells.
    fn closes_whole(&mut self, feed: &mut Feed<'_, '_>, rest: &[u8], last: bool) -> bool {
        let Some((name, depth)) = &mut self.whole else { return true };
        let there = rest.strip_prefix(b"</").unwrap_or_default();
        let length = there.len().min(name.len());
        if !rest.starts_with(b"</") || !there[..length].eq_ignore_ascii_case(&name[..length]) {
            return true;
        }
        match there.get(name.len()) {
            None => return last,
            Some(next) if next.is_ascii_whitespace() || *next == b'>' => *depth -= 1,
            Some(_) => {}
        }
        if *depth == 0 {
            feed.swap_end();
            self.whole = None;
        }
        true
    }

    /// What goes as a whole, by its name or what stands behind its colon.
    fn swap(&self, feed: &mut Feed<'_, '_>, name: &[u8]) -> bool {
        let Some(plan) = self.plan.as_ref().filter(|_| self.whole.is_none()) else { return false };
        let name = str::from_utf8(name).unwrap_or_default();
        let local = name.rsplit(':').next().unwrap_or(name);
        let field = plan.attribute_field(name).or_else(|| plan.attribute_field(local));
        if let Some(field) = field {
            feed.swap(&field.name, field.with, Stood::Text(Spell::Xml));
        }
        field.is_some()
    }

    /// The encoding that an XML declaration names must be one that is read. Whether it was there whole.
    fn encoding(&self, rest: &[u8], last: bool) -> Result<bool, Refused> {
        let Some(end) = memmem::find(&rest[..rest.len().min(NAME)], b"?>") else {
            return Ok(last || rest.len() >= NAME);
        };
        let declaration = rest[..end].to_ascii_lowercase();
        let Some(at) = memmem::find(&declaration, b"encoding") else { return Ok(true) };
        let named = declaration[at + 8..].split(|b| b"\"'".contains(b)).nth(1).unwrap_or_default();
        let known = [&b"utf-8"[..], b"us-ascii", b"ascii", b"iso-8859-1", b"windows-1252"].contains(&named);
        if known {
            return Ok(true);
        }
        Err(Refused::Charset("the encoding that the XML declaration names; send UTF-8".into()))
    }

    fn until(&mut self, feed: &mut Feed<'_, '_>, rest: &[u8], end: &'static [u8], last: bool) -> bool {
        if let Some(at) = find_end(rest, end) {
            feed.plain(at, Spell::Verbatim);
            feed.fixed(if end.starts_with(b"</") { 0 } else { end.len() });
            self.place = Place::Text;
            return true;
        }
        let there = if last { rest.len() } else { rest.len().saturating_sub(end.len() - 1) };
        let open = if last { 0 } else { open_end(&rest[..there], feed.is_latin1()) };
        feed.plain(there - open, Spell::Verbatim);
        last && there > 0
    }

    fn declaration(&mut self, feed: &mut Feed<'_, '_>, rest: &[u8]) -> Result<bool, Refused> {
        let stop = memchr2(b'>', b'[', rest).unwrap_or(rest.len());
        feed.plain(stop, Spell::Verbatim);
        match rest.get(stop) {
            Some(b'[') if self.tongue == Tongue::Xml => {
                let what = "a document type with declarations of its own";
                return Err(Refused::Form { kind: "XML for a mask", at: feed.position(), what });
            }
            Some(b'>') => self.place = Place::Text,
            _ => {}
        }
        feed.fixed(usize::from(stop < rest.len()));
        Ok(true)
    }

    fn name(&mut self, feed: &mut Feed<'_, '_>, rest: &[u8], closes: bool) -> bool {
        let length = rest.iter().take_while(|b| !b.is_ascii_whitespace() && !b"/>=".contains(b)).count();
        self.note(&rest[..length]);
        let ends = length < rest.len();
        if ends {
            self.element.clone_from(&self.name);
            self.place = Place::Tag { closes };
        }
        feed.plain(length, Spell::Verbatim);
        true
    }

    fn note(&mut self, text: &[u8]) {
        let room = (NAME + 1).saturating_sub(self.name.len());
        self.name.extend(text.iter().take(room).map(u8::to_ascii_lowercase));
    }

    fn tag(&mut self, feed: &mut Feed<'_, '_>, rest: &[u8], closes: bool) -> bool {
        let length = rest.iter().take_while(|b| b.is_ascii_whitespace() || b"/=".contains(b)).count();
        self.slash = if length > 0 { rest[..length].last() == Some(&b'/') } else { self.slash };
        feed.fixed(length);
        match rest.get(length) {
            None => {}
            Some(b'>') => {
                feed.fixed(1);
                self.tag_end(feed, closes);
            }
            Some(_) => {
                self.slash = false;
                self.name.clear();
                self.place = Place::Attribute;
            }
        }
        true
    }

    fn tag_end(&mut self, feed: &mut Feed<'_, '_>, closes: bool) {
        let alone = std::mem::take(&mut self.slash);
        self.place = match &self.element[..] {
            b"script" if self.tongue == Tongue::Html && !closes => Place::Until(b"</script"),
            b"style" if self.tongue == Tongue::Html && !closes => Place::Until(b"</style"),
            _ => Place::Text,
        };
        if closes || alone {
            return;
        }
        if let Some((name, depth)) = &mut self.whole {
            *depth += usize::from(*name == self.element);
        } else if self.swap(feed, &self.element) {
            self.whole = Some((self.element.clone(), 1));
        }
    }

    fn attribute(&mut self, feed: &mut Feed<'_, '_>, rest: &[u8]) -> bool {
        let length = rest.iter().take_while(|b| !b.is_ascii_whitespace() && !b"/>=".contains(b)).count();
        self.note(&rest[..length]);
        feed.plain(length, Spell::Verbatim);
        if length < rest.len() {
            self.place = Place::Named;
        }
        true
    }

    /// Behind an attribute's name: its sign, or what follows one without a value.
    fn named(&mut self, feed: &mut Feed<'_, '_>, rest: &[u8]) -> bool {
        let spaces = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        feed.fixed(spaces);
        match rest.get(spaces) {
            None => {}
            Some(b'=') => {
                feed.fixed(1);
                self.place = Place::Equals;
            }
            Some(_) => self.place = Place::Tag { closes: false },
        }
        true
    }

    fn equals(&mut self, feed: &mut Feed<'_, '_>, rest: &[u8]) -> bool {
        let spaces = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        feed.fixed(spaces);
        let Some(first) = rest.get(spaces).copied() else { return true };
        if first == b'>' {
            self.place = Place::Tag { closes: false };
            return true;
        }
        let quoted = first == b'"' || first == b'\'';
        feed.fixed(usize::from(quoted));
        self.place = Place::Value(if quoted { first } else { b' ' });
        self.swap(feed, &self.name);
        true
    }

    fn value(&mut self, feed: &mut Feed<'_, '_>, upto: usize, quote: u8, last: bool) -> bool {
        let rest = feed.rest(upto);
        let ends = |b: &u8| if quote == b' ' { b.is_ascii_whitespace() || *b == b'>' } else { *b == quote };
        let stop = if quote == b' ' {
            rest.iter().position(|b| ends(b) || *b == b'&')
        } else {
            memchr2(quote, b'&', rest)
        };
        let length = stop.unwrap_or(rest.len());
        feed.plain(length, Spell::Xml);
        match rest.get(length) {
            None => true,
            Some(b'&') => reference(feed, upto, last),
            Some(_) => {
                if self.whole.is_none() && feed.swaps() {
                    feed.swap_end();
                }
                feed.fixed(usize::from(quote != b' '));
                self.place = Place::Tag { closes: false };
                self.slash = false;
                true
            }
        }
    }
}

/// Where what ends a section begins; names in any letter case.
fn find_end(rest: &[u8], end: &[u8]) -> Option<usize> {
    if !end.starts_with(b"</") {
        return memmem::find(rest, end);
    }
    let mut from = 0;
    while let Some(at) = memchr(b'<', &rest[from..]).map(|at| from + at) {
        if rest.get(at..at + end.len()).is_some_and(|there| there.eq_ignore_ascii_case(end)) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// How many of a text's last bytes belong to a letter or sign that may go on.
fn open_end(text: &[u8], latin1: bool) -> usize {
    let (good, _) = if latin1 { (text.len(), None) } else { whole_text(text, false) };
    (text.len() - good).max(tail(text))
}

/// Reads a character reference. Whether it was there whole.
fn reference(feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> bool {
    match entity(feed.rest(upto), last) {
        Some((1, _)) => feed.plain(1, Spell::Xml),
        Some((length, says)) => feed.unit(length, says.as_bytes(), Spell::Xml),
        None => return false,
    }
    true
}
