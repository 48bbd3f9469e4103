//! Parts between boundaries (RFC 2046 section 5.1, RFC 7578): each is read by its own type, its head is searched as text. Parts that
//! hold parts, and parts in base64 or quoted-printable, are refused: no client sends them in forms (RFC 7578 section 4.7).

use std::sync::Arc;

use memchr::{memchr, memmem};

use super::{Feed, Flow, Lexer, Spell, tail};
use crate::mask::body::{Stood, whole_text};
use crate::mask::kind::parameter;
use crate::mask::{Binary, Kind, Plan, Refused};

/// Longest head of a part, in bytes.
const HEAD: usize = 8 * 1024;
/// So many bytes tell what a part without a type is.
const FIRST: usize = 16;

/// Reads parts.
pub struct Multipart {
    plan: Option<Arc<Plan>>,
    /// Two dashes and the boundary.
    delimiter: Vec<u8>,
    place: Place,
    /// Whether a delimiter may stand at the next byte: a line begins there.
    at_line: bool,
    head: Head,
    pub(super) lexer: Lexer,
    /// Whether the part must be text.
    text: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first part, or behind the last.
    Outside,
    /// Behind a boundary; in the rest of its line.
    Boundary,
    Line,
    Head,
    /// In front of a part's body.
    Begin,
    Part,
}

/// What a part's head says.
#[derive(Default)]
struct Head {
    name: Option<Vec<u8>>,
    kind: Option<Vec<u8>>,
}

/// Where a part ends.
enum End {
    /// Before the line end that belongs to the delimiter; and where that begins.
    At(usize, usize),
    /// Not before this.
    NotBefore(usize),
}

impl Multipart {
    pub fn new(plan: Option<Arc<Plan>>, boundary: &[u8]) -> Self {
        Self {
            plan,
            delimiter: [b"--", boundary].concat(),
            place: Place::Outside,
            at_line: true,
            head: Head::default(),
            lexer: Lexer::Plain(Spell::Plain),
            text: true,
        }
    }

