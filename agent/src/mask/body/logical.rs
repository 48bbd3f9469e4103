//! One logical text of a body: what a reader would see in one place, whatever pieces it comes in. Values and tokens are found in
//! it, and become edits in its order that do not overlap.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::Env;
use crate::mask::replace::{self, Replacement};
use crate::mask::restore::{Restore, Restored};
use crate::mask::{Found, Stream};

/// What is to stand in place of a range of a text.
pub struct Edit {
    /// Where it begins, in bytes from the beginning of the text.
    pub from: u64,
    /// Where it ends.
    pub end: u64,
    /// What is written.
    pub what: What,
    /// Whether that was done: the range may go on in another piece.
    pub written: bool,
}

/// What is written in place of a range.
pub enum What {
    /// A value's replacement.
    Hide {
        /// Who has found it.
        detector: Box<str>,
        /// What was found.
        value: Zeroizing<Vec<u8>>,
        /// Whether that is its beginning only: no token can bring it back.
        runs: bool,
    },
    /// What a token stands for.
    Restore(Zeroizing<Vec<u8>>),
    /// Nothing: the rest of a value whose replacement was written.
    Nothing(Zeroizing<Vec<u8>>),
}

/// Fewest letters and digits of a part of a value that is hidden, where a token is the rest.
const LEAST: usize = 4;

impl Edit {
    /// Whether a token stands there.
    pub fn is_restore(&self) -> bool {
        matches!(self.what, What::Restore(_))
    }

    /// A part of what is hidden, where another edit covers the rest. `None`: it holds hardly a letter or digit, as what stands between
    /// two tokens that were taken for one value, and may stay. `leads`: what replaces the value is written here.
    fn part(&self, from: u64, end: u64, leads: bool) -> Option<Self> {
        let slice = |value: &[u8]| {
            let part = &value[(from - self.from) as usize..(end - self.from) as usize];
            let letters = part.iter().filter(|b| b.is_ascii_alphanumeric() || **b > 127).count();
            (letters >= LEAST).then(|| Zeroizing::new(part.to_vec()))
        };
        let what = match &self.what {
            What::Hide { detector, value, runs } if leads => {
                What::Hide { detector: detector.clone(), value: slice(value)?, runs: *runs }
            }
            What::Hide { value, .. } | What::Nothing(value) => What::Nothing(slice(value)?),
            What::Restore(value) => What::Restore(value.clone()),
        };
        Some(Self { from, end, what, written: self.written })
    }

    /// Whether what stands there is hidden by as many stars; counts it.
    pub fn stars(&mut self, env: &mut Env<'_>) -> bool {
        if let What::Hide { detector, .. } = &self.what
            && !std::mem::replace(&mut self.written, true)
        {
            env.counts.add(detector);
        }
        !self.is_restore()
    }

    /// What is written, in no spelling yet.
    pub fn text(&self, env: &mut Env<'_>) -> Zeroizing<Vec<u8>> {
        match &self.what {
            What::Nothing(_) => Zeroizing::default(),
            What::Restore(value) => value.clone(),
            What::Hide { detector, value, runs } => {
                let with = env.plan.map_or(Replacement::Redact, |plan| plan.with(detector));
                let with = if *runs && with == Replacement::Token { Replacement::Redact } else { with };
                env.replaced(detector, value, with)
            }
        }
    }
}

/// Searches one text.
#[derive(Default)]
pub struct Logical {
    stream: Stream,
    restore: Restore,
    hides: VecDeque<Edit>,
    restores: VecDeque<Edit>,
    /// Those that are sure, in order.
    pub edits: VecDeque<Edit>,
    /// How much has come, how much is settled, how much was written.
    pub fed: u64,
    pub settled: u64,
    pub passed: u64,
    /// Where the text has begun that is searched: it may have been ended before its time.
    origin: u64,
    /// Whether more has come than was searched.
    pub dirty: bool,
    /// Which text it is, of those that come in pieces of events; and the event that had the last.
    pub key: u64,
    pub event: u64,
}

impl Logical {
    /// What stands before the text, as context.
    pub fn begin(&mut self, before: &[u8]) {
        self.stream.begin(before);
    }

    /// Takes what has come.
    pub fn add(&mut self, env_hides: bool, env_restores: bool, text: &[u8]) {
        if env_hides {
            self.stream.add(text);
        }
        if env_restores {
            self.restore.add(text);
        }
        self.fed += text.len() as u64;
        self.dirty |= !text.is_empty();
    }

