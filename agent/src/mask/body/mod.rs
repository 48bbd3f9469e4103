//! One body in one direction: values are hidden behind what replaces them, tokens are followed by what they stand for. What comes
//! out depends on the whole body, never on its cuts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::replace;
use super::restore::Restore;
use super::{Found, Kind, Plan, Refused, Scope, Stream};

/// How many values were replaced, by the name of the detector or field. Never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// One more.
    pub fn add(&mut self, detector: &str) {
        match self.0.get_mut(detector) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(detector.to_owned(), 1)),
        }
    }

    /// Those of another.
    pub fn merge(&mut self, other: &Self) {
        for (detector, count) in &other.0 {
            *self.0.entry(detector.clone()).or_default() += count;
        }
    }

    /// Names, and how many.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(detector, count)| (detector.as_str(), *count))
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// How a short text is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As it stands: the value of a header or trailer, the text of a message.
    Header,
    /// A query: names and values, percent-encoded.
    Query,
    /// A path, percent-encoded.
    Path,
}

struct Edit {
    from: u64,
    end: u64,
    what: Zeroizing<Vec<u8>>,
}

/// One body on its way.
pub struct Body {
    plan: Option<Arc<Plan>>,
    scope: Arc<Scope>,
    restore: Option<Restore>,
    stream: Stream,
    raw: Vec<u8>,
    base: u64,
    edits: VecDeque<Edit>,
    counts: Counts,
}

impl Body {
    /// Values are hidden: a request on its way out, an answer that is masked.
    pub fn hiding(plan: Arc<Plan>, scope: Arc<Scope>, kind: Kind) -> Self {
        Self::new(Some(plan), scope, false, kind)
    }

    /// Tokens of the scope are followed by what they stand for: an answer on its way to the job.
    pub fn restoring(scope: Arc<Scope>, kind: Kind) -> Self {
        Self::new(None, scope, true, kind)
    }

    /// Both at once. What a token stands for is not hidden again.
    pub fn both(plan: Arc<Plan>, scope: Arc<Scope>, kind: Kind) -> Self {
        Self::new(Some(plan), scope, true, kind)
    }

    fn new(plan: Option<Arc<Plan>>, scope: Arc<Scope>, restores: bool, _kind: Kind) -> Self {
        Self {
            plan,
            scope,
            restore: restores.then(Restore::default),
            stream: Stream::default(),
            raw: Vec::new(),
            base: 0,
            edits: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Takes what has come, and appends to `out` what may be passed on.
    ///
    /// # Errors
    /// [`Refused`]: the body cannot be masked. Nothing more may be passed on; the body is to be dropped.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        self.raw.extend_from_slice(bytes);
        let settled = self.search(bytes, false);
        self.write(settled, out);
        Ok(())
    }

    /// The body has ended: appends the rest to `out`.
    ///
    /// # Errors
    /// [`Refused`]: as [`Body::push`].
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Refused> {
        let settled = self.search(b"", true);
        self.write(settled, out);
        Ok(())
    }

    /// What was hidden so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many bytes of the body wait.
    pub fn held(&self) -> usize {
        self.raw.len()
    }

    fn search(&mut self, bytes: &[u8], last: bool) -> u64 {
        let mut settled = self.base + self.raw.len() as u64;
        let (edits, counts, scope) = (&mut self.edits, &mut self.counts, &self.scope);
        if let Some(plan) = &self.plan {
            let mut note = |found: Found<'_>| {
                let mut what = Zeroizing::new(Vec::new());
                replace::write(
                    &found,
                    plan.with(found.detector),
                    &scope.key,
                    Some(&mut scope.tokens()),
                    &mut what,
                );
                if what.as_slice() != found.value {
                    counts.add(found.detector);
                    edits.push_back(Edit { from: found.from, end: found.end, what });
                }
            };
            if last {
                self.stream.end(&plan.set, &mut note);
            } else {
                settled = self.stream.push(&plan.set, bytes, &mut note);
            }
        }
        if let Some(restore) = &mut self.restore {
            let mut note = |found: super::restore::Restored<'_>| {
                edits.push_back(Edit {
                    from: found.from,
                    end: found.end,
                    what: Zeroizing::new(found.value.to_vec()),
                });
            };
            if last {
                restore.end(&scope.tokens(), &mut note);
            } else {
                settled = settled.min(restore.push(&scope.tokens(), bytes, &mut note));
            }
        }
        self.edits.make_contiguous().sort_by_key(|edit| edit.from);
        settled
    }

    fn write(&mut self, settled: u64, out: &mut Vec<u8>) {
        let mut at = self.base;
        let place = |at: u64, base: u64| (at - base) as usize;
        while let Some(edit) = self.edits.front().filter(|edit| edit.end <= settled) {
            out.extend_from_slice(&self.raw[place(at, self.base)..place(edit.from.max(at), self.base)]);
            out.extend_from_slice(&edit.what);
            at = edit.end;
            self.edits.pop_front();
        }
        let until = self.edits.front().map_or(settled, |edit| edit.from.min(settled)).max(at);
        out.extend_from_slice(&self.raw[place(at, self.base)..place(until, self.base)]);
        self.raw.drain(..place(until, self.base));
        self.base = until;
    }
}

