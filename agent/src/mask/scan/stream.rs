//! A text on its way: what a set finds in it, whatever its cuts.

use super::tail::goes_on;
use super::{Hit, Set};
use crate::mask::detect::{NEAR, REACH, Tail, Text};

/// A value that was found. No Debug: it would show it.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// Which detector found it.
    pub detector: &'a str,
    /// Where it begins in the text, in bytes from its beginning.
    pub from: u64,
    /// Where it ends.
    pub end: u64,
    /// What stands there.
    pub value: &'a [u8],
    /// Whether it goes on with the value that was found last and ended where this begins. Values such as private keys have no
    /// longest length, and are found piece by piece; and of a value that overlaps an earlier one, what that has left is found.
    pub continues: bool,
    /// Whether it may go on: `value` is not all of it, and no token can stand for it.
    pub runs: bool,
}

/// One text that is searched. Holds back what only more text can settle: [`Set::most_held`] bytes at most, and keeps
/// [`BEHIND`] bytes that it has passed on.
#[derive(Default)]
pub struct Stream {
    /// What was passed on last, and what waits.
    text: Vec<u8>,
    /// How much of it was passed on.
    settled: usize,
    /// How far that is from the beginning of what stands before the text, and how long that is.
    base: u64,
    before: u64,
    /// Where the values that were found end, counted as `base`.
    covered: u64,
    /// A value that goes on.
    runs: Option<(Hit, Tail)>,
    /// Where that has begun, counted as `base`.
    begun: u64,
    /// Where values may begin that count, counted as `base`: behind a value that went on, one may have begun in it.
    since: u64,
    /// Where the last match of each expression has ended.
    next: Vec<u64>,
}

/// What is kept of what was passed on, in bytes: what stands before a value, and the word that announces it.
pub const BEHIND: usize = NEAR + REACH + 64;
/// So far before the end of a value that went on others may begin, in bytes: as much as an e-mail address has before its sign.
const BACK: usize = 64;
/// So much is searched at once, in bytes.
const PIECE: usize = 16384;

impl Stream {
    /// A new text, and what stands before it: the name of the field whose value it is, for example. That is not searched, but
    /// read as context. Places count from the text's own beginning.
    pub fn begin(&mut self, before: &[u8]) {
        zeroize::Zeroize::zeroize(&mut self.text);
        self.text.extend_from_slice(&before[before.len().saturating_sub(BEHIND)..]);
        self.settled = self.text.len();
        (self.base, self.before) = (0, self.settled as u64);
        (self.covered, self.runs, self.since) = (0, None, self.settled as u64);
        self.next.clear();
    }

