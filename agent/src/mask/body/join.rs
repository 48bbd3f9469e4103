//! Texts that go on from event to event: what a model writes comes in pieces (`{"delta":"jane@ex"}`, `{"delta":"ample.com"}`). The
//! pieces of one text are known by where they stand in their events and by the numbers that stand there with them (`index`,
//! `item_id`); both may follow the piece, so that its text is known once the event has ended.
//!
//! A text is held back in its events, and all events with it, as long as a value may have begun in it. It is settled as though it had
//! ended where it has got nothing in [`AGE`] events, or an event goes on for [`EVENT`] bytes; where [`HELD`] bytes wait, where more than eight texts go on at once, and at the end.

use super::Env;
use super::logical::Logical;
use super::weave::{PENDING, Piece, SLOTS, Stuff, Weave};

/// So many events may go by until a text that has got nothing is settled.
pub const AGE: u64 = 16;
/// So many bytes of events, and of what is noted of them, may wait for a text.
pub const HELD: usize = 36 * 1024;
/// So far into an event the numbers of its texts are waited for, in bytes.
pub const EVENT: u64 = 8 * 1024;

/// Which pieces of the current event belong to which text.
#[derive(Default)]
pub struct Joins {
    /// How many events have ended.
    events: u64,
    /// Where the current one has begun.
    begun: u64,
    /// Its texts that are not known yet, by what is known of them.
    pending: Vec<u64>,
    /// The text that is on its way: pending, or known.
    current: Option<u8>,
    /// Whether the texts are over, as far as can be told.
    over: bool,
    /// Whether the event is too long for others to wait for its end.
    hurries: bool,
}

/// Most texts of one event: others stand for themselves.
const TEXTS: usize = SLOTS - 1;

impl Joins {
    /// Where text goes.
    pub fn slot(&self) -> u8 {
        self.current.unwrap_or(0)
    }

    /// A text's piece begins.
    pub fn begin(&mut self, key: u64) -> u8 {
        self.current = (self.pending.len() < TEXTS).then(|| PENDING + self.pending.len() as u8);
        if self.current.is_some() {
            self.pending.push(key);
        }
        self.slot()
    }

    /// It ends.
    pub fn end(&mut self) {
        self.current = None;
    }

    /// What comes is no event of texts: those that wait for more have waited long enough.
    pub fn over(&mut self) {
        self.over = true;
    }

    /// How many texts are not known yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// More is known of all texts from a number on.
    pub fn fold(&mut self, from: usize, with: u64) {
        self.pending.iter_mut().skip(from).for_each(|key| *key = mixed(*key, with));
    }

    /// An event begins.
    pub fn event(&mut self, at: u64) {
        self.begun = at;
        self.events += 1;
    }

    /// Whether the event is so long that nothing can wait for its end.
    pub fn is_long(&self, at: u64) -> bool {
        at - self.begun > EVENT
    }

    /// It is, and something waits: that is seen to now.
    pub fn hurry(&mut self) {
        self.hurries = true;
    }
}

/// Two numbers made one.
pub fn mixed(one: u64, other: u64) -> u64 {
    (one.rotate_left(23) ^ other).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Weave {
    /// Hands the pieces of the event's texts to their texts.
    pub fn resolve(&mut self, joins: &mut Joins, env: &mut Env<'_>, out: &mut Vec<u8>) {
        if joins.pending.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut joins.pending);
        let known = self.known(&pending, joins.events);
        let slots = known.unwrap_or_else(|| {
            self.search(env);
            self.end_joined(env, |_, _| true);
            self.write(env, out);
            self.texts.iter_mut().skip(1).filter(|text| text.is_idle()).for_each(|text| text.renew(0));
            self.known(&pending, joins.events).expect("as many slots as an event has texts, all of them idle")
        });
        self.hand_out(&slots, env);
        if let Some(current) = joins.current.filter(|slot| *slot >= PENDING) {
            joins.current = slots.get(usize::from(current - PENDING)).copied();
        }
    }

    /// The slots of texts; `None`: there are too few.
    fn known(&mut self, keys: &[u64], event: u64) -> Option<Vec<u8>> {
        let mut slots = Vec::with_capacity(keys.len());
        for key in keys.iter().map(|key| key | 1) {
            let slot = match (1..self.texts.len()).find(|slot| self.texts[*slot].key == key) {
                Some(slot) => slot,
                None => self.vacant(&slots)?,
            };
            let text = &mut self.texts[slot];
            if text.key != key {
                text.renew(key);
            }
            text.event = event;
            slots.push(slot as u8);
        }
        Some(slots)
    }

    fn vacant(&mut self, taken: &[u8]) -> Option<usize> {
        let is_idle = |slot: &usize| self.texts[*slot].is_idle() && !taken.contains(&(*slot as u8));
        // One that is over rather than one that may go on; of these, the oldest.
        let over = (1..self.texts.len())
            .filter(is_idle)
            .min_by_key(|slot| (self.texts[*slot].key != 0, self.texts[*slot].event));
        match over {
            Some(slot) if self.texts[slot].key == 0 || self.texts.len() >= SLOTS => Some(slot),
            _ if self.texts.len() < SLOTS => {
                self.texts.push(Logical::default());
                Some(self.texts.len() - 1)
            }
            _ => None,
        }
    }

    fn hand_out(&mut self, slots: &[u8], env: &Env<'_>) {
        let mut at = 0;
        let (hides, restores) = (env.plan.is_some(), env.restores);
        for piece in &mut self.pieces {
            let Piece { raw, slot, stuff, .. } = *piece;
            let bytes = &self.raw[at..at + raw as usize];
            at += raw as usize;
            if slot < PENDING {
                continue;
            }
            piece.slot = slots[usize::from(slot - PENDING)];
            let text = &mut self.texts[usize::from(piece.slot)];
            match stuff {
                Stuff::Unit(_) => {
                    let says = super::odd::said(bytes, usize::from(piece.text));
                    text.add(hides, restores, &says);
                }
                Stuff::Behind(_) => text.add(hides, restores, &super::odd::said_behind(bytes)),
                _ => text.add(hides, restores, bytes),
            }
        }
    }

    /// Settles the texts that have waited long enough.
    pub fn age(&mut self, joins: &mut Joins, env: &mut Env<'_>, out: &mut Vec<u8>) {
        let waiting = self.lexed + self.pieces.len() * size_of::<Piece>();
        let hurries = std::mem::take(&mut joins.hurries);
        if std::mem::take(&mut joins.over) || waiting > HELD {
            self.end_joined(env, |_, _| true);
        } else {
            let current = usize::from(joins.slot());
            let is_over = |text: &Logical| text.event + AGE < joins.events;
            self.end_joined(env, |slot, text| is_over(text) || (hurries && slot != current));
            // The body's own text gets nothing while another does.
            if hurries && current != 0 {
                self.texts[0].search(env, true);
            }
        }
        self.write(env, out);
        self.texts.iter_mut().for_each(Logical::shrink);
    }
}
