//! Values that have a digit near their beginning: most of them. A digit is found eight bytes at a time; the places where a value
//! with it may begin are judged by one table of all patterns.

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::util::{primitives::StateID, start, syntax};
use regex_automata::{Anchored, MatchKind};

use super::Seen;
use super::near::Near;
use crate::mask::detect::{Edge, LEAD, Matcher, Shape, Step, Text};

/// Longest word that may stand before the digits, in bytes.
const WORD: usize = 40;
/// The last places that are tried though no digit has come: word, sign and space, and the longest run of hexadecimal groups.
const TRIED: usize = 48;

/// All patterns that begin with a digit.
pub struct Digits {
    table: dense::DFA<Vec<u32>>,
    first: StateID,
    /// By number of the pattern.
    patterns: Vec<Pattern>,
}

pub struct Pattern {
    pub pattern: &'static str,
    pub shape: &'static Shape,
    pub rank: u16,
    /// The bit of its list of words.
    pub near: Option<u32>,
    /// What is asked where the pattern matches.
    pub by: Option<Matcher>,
}

impl Digits {
    /// # Errors
    /// A pattern that is none, or a table larger than 64 MiB.
    pub fn new(patterns: Vec<Pattern>) -> Result<Self, Box<dense::BuildError>> {
        let texts: Vec<&str> = patterns.iter().map(|pattern| pattern.pattern).collect();
        let table = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Anchored)
                    .match_kind(MatchKind::All)
                    .dfa_size_limit(Some(64 << 20))
                    .determinize_size_limit(Some(128 << 20)),
            )
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .build_many(&texts)?;
        let first = table
            .start_state(&start::Config::new().anchored(Anchored::Yes))
            .expect("a table with anchored starts");
        Ok(Self { table, first, patterns })
    }

    /// Bytes of the table.
    pub fn memory(&self) -> usize {
        self.table.memory_usage()
    }

    pub fn find(&self, text: Text<'_>, from: usize, near: Option<&Near>, seen: &mut Seen) {
        let bytes = text.bytes;
        // Where the last word with a digit has ended.
        let (mut at, mut tried) = (from, None);
        while let Some(digit) = next_digit(bytes, at) {
            let begin = text.run_before(digit, LEAD + 1, |b| b.is_ascii_alphanumeric());
            if digit - begin <= LEAD {
                self.around(text, begin, tried, &mut |place| self.at(text, place, from, near, seen));
            }
            at = digit + 1;
            while bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
                at += 1;
            }
            tried = Some(at);
        }
        if !text.last {
            self.open(text, from, near, seen);
        }
    }

    /// The places where a value may begin whose first digit is in the word that begins at `begin`.
    fn around(&self, text: Text<'_>, begin: usize, tried: Option<usize>, place: &mut dyn FnMut(usize)) {
        let Some(before) = text.before(begin) else { return place(begin) };
        match before {
            b':' | b'-' | b'.'
                // The word before has seen to this, if it has a digit.
                if tried != Some(begin - 1) => {
                    let run = text.run_before(begin, 39, |b| b.is_ascii_hexdigit() || b == before);
                    if begin - run > 1 {
                        place(run);
                    }
                }
            b'+' | b'(' => {
                place(begin - 1);
                if let Some(b'+' | b'(') = text.before(begin - 1) {
                    place(begin - 2);
                }
            }
            b' ' => {
                let end = begin - 1 - usize::from(matches!(text.before(begin - 1), Some(b'.' | b',')));
                let word = text.run_before(end, WORD + 1, |b| b.is_ascii_alphabetic() || b > 127);
                if word < end && end - word <= WORD {
                    place(word);
                } else if end == begin - 1 && text.before(end) == Some(b'+') {
                    place(end - 1);
                }
            }
            _ => {}
        }
        if !is_short(text, begin) {
            place(begin);
        }
    }

    /// Judges a place.
    fn at(&self, text: Text<'_>, place: usize, from: usize, near: Option<&Near>, seen: &mut Seen) {
        if place < from || text.before(place).is_some_and(|b| b.is_ascii_alphanumeric()) {
            return;
        }
        let mut lists = None;
        let mut lists = |bit: u32| {
            let lists = *lists.get_or_insert_with(|| near.map_or(0, |near| near.before(text, place)));
            lists >> bit & 1 == 1
        };
        let hits = seen.hits.len();
        let mut hit = |pattern: &Pattern, end: usize| -> Result<(), Step> {
            let edge = pattern.shape.edge;
            if !edge_before(text, place, edge) {
                return Ok(());
            }
            let end = match pattern.by {
                None => end,
                Some(matcher) => match matcher(text, place) {
                    Step::Found(end) => end,
                    Step::More => return Err(Step::More),
                    Step::No | Step::Runs(..) => return Ok(()),
                },
            };
            if edge_after(text, end, edge)?
                && (pattern.shape.check)(&text.bytes[place..end])
                && pattern.near.is_none_or(&mut lists)
            {
                seen.hit(place, end, pattern.rank);
            }
            Ok(())
        };
        if self.walk(text, place, &mut hit).is_err() {
            seen.hits.truncate(hits);
            seen.open.push(place);
        }
    }

    /// Every pattern and end that the table finds from a place on.
    fn walk(
        &self,
        text: Text<'_>,
        place: usize,
        hit: &mut dyn FnMut(&Pattern, usize) -> Result<(), Step>,
    ) -> Result<(), Step> {
        let mut state = self.first;
        let mut matched = |state: StateID, end: usize| -> Result<(), Step> {
            for at in 0..self.table.match_len(state) {
                hit(&self.patterns[self.table.match_pattern(state, at).as_usize()], end)?;
            }
            Ok(())
        };
        for (end, byte) in text.bytes.iter().enumerate().skip(place) {
            state = self.table.next_state(state, *byte);
            if self.table.is_special_state(state) {
                if self.table.is_match_state(state) {
                    matched(state, end)?;
                } else if self.table.is_dead_state(state) {
                    return Ok(());
                }
            }
        }
        if !text.last {
            return Err(Step::More);
        }
        state = self.table.next_eoi_state(state);
        if self.table.is_match_state(state) { matched(state, text.bytes.len()) } else { Ok(()) }
    }

    /// Places near the end where a value may begin whose digit has not come.
    fn open(&self, text: Text<'_>, from: usize, near: Option<&Near>, seen: &mut Seen) {
        let mut unseen = Seen::default();
        let mut inside = false;
        for place in from.max(text.bytes.len().saturating_sub(TRIED))..text.bytes.len() {
            let byte = text.bytes[place];
            let is_part = byte.is_ascii_alphanumeric();
            let inside_before = std::mem::replace(&mut inside, is_part)
                || text.before(place).is_some_and(|b| b.is_ascii_alphanumeric());
            if !inside_before && (is_part || b"+(:-.".contains(&byte) || byte > 127) {
                self.at(text, place, from, near, &mut unseen);
            }
        }
        seen.open.append(&mut unseen.open);
    }
}

