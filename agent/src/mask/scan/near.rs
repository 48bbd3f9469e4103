//! Words that must stand before a value.

use aho_corasick::automaton::Automaton as _;
use aho_corasick::{Anchored, BuildError, StartKind, dfa};

use crate::mask::detect::{NEAR, Text};

/// Lists of words, and which of them are met before a place.
pub struct Near {
    words: dfa::DFA,
    /// Which lists each word is in, a bit each.
    lists: Vec<u64>,
}

/// Most lists of a set.
pub const LISTS: usize = 64;

impl Near {
    /// `None` where there is no list.
    ///
    /// # Errors
    /// More words than the table has numbers for.
    pub fn new(lists: &[&[&str]]) -> Result<Option<Self>, BuildError> {
        let mut all: Vec<(Vec<u8>, u64)> = Vec::new();
        for (bit, list) in lists.iter().enumerate() {
            all.extend(list.iter().map(|word| (word.bytes().filter(|b| is_part(*b)).collect(), 1 << bit)));
        }
        if all.is_empty() {
            return Ok(None);
        }
        let (words, lists): (Vec<Vec<u8>>, Vec<u64>) = all.into_iter().unzip();
        Ok(Some(Self { words: dfa::Builder::new().start_kind(StartKind::Unanchored).build(words)?, lists }))
    }

    /// The lists of which a word stands in the [`NEAR`] bytes before a place.
    pub fn before(&self, text: Text<'_>, at: usize) -> u64 {
        let window = &text.bytes[at.saturating_sub(NEAR)..at];
        let Ok(mut state) = self.words.start_state(Anchored::No) else { return 0 };
        // Letters and digits alone count, small. `begins`: a bit for each at which a word may begin.
        let (mut begins, mut length, mut parted, mut previous) = (0u128, 0, at <= NEAR, b' ');
        let (mut lists, mut ended) = (0, 0);
        for byte in window {
            if is_part(*byte) {
                let hump = byte.is_ascii_uppercase() && !previous.is_ascii_uppercase();
                if parted || hump || byte.is_ascii_digit() != previous.is_ascii_digit() {
                    begins |= 1 << length;
                    lists |= ended;
                }
                length += 1;
                state = self.words.next_state(Anchored::No, state, byte.to_ascii_lowercase());
                ended = if self.words.is_special(state) && self.words.is_match(state) {
                    self.matched(state, length, begins)
                } else {
                    0
                };
                parted = false;
            } else {
                parted = true;
            }
            previous = *byte;
        }
        lists | ended
    }

    /// The lists of the words that end here and have begun where one may.
    fn matched(&self, state: aho_corasick::automaton::StateID, end: usize, begins: u128) -> u64 {
        let words = (0..self.words.match_len(state)).map(|at| self.words.match_pattern(state, at));
        let begun = words.filter(|word| begins >> (end - self.words.pattern_len(*word)) & 1 == 1);
        begun.fold(0, |lists, word| lists | self.lists[word.as_usize()])
    }
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte > 127
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_every_spelling() {
        let near = Near::new(&[&["date of birth", "dob"], &["sin"]]).expect("small").expect("some");
        let before = |text: &str| near.before(Text { bytes: text.as_bytes(), last: true }, text.len());
        for text in ["Date of birth: ", "date_of_birth=", "dateOfBirth\":\"", "user DOB ", "userDob: "] {
            assert_eq!(before(text), 1, "{text}");
        }
        for text in ["using ", "sinus ", "business-", "adobe "] {
            assert_eq!(before(text), 0, "{text}");
        }
        assert_eq!(before("sin "), 2);
        assert_eq!(before(&format!("sin {}", "x ".repeat(40))), 0);
    }
}
