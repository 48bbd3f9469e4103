//! What a lexer sees of a body, and says of it: which bytes are text, which are fixed, which go as a whole.

use super::Env;
use super::join::Joins;
use super::latin1::char_of;
use super::logical::Logical;
use super::odd::{ESC, is_read, letter, next_odd, said_behind};
use super::spell::Spell;
use super::swap::Stood;
use super::weave::{PENDING, Stuff, Weave};
use crate::mask::replace::Replacement;
use crate::mask::text::{Sign, is_first, sign, sign_says};

/// A lexer's view.
pub struct Feed<'a, 'e> {
    raw: &'a [u8],
    at: usize,
    /// From here on, fixed and plain bytes were not handed to the body's own text.
    mirrored: usize,
    /// The next byte that may say something else than itself, where it was looked for, and how far that was.
    odd: usize,
    reach: usize,
    /// Where joined text is written to.
    slot: u8,
    weave: &'a mut Weave,
    joins: &'a mut Joins,
    env: &'a mut Env<'e>,
}

impl<'a, 'e> Feed<'a, 'e> {
    /// `raw`: what was not written yet, of which a beginning may be in pieces. `reach`: up to there it is read.
    pub fn new(
        raw: &'a [u8],
        reach: usize,
        weave: &'a mut Weave,
        joins: &'a mut Joins,
        env: &'a mut Env<'e>,
    ) -> Self {
        let at = weave.lexed;
        let slot = joins.slot();
        Self { raw, at, mirrored: at, odd: at, reach, slot, weave, joins, env }
    }

    /// The place of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The place of the next byte in the whole body.
    pub fn position(&self) -> u64 {
        self.weave.base + self.at as u64
    }

