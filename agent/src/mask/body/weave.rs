//! What has come of a body and was not written yet: its bytes, in pieces of which each is a part of a logical text, or fixed. Bytes
//! outside what is replaced are written as they came; a replacement is written in the spelling of the piece that it begins in.

use std::collections::VecDeque;

use zeroize::{Zeroize as _, Zeroizing};

use super::Env;
use super::join::Joins;
use super::logical::{Edit, Logical};
use super::odd::Before;
use super::spell::{Spell, spell};
use super::swap::Swap;
use crate::mask::text::tail;

/// A piece of what has come.
#[derive(Clone, Copy)]
pub struct Piece {
    /// Its bytes.
    pub raw: u32,
    /// The bytes that they say, where those are others.
    pub text: u8,
    /// The logical text that it is a part of.
    pub slot: u8,
    pub stuff: Stuff,
}

/// What a piece is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stuff {
    /// Passed as it is; read as context.
    Fixed,
    /// Text that says what it is.
    Plain(Spell),
    /// An escape: it stays, or goes, as a whole.
    Unit(Spell),
    /// The rest of an escape that began in another event: as an escape.
    Behind(Spell),
    /// A number of JSON.
    Number,
    /// A value that goes as a whole, whatever it is.
    Swap,
}

/// The body's own text, and those that go on from event to event.
pub const SLOTS: usize = 9;
/// The first number of a text that is not known yet: the event that has it must end first.
pub const PENDING: u8 = 0x80;

/// Pieces and texts of a body on its way.
#[derive(Default)]
pub struct Weave {
    /// What was not written; the pieces are of its beginning.
    pub raw: Vec<u8>,
    /// How much of it is in pieces.
    pub lexed: usize,
    pub pieces: VecDeque<Piece>,
    pub texts: Vec<Logical>,
    pub swap: Swap,
    /// How many bytes of it are to go.
    pub swallowed: usize,
    /// How many bytes were written before `raw`.
    pub base: u64,
    /// Whether bytes above 127 are Windows-1252.
    pub latin1: bool,
    /// What was said last.
    pub before: Before,
}

impl Weave {
    pub fn new() -> Self {
        let mut weave = Self::default();
        weave.texts.push(Logical::default());
        weave
    }

    /// What stands before the body's text, as context.
    pub fn begin(&mut self, before: &[u8]) {
        self.texts[0].begin(before);
    }

    /// More has come.
    pub fn take(&mut self, bytes: &[u8]) {
        if self.raw.capacity() < self.raw.len() + bytes.len() {
            self.raw.reserve_exact(bytes.len().max(1024));
        }
        self.raw.extend_from_slice(bytes);
    }

    /// How far a lexer may read of what is known, so many bytes at most, in whole letters and signs.
    pub fn whole_letters(&self, known: usize, most: usize) -> usize {
        let end = known.min(self.lexed + most);
        let inside = |at: usize| at < known && self.raw[at] & 0xc0 == 0x80;
        let back = (0..4).take_while(|back| !self.latin1 && inside(end - back)).count();
        let back = if end < known { back.max(tail(&self.raw[self.lexed..end])) } else { back };
        if end - back > self.lexed { end - back } else { end }
    }

    /// Nothing more comes: all that waits is settled, and written.
    pub fn finish(&mut self, joins: &mut Joins, env: &mut Env<'_>, out: &mut Vec<u8>) {
        if self.swap.open().is_some() {
            self.swap.end(self.latin1, env);
        }
        self.resolve(joins, env, out);
        for text in &mut self.texts {
            text.search(env, true);
        }
        self.write(env, out);
    }

    /// Adds a piece, or to the last one.
    pub fn piece(&mut self, raw: usize, text: usize, slot: u8, stuff: Stuff) {
        if raw == 0 {
            return;
        }
        let merges = matches!(stuff, Stuff::Fixed | Stuff::Plain(_));
        match self.pieces.back_mut() {
            Some(last) if merges && last.stuff == stuff && last.slot == slot => last.raw += raw as u32,
            _ => {
                if self.pieces.len() == self.pieces.capacity() {
                    self.pieces.reserve_exact(256);
                }
                self.pieces.push_back(Piece { raw: raw as u32, text: text as u8, slot, stuff });
            }
        }
        self.lexed += raw;
    }

