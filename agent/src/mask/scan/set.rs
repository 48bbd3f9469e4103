//! A set of detectors, made ready.

use aho_corasick::BuildError;
use memchr::memchr_iter;
use regex_automata::dfa::dense;

use super::custom::{Custom, CustomError, Pattern};
use super::digit::{self, Digits};
use super::literal::{self, Literals};
use super::near::{LISTS, Near};
use super::words::Words;
use super::{Hit, Seen};
use crate::mask::detect::{Around, Begin, Detector, Shape, Step, Text, email_may_begin};

/// What makes no set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// A detector of the user's own.
    #[error("a detector of one's own")]
    Custom(#[from] CustomError),
    /// A key of the table without a beginning to look for.
    #[error("the key {0} begins with nothing that could be looked for")]
    Key(String),
    /// Too many, or none that the machine can look for.
    #[error("literals that cannot be looked for")]
    Literals,
    /// A table of patterns.
    #[error("the table of patterns")]
    Table(#[source] Box<dense::BuildError>),
    /// A list of words.
    #[error("the words that stand near values")]
    Near(#[source] BuildError),
    /// More than the set has numbers for.
    #[error("too many detectors or lists of words")]
    Many,
}

/// Detectors that look together. Made once, shared by all streams; `most_held` bytes of each stream wait at most.
pub struct Set {
    names: Vec<String>,
    near: Option<Near>,
    digits: Option<Digits>,
    literals: Option<Literals>,
    around_at: Vec<(Around, u16)>,
    patterns: Vec<(Pattern, u16)>,
    words: Vec<(Words, u16)>,
}

/// What the functions of detectors look ahead at most: a secret behind a name.
const AHEAD: usize = 544;

#[derive(Default)]
struct Parts {
    lists: Vec<&'static [&'static str]>,
    patterns: Vec<digit::Pattern>,
    literals: Vec<(&'static [&'static str], Around, u16)>,
    at: Vec<(Around, u16)>,
    keys: Option<u16>,
}

impl Parts {
    fn list(&mut self, words: &'static [&'static str]) -> Option<u32> {
        if words.is_empty() {
            return None;
        }
        let known = self.lists.iter().position(|list| std::ptr::eq(*list, words));
        Some(known.unwrap_or_else(|| {
            self.lists.push(words);
            self.lists.len() - 1
        }) as u32)
    }

    fn add(&mut self, shape: &'static Shape, rank: u16) {
        let near = self.list(shape.near);
        match shape.begin {
            Begin::Digit(pattern) => {
                self.patterns.push(digit::Pattern { pattern, shape, rank, near, by: None })
            }
            Begin::DigitBy(pattern, matcher) => {
                self.patterns.push(digit::Pattern { pattern, shape, rank, near, by: Some(matcher) });
            }
            Begin::Literal(texts, around) => self.literals.push((texts, around, rank)),
            Begin::At(around) => self.at.push((around, rank)),
            Begin::Keys => self.keys = Some(rank),
        }
    }
}

