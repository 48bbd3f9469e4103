//! Values that go as a whole because of the field that they stand in. Their bytes are not kept, however many come: what is needed to
//! replace them is.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::spell::{Spell, spell};
use super::{Env, number};
use crate::mask::replace::Replacement;
use crate::mask::tokens::LONGEST;

/// How a value that goes as a whole stood there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stood {
    /// As text, in a spelling.
    Text(Spell),
    /// As a number, or `true` or `false`, of JSON.
    Scalar,
    /// As an object or array of JSON.
    Container,
}

/// The value that is on its way out, and what replaces those before it.
#[derive(Default)]
pub struct Swap {
    open: Option<Open>,
    done: VecDeque<Done>,
}

struct Done {
    what: Zeroizing<Vec<u8>>,
    /// What came, where that is a token.
    came: Option<Vec<u8>>,
}

struct Open {
    name: Box<str>,
    with: Replacement,
    stood: Stood,
    /// Its first bytes: one more than a token may stand for.
    value: Zeroizing<Vec<u8>>,
}

impl Swap {
    /// A value begins.
    pub fn begin(&mut self, name: &str, with: Replacement, stood: Stood) {
        self.open = Some(Open { name: name.into(), with, stood, value: Zeroizing::default() });
    }

    /// How the value stands that is on its way out.
    pub fn open(&self) -> Option<Stood> {
        self.open.as_ref().map(|open| open.stood)
    }

    /// More of it.
    pub fn add(&mut self, text: &[u8]) {
        if let Some(open) = &mut self.open {
            let room = (LONGEST + 1).saturating_sub(open.value.len());
            let text = &text[..text.len().min(room)];
            if open.value.capacity() < open.value.len() + text.len() {
                let more = text.len().max(open.value.len()).max(64);
                let mut roomy = Zeroizing::new(Vec::with_capacity(open.value.len() + more));
                roomy.extend_from_slice(&open.value);
                open.value = roomy;
            }
            open.value.extend_from_slice(text);
        }
    }

    /// It has ended.
    pub fn end(&mut self, latin1: bool, env: &mut Env<'_>) {
        if let Some(open) = self.open.take() {
            self.done.push_back(open.written(latin1, env));
        }
    }

    /// Writes what replaces the value that the first piece of all is. Whether that is known.
    pub fn write_front(&mut self, env: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
        let Some(Done { what, came }) = self.done.pop_front() else { return false };
        let from = out.len();
        out.extend_from_slice(&what);
        if let Some(came) = came {
            env.stood(from, out.len(), &came);
        }
        true
    }

    /// Bytes of memory that it has taken.
    pub fn memory(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.value.capacity())
            + self.done.iter().map(|done| done.what.capacity()).sum::<usize>()
    }
}

impl Open {
    fn written(&self, latin1: bool, env: &mut Env<'_>) -> Done {
        let known = env.scope.tokens().value(&self.value).map(|value| Zeroizing::new(value.to_vec()));
        let mut came = None;
        let what = match known {
            Some(value) if env.restores => {
                came = Some(self.spelt(&self.value, latin1).to_vec());
                value
            }
            Some(_) => self.value.clone(),
            None if self.value.is_empty() => Zeroizing::default(),
            None => self.replaced(env),
        };
        Done { what: self.spelt(&what, latin1), came }
    }

    fn spelt(&self, what: &[u8], latin1: bool) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::new());
        match self.stood {
            Stood::Text(how) => spell(what, how, latin1, &mut out),
            Stood::Scalar | Stood::Container => number::scalar(what, &mut out),
        }
        out
    }

    fn replaced(&self, env: &mut Env<'_>) -> Zeroizing<Vec<u8>> {
        let with = match self.with {
            // The last four of what has no end in memory are not known; those of an object are no letters.
            Replacement::Partial if self.value.len() > LONGEST || self.stood == Stood::Container => {
                Replacement::Redact
            }
            with => with,
        };
        if self.stood == Stood::Scalar && with == Replacement::Token {
            return number::as_number(&self.name, &self.value, &self.value, env);
        }
        env.replaced(&self.name, &self.value, with)
    }
}
