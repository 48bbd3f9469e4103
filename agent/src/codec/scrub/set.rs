//! Many texts at once: each place where one of them stands, the longest of those that begin there. Of the bytes that are
//! searched one word of four is looked at every so often, as seldom as the shortest text lets it lie within each text
//! still; nearly all are told by one bit to be none's. To make a set costs about as much as to sort its texts; an automaton
//! over as many would cost a hundred times that, and most of its memory.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{SHORTEST, Texts};

/// Texts that are looked for together. No Debug: it would show them.
pub struct Set {
    texts: Vec<Arc<Texts>>,
    /// By their bytes, each once.
    sorted: Vec<Place>,
    /// The first [`SHORTEST`] bytes of each, as they sort.
    keys: Zeroizing<Vec<u64>>,
    /// Words of four bytes that stand in a text at any place before `stride`.
    words: Bits,
    /// So many bytes from one word that is looked at to the next.
    stride: usize,
    /// The first [`SHORTEST`] bytes of each.
    heads: Bits,
    /// The first two bytes of each: nearly every end of what is read is told by them to be none's beginning.
    pairs: Bits,
    /// 1 for the first byte of each.
    firsts: [u8; 256],
    shortest: usize,
    longest: usize,
}

/// A text: whose, and which of it.
#[derive(Clone, Copy)]
struct Place {
    of: u32,
    nth: u32,
    /// The longest other text that it begins with: its place among the sorted.
    within: Option<u32>,
}

/// Bytes of the word that is looked at.
const WORD: usize = 4;
/// Words that are looked at together.
const TOGETHER: usize = 8;
/// From one word to the next at most.
const STRIDE: usize = 64;
/// Words of all texts: with more of them, more is taken for one.
const WORDS: usize = 1 << 16;

impl Set {
    /// Of all these; `None` where there is no text.
    pub fn new(texts: Vec<Arc<Texts>>) -> Option<Self> {
        let mut sorted: Vec<Place> = Vec::new();
        for (of, texts) in (0..).zip(&texts) {
            sorted.extend((0..).zip(&texts.all).map(|(nth, _)| Place { of, nth, within: None }));
        }
        let text = |place: &Place| &*texts[place.of as usize].all[place.nth as usize];
        sorted.sort_unstable_by(|a, b| text(a).cmp(text(b)));
        sorted.dedup_by(|a, b| text(a) == text(b));
        let longest = sorted.iter().map(|place| text(place).len()).max()?;
        let shortest = sorted.iter().map(|place| text(place).len()).min()?;
        let stride = (shortest + 1 - WORD).min(WORDS / sorted.len()).clamp(WORD, STRIDE);
        let (mut words, mut heads, mut pairs) =
            (Bits::of(sorted.len() * stride), Bits::of(sorted.len()), Bits::of(sorted.len()));
        let mut firsts = [0; 256];
        // Texts that the next may begin with, each the beginning of the one behind it.
        let mut open: Vec<u32> = Vec::new();
        for at in 0..sorted.len() {
            let this = text(&sorted[at]);
            while let Some(&top) = open.last()
                && !this.starts_with(text(&sorted[top as usize]))
            {
                open.pop();
            }
            for from in 0..stride {
                words.set(word(&this[from..]));
            }
            heads.set(head(this));
            pairs.set(pair(this[0], this[1]));
            firsts[usize::from(this[0])] = 1;
            let within = open.last().copied();
            open.push(u32::try_from(at).ok()?);
            sorted[at].within = within;
        }
        let key = |place| text(place).first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        let keys = Zeroizing::new(sorted.iter().map(key).collect());
        Some(Self { texts, sorted, keys, words, stride, heads, pairs, firsts, shortest, longest })
    }

    /// The longest text's bytes.
    pub fn longest(&self) -> usize {
        self.longest
    }

    fn text(&self, place: Place) -> &[u8] {
        &self.texts[place.of as usize].all[place.nth as usize]
    }

    /// The first text that stands in `bytes` from `from` on: where it begins and ends, and its mark.
    pub fn find(&self, bytes: &[u8], from: usize) -> Option<(usize, usize, &Arc<str>)> {
        // Most fields are shorter than any text.
        if bytes.len() < from + self.shortest {
            return None;
        }
        let last = bytes.len().saturating_sub(WORD - 1);
        let may = |at: usize| self.shows(bytes, at);
        let together = self.stride * TOGETHER;
        // Several with one branch: nearly always it is none.
        for first in (from..last).step_by(together) {
            let some = (first..last.min(first + together)).step_by(self.stride);
            if !some.clone().fold(false, |any, at| any | may(at)) {
                continue;
            }
            for at in some.filter(|at| may(*at)) {
                for begin in at.saturating_sub(self.stride - 1).max(from)..=at {
                    if let Some(place) = self.at(&bytes[begin..]) {
                        let mark = &self.texts[place.of as usize].mark;
                        return Some((begin, begin + self.text(place).len(), mark));
                    }
                }
            }
        }
        None
    }

    /// How many of the sorted are `bytes` or come before.
    fn upto(&self, bytes: &[u8]) -> usize {
        let (mut from, mut to) = (0, self.sorted.len());
        if let Some(first) = bytes.first_chunk() {
            let key = u64::from_be_bytes(*first);
            from = self.keys.partition_point(|other| *other < key);
            to = from + self.keys[from..].partition_point(|other| *other == key);
        }
        from + self.sorted[from..to].partition_point(|place| self.text(*place) <= bytes)
    }