    pub fn read(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<Flow, Refused> {
        loop {
            let goes_on = match self.place {
                Place::Outside => self.outside(feed, upto, last)?,
                Place::Boundary => self.line(feed, upto, last),
                Place::Line => self.line_rest(feed, upto),
                Place::Head => self.head(feed, upto, last)?,
                Place::Begin => self.begin(feed, upto, last)?,
                Place::Part => match self.part(feed, upto, last)? {
                    (Flow::Event, _) => return Ok(Flow::Event),
                    (Flow::On, goes_on) => goes_on,
                },
            };
            if !goes_on {
                return Ok(Flow::On);
            }
        }
    }

    /// Where the next delimiter stands.
    fn find(&self, rest: &[u8], last: bool) -> End {
        for at in memmem::find_iter(rest, &self.delimiter) {
            let begins = if at == 0 { self.at_line } else { rest[at - 1] == b'\n' };
            let follows = match &rest[at + self.delimiter.len()..] {
                [] | [b'-'] if !last && begins => return End::NotBefore(at.saturating_sub(2)),
                [] | [b'-', b'-', ..] | [b'\r' | b'\n' | b' ' | b'\t', ..] => true,
                _ => false,
            };
            if begins && follows {
                let line = usize::from(at > 0) + usize::from(at > 1 && rest[at - 2] == b'\r');
                return End::At(at - line, at);
            }
        }
        let held = if last { 0 } else { self.delimiter.len() + 3 };
        End::NotBefore(rest.len().saturating_sub(held))
    }

    fn outside(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<bool, Refused> {
        let rest = feed.rest(upto);
        match self.find(rest, last) {
            End::At(_, at) => {
                feed.plain(at, Spell::Bytes);
                feed.fixed(self.delimiter.len());
                self.place = Place::Boundary;
                Ok(true)
            }
            End::NotBefore(at) => {
                self.at_line &= at == 0;
                feed.plain(at, Spell::Bytes);
                Ok(false)
            }
        }
    }

    /// Two dashes behind the delimiter say that no part follows.
    fn line(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> bool {
        let rest = feed.rest(upto);
        if rest.len() < 2 && !last {
            return false;
        }
        (self.place, self.at_line) = (Place::Line, false);
        if rest.starts_with(b"--") {
            feed.fixed(2);
            self.place = Place::Outside;
        }
        true
    }

    /// The rest of the delimiter's line.
    fn line_rest(&mut self, feed: &mut Feed<'_, '_>, upto: usize) -> bool {
        let rest = feed.rest(upto);
        let end = memchr(b'\n', rest);
        feed.plain(end.unwrap_or(rest.len()), Spell::Bytes);
        feed.fixed(usize::from(end.is_some()));
        if end.is_some() {
            self.place = Place::Head;
        }
        end.is_some()
    }

    /// Reads a head, once it is there whole.
    fn head(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<bool, Refused> {
        let rest = feed.rest(upto);
        let end = head_end(rest);
        if end.is_none() && rest.len() <= HEAD && !last {
            return Ok(false);
        }
        let Some(end) = end.filter(|end| *end <= HEAD) else {
            return Err(Refused::TooLong { what: "the head of a part", most: HEAD });
        };
        whole_text(&rest[..end], true).1.map_or(Ok(()), Err)?;
        self.head = Head::default();
        for line in rest[..end].split(|b| *b == b'\n') {
            self.head.line(line)?;
        }
        feed.plain(end, Spell::Header);
        (self.place, self.at_line) = (Place::Begin, true);
        Ok(true)
    }

    /// Tells how the part is read.
    fn begin(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<bool, Refused> {
        let rest = feed.rest(upto);
        let (whole, length) = match self.find(rest, last) {
            End::At(end, _) => (true, end),
            End::NotBefore(end) => (last, end),
        };
        if !whole && length < FIRST {
            return Ok(false);
        }
        let kind = match &self.head.kind {
            None => Kind::Text,
            Some(kind) => Kind::of(Some(kind), &rest[..length.min(FIRST)])?,
        };
        let refuses = self.plan.as_ref().is_some_and(|plan| plan.binary() == Binary::Refuse);
        match kind {
            Kind::Multipart { .. } => return Err(Refused::Unread("parts within a part".into())),
            Kind::Latin1(_) => return Err(Refused::Charset("a part in another encoding; send UTF-8".into())),
            Kind::Opaque | Kind::Grpc | Kind::Protobuf if refuses => return Err(Refused::Binary),
            _ => {}
        }
        self.text = !matches!(kind, Kind::Opaque | Kind::Grpc | Kind::Protobuf);
        self.lexer = Lexer::new(&kind, self.plan.as_ref());
        let name = self.head.name.as_deref().and_then(|name| str::from_utf8(name).ok());
        let field = name.zip(self.plan.as_ref()).and_then(|(name, plan)| plan.multipart_field(name));
        if let Some(field) = field {
            feed.swap(&field.name, field.with, Stood::Text(Spell::Plain));
            (self.lexer, self.text) = (Lexer::Plain(Spell::Bytes), false);
        }
        self.place = Place::Part;
        Ok(true)
    }

    fn part(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<(Flow, bool), Refused> {
        let rest = feed.rest(upto);
        let (delimiter, length) = match self.find(rest, last) {
            End::At(end, at) => (Some(at), end),
            End::NotBefore(end) => (None, end),
        };
        let whole = delimiter.is_some() || last;
        let (length, wrong) = if self.text { whole_text(&rest[..length], whole) } else { (length, None) };
        let length = if whole || wrong.is_some() { length } else { length - tail(&rest[..length]) };
        let from = feed.at();
        let flow = self.lexer.read(feed, from + length, whole && wrong.is_none())?;
        if let Some(wrong) = wrong.filter(|_| flow == Flow::On) {
            return Err(wrong);
        }
        self.at_line &= feed.at() == from;
        if flow == Flow::Event || !whole {
            return Ok((flow, false));
        }
        if feed.swaps() {
            feed.swap_end();
        }
        let Some(delimiter) = delimiter else { return Ok((Flow::On, false)) };
        feed.fixed(from + delimiter + self.delimiter.len() - feed.at());
        self.place = Place::Boundary;
        Ok((Flow::On, true))
    }
}

/// Behind the blank line that ends a head.
fn head_end(rest: &[u8]) -> Option<usize> {
    let blank = |at: usize| match &rest[at..] {
        [b'\n', ..] => Some(at + 1),
        [b'\r', b'\n', ..] => Some(at + 2),
        _ => None,
    };
    blank(0).or_else(|| memchr::memchr_iter(b'\n', rest).find_map(|end| blank(end + 1)))
}

impl Head {
    fn line(&mut self, line: &[u8]) -> Result<(), Refused> {
        let Some(colon) = memchr(b':', line) else { return Ok(()) };
        let (name, value) = (line[..colon].trim_ascii().to_ascii_lowercase(), line[colon + 1..].trim_ascii());
        match &name[..] {
            b"content-disposition" => self.name = parameter(value, b"name"),
            b"content-type" => self.kind = Some(value.to_vec()),
            b"content-transfer-encoding"
                if ![&b"7bit"[..], b"8bit", b"binary"].contains(&&value.to_ascii_lowercase()[..]) =>
            {
                return Err(Refused::Unread("a part with a transfer encoding of its own".into()));
            }
            _ => {}
        }
        Ok(())
    }
}