    /// Searches all texts of which more has come.
    pub fn search(&mut self, env: &Env<'_>) {
        for text in self.texts.iter_mut().filter(|text| text.dirty) {
            text.search(env, false);
        }
    }

    /// Writes all that is settled.
    pub fn write(&mut self, env: &mut Env<'_>, out: &mut Vec<u8>) {
        self.squeeze();
        let mut at = 0;
        loop {
            at += self.write_plain(at, out);
            let Some(piece) = self.pieces.front().copied() else { break };
            let raw = &self.raw[at..at + piece.raw as usize];
            let slot = usize::from(piece.slot);
            let done = match piece.stuff {
                Stuff::Swap => {
                    if !self.swap.write_front(env, out) {
                        break;
                    }
                    0
                }
                _ if piece.slot >= PENDING => 0,
                Stuff::Fixed => {
                    out.extend_from_slice(raw);
                    if piece.slot == 0 {
                        self.texts[0].passed += raw.len() as u64;
                    }
                    raw.len()
                }
                Stuff::Plain(how) => {
                    let place = Place { raw, how, latin1: self.latin1 };
                    place.write(&mut self.texts[slot], env, out)
                }
                Stuff::Unit(how) | Stuff::Behind(how) => {
                    let text = &mut self.texts[slot];
                    write_unit(text, raw, u64::from(piece.text), how, self.latin1, env, out)
                }
                Stuff::Number => super::number::write(&mut self.texts[slot], raw, env, out),
            };
            at += done;
            self.lexed -= done;
            if done < raw.len() {
                self.pieces[0].raw -= done as u32;
                break;
            }
            self.pieces.pop_front();
        }
        self.base += at as u64;
        let left = self.raw.len() - at;
        self.raw.copy_within(at.., 0);
        self.raw.truncate(left);
    }

    /// Writes the pieces of the body's own text in which nothing was found, all at once; returns how many bytes that was.
    fn write_plain(&mut self, from: usize, out: &mut Vec<u8>) -> usize {
        let text = &mut self.texts[0];
        let next = next_edit(text).map_or(u64::MAX, |(from, _)| from);
        let reach = text.settled.min(next);
        let (mut raw, mut count) = (0, 0);
        for piece in &self.pieces {
            let says = if matches!(piece.stuff, Stuff::Unit(_) | Stuff::Behind(_)) {
                u64::from(piece.text)
            } else {
                u64::from(piece.raw)
            };
            // What says nothing waits for what follows.
            if piece.slot != 0 || piece.stuff == Stuff::Swap || text.passed + says.max(1) > reach {
                break;
            }
            text.passed += says;
            raw += piece.raw as usize;
            count += 1;
        }
        self.pieces.drain(..count);
        out.extend_from_slice(&self.raw[from..from + raw]);
        self.lexed -= raw;
        raw
    }

    /// What goes as a whole is never written: it goes at once, whatever waits before it.
    fn squeeze(&mut self) {
        if self.swallowed == 0 {
            return;
        }
        let (mut from, mut to) = (0, 0);
        for piece in &mut self.pieces {
            let length = piece.raw as usize;
            if piece.stuff == Stuff::Swap {
                piece.raw = 0;
            } else {
                self.raw.copy_within(from..from + length, to);
                to += length;
            }
            from += length;
        }
        self.raw.copy_within(from.., to);
        let left = self.raw.len() - (from - to);
        self.raw.truncate(left);
        self.lexed -= from - to;
        self.base += (from - to) as u64;
        self.swallowed = 0;
    }

    /// Ends the texts that go on from event to event: what waits in them is settled.
    pub fn end_joined(&mut self, env: &Env<'_>, which: impl Fn(usize, &Logical) -> bool) {
        for (_, text) in self.texts.iter_mut().enumerate().skip(1).filter(|(slot, text)| which(*slot, text)) {
            if text.key != 0 {
                text.search(env, true);
                text.key = 0;
            }
        }
    }

    /// Bytes of memory that it has taken.
    pub fn memory(&self) -> usize {
        self.raw.capacity()
            + self.pieces.capacity() * size_of::<Piece>()
            + self.texts.iter().map(Logical::memory).sum::<usize>()
            + self.swap.memory()
    }
}

