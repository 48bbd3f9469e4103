//! Values that a literal announces: keys of providers, private keys, tokens, URLs with passwords.

use aho_corasick::packed;
use memchr::memchr3_iter;
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::util::{primitives::StateID, start, syntax};
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::literal::Extractor;

use super::Seen;
use super::set::SetError;
use crate::mask::detect::sums::entropy;
use crate::mask::detect::{Around, Key, REACH, Step, Tail, Text};

/// Longest key that is read as a whole; of a longer one the rest goes on.
pub const LONGEST: usize = 1024;
/// Teddy takes so many literals at once.
const AT_ONCE: usize = 16;
/// So many bytes of a literal are looked for: more would tell no more.
const PREFIX: usize = 12;
/// Signs that most literals have, and most text has not.
const SIGNS: [u8; 3] = *b"_-.";

/// All literals, and what each announces.
pub struct Literals {
    /// What is looked for.
    literals: Vec<(Vec<u8>, Announced)>,
    /// Those that may begin where one begins, itself among them.
    alike: Vec<Vec<usize>>,
    /// Those without a sign behind two other bytes.
    searchers: Vec<(packed::Searcher, Vec<usize>)>,
    signed: Option<Signed>,
    /// All of them, sorted: what begins like the end of what has come is found by halving.
    sorted: Vec<Vec<u8>>,
    /// By their first byte, and by their first two: what most ends of texts do not begin with.
    firsts: Box<[u64; 4]>,
    pairs: Box<[u64; 1024]>,
    keys: Option<Keys>,
    longest: usize,
}

#[derive(Clone, Copy)]
enum Announced {
    By(Around, u16, &'static str),
    Key,
}

struct Keys {
    table: dense::DFA<Vec<u32>>,
    first: StateID,
    rank: u16,
}

/// Literals that have a sign behind two other bytes: they are found by it.
struct Signed {
    /// By a hash of the two bytes before the sign.
    begins: Box<[u64; SIGNED / 64]>,
    /// Which literals end their first part so, and how long that part is; sorted by the hash.
    which: Vec<(usize, usize, usize)>,
}

const SIGNED: usize = 1 << 13;

/// Where the first sign of a literal is that stands behind two other bytes.
fn sign_in(literal: &[u8]) -> Option<usize> {
    let at = literal.iter().position(|b| SIGNS.contains(b))?;
    (at >= 2).then_some(at)
}

fn hash(first: u8, second: u8, sign: u8) -> usize {
    let three = u32::from(first) | u32::from(second) << 8 | u32::from(sign) << 16;
    (three.wrapping_mul(0x9e37_79b1) >> (32 - SIGNED.ilog2())) as usize
}

impl Signed {
    fn new(literals: &[(Vec<u8>, Announced)]) -> Option<Self> {
        let mut begins = Box::new([0; SIGNED / 64]);
        let mut which = Vec::new();
        for (at, (literal, _)) in literals.iter().enumerate() {
            if let Some(sign) = sign_in(literal) {
                let hash = hash(literal[sign - 2], literal[sign - 1], literal[sign]);
                begins[hash / 64] |= 1 << (hash % 64);
                which.push((hash, sign, at));
            }
        }
        which.sort_unstable();
        (!which.is_empty()).then_some(Self { begins, which })
    }

