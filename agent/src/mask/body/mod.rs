//! One body in one direction: values are hidden behind what replaces them, tokens are followed by what they stand for. What comes
//! out depends on the whole body, never on its cuts.
//!
//! A lexer says which bytes are text (`feed`); the texts are searched (`logical`); what is settled is written, and every byte
//! that is not replaced is the byte that came (`weave`). Memory: [`MEMORY`] bytes a body at most, whatever comes:
//!
//! - Lines, strings, texts and bodies have no longest length: what is settled goes on. A value that a detector finds has one, or goes
//!   on piece by piece (`scan`).
//! - Refused are JSON deeper than 128 levels, numbers of more than 1,024 digits, heads of parts of more than 8 KiB, and messages of
//!   protocol buffers of more than 24 KiB, which must be held whole since lengths stand before what may change.
//! - A field that goes as a whole is never held: of one longer than 2 KiB the label is written, or the hash of its beginning.
//! - What texts hold back that go on from event to event is bounded as `join` says: they are settled as though they had ended.

mod counts;
mod feed;
mod join;
mod kept;
mod latin1;
mod logical;
mod message;
mod number;
mod odd;
mod short;
mod spell;
mod swap;
mod weave;

use std::borrow::Cow;
use std::sync::Arc;

pub use counts::Counts;
pub(super) use feed::Feed;
pub(super) use join::{Joins, mixed};
use kept::Kept;
pub(super) use latin1::char_of;
pub(super) use odd::ESC;
pub use short::{Spelling, text};
pub(super) use spell::Spell;
pub(super) use swap::Stood;

use super::text::{Flow, Lexer, tail};
use super::{Binary, Kind, Plan, Refused, Scope};
use message::Messages;
use weave::Weave;

/// Most memory of a body on its way, in bytes, without what it has written.
pub const MEMORY: usize = 64 * 1024;
/// So much is read at once, in bytes; of events whose texts go on, less, since more of them may have to wait.
const CHUNK: usize = 12 * 1024;
const EVENTS: usize = 4 * 1024;
/// So much is handed to a lexer at once, in bytes, and so many pieces are noted until they are seen to: each byte can be one.
const WINDOW: usize = 1024;
const PIECES: usize = 1024;
/// What may stand before text in UTF-8.
pub(super) const MARK: &[u8] = b"\xef\xbb\xbf";

/// What is done to texts, and with what.
pub(super) struct Env<'a> {
    pub plan: Option<&'a Plan>,
    pub scope: &'a Scope,
    pub restores: bool,
    pub counts: &'a mut Counts,
    /// Where the record has another text.
    pub kept: Option<&'a mut Kept>,
}

impl Env<'_> {
    /// A token, or a part of it, has come, and this was written.
    fn stood(&mut self, from: usize, end: usize, came: &[u8]) {
        if let Some(kept) = &mut self.kept {
            kept.stood(from, end, came);
        }
    }
}

/// One body on its way.
pub struct Body {
    plan: Option<Arc<Plan>>,
    scope: Arc<Scope>,
    restores: bool,
    lexer: Lexer,
    weave: Weave,
    joins: Joins,
    messages: Option<Box<Messages>>,
    counts: Counts,
    /// What the record has, where it is asked for.
    kept: Option<Kept>,
    /// How much of what was not written is known to be text.
    checked: usize,
    /// Whether that is not asked here.
    opaque: bool,
    /// What was wrong: nothing passes behind it.
    refused: Option<Refused>,
}

impl Body {
    /// Values are hidden: a request on its way out, an answer that is masked.
    pub fn hiding(plan: Arc<Plan>, scope: Arc<Scope>, kind: Kind) -> Self {
        Self::new(Some(plan), scope, false, &kind)
    }

    /// Tokens of the scope are followed by what they stand for: an answer on its way to the job.
    pub fn restoring(scope: Arc<Scope>, kind: Kind) -> Self {
        Self::new(None, scope, true, &kind)
    }