    /// Searches what has come. `last`: the text has ended.
    pub fn search(&mut self, env: &Env<'_>, last: bool) {
        let (mut hidden, mut restored, origin) = (self.fed, self.fed, self.origin);
        if let Some(plan) = env.plan {
            let hides = &mut self.hides;
            let mut note = |found: Found<'_>| {
                let token = env.scope.tokens().holds(found.value);
                let value = Zeroizing::new(found.value.to_vec());
                let what = if found.continues {
                    What::Nothing(value)
                } else {
                    What::Hide { detector: found.detector.into(), value, runs: found.runs }
                };
                if !token {
                    let (from, end) = (origin + found.from, origin + found.end);
                    hides.push_back(Edit { from, end, what, written: false });
                }
            };
            if last {
                self.stream.end(&plan.set, &mut note);
            } else {
                hidden = origin + self.stream.search(&plan.set, &mut note);
            }
        }
        if env.restores {
            let restores = &mut self.restores;
            let mut note = |found: Restored<'_>| {
                let what = What::Restore(Zeroizing::new(found.value.to_vec()));
                let (from, end) = (origin + found.from, origin + found.end);
                restores.push_back(Edit { from, end, what, written: false });
            };
            if last {
                self.restore.end(&env.scope.tokens(), &mut note);
            } else {
                restored = origin + self.restore.search(&env.scope.tokens(), &mut note);
            }
        }
        self.dirty = false;
        self.settled = if last { self.fed } else { hidden.min(restored) };
        self.origin = if last { self.fed } else { origin };
        self.merge(if last { self.fed } else { restored }, last);
    }

    /// Orders what both have found as far as it is settled: what a token stands for is not hidden again. `restored`: tokens that begin
    /// before this are known; a value that goes on behind it has to wait.
    fn merge(&mut self, restored: u64, last: bool) {
        loop {
            let (hide, restore) = (self.hides.front(), self.restores.front());
            let restores_next = match (hide, restore) {
                (None, None) => return,
                (Some(hide), Some(restore)) => restore.from <= hide.from,
                (hide, _) => hide.is_none(),
            };
            let queue = if restores_next { &self.restores } else { &self.hides };
            if !last && queue.front().is_none_or(|edit| edit.from >= self.settled) {
                return;
            }
            if let Some(hide) = self.hides.front().filter(|_| !restores_next && !last) {
                let waits = |token: &Edit| (self.settled..hide.end).contains(&token.from);
                if hide.end > restored || self.restores.iter().any(waits) {
                    self.settled = self.settled.min(hide.from);
                    return;
                }
            }
            let queue = if restores_next { &mut self.restores } else { &mut self.hides };
            if let Some(edit) = queue.pop_front() {
                self.place(edit);
            }
        }
    }

    fn place(&mut self, edit: Edit) {
        if self.edits.back().is_none_or(|back| back.end <= edit.from) {
            return self.edits.push_back(edit);
        }
        let Some(back) = self.edits.pop_back() else { return };
        if !edit.is_restore() {
            let rest = if edit.end > back.end { edit.part(back.end, edit.end, true) } else { None };
            self.edits.push_back(back);
            self.edits.extend(rest);
            return;
        }
        let before = if back.from < edit.from { back.part(back.from, edit.from, true) } else { None };
        let behind = if back.end > edit.end { back.part(edit.end, back.end, before.is_none()) } else { None };
        self.edits.extend(before);
        self.edits.push_back(edit);
        self.edits.extend(behind);
    }

    /// How many edits a text has that is there whole.
    pub fn finds(&mut self, text: &[u8], env: &Env<'_>) -> usize {
        self.renew(0);
        self.add(env.plan.is_some(), env.restores, text);
        self.search(env, true);
        self.edits.len()
    }

    /// A text that is there whole, with its edits. `None`: there are none.
    pub fn whole(&mut self, text: &[u8], env: &mut Env<'_>) -> Option<Vec<u8>> {
        self.finds(text, env);
        let (mut out, mut at) = (Vec::new(), 0);
        if self.edits.is_empty() {
            return None;
        }
        for edit in std::mem::take(&mut self.edits) {
            let (from, end) = (edit.from as usize, edit.end as usize);
            out.extend_from_slice(&text[at..from.max(at)]);
            out.extend_from_slice(&edit.text(env));
            at = end;
        }
        out.extend_from_slice(&text[at..]);
        Some(out)
    }

    /// Whether something has come since it has begun, or was ended last.
    pub fn is_begun(&self) -> bool {
        self.fed > self.origin
    }

    /// Whether what says nothing, and is next, is a part of a value; `None`: what follows it tells.
    pub fn hides_silence(&self) -> Option<bool> {
        let ended = self.origin == self.passed;
        let hides = |edit: &Edit| {
            let goes_on = matches!(edit.what, What::Nothing(_));
            edit.end > self.passed && (edit.from < self.passed || (edit.from == self.passed && goes_on))
        };
        (ended || self.settled > self.passed)
            .then(|| self.edits.iter().find(|edit| edit.end > self.passed).is_some_and(hides))
    }

    /// Whether all that has come was written, and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.passed == self.fed && !self.dirty
    }

    /// As new, for another text.
    pub fn renew(&mut self, key: u64) {
        let stream = std::mem::take(&mut self.stream);
        *self = Self { stream, key, ..Self::default() };
        self.stream.begin(b"");
    }

    /// Gives back memory that a long piece has taken.
    pub fn shrink(&mut self) {
        self.stream.shrink();
        self.restore.shrink();
    }

    /// Bytes of memory that it has taken.
    pub fn memory(&self) -> usize {
        let values = |edits: &VecDeque<Edit>| {
            let values = edits.iter().map(|edit| match &edit.what {
                What::Hide { value, .. } | What::Restore(value) | What::Nothing(value) => value.len(),
            });
            edits.capacity() * size_of::<Edit>() + values.sum::<usize>()
        };
        self.stream.memory()
            + self.restore.memory()
            + values(&self.hides)
            + values(&self.restores)
            + values(&self.edits)
    }
}

/// Writes what replaces a value found as a whole, in no spelling yet; counts it, unless it stays.
impl Env<'_> {
    pub fn replaced(&mut self, detector: &str, value: &[u8], with: Replacement) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::new());
        let found =
            Found { detector, from: 0, end: value.len() as u64, value, continues: false, runs: false };
        replace::write(&found, with, &self.scope.key, Some(&mut self.scope.tokens()), &mut out);
        if out.as_slice() != value {
            self.counts.add(detector);
        }
        out
    }
}