impl Set {
    /// Makes detectors ready: the user's own first, then those given, in this order where two find the same bytes.
    ///
    /// # Errors
    /// [`SetError`]: an expression or list of the user's own that is out of bounds, or more than fits.
    pub fn compile<'a>(
        detectors: impl IntoIterator<Item = &'static Detector>,
        custom: impl IntoIterator<Item = &'a Custom>,
    ) -> Result<Self, SetError> {
        let (mut names, mut patterns, mut words) = (Vec::new(), Vec::new(), Vec::new());
        let rank = |names: &Vec<String>| u16::try_from(names.len()).map_err(|_| SetError::Many);
        for custom in custom {
            match custom {
                Custom::Regex { pattern, .. } => patterns.push((custom.pattern(pattern)?, rank(&names)?)),
                Custom::Words { words: list, any_case, .. } => {
                    custom.check_words(list)?;
                    words.push((
                        Words::new(list.iter().map(|word| word.clone().into_bytes()), *any_case),
                        rank(&names)?,
                    ));
                }
            }
            names.push(custom.name().to_owned());
        }
        let mut parts = Parts::default();
        for detector in detectors {
            let rank = rank(&names)?;
            names.push(detector.name.to_owned());
            detector.shapes.iter().for_each(|shape| parts.add(shape, rank));
        }
        if parts.lists.len() > LISTS {
            return Err(SetError::Many);
        }
        let near = Near::new(&parts.lists).map_err(SetError::Near)?;
        let has_digits = !parts.patterns.is_empty();
        let digits = has_digits.then(|| Digits::new(parts.patterns)).transpose().map_err(SetError::Table)?;
        let has_literals = !parts.literals.is_empty() || parts.keys.is_some();
        let literals = has_literals.then(|| Literals::new(&parts.literals, parts.keys)).transpose()?;
        Ok(Self { names, near, digits, literals, around_at: parts.at, patterns, words })
    }

    /// The name of the detector that has found something.
    pub(super) fn name(&self, hit: &Hit) -> &str {
        &self.names[usize::from(hit.rank)]
    }

    /// The most bytes of a stream that wait for more.
    pub fn most_held(&self) -> usize {
        let words = self.words.iter().map(|(words, _)| words.most_held());
        let patterns = self.patterns.iter().map(|(pattern, _)| pattern.most_held());
        let literals = self.literals.iter().map(|_| literal::LONGEST + AHEAD);
        words.chain(patterns).chain(literals).chain([AHEAD]).max().unwrap_or(0)
    }

    /// Bytes of the largest table.
    pub fn table(&self) -> usize {
        self.digits.as_ref().map_or(0, Digits::memory)
    }

    /// How many expressions have a place of their own in a stream.
    pub(super) fn patterns(&self) -> impl Iterator<Item = u16> {
        self.patterns.iter().map(|(_, rank)| *rank)
    }

    /// What begins at `from` or behind it. `next`: where each expression's last match has ended.
    pub(super) fn find(&self, text: Text<'_>, from: usize, next: &[usize]) -> Seen {
        let mut seen = Seen::default();
        if let Some(literals) = &self.literals {
            literals.find(text, from, &mut seen);
        }
        if let Some(digits) = &self.digits {
            digits.find(text, from, self.near.as_ref(), &mut seen);
        }
        self.at_signs(text, from, &mut seen);
        for (words, rank) in &self.words {
            words.find(text, from, *rank, &mut seen);
        }
        self.find_patterns(text, from, next, &mut seen);
        seen
    }

    /// Whether nothing begins at `from` or behind it, in a text that is there whole. What stands before is context.
    pub fn finds_nothing(&self, text: &[u8], from: usize) -> bool {
        let text = Text { bytes: text, last: true };
        self.find(text, from, &vec![from; self.patterns.len()]).hits.is_empty()
    }

    /// As [`Set::find`], the user's own expressions alone.
    pub(super) fn find_patterns(&self, text: Text<'_>, from: usize, next: &[usize], seen: &mut Seen) {
        for ((pattern, rank), next) in self.patterns.iter().zip(next) {
            pattern.find(text, from, *next, *rank, seen);
        }
    }

    pub(super) fn is_pattern(&self, rank: u16) -> bool {
        self.patterns.iter().any(|(_, other)| *other == rank)
    }

    fn at_signs(&self, text: Text<'_>, from: usize, seen: &mut Seen) {
        let mut note = |found: Option<(usize, Step)>, rank: u16| {
            if let Some((place, step)) = found.filter(|(place, _)| *place >= from) {
                seen.note(place, step, rank);
            }
        };
        for (around, rank) in &self.around_at {
            memchr_iter(b'@', &text.bytes[from..]).for_each(|at| note(around(text, from + at), *rank));
            if !text.last
                && let Some(place) = email_may_begin(text)
            {
                note(Some((place, Step::More)), *rank);
            }
        }
    }
}