/// Whether a number stands there with which nothing begins: of fewer than six digits, and no sign behind it that parts groups.
/// Most numbers are such; the table would say the same, later.
fn is_short(text: Text<'_>, begin: usize) -> bool {
    let digits = text.bytes[begin..].iter().take(7).take_while(|b| b.is_ascii_digit()).count();
    let (Some(next), Some(behind)) = (text.bytes.get(begin + digits), text.bytes.get(begin + digits + 1))
    else {
        return false;
    };
    let inside = |signs: &[u8]| {
        let sign = text.before(begin).is_some_and(|b| signs.contains(&b));
        sign && text.before(begin - 1).is_some_and(|b| b.is_ascii_digit())
    };
    match next {
        // In the middle of a date, a time, or another longer number: nothing that may begin there has a sign so soon.
        b'-' | b'.' | b'/' if digits < 6 && inside(b"-./") => true,
        b':' if digits < 6 && inside(b":") => true,
        b',' => *behind != b' ',
        b'.' | b':' | b'/' | b'-' => !behind.is_ascii_alphanumeric() && !b" (:".contains(behind),
        b' ' | b'(' | b')' => false,
        _ => digits < 6 && digits > 0 && !next.is_ascii_alphanumeric(),
    }
}

/// Whether what stands before a value lets it be one.
pub fn edge_before(text: Text<'_>, place: usize, edge: Edge) -> bool {
    let Some(before) = text.before(place) else { return true };
    if edge == Edge::None {
        return true;
    }
    if before.is_ascii_alphanumeric() {
        return false;
    }
    if edge == Edge::Number && b"-./".contains(&before) {
        let word = text.run_before(place - 1, 12, |b| b.is_ascii_alphanumeric());
        let word = text.slice(word, place - 1);
        return if before == b'-' {
            !word.iter().any(u8::is_ascii_digit)
        } else {
            !word.last().is_some_and(u8::is_ascii_digit)
        };
    }
    before != b'.' || !text.before(place - 1).is_some_and(|b| b.is_ascii_digit())
}

/// Whether what follows a value lets it be one.
///
/// # Errors
/// [`Step::More`]: it has not come yet.
pub fn edge_after(text: Text<'_>, end: usize, edge: Edge) -> Result<bool, Step> {
    if edge == Edge::None {
        return Ok(true);
    }
    let Some(next) = text.at(end)? else { return Ok(true) };
    if next.is_ascii_alphanumeric() {
        return Ok(false);
    }
    let goes_on = edge == Edge::Number
        && b"-./".contains(&next)
        && text.at(end + 1)?.is_some_and(|b| b.is_ascii_digit());
    Ok(!goes_on)
}

/// The next digit from a place on.
fn next_digit(bytes: &[u8], from: usize) -> Option<usize> {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let rest = bytes.get(from..)?;
    let mut chunks = rest.chunks_exact(8);
    for (at, chunk) in (&mut chunks).enumerate() {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes")) ^ 0x3030_3030_3030_3030;
        // The high bit of each byte that is 10 or more.
        let others = (((word & LOW) + 0x7676_7676_7676_7676) | word) & !LOW;
        let digits = others ^ !LOW;
        if digits != 0 {
            return Some(from + at * 8 + digits.trailing_zeros() as usize / 8);
        }
    }
    let rest = chunks.remainder();
    Some(bytes.len() - rest.len() + rest.iter().position(u8::is_ascii_digit)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_found_wherever_they_stand() {
        let mut text = (0..=255u8).filter(|b| !b.is_ascii_digit()).collect::<Vec<_>>();
        assert_eq!(next_digit(&text, 0), None);
        for at in 0..text.len() {
            let was = std::mem::replace(&mut text[at], b'0' + (at % 10) as u8);
            assert_eq!(next_digit(&text, at / 2), Some(at));
            text[at] = was;
        }
        assert_eq!(next_digit(b"abcdefgh1", 0), Some(8));
    }
}
