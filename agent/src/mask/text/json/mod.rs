//! JSON (RFC 8259), as it comes: strings, names and numbers are text, all else is fixed. What is no JSON is refused; strings may
//! hold control characters, which many writers leave in.

mod inner;
mod string;
mod track;

use std::sync::Arc;

use super::unit::{json_number, json_plain};
use super::{Feed, Flow};
use crate::mask::body::Stood;
use crate::mask::{Plan, Refused};
use inner::{Inner, Inners};
use track::Track;

/// Deepest nesting.
pub const DEPTH: usize = 128;
/// Longest number: it is replaced as a whole, and so waits for its end.
pub const NUMBER: usize = 1024;

/// What a JSON text is a part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// It is the body.
    Whole,
    /// It is a line of many; texts go on from line to line.
    Line,
    /// It is the data of an event; texts go on from event to event.
    Event,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Value,
    FirstValue,
    Name,
    FirstName,
    Colon,
    Comma,
    Done,
    String(Role),
}

/// What a string is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Name,
    Value,
    /// It tells texts apart.
    Tells,
    Join,
    Field,
}

/// What comes behind what holds texts together.
enum Next {
    Inside,
    More,
    Long,
}

/// Reads one JSON text.
pub struct Json {
    track: Track,
    /// What the string on its way holds, and what those held last that go on in other events.
    inner: Inner,
    inners: Inners,
    state: State,
    depth: usize,
    /// A bit for each level that is an object.
    objects: u128,
    /// The depth that a field's value, which goes as a whole, has begun at.
    field: Option<usize>,
}

impl Json {
    /// Nothing has come.
    pub fn new(plan: Option<Arc<Plan>>, how: How) -> Self {
        Self {
            track: Track::new(plan, how),
            inner: Inner::new(false),
            inners: Inners::default(),
            state: State::Value,
            depth: 0,
            objects: 0,
            field: None,
        }
    }

    /// Another text begins.
    pub fn renew(&mut self) {
        (self.state, self.depth, self.objects, self.field) = (State::Value, 0, 0, None);
        self.track.renew();
    }

    /// Whether nothing but spaces has come.
    pub fn is_new(&self) -> bool {
        self.state == State::Value && self.depth == 0
    }

    /// Whether a whole text has come.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of memory that it has taken.
    pub fn memory(&self) -> usize {
        self.track.memory()
    }

    /// Leaves a text in which something else than JSON stands.
    pub fn abandon(&mut self, feed: &mut Feed<'_, '_>) {
        if feed.swaps() {
            feed.swap_end();
        }
        if self.state == State::String(Role::Join) {
            feed.join_end();
        }
        self.renew();
    }

    /// Reads what is there up to a place. `last`: a number that reaches it has its end there.
    ///
    /// # Errors
    /// [`Refused`]: it is no JSON.
    pub fn read(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<Flow, Refused> {
        loop {
            if let State::String(role) = self.state {
                let tells = role == Role::Tells && self.track.is_telling();
                if !tells && feed.is_long(0) {
                    return Ok(self.long(feed));
                }
                if !self.string(feed, upto, role)? {
                    break;
                }
                match role {
                    Role::Name => self.track.named(),
                    Role::Field => feed.swap_end(),
                    Role::Join => {
                        self.inners.end(&self.inner);
                        feed.join_end();
                    }
                    Role::Tells => self.track.told(),
                    Role::Value => {}
                }
            }
            match self.structure(feed, upto, last)? {
                Next::Inside => {}
                Next::Long => return Ok(self.long(feed)),
                Next::More => break,
            }
        }
        Ok(Flow::On)
    }

    /// Nothing more comes; what is there was read up to its end.
    ///
    /// # Errors
    /// [`Refused`]: the text is not whole.
    pub fn finish(&self, feed: &Feed<'_, '_>, upto: usize) -> Result<(), Refused> {
        let whole = (self.is_done() || self.is_new()) && feed.at() == upto;
        if whole { Ok(()) } else { Err(wrong(feed, "it ends in the middle")) }
    }

    fn long(&mut self, feed: &mut Feed<'_, '_>) -> Flow {
        self.track.fold(feed.joins());
        feed.joins().hurry();
        Flow::Event
    }

    /// Reads what holds texts together, up to the next string's inside.
    fn structure(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<Next, Refused> {
        let (mut rest, mut at, waits) = (feed.rest(upto), 0, feed.has_joined());
        if let State::String(role) = self.state {
            // Its end was left to stand with what follows it.
            self.state = if role == Role::Name { State::Colon } else { self.behind() };
            at = 1;
        }
        while let Some(byte) = rest.get(at) {
            if waits && feed.is_long(at) {
                feed.fixed(at);
                return Ok(Next::Long);
            }
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => at += 1,
                b',' | b':' => {
                    self.mark(*byte).map_err(|what| fail(feed, at, what))?;
                    at += 1;
                }
                b'"' => {
                    let role = self.begin_string().map_err(|what| fail(feed, at, what))?;
                    if waits || !self.bare(feed, &rest[at + 1..], at + 1, role) {
                        feed.fixed(at + 1);
                        self.open_string(feed, role);
                        return Ok(Next::Inside);
                    }
                    (rest, at) = (feed.rest(upto), 1);
                }
                b'{' | b'[' => {
                    self.value().map_err(|what| fail(feed, at, what))?;
                    if self.field.is_none() && self.track.field().is_some() {
                        feed.fixed(at);
                        (rest, at) = (feed.rest(upto), 0);
                        self.swap(feed, Stood::Container);
                        self.field = Some(self.depth);
                    }
                    self.open(feed, at, *byte == b'{')?;
                    at += 1;
                }
                b'}' | b']' => {
                    self.close(feed, *byte == b'}').map_err(|what| fail(feed, at, what))?;
                    at += 1;
                    if self.field == Some(self.depth) {
                        feed.fixed(at);
                        feed.swap_end();
                        self.field = None;
                        (rest, at) = (feed.rest(upto), 0);
                    }
                }
                _ => {
                    feed.fixed(at);
                    if !self.scalar(feed, upto, last)? {
                        return Ok(Next::More);
                    }
                    (rest, at) = (feed.rest(upto), 0);
                }
            }
        }
        feed.fixed(at);
        Ok(Next::More)
    }

    /// Takes a string behind what is fixed, where it is there whole and says what it is, as most do. Whether it did.
    fn bare(&mut self, feed: &mut Feed<'_, '_>, rest: &[u8], fixed: usize, role: Role) -> bool {
        if self.field.is_some() || !feed.is_bare() || !matches!(role, Role::Name | Role::Value) {
            return false;
        }
        let plain = json_plain(rest);
        if rest.get(plain) != Some(&b'"') || !feed.bare(fixed, plain) {
            return false;
        }
        if role == Role::Name {
            self.track.note(role, &rest[..plain]);
            self.track.named();
        }
        self.state = if role == Role::Name { State::Colon } else { self.behind() };
        true
    }

    /// What is expected behind a value.
    fn behind(&self) -> State {
        if self.depth == 0 { State::Done } else { State::Comma }
    }

    fn is_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn mark(&mut self, byte: u8) -> Result<(), &'static str> {
        self.state = match (self.state, byte, self.is_object()) {
            (State::Colon, b':', _) => State::Value,
            (State::Comma, b',', true) => State::Name,
            (State::Comma, b',', false) => State::Value,
            _ => return Err("a comma or colon where none may stand"),
        };
        Ok(())
    }