/// Hides what is found in a short text that is there whole: the value of a header, a query, a path. `name`: the header's name;
/// `None`: nothing was found.
pub fn text(
    plan: &Arc<Plan>,
    scope: &Arc<Scope>,
    spelling: Spelling,
    name: Option<&str>,
    value: &[u8],
    counts: &mut Counts,
) -> Option<Vec<u8>> {
    let _ = (spelling, name);
    let (mut body, mut out) = (Body::hiding(plan.clone(), scope.clone(), Kind::Opaque), Vec::new());
    body.push(value, &mut out).and_then(|()| body.end(&mut out)).ok()?;
    counts.merge(body.counts());
    (out != value).then_some(out)
}

/// Follows the tokens in a short text of an answer. `None`: there was none.
pub fn restored(scope: &Arc<Scope>, spelling: Spelling, value: &[u8]) -> Option<Vec<u8>> {
    let _ = spelling;
    let (mut body, mut out) = (Body::restoring(scope.clone(), Kind::Opaque), Vec::new());
    body.push(value, &mut out).and_then(|()| body.end(&mut out)).ok()?;
    (out != value).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{Binary, Custom, Mask, Replacement};

    fn plan(with: Replacement) -> Arc<Plan> {
        let mask = Mask {
            name: "pii".into(),
            detect: vec!["default".into()],
            custom: vec![
                Custom::Regex { name: "staff".into(), pattern: r"\bEMP-[0-9]{4,9}\b".into() },
                Custom::Words { name: "towns".into(), words: vec!["New York".into()], any_case: true },
            ],
            json: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            form: Vec::new(),
            multipart: Vec::new(),
            attributes: Vec::new(),
            with,
            binary: Binary::Pass,
        };
        Arc::new(Plan::compile(&[mask]).expect("a plan"))
    }

    fn through(mut body: Body, text: &[u8], cut: usize) -> String {
        let mut out = Vec::new();
        for piece in text.chunks(cut) {
            body.push(piece, &mut out).expect("text");
        }
        body.end(&mut out).expect("text");
        String::from_utf8(out).expect("text stays text")
    }

    #[test]
    fn plain_text_there_and_back() {
        let text = "Write to jane@corp.test of new york, EMP-12345, card 4111 1111 1111 1111.";
        let scope = Arc::new(Scope::new([7; 32]));
        for cut in [1, 2, 5, 17, text.len()] {
            let redacted = through(
                Body::hiding(plan(Replacement::Redact), scope.clone(), Kind::Text),
                text.as_bytes(),
                cut,
            );
            assert_eq!(redacted, "Write to [email] of [towns], [staff], card [card].", "cut {cut}");
            if cut > 3 {
                continue;
            }
            let plan = plan(Replacement::Token);
            let hidden = through(Body::hiding(plan.clone(), scope.clone(), Kind::Text), text.as_bytes(), cut);
            assert!(!hidden.contains("jane") && !hidden.contains("4111 1111"), "{hidden}");
            let back = through(Body::restoring(scope.clone(), Kind::Text), hidden.as_bytes(), cut);
            assert_eq!(back, text);
            let both = through(Body::both(plan, scope.clone(), Kind::Text), hidden.as_bytes(), cut);
            assert_eq!(both, text);
        }
    }
}