    /// The literals that may stand around a sign: their places and numbers.
    fn at(&self, bytes: &[u8], sign: usize) -> impl Iterator<Item = (usize, usize)> {
        let hash = match bytes.get(sign.wrapping_sub(2)..=sign) {
            Some([first, second, sign]) => hash(*first, *second, *sign),
            _ => return [].iter().filter_map(as_place(sign)),
        };
        if self.begins[hash / 64] >> (hash % 64) & 1 == 0 {
            return [].iter().filter_map(as_place(sign));
        }
        let first = self.which.partition_point(|(other, _, _)| *other < hash);
        let count = self.which[first..].iter().take_while(|(other, _, _)| *other == hash).count();
        self.which[first..first + count].iter().filter_map(as_place(sign))
    }
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

fn as_place(sign: usize) -> impl FnMut(&(usize, usize, usize)) -> Option<(usize, usize)> {
    move |(_, before, which)| Some((sign.checked_sub(*before)?, *which))
}

impl Literals {
    /// # Errors
    /// A pattern of the table of keys that is none, or too many literals.
    pub fn new(
        around: &[(&'static [&'static str], Around, u16)],
        keys: Option<u16>,
    ) -> Result<Self, SetError> {
        let mut literals: Vec<(Vec<u8>, Announced)> = Vec::new();
        for (texts, around, rank) in around {
            let cut = |text: &&'static str| {
                (text.as_bytes()[..text.len().min(PREFIX)].to_vec(), Announced::By(*around, *rank, text))
            };
            literals.extend(texts.iter().map(cut));
        }
        let keys = keys.map(Keys::new).transpose()?;
        if keys.is_some() {
            literals.extend(prefixes()?.into_iter().map(|prefix| (prefix, Announced::Key)));
        }
        let mut searchers = Vec::new();
        let mut order: Vec<usize> =
            (0..literals.len()).filter(|at| sign_in(&literals[*at].0).is_none()).collect();
        // Like with like: Teddy tells apart by half bytes, and takes what it has mixed itself for a find.
        order.sort_by_key(|at| {
            let text = &literals[*at].0;
            (text.len() > 3, text[0].is_ascii_uppercase(), text[1].is_ascii_uppercase(), text.clone())
        });
        for part in order.chunks(AT_ONCE) {
            let searcher =
                packed::Config::new().builder().extend(part.iter().map(|at| &literals[*at].0)).build();
            searchers.push((searcher.ok_or(SetError::Literals)?, part.to_vec()));
        }
        let longest = literals.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
        let is_alike = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
        let alike = |(text, _): &(Vec<u8>, Announced)| {
            (0..literals.len()).filter(|other| is_alike(text, &literals[*other].0)).collect()
        };
        let alike = literals.iter().map(alike).collect();
        let mut sorted: Vec<Vec<u8>> = literals.iter().map(|(text, _)| text.clone()).collect();
        sorted.sort_unstable();
        let (mut firsts, mut pairs) = (Box::new([0; 4]), Box::new([0; 1024]));
        for text in &sorted {
            firsts[usize::from(text[0]) / 64] |= 1 << (text[0] % 64);
            let pair = pair(text[0], text[1]);
            pairs[pair / 64] |= 1 << (pair % 64);
        }
        let signed = Signed::new(&literals);
        Ok(Self { signed, sorted, firsts, pairs, literals, alike, searchers, keys, longest })
    }

    pub fn find(&self, text: Text<'_>, from: usize, seen: &mut Seen) {
        let begin = from.saturating_sub(REACH);
        for (searcher, which) in &self.searchers {
            let mut at = begin;
            while at < text.bytes.len()
                && let Some(found) = searcher.find_in(text.bytes, (at..text.bytes.len()).into())
            {
                at = found.start() + 1;
                self.found(text, found.start(), which[found.pattern().as_usize()], from, seen);
            }
        }
        if let Some(signed) = &self.signed {
            for sign in memchr3_iter(SIGNS[0], SIGNS[1], SIGNS[2], &text.bytes[begin..]) {
                for (at, which) in signed.at(text.bytes, begin + sign) {
                    if at >= begin && text.bytes[at..].starts_with(&self.literals[which].0) {
                        self.found(text, at, which, from, seen);
                    }
                }
            }
        }
        if !text.last {
            let end = text.bytes.len();
            let begun = (from.max(end.saturating_sub(self.longest))..end)
                .filter(|at| self.begins(&text.bytes[*at..]));
            seen.open.extend(begun);
        }
    }

    fn begins(&self, end: &[u8]) -> bool {
        let has_pair = |first: u8, second: u8| {
            let pair = pair(first, second);
            self.pairs[pair / 64] >> (pair % 64) & 1 == 1
        };
        match *end {
            [first] => return self.firsts[usize::from(first) / 64] >> (first % 64) & 1 == 1,
            [first, second] => return has_pair(first, second),
            [first, second, ..] if !has_pair(first, second) => return false,
            _ => {}
        }
        let at = self.sorted.partition_point(|literal| literal.as_slice() < end);
        self.sorted.get(at).is_some_and(|literal| literal.starts_with(end))
    }

