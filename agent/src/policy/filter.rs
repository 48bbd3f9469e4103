//! Filters of prompts: literal lists and regular expressions, bounded when they are read and linear when they run.

use aho_corasick::AhoCorasick;
use regex::{RegexBuilder, RegexSet, RegexSetBuilder};

use super::facts::Facts;
use super::judge::Key;
use super::known::Known;
use super::when::Mistake;

/// Words of one rule, bytes of a word, and of all.
const WORDS: usize = 10_000;
const WORD: usize = 1024;
const WORDS_BYTES: usize = 1 << 20;
/// Patterns of one rule, bytes that one may take compiled, and all of them.
const PATTERNS: usize = 200;
const PATTERN: usize = 256 << 10;
const PATTERNS_BYTES: usize = 8 << 20;

/// What a rule looks for in prompts; it matches every request where it looks for nothing.
#[derive(Debug, Default)]
pub(super) struct Filter {
    words: Option<AhoCorasick>,
    patterns: Option<RegexSet>,
}

impl Filter {
    /// Makes it ready; tells `wrong` of every mistake, whose place is the entry's number in its list.
    pub fn compile(words: &[String], patterns: &[String], mut wrong: impl FnMut(Key, Mistake)) -> Self {
        let words = self::words(words, |at, what| wrong("prompt_words", Mistake { at, what }));
        let patterns = self::patterns(patterns, |at, what| wrong("prompt_patterns", Mistake { at, what }));
        Self { words, patterns }
    }

    /// Whether one of the words is in the prompt.
    pub fn words(&self, facts: &Facts<'_>, max: u64) -> Known {
        let Some(words) = &self.words else { return Known::Yes };
        Known::from(facts.folded_prompt(max).map(|prompt| words.is_match(prompt)))
    }

    /// Whether one of the patterns matches the prompt.
    pub fn patterns(&self, facts: &Facts<'_>, max: u64) -> Known {
        let Some(patterns) = &self.patterns else { return Known::Yes };
        Known::from(facts.prompt(max).map(|prompt| patterns.is_match(prompt)))
    }
}

fn words(words: &[String], mut wrong: impl FnMut(usize, String)) -> Option<AhoCorasick> {
    if words.is_empty() {
        return None;
    }
    if words.len() > WORDS || words.iter().map(String::len).sum::<usize>() > WORDS_BYTES {
        wrong(0, format!("more than {WORDS} words, or {WORDS_BYTES} bytes of them"));
        return None;
    }
    for (at, word) in words.iter().enumerate() {
        if word.trim().is_empty() || word.len() > WORD {
            wrong(at, format!("a word is empty, or longer than {WORD} bytes"));
        }
    }
    let built = AhoCorasick::new(words.iter().map(|word| word.to_lowercase()));
    built.map_err(|error| wrong(0, format!("the words cannot be used: {error}"))).ok()
}

fn patterns(patterns: &[String], mut wrong: impl FnMut(usize, String)) -> Option<RegexSet> {
    if patterns.is_empty() {
        return None;
    }
    if patterns.len() > PATTERNS {
        wrong(0, format!("more than {PATTERNS} patterns"));
        return None;
    }
    let mut good = true;
    for (at, pattern) in patterns.iter().enumerate() {
        let built =
            RegexBuilder::new(pattern).size_limit(PATTERN).dfa_size_limit(PATTERN).nest_limit(32).build();
        let empty = built.as_ref().is_ok_and(|pattern| pattern.is_match(""));
        match built {
            Ok(_) if empty => wrong(at, "a pattern matches every prompt, also the empty one".to_owned()),
            Ok(_) => continue,
            Err(error) => {
                let error = error.to_string();
                let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                wrong(at, format!("the pattern cannot be used: {last}"));
            }
        }
        good = false;
    }
    let mut set = RegexSetBuilder::new(patterns);
    let built = set.size_limit(PATTERNS_BYTES).dfa_size_limit(PATTERNS_BYTES).nest_limit(32).build();
    match built {
        Ok(set) => Some(set),
        Err(error) => {
            if good {
                wrong(0, format!("the patterns cannot be used together: {error}"));
            }
            None
        }
    }
}

/// What is wrong with a rule's prompt filters; a mistake's place is the entry's number in the list of its key.
pub fn prompt_mistakes(words: &[String], patterns: &[String]) -> Vec<(Key, Mistake)> {
    let mut wrong = Vec::new();
    Filter::compile(words, patterns, |key, mistake| wrong.push((key, mistake)));
    wrong
}