impl Drop for Weave {
    fn drop(&mut self) {
        // All of its room, what was written long ago with it.
        self.raw.zeroize();
    }
}

/// Where plain text stands.
struct Place<'a> {
    raw: &'a [u8],
    how: Spell,
    latin1: bool,
}

impl Place<'_> {
    /// Writes what is settled; returns how many bytes that was.
    fn write(&self, text: &mut Logical, env: &mut Env<'_>, out: &mut Vec<u8>) -> usize {
        let (raw, mut at) = (self.raw, 0);
        while at < raw.len() {
            let reach = raw.len().min(at + (text.settled - text.passed.min(text.settled)) as usize);
            let next = next_edit(text);
            let (until, inside) = match next {
                Some((from, end)) if from <= text.passed => {
                    (self.ceil(reach.min(at + (end - text.passed) as usize)), true)
                }
                // A value that begins within a character takes it whole.
                Some((from, _)) => (self.floor(at, reach.min(at + (from - text.passed) as usize)), false),
                None => (self.floor(at, reach), false),
            };
            if until == at {
                match next {
                    Some((from, _)) if !inside && from < text.settled && from - text.passed < 4 => {
                        text.edits[0].from = text.passed;
                        continue;
                    }
                    _ => break,
                }
            }
            if inside && self.how == Spell::Stars && text.edits[0].stars(env) {
                out.resize(out.len() + until - at, b'*');
            } else if inside {
                if write_edit(&mut text.edits[0], self.how, self.latin1, env, out) {
                    env.stood(out.len(), out.len(), &raw[at..until]);
                }
            } else {
                out.extend_from_slice(&raw[at..until]);
            }
            text.passed += (until - at) as u64;
            at = until;
        }
        at
    }

    /// The character's beginning at or before a place.
    fn floor(&self, from: usize, at: usize) -> usize {
        if self.is_bytes() {
            return at;
        }
        let back = (0..4).find(|back| at - back <= from || self.begins(at - back));
        back.map_or(at, |back| at - back)
    }

    fn ceil(&self, at: usize) -> usize {
        (at..at + 4).find(|at| self.is_bytes() || self.begins(*at)).unwrap_or(at)
    }

    fn is_bytes(&self) -> bool {
        matches!(self.how, Spell::Bytes | Spell::Stars)
    }

    fn begins(&self, at: usize) -> bool {
        self.raw.get(at).is_none_or(|byte| byte & 0xc0 != 0x80)
    }
}

/// The range of the next edit that has not been passed.
fn next_edit(text: &mut Logical) -> Option<(u64, u64)> {
    while text.edits.front().is_some_and(|edit| edit.end <= text.passed) {
        text.edits.pop_front();
    }
    text.edits.front().map(|edit| (edit.from, edit.end))
}

/// Writes what replaces a range, if that was not done. Whether a token stands there.
fn write_edit(edit: &mut Edit, how: Spell, latin1: bool, env: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    if !edit.written {
        edit.written = true;
        let (what, from): (Zeroizing<Vec<u8>>, _) = (edit.text(env), out.len());
        spell(&what, how, latin1, out);
        if edit.is_restore() {
            env.stood(from, out.len(), b"");
        }
    }
    edit.is_restore()
}

fn write_unit(
    text: &mut Logical,
    raw: &[u8],
    says: u64,
    how: Spell,
    latin1: bool,
    env: &mut Env<'_>,
    out: &mut Vec<u8>,
) -> usize {
    if text.settled < text.passed + says {
        return 0;
    }
    let (mut stays, mut hides) = (true, false);
    if says == 0 {
        let Some(inside) = text.hides_silence() else { return 0 };
        stays = !inside;
        hides =
            inside && !text.edits.iter().find(|edit| edit.end > text.passed).is_some_and(Edit::is_restore);
    }
    while let Some((from, end)) = next_edit(text).filter(|(from, _)| *from < text.passed + says) {
        let _ = from;
        stays = false;
        hides |= !write_edit(&mut text.edits[0], how, latin1, env, out);
        if end > text.passed + says {
            break;
        }
        text.edits.pop_front();
    }
    if stays {
        out.extend_from_slice(raw);
    } else if !hides {
        env.stood(out.len(), out.len(), raw);
    }
    text.passed += says;
    raw.len()
}