    /// Both at once. What a token stands for is not hidden again.
    pub fn both(plan: Arc<Plan>, scope: Arc<Scope>, kind: Kind) -> Self {
        Self::new(Some(plan), scope, true, &kind)
    }

    /// Has it say what the record may have, too: [`Body::kept`]. Whether it can; of messages that are held whole it cannot.
    pub fn keeps(&mut self) -> bool {
        if self.restores && self.messages.is_none() {
            self.kept = Some(Kept::default());
        }
        self.messages.is_none()
    }

    /// What was written to `out`, all that is in it since this was asked last, with tokens where they are followed by values.
    pub fn kept<'o>(&mut self, out: &'o [u8]) -> Cow<'o, [u8]> {
        self.kept.as_mut().map_or(Cow::Borrowed(out), |kept| kept.of(out))
    }

    fn new(plan: Option<Arc<Plan>>, scope: Arc<Scope>, restores: bool, kind: &Kind) -> Self {
        let lexer = Lexer::new(kind, plan.as_ref());
        let mut body = Self::reading(plan, scope, restores, lexer);
        body.weave.latin1 = matches!(kind, Kind::Latin1(_));
        body.opaque = matches!(kind, Kind::Opaque | Kind::Multipart { .. } | Kind::Grpc | Kind::Protobuf);
        if matches!(kind, Kind::Grpc | Kind::Protobuf) {
            body.messages = Some(Box::new(Messages::new(*kind == Kind::Grpc)));
        }
        let refuses = body.plan.as_ref().is_some_and(|plan| plan.binary() == Binary::Refuse);
        body.refused = (refuses && *kind == Kind::Opaque).then_some(Refused::Binary);
        body
    }

    fn reading(plan: Option<Arc<Plan>>, scope: Arc<Scope>, restores: bool, lexer: Lexer) -> Self {
        Self {
            plan,
            scope,
            restores,
            lexer,
            weave: Weave::new(),
            joins: Joins::default(),
            messages: None,
            counts: Counts::default(),
            kept: None,
            checked: 0,
            opaque: false,
            refused: None,
        }
    }

    /// Takes what has come, and appends to `out` what may be passed on.
    ///
    /// # Errors
    /// [`Refused`]: the body cannot be masked. Nothing more may be passed on; the body is to be dropped.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        if self.messages.is_some() {
            return self.turn(bytes, false, out);
        }
        self.pieces(bytes, false, out)
    }

    /// Takes what comes last: as [`Body::push`] and [`Body::end`], for less.
    ///
    /// # Errors
    /// As [`Body::push`].
    pub fn last(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        if self.messages.is_some() || bytes.is_empty() {
            return self.turn(bytes, true, out);
        }
        self.pieces(bytes, true, out)
    }

    fn pieces(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), Refused> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let size = if self.weave.texts.len() > 1 { EVENTS } else { CHUNK };
            let (piece, behind) = rest.split_at(size.min(rest.len()));
            self.turn(piece, last && behind.is_empty(), out)?;
            rest = behind;
        }
        Ok(())
    }

    /// The body has ended: appends the rest to `out`.
    ///
    /// # Errors
    /// [`Refused`]: as [`Body::push`].
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Refused> {
        self.turn(b"", true, out)
    }

    /// What was hidden so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many bytes of the body wait.
    pub fn held(&self) -> usize {
        self.weave.raw.len() + self.messages.as_ref().map_or(0, |messages| messages.held())
    }

    /// Bytes of memory that it has taken: [`MEMORY`] at most.
    pub fn memory(&self) -> usize {
        self.weave.memory()
            + self.lexer.memory()
            + self.kept.as_ref().map_or(0, Kept::memory)
            + self.messages.as_ref().map_or(0, |messages| messages.memory())
    }

    fn turn(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), Refused> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let done = match self.messages.take() {
            Some(mut messages) => {
                let mut env = self.env();
                let done = messages.push(bytes, &mut env, out);
                let done = done.and_then(|()| if last { messages.end(&mut env, out) } else { Ok(()) });
                self.messages = Some(messages);
                done
            }
            None => {
                self.weave.take(bytes);
                self.read(last, out)
            }
        };
        if let Err(refused) = &done {
            self.refused = Some(refused.clone());
        }
        done
    }

    fn env(&mut self) -> Env<'_> {
        Env {
            plan: self.plan.as_deref(),
            scope: &self.scope,
            restores: self.restores,
            counts: &mut self.counts,
            kept: self.kept.as_mut(),
        }
    }

    fn read(&mut self, last: bool, out: &mut Vec<u8>) -> Result<(), Refused> {
        let (upto, wrong) = self.check(last);
        let last = last && wrong.is_none();
        let mut env = Env {
            plan: self.plan.as_deref(),
            scope: &self.scope,
            restores: self.restores,
            counts: &mut self.counts,
            kept: self.kept.as_mut(),
        };
        let (weave, joins) = (&mut self.weave, &mut self.joins);
        // A sign that may go on is read once it is whole.
        let open = if last || wrong.is_some() { 0 } else { tail(&weave.raw[weave.lexed..upto]) };
        let mut left = upto - open;
        let mut size = WINDOW;
        loop {
            let begun = weave.lexed;
            let window = weave.whole_letters(left, size);
            let last = last && window == left;
            let raw = std::mem::take(&mut weave.raw);
            let mut feed = Feed::new(&raw, window, weave, joins, &mut env);
            if !self.opaque && feed.position() == 0 && feed.rest(window).starts_with(MARK) {
                feed.fixed(MARK.len());
            }
            let flow = self.lexer.read(&mut feed, window, last);
            if last && flow == Ok(Flow::On) {
                // What has waited for more in vain is text like any other.
                feed.plain(window - feed.at(), Spell::Bytes);
            }
            drop(feed);
            weave.raw = raw;
            let (flow, before) = (flow?, weave.raw.len());
            // What waits for its end may be longer than a window.
            size = if weave.lexed > begun { WINDOW } else { 2 * size };
            if flow == Flow::Event {
                weave.resolve(joins, &mut env, out);
            } else if last {
                weave.finish(joins, &mut env, out);
                break;
            } else if window < left && weave.pieces.len() < PIECES {
                continue;
            }
            weave.search(&env);
            weave.write(&mut env, out);
            if flow == Flow::Event {
                weave.age(joins, &mut env, out);
            }
            let written = before - weave.raw.len();
            (left, self.checked) = (left - written, self.checked - written);
            if flow == Flow::On && window == left + written {
                break;
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    /// How far what has come is text, whole characters, and what is wrong behind that.
    fn check(&mut self, last: bool) -> (usize, Option<Refused>) {
        let fresh = &self.weave.raw[self.checked..];
        let (good, wrong) = if self.opaque {
            (fresh.len(), None)
        } else if self.weave.latin1 {
            without_zero(fresh)
        } else {
            whole_text(fresh, last)
        };
        self.checked += good;
        (self.checked, wrong)
    }
}

fn without_zero(text: &[u8]) -> (usize, Option<Refused>) {
    match memchr::memchr(0, text) {
        None => (text.len(), None),
        Some(at) => (at, Some(Refused::Charset("a zero byte, as in UTF-16 and in what is no text".into()))),
    }
}

/// How many bytes of what has come are whole characters; and, where what follows them is no UTF-8 or a zero, that it is. `last`:
/// nothing follows.
pub(super) fn whole_text(text: &[u8], last: bool) -> (usize, Option<Refused>) {
    let (good, wrong) = match str::from_utf8(text) {
        Ok(_) => (text.len(), None),
        Err(error) if error.error_len().is_none() && !last => (error.valid_up_to(), None),
        Err(error) => (error.valid_up_to(), Some(Refused::Charset("bytes that are no UTF-8".into()))),
    };
    match without_zero(&text[..good]) {
        (_, None) => (good, wrong),
        zero => zero,
    }
}

#[cfg(test)]
mod bad;
#[cfg(test)]
mod mended;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod property;