    /// Other literals may begin at the same place: all are asked.
    fn found(&self, text: Text<'_>, at: usize, which: usize, from: usize, seen: &mut Seen) {
        let mut keys = false;
        for (literal, announced) in self.alike[which].iter().map(|at| &self.literals[*at]) {
            if !text.bytes[at..].starts_with(literal) {
                continue;
            }
            match announced {
                Announced::Key if keys || at < from => {}
                Announced::Key => {
                    keys = true;
                    let keys = self.keys.as_ref().expect("there, where their prefixes are");
                    seen.note(at, keys.at(text, at), keys.rank);
                }
                Announced::By(around, rank, whole) => {
                    let step = match begins_with(text, at, whole.as_bytes()) {
                        Err(more) => Some((at, more)),
                        Ok(false) => None,
                        Ok(true) => around(text, at),
                    };
                    if let Some((place, step)) = step.filter(|(place, _)| *place >= from) {
                        seen.note(place, step, *rank);
                    }
                }
            }
        }
    }
}

/// Whether a text stands there whole.
fn begins_with(text: Text<'_>, at: usize, whole: &[u8]) -> Result<bool, Step> {
    let there = text.slice(at, at + whole.len());
    if there.len() < whole.len() && whole.starts_with(there) && !text.last {
        return Err(Step::More);
    }
    Ok(there == whole)
}

/// What the patterns of the table of keys begin with, each no beginning of another.
fn prefixes() -> Result<Vec<Vec<u8>>, SetError> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for key in Key::all() {
        let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(&key.pattern);
        let hir = hir.map_err(|_| SetError::Key(key.kind.clone()))?;
        let mut found = Extractor::new().limit_class(5).limit_total(48).extract(&hir);
        found.keep_first_bytes(PREFIX);
        let found = found.literals().filter(|found| !found.is_empty() && found.iter().all(|l| l.len() > 1));
        let found = found.ok_or_else(|| SetError::Key(key.kind.clone()))?;
        all.extend(found.iter().map(|literal| literal.as_bytes().to_vec()));
    }
    all.sort();
    all.dedup_by(|next, before| next.starts_with(before));
    Ok(all)
}

impl Keys {
    fn new(rank: u16) -> Result<Self, SetError> {
        let texts: Vec<&str> = Key::all().iter().map(|key| key.pattern.as_str()).collect();
        let table = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Anchored)
                    .match_kind(MatchKind::All)
                    .dfa_size_limit(Some(64 << 20)),
            )
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .build_many(&texts)
            .map_err(|error| SetError::Table(Box::new(error)))?;
        let first = table
            .start_state(&start::Config::new().anchored(Anchored::Yes))
            .expect("a table with anchored starts");
        Ok(Self { table, first, rank })
    }

    fn at(&self, text: Text<'_>, place: usize) -> Step {
        if text.before(place).is_some_and(is_part) {
            return Step::No;
        }
        let mut state = self.first;
        // The longest that a pattern has found.
        let mut best: Option<usize> = None;
        let mut matched = |end: usize| {
            let alone = !text.bytes.get(end).copied().is_some_and(is_part);
            // What stands in documentation: sk-xxxxxxxx.
            let is_filled = entropy(text.slice(place.midpoint(end), end)) < 1.5;
            if (alone || end - place >= LONGEST) && !is_filled {
                best = best.max(Some(end));
            }
        };
        for (end, byte) in text.bytes.iter().enumerate().skip(place) {
            state = self.table.next_state(state, *byte);
            if self.table.is_match_state(state) {
                matched(end);
            } else if self.table.is_dead_state(state) {
                return best.map_or(Step::No, Step::Found);
            }
            if end - place >= LONGEST {
                return best.map_or(Step::No, |end| Step::Runs(end, Tail::Token));
            }
        }
        if !text.last {
            return Step::More;
        }
        state = self.table.next_eoi_state(state);
        if self.table.is_match_state(state) {
            matched(text.bytes.len());
        }
        best.map_or(Step::No, Step::Found)
    }
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_few_and_tell_something() {
        let prefixes = prefixes().expect("the table holds");
        assert!(prefixes.len() < 192, "{}", prefixes.len());
        let short: Vec<_> = prefixes.iter().filter(|prefix| prefix.len() < 3).collect();
        assert!(short.is_empty(), "a literal of two letters is met everywhere: {short:?}");
    }
}