    /// A value begins here.
    fn value(&mut self) -> Result<(), &'static str> {
        if !matches!(self.state, State::Value | State::FirstValue) {
            return Err("a value where none may stand");
        }
        if self.depth > 0 && !self.is_object() {
            self.track.place();
        }
        Ok(())
    }

    /// What goes as a whole begins.
    fn swap(&mut self, feed: &mut Feed<'_, '_>, stood: Stood) {
        if let (Some(at), Some(plan)) = (self.track.field(), &self.track.plan) {
            let field = &plan.fields[at];
            feed.swap(&field.name, field.with, stood);
        }
    }

    fn open(&mut self, feed: &mut Feed<'_, '_>, at: usize, object: bool) -> Result<(), Refused> {
        if self.depth == DEPTH {
            feed.fixed(at);
            return Err(Refused::TooDeep(DEPTH));
        }
        self.track.open(feed.joins());
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        self.state = if object { State::FirstName } else { State::FirstValue };
        Ok(())
    }

    fn close(&mut self, feed: &mut Feed<'_, '_>, object: bool) -> Result<(), &'static str> {
        let may = match self.state {
            State::Comma => self.is_object() == object,
            State::FirstName => object,
            State::FirstValue => !object,
            _ => false,
        };
        if !may || self.depth == 0 {
            return Err("a bracket that closes none");
        }
        self.track.close(feed.joins());
        self.depth -= 1;
        self.objects >>= 1;
        self.state = self.behind();
        Ok(())
    }

    fn begin_string(&mut self) -> Result<Role, &'static str> {
        if matches!(self.state, State::Name | State::FirstName) {
            return Ok(Role::Name);
        }
        self.value()?;
        Ok(if self.field.is_some() { Role::Value } else { self.track.role() })
    }

    /// A number, or `true`, `false` or `null`. Whether it was there whole.
    fn scalar(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<bool, Refused> {
        let rest = feed.rest(upto);
        let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)).count();
        if length > NUMBER {
            return Err(Refused::TooLong { what: "a number of JSON", most: NUMBER });
        }
        if length == rest.len() && !last {
            return Ok(false);
        }
        let text = &rest[..length];
        let number = json_number(text);
        if !number && !matches!(text, b"true" | b"false" | b"null") {
            return Err(wrong(feed, "what is neither string, number, object nor list"));
        }
        self.value().map_err(|what| wrong(feed, what))?;
        if self.field.is_none() && self.track.field().is_some() && text != b"null" {
            self.swap(feed, Stood::Scalar);
            feed.fixed(length);
            feed.swap_end();
        } else if number {
            self.track.note(Role::Tells, text);
            self.track.told();
            feed.number(length);
        } else {
            feed.fixed(length);
        }
        self.state = self.behind();
        Ok(true)
    }
}

/// What was right before what is wrong is taken: who reads on finds the rest.
fn fail(feed: &mut Feed<'_, '_>, at: usize, what: &'static str) -> Refused {
    feed.fixed(at);
    wrong(feed, what)
}

fn wrong(feed: &Feed<'_, '_>, what: &'static str) -> Refused {
    Refused::Json { at: feed.position(), what }
}
