//! Detectors of a user's own: regular expressions and lists of words.

use regex::bytes::{Regex, RegexBuilder};
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, HirKind, Look, Repetition};

use super::Seen;
use super::words::{LONGEST, MOST, SHORTEST};
use crate::mask::detect::Text;

/// A detector of a user's own.
#[derive(Clone, Debug)]
pub enum Custom {
    /// A regular expression in the syntax of the `regex` crate: one that matches 1 to 1,024 bytes, and looks no further around
    /// than at word boundaries.
    Regex {
        /// What it is called.
        name: String,
        /// The expression.
        pattern: String,
    },
    /// Words that stand alone: 100,000 of 3 to 256 bytes at most.
    Words {
        /// What the list is called.
        name: String,
        /// The words.
        words: Vec<String>,
        /// Whether A and a (of ASCII) are the same.
        any_case: bool,
    },
}

/// A detector that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("detector {name}: {what}")]
pub struct CustomError {
    /// Which.
    pub name: String,
    /// What is wrong with it.
    pub what: String,
}

/// Longest match of an expression, in bytes.
const MATCH: usize = 1024;
/// Most memory of the table that tells at the end of what has come where a match may have begun.
const TABLE: usize = 4 << 20;
/// What a word boundary looks at, on either side: one character.
const AROUND: usize = 4;

/// An expression that is looked for.
pub struct Pattern {
    regex: Regex,
    /// Tells where a match may have begun. None, where that would take too much memory: as much as can matter is held back.
    begun: Option<dense::DFA<Vec<u32>>>,
    longest: usize,
}

impl Custom {
    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            Self::Regex { name, .. } | Self::Words { name, .. } => name,
        }
    }

    pub(super) fn error(&self, what: impl Into<String>) -> CustomError {
        CustomError { name: self.name().to_owned(), what: what.into() }
    }

    pub(super) fn check_words(&self, words: &[String]) -> Result<(), CustomError> {
        if words.len() > MOST {
            return Err(self.error(format!("{} words; {MOST} at most", words.len())));
        }
        match words.iter().find(|word| !(SHORTEST..=LONGEST).contains(&word.len())) {
            Some(word) => {
                Err(self.error(format!("{word:?}: a word of {SHORTEST} to {LONGEST} bytes, please")))
            }
            None => Ok(()),
        }
    }

    pub(super) fn pattern(&self, pattern: &str) -> Result<Pattern, CustomError> {
        let hir = regex_syntax::ParserBuilder::new()
            .utf8(true)
            .build()
            .parse(pattern)
            .map_err(|error| self.error(error.to_string()))?;
        let longest = self.bounds(&hir)?;
        let regex = RegexBuilder::new(pattern).size_limit(10 << 20).dfa_size_limit(2 << 20).build();
        let regex = regex.map_err(|error| self.error(error.to_string()))?;
        let begun = begun(&hir);
        Ok(Pattern { regex, begun, longest })
    }

    fn bounds(&self, hir: &Hir) -> Result<usize, CustomError> {
        let looks = hir.properties().look_set();
        let anchors = [Look::Start, Look::End, Look::StartLF, Look::EndLF, Look::StartCRLF, Look::EndCRLF];
        if anchors.iter().any(|anchor| looks.contains(*anchor)) {
            return Err(self.error("^, $, \\A and \\z mean nothing in a stream; \\b does"));
        }
        match (hir.properties().minimum_len(), hir.properties().maximum_len()) {
            (Some(1..), Some(longest)) if longest <= MATCH => Ok(longest),
            (None | Some(0), _) => Err(self.error("it matches nothing at all")),
            _ => Err(self.error(format!("it may match more than {MATCH} bytes; write {{1,50}} for + and *"))),
        }
    }
}

/// The table that tells where a match may have begun: what it looks at around it is not asked.
fn begun(hir: &Hir) -> Option<dense::DFA<Vec<u32>>> {
    let config = thompson::Config::new().utf8(false).nfa_size_limit(Some(TABLE));
    let nfa = thompson::Compiler::new().configure(config).build_from_hir(&without_looks(hir)).ok()?;
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .dfa_size_limit(Some(TABLE))
        .determinize_size_limit(Some(TABLE));
    dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()
}

fn without_looks(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Look(_) => Hir::empty(),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => hir.clone(),
        HirKind::Repetition(repeated) => {
            Hir::repetition(Repetition { sub: Box::new(without_looks(&repeated.sub)), ..repeated.clone() })
        }
        HirKind::Capture(group) => without_looks(&group.sub),
        HirKind::Concat(all) => Hir::concat(all.iter().map(without_looks).collect()),
        HirKind::Alternation(all) => Hir::alternation(all.iter().map(without_looks).collect()),
    }
}

impl Pattern {
    pub fn most_held(&self) -> usize {
        self.longest + AROUND
    }

    /// `next`: where the last match that counted has ended.
    pub fn find(&self, text: Text<'_>, from: usize, next: usize, rank: u16, seen: &mut Seen) {
        let mut next = next.max(from);
        // What begins before this is seen whole.
        let sure =
            if text.last { text.bytes.len() } else { text.bytes.len().saturating_sub(self.most_held()) };
        while next < sure {
            let found = self.regex.find_at(text.bytes, next).filter(|found| found.start() < sure);
            let Some(found) = found else { break };
            seen.hit(found.start(), found.end(), rank);
            next = found.end();
        }
        if !text.last {
            seen.open.extend((next.max(sure)..text.bytes.len()).filter(|at| self.may_begin(text.bytes, *at)));
        }
    }

    /// Whether a match may begin at a place: none has ended, for sure, before the end of what is there.
    fn may_begin(&self, bytes: &[u8], at: usize) -> bool {
        let Some(dfa) = &self.begun else { return true };
        let input = Input::new(bytes).range(at..).anchored(Anchored::Yes);
        let Ok(mut state) = dfa.start_state_forward(&input) else { return true };
        for byte in &bytes[at..] {
            state = dfa.next_state(state, *byte);
            // A match is as good as an open end: what follows may make it longer, or be looked at.
            if dfa.is_special_state(state)
                && (dfa.is_dead_state(state) || dfa.is_match_state(state) || dfa.is_quit_state(state))
            {
                return !dfa.is_dead_state(state);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_bound_is_refused() {
        let custom = |pattern: &str| Custom::Regex { name: "own".into(), pattern: pattern.into() };
        for pattern in ["a+", "^abc", "abc$", "a*", "(", r"x.*", "a{2000}", r"(?m)^x", "(?:a{100}){100}"] {
            assert!(custom(pattern).pattern(pattern).is_err(), "{pattern}");
        }
        for pattern in ["EMP-[0-9]{6}", r"\bproject [a-z]{1,20}\b", "(?i)straße", r"[\w.]{1,64}x"] {
            assert!(custom(pattern).pattern(pattern).is_ok(), "{pattern}");
        }
    }
}