    /// The longest text that `bytes` begins with.
    fn at(&self, bytes: &[u8]) -> Option<Place> {
        if bytes.len() < SHORTEST || !self.heads.has(head(bytes)) {
            return None;
        }
        // Whatever `bytes` begins with sorts before it, and the last that does begins with all others that do.
        let mut last = self.upto(bytes).checked_sub(1)?;
        loop {
            let place = self.sorted[last];
            if bytes.starts_with(self.text(place)) {
                return Some(place);
            }
            last = place.within? as usize;
        }
    }

    /// Where in `bytes`, from `from` on, a text begins that is not whole: its length where none does.
    pub fn open(&self, bytes: &[u8], from: usize) -> usize {
        let from = from.max(bytes.len().saturating_sub(self.longest - 1));
        // Of a text that begins before this, a word that is looked at is there whole.
        let late = (bytes.len() + 2).saturating_sub(self.stride + WORD).max(from);
        let looked_at = (from..bytes.len().saturating_sub(WORD - 1)).step_by(self.stride);
        looked_at
            .filter(|at| self.shows(bytes, *at))
            .flat_map(|at| at.saturating_sub(self.stride - 1).max(from)..late.min(at + 1))
            .chain(late..bytes.len())
            .find(|begin| self.begins_with(&bytes[*begin..]))
            .unwrap_or(bytes.len())
    }

    /// Whether the word at `at` may be one of a text's.
    fn shows(&self, bytes: &[u8], at: usize) -> bool {
        let four = bytes[at..].first_chunk().copied().map_or(0, u32::from_le_bytes);
        self.words.has(u64::from(four))
    }

    /// Whether a text begins with `end`, and is longer.
    fn begins_with(&self, end: &[u8]) -> bool {
        let may = match *end {
            [_, _, _, _, _, _, _, _, ..] => self.heads.has(head(end)),
            [first, second, ..] => self.pairs.has(pair(first, second)),
            [only] => self.firsts[usize::from(only)] == 1,
            [] => false,
        };
        may && { self.sorted.get(self.upto(end)).is_some_and(|place| self.text(*place).starts_with(end)) }
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes[..WORD].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn head(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

fn pair(first: u8, second: u8) -> u64 {
    u64::from(first) << 8 | u64::from(second)
}

/// A set of numbers that may have more than were put in: about one in sixteen.
struct Bits {
    words: Box<[u64]>,
    shift: u32,
}

impl Bits {
    /// With room for so many numbers.
    fn of(many: usize) -> Self {
        // 1 KiB fits many a first-level cache many times over; 1 MiB is for some 500,000.
        let log = (many * 16).next_power_of_two().ilog2().clamp(13, 23);
        Self { words: vec![0; 1 << (log - 6)].into_boxed_slice(), shift: 64 - log }
    }

    fn place(&self, number: u64) -> (usize, u64) {
        // Fibonacci hashing: the golden ratio's bits spread what differs little.
        let at = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift;
        // invariant: at most 23 bits.
        ((at >> 6) as usize, 1 << (at & 63))
    }

    fn set(&mut self, number: u64) {
        let (word, bit) = self.place(number);
        self.words[word] |= bit;
    }

    fn has(&self, number: u64) -> bool {
        let (word, bit) = self.place(number);
        self.words[word] & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[Vec<u8>]) -> Set {
        let texts = Texts::new("[mark]", texts.iter().cloned());
        Set::new(vec![Arc::new(texts)]).expect("some")
    }

    /// Every place and length, by trying each text at each place.
    fn plainly(texts: &[Vec<u8>], bytes: &[u8]) -> Vec<(usize, usize)> {
        let (mut found, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let here = texts.iter().filter(|text| bytes[at..].starts_with(text)).map(Vec::len).max();
            match here {
                Some(length) => {
                    found.push((at, at + length));
                    at += length;
                }
                None => at += 1,
            }
        }
        found
    }

    #[test]
    fn it_finds_what_trying_each_text_finds() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for round in 0..300 {
            // Few letters, so that texts stand in and across each other.
            let letters = 1 + round % 3;
            let mut text = |length: u64, letters: u64| -> Vec<u8> {
                (0..length).map(|_| b'a' + u8::try_from(next(letters + 1)).expect("few")).collect()
            };
            let shortest = [8, 11, 19, 35, 80][(round % 5) as usize];
            let mut texts: Vec<Vec<u8>> = (0..6).map(|n| text(shortest + n % 4, letters)).collect();
            let longer = [texts[0].clone(), text(5, letters)].concat();
            texts.push(longer);
            let bytes =
                [text(400, letters), texts[6].clone(), text(3, letters), texts[round as usize % 6].clone()]
                    .concat();
            let set = set(&texts);
            let (mut found, mut at) = (Vec::new(), 0);
            while let Some((begin, end, _)) = set.find(&bytes, at) {
                found.push((begin, end));
                at = end;
            }
            assert_eq!(found, plainly(&texts, &bytes), "round {round}");
            for cut in 0..bytes.len() {
                let open = (0..cut)
                    .find(|at| texts.iter().any(|t| t.len() > cut - at && t.starts_with(&bytes[*at..cut])));
                assert_eq!(set.open(&bytes[..cut], 0), open.unwrap_or(cut), "round {round}, cut {cut}");
            }
        }
    }
}