    /// What is there up to a place.
    pub fn rest(&self, upto: usize) -> &'a [u8] {
        &self.raw[self.at..upto]
    }

    /// All that is there, from its beginning.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether what waits for the event's end must be seen to now, at a place so far behind the next byte.
    pub fn is_long(&self, behind: usize) -> bool {
        let waits = |(slot, text): (usize, &Logical)| match slot {
            0 => self.slot != 0 && text.is_begun(),
            _ => text.key != 0 && slot != usize::from(self.slot),
        };
        self.has_joined()
            && self.joins.is_long(self.position() + behind as u64)
            && (self.joins.pending() > 0 || self.weave.texts.iter().enumerate().any(waits))
    }

    /// Whether bytes above 127 are Windows-1252.
    pub fn is_latin1(&self) -> bool {
        self.weave.latin1
    }

    /// Whether there are texts that go on from event to event.
    pub fn has_joined(&self) -> bool {
        self.joins.pending() > 0 || self.weave.texts.len() > 1
    }

    /// What holds texts together that go on from event to event.
    pub fn joins(&mut self) -> &mut Joins {
        self.joins
    }

    /// The next bytes are passed as they are.
    pub fn fixed(&mut self, count: usize) {
        if self.weave.swap.open().is_some() {
            return self.swallow(count, None);
        }
        if self.slot != 0 {
            self.sync();
            self.mirrored = self.at;
        }
        self.weave.piece(count, 0, 0, Stuff::Fixed);
        self.weave.before.note(&self.raw[self.at..self.at + count]);
        self.at += count;
    }

    /// The next byte is passed as it is, and read as another: one that ends values.
    pub fn parts(&mut self, reads: u8) {
        if self.weave.swap.open().is_some() {
            return self.swallow(1, None);
        }
        self.sync();
        self.weave.piece(1, 0, 0, Stuff::Fixed);
        self.weave.before.note(&[reads]);
        self.weave.texts[0].add(self.env.plan.is_some(), self.env.restores, &[reads]);
        self.at += 1;
        self.mirrored = self.at;
    }

    /// Whether text is of the body's own, and nothing goes as a whole.
    pub fn is_bare(&self) -> bool {
        self.slot == 0 && !self.weave.latin1 && self.weave.swap.open().is_none()
    }

    /// Where [`Feed::is_bare`]: so many next bytes are fixed, and so many behind them a string of JSON. Whether it was taken: what may
    /// say something else than itself is not.
    pub fn bare(&mut self, fixed: usize, count: usize) -> bool {
        let end = self.at + fixed + count;
        if count == 0 || self.next_odd(self.at + fixed, end).is_some() {
            return false;
        }
        self.weave.before.note(&self.raw[self.at..end]);
        self.weave.piece(fixed, 0, 0, Stuff::Fixed);
        self.weave.piece(count, 0, 0, Stuff::Plain(Spell::Json));
        self.at = end;
        true
    }

    /// The next bytes are text that says what it is.
    pub fn plain(&mut self, count: usize, spell: Spell) {
        if !self.weave.latin1 || self.weave.swap.open().is_some_and(|stood| stood == Stood::Container) {
            return self.letters(count, spell);
        }
        let mut rest = &self.raw[self.at..self.at + count];
        while let Some(byte) = rest.first() {
            let ascii = rest.iter().take_while(|b| b.is_ascii()).count();
            if ascii == 0 {
                self.unit(1, char_of(*byte).encode_utf8(&mut [0; 4]).as_bytes(), spell);
            } else {
                self.letters(ascii, spell);
            }
            rest = &rest[ascii.max(1)..];
        }
    }

    fn letters(&mut self, count: usize, spell: Spell) {
        let end = self.at + count;
        let mut from = self.at;
        let is_read = is_read(spell) && self.weave.swap.open().is_none();
        while is_read && let Some(at) = self.next_odd(from, end) {
            from = at + self.odd(at, end, spell).max(1);
        }
        self.ascii(end - self.at, spell);
    }

    /// The next byte of a range that may say something else than itself. What is read is looked through once, not text by text.
    fn next_odd(&mut self, from: usize, end: usize) -> Option<usize> {
        if self.odd <= from {
            let reach = self.reach.max(end);
            self.odd = next_odd(&self.raw[from..reach]).map_or(reach, |found| from + found);
        }
        (self.odd < end).then_some(self.odd)
    }

    /// What may say something else than itself, at a place; how long it is if it does.
    fn odd(&mut self, at: usize, end: usize, spell: Spell) -> usize {
        let there = &self.raw[at..end];
        if is_first(there[0]) {
            let Sign::Says(length) = sign(there, true) else { return 0 };
            self.ascii(at - self.at, spell);
            let (says, count) = sign_says(&there[..length]);
            if count > 0 {
                self.unit(length, &says[..count], spell);
            } else {
                self.colour(length, spell);
            }
            return length;
        }
        let length = letter(there);
        if length > 0 {
            self.ascii(at - self.at, spell);
            if let Some(says) = self.weave.before.says(&there[..length]) {
                self.unit(length, says, spell);
                return length;
            }
        }
        0
    }

    fn ascii(&mut self, count: usize, spell: Spell) {
        if self.weave.swap.open().is_some() {
            return self.swallow(count, None);
        }
        self.weave.before.note(&self.raw[self.at..self.at + count]);
        self.weave.piece(count, 0, self.slot, Stuff::Plain(spell));
        if self.slot != 0 {
            self.sync();
            self.joined(&self.raw[self.at..self.at + count]);
            self.at += count;
            self.mirrored = self.at;
        } else {
            self.at += count;
        }
    }

    /// The next bytes say others, 255 at most.
    pub fn unit(&mut self, count: usize, says: &[u8], spell: Spell) {
        if let Some(stood) = self.weave.swap.open() {
            return self.swallow(count, (stood != Stood::Container).then_some(says));
        }
        let says = self.weave.before.says(says).unwrap_or(says);
        self.weave.before.note(says);
        self.sync();
        self.weave.piece(count, says.len(), self.slot, Stuff::Unit(spell));
        if self.slot == 0 {
            self.weave.texts[0].add(self.env.plan.is_some(), self.env.restores, says);
        } else {
            self.joined(says);
        }
        self.at += count;
        self.mirrored = self.at;
    }

    /// The next bytes are the rest of an escape that another event has begun.
    pub fn behind(&mut self, count: usize, spell: Spell) {
        if self.slot == 0 || self.weave.swap.open().is_some() {
            return self.letters(count, spell);
        }
        let says = said_behind(&self.raw[self.at..self.at + count]);
        self.sync();
        self.weave.before.note(&says);
        self.weave.piece(count, says.len(), self.slot, Stuff::Behind(spell));
        self.joined(&says);
        self.at += count;
        self.mirrored = self.at;
    }

    /// The next bytes are an escape and what makes it an order to a terminal: it shows nothing. Too many at once say that they are there.
    pub fn colour(&mut self, count: usize, spell: Spell) {
        let is_silent = self.weave.before.silence();
        self.unit(count, if is_silent { b"" } else { ESC }, spell);
    }

    /// The next bytes are a number of JSON.
    pub fn number(&mut self, count: usize) {
        if self.weave.swap.open().is_some() {
            return self.swallow(count, None);
        }
        self.weave.piece(count, 0, 0, Stuff::Number);
        self.at += count;
    }

    /// A value begins that goes as a whole.
    pub fn swap(&mut self, name: &str, with: Replacement, stood: Stood) {
        self.sync();
        self.weave.swap.begin(name, with, stood);
        self.weave.pieces.push_back(super::weave::Piece { raw: 0, text: 0, slot: 0, stuff: Stuff::Swap });
    }

    /// Whether such a value is on its way.
    pub fn swaps(&self) -> bool {
        self.weave.swap.open().is_some()
    }

    /// It has ended.
    pub fn swap_end(&mut self) {
        self.weave.swap.end(self.weave.latin1, self.env);
    }

    fn swallow(&mut self, count: usize, says: Option<&[u8]>) {
        let raw = &self.raw[self.at..self.at + count];
        self.weave.swap.add(says.unwrap_or(raw));
        if let Some(last) = self.weave.pieces.back_mut() {
            last.raw += count as u32;
        }
        self.weave.lexed += count;
        self.weave.swallowed += count;
        self.at += count;
        self.mirrored = self.at;
    }

    /// A text begins, or goes on, that goes on from event to event.
    pub fn join(&mut self, key: u64) {
        self.sync();
        self.slot = self.joins.begin(key);
    }

    /// Its part in this event has ended.
    pub fn join_end(&mut self) {
        self.sync();
        self.slot = 0;
        self.joins.end();
    }

    /// Text that belongs to a known joined text is handed to it; else it waits in the pieces.
    fn joined(&mut self, text: &[u8]) {
        if self.slot < PENDING {
            let known = &mut self.weave.texts[usize::from(self.slot)];
            known.add(self.env.plan.is_some(), self.env.restores, text);
        }
    }

    /// Hands to the body's own text what has not been.
    fn sync(&mut self) {
        if self.mirrored < self.at {
            let fresh = &self.raw[self.mirrored..self.at];
            self.weave.texts[0].add(self.env.plan.is_some(), self.env.restores, fresh);
            self.mirrored = self.at;
        }
    }
}

impl Drop for Feed<'_, '_> {
    fn drop(&mut self) {
        self.sync();
    }
}