    /// Searches what has come. What is found is handed on in order. Returns how far the text is settled: that many bytes from its
    /// beginning may be passed on, values replaced. A value that was found may end behind that, in what has come.
    pub fn push(&mut self, set: &Set, text: &[u8], found: &mut dyn FnMut(Found<'_>)) -> u64 {
        for piece in text.chunks(PIECE) {
            self.add(piece);
            self.settle(set, false, found);
        }
        self.base + self.settled as u64 - self.before
    }

    /// Takes what has come, and leaves it unsearched until [`Stream::search`]: one search of many small pieces is cheaper.
    pub fn add(&mut self, text: &[u8]) {
        if self.text.capacity() < self.text.len() + text.len() {
            self.text.reserve_exact(text.len().max(1024));
        }
        self.text.extend_from_slice(text);
    }

    /// As [`Stream::push`], of what was added.
    pub fn search(&mut self, set: &Set, found: &mut dyn FnMut(Found<'_>)) -> u64 {
        self.settle(set, false, found);
        self.base + self.settled as u64 - self.before
    }

    /// The text has ended: what waits is settled. The stream is as new.
    pub fn end(&mut self, set: &Set, found: &mut dyn FnMut(Found<'_>)) {
        self.settle(set, true, found);
        self.begin(b"");
    }

    /// How many bytes wait.
    pub fn held(&self) -> usize {
        self.text.len() - self.settled
    }

    /// Gives back memory that a long piece has taken: a stream that waits needs little.
    pub fn shrink(&mut self) {
        if self.text.capacity() > 2 * self.text.len().max(1024) {
            self.text.shrink_to(self.text.len() + 256);
        }
    }

    /// Bytes of memory that it has taken.
    pub fn memory(&self) -> usize {
        self.text.capacity() + self.next.capacity() * 8 + size_of::<Self>()
    }

    fn settle(&mut self, set: &Set, last: bool, found: &mut dyn FnMut(Found<'_>)) {
        let bytes = std::mem::take(&mut self.text);
        let text = Text { bytes: &bytes, last };
        self.find(set, text, found);
        self.text = bytes;
        if self.settled > BEHIND {
            let gone = self.settled - BEHIND;
            self.text.copy_within(gone.., 0);
            self.text.truncate(self.text.len() - gone);
            self.settled = BEHIND;
            self.base += gone as u64;
        }
    }

    fn find(&mut self, set: &Set, text: Text<'_>, found: &mut dyn FnMut(Found<'_>)) {
        if !self.go_on(set, text, found) {
            return;
        }
        self.next.resize(set.patterns().count(), 0);
        let mut from = (self.since.saturating_sub(self.base) as usize).min(self.settled);
        let mut seen = set.find(text, from, &self.places());
        seen.sort();
        let (mut settled, mut at) = (self.settled, 0);
        while let Some(hit) = seen.hits.get(at).copied() {
            at += 1;
            if hit.from < from {
                continue;
            }
            if seen.opens_in(from, hit.from) {
                break;
            }
            self.cover(set, text, &hit, found);
            self.passed(set, &hit);
            if let Some(tail) = hit.runs {
                self.runs = Some((hit, tail));
                self.begun = self.base + hit.from as u64;
                settled = settled.max(self.go_on_from(set, text, hit.end, found));
                if self.runs.is_some() {
                    break;
                }
                // What has not been begun by its end is as though nothing had come before.
                from = settled.saturating_sub(BACK).max(hit.from + 1);
                seen.hits.retain(|hit| !set.is_pattern(hit.rank));
                at = seen.hits.partition_point(|other| other.from < from);
                seen.open.retain(|open| *open >= from);
                set.find_patterns(text, from, &self.places(), &mut seen);
                seen.sort();
            }
        }
        if self.runs.is_some() {
            (self.settled, self.since) = (settled, self.base + settled as u64);
            return;
        }
        from = seen.open.iter().copied().find(|open| *open >= from).unwrap_or(text.bytes.len());
        (self.settled, self.since) = (settled.max(from), self.base + from as u64);
    }

    /// Where each expression goes on.
    fn places(&self) -> Vec<usize> {
        self.next.iter().map(|next| next.saturating_sub(self.base) as usize).collect()
    }

    /// An expression goes on behind its match.
    fn passed(&mut self, set: &Set, hit: &Hit) {
        for (_, next) in set.patterns().zip(&mut self.next).filter(|(rank, _)| *rank == hit.rank) {
            *next = (*next).max(self.base + hit.end as u64);
        }
    }

    /// Hands on what a value covers that no earlier one does.
    fn cover(&mut self, set: &Set, text: Text<'_>, hit: &Hit, found: &mut dyn FnMut(Found<'_>)) {
        let covered = self.covered.saturating_sub(self.base) as usize;
        if hit.end > covered {
            let continues = hit.from < covered;
            self.report(set, text, hit.from.max(covered), hit, continues, found);
            self.covered = self.base + hit.end as u64;
        }
    }

    /// Goes on with a value that has no longest length. Whether what follows it can be searched.
    fn go_on(&mut self, set: &Set, text: Text<'_>, found: &mut dyn FnMut(Found<'_>)) -> bool {
        if self.runs.is_some() {
            self.settled = self.go_on_from(set, text, self.settled, found);
            let back = self.base + self.settled.saturating_sub(BACK) as u64;
            self.since = back.max(self.begun + 1);
        }
        self.runs.is_none()
    }

    /// Where what belongs to the value ends, as far as it has come.
    fn go_on_from(
        &mut self,
        set: &Set,
        text: Text<'_>,
        from: usize,
        found: &mut dyn FnMut(Found<'_>),
    ) -> usize {
        let Some((hit, tail)) = self.runs else { return from };
        let (end, ends) = goes_on(text, from, tail);
        self.cover(set, text, &Hit { from: from - 1, end, ..hit }, found);
        if ends {
            self.runs = None;
        }
        end
    }

    fn report(
        &self,
        set: &Set,
        text: Text<'_>,
        from: usize,
        hit: &Hit,
        continues: bool,
        found: &mut dyn FnMut(Found<'_>),
    ) {
        let at = |place: usize| self.base + place as u64 - self.before;
        let value = &text.bytes[from..hit.end];
        found(Found {
            detector: set.name(hit),
            from: at(from),
            end: at(hit.end),
            value,
            continues,
            runs: hit.runs.is_some(),
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.text);
    }
}
