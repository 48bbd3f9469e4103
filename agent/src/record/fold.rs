//! Folding: keeps the journal readable under load. What comes too fast is counted by kind, and each second one message says
//! how many it stands for. The store has every exchange all the same.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::{Ended, Sink};
use crate::types::{Summary, Verdict};
use crate::wire::ToWarden;

/// Entries at once, before folding begins.
const BURST: f64 = 200.0;
/// Entries a second after that.
const RATE: f64 = 100.0;
/// Kinds told apart within a second; what is beyond is counted by tag and verdict, and beyond that as one.
const KINDS: usize = 256;
/// What stands in place of a value when an entry stands for several.
pub const MANY: &str = "(many)";

/// Allowed and refused have a bucket each: a flood of allowed requests must not fold the refusals away.
#[derive(Debug)]
pub struct Fold {
    allowed: Bucket,
    refused: Bucket,
    /// By the keyed hash of what folds together: nobody outside can make two kinds meet.
    kinds: HashMap<u64, (Box<Summary>, u64)>,
    hash: RandomState,
}

/// An exchange that is over.
pub trait Told {
    /// By what it folds together with others.
    fn alike(&self) -> Alike<'_>;
    /// All of it.
    fn summary(&self) -> Summary;
}

/// What folds together has these in common. The unit too: one job's exchanges are not counted in another job's journal.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Alike<'a> {
    tag: &'a str,
    unit: Option<&'a str>,
    host: &'a str,
    method: Option<&'a str>,
    status: Option<u16>,
    verdict: Verdict,
    rule: Option<&'a str>,
    failed: bool,
    /// Fingerprint of the caller's own key.
    key: Option<&'a str>,
}

impl Told for Summary {
    fn alike(&self) -> Alike<'_> {
        Alike {
            tag: &self.tag,
            unit: self.unit.as_deref(),
            host: &self.host,
            method: self.method.as_deref(),
            status: self.status,
            verdict: self.verdict,
            rule: self.rule.as_deref(),
            failed: self.error.is_some(),
            key: self.caller_keys.first().map(|key| key.fingerprint.as_str()),
        }
    }

    fn summary(&self) -> Summary {
        self.clone()
    }
}

impl Told for Ended<'_> {
    fn alike(&self) -> Alike<'_> {
        let (caller, own) = (&self.session.caller, self.own);
        Alike {
            tag: caller.tag.as_str(),
            unit: caller.unit.as_deref(),
            host: &own.host,
            method: own.method.as_deref(),
            status: own.status,
            verdict: own.verdict,
            rule: own.rule.as_deref(),
            failed: own.error.is_some(),
            key: own.caller_keys.first().map(|key| key.fingerprint.as_str()),
        }
    }

    fn summary(&self) -> Summary {
        Ended::summary(self)
    }
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Fold {
    /// Nothing folded, the buckets full.
    pub fn new(now: Instant) -> Self {
        let full = || Bucket { tokens: BURST, at: now };
        Self { allowed: full(), refused: full(), kinds: HashMap::new(), hash: RandomState::new() }
    }

    /// Takes a summary: gives the message to send at once, or counts it.
    pub fn offer(&mut self, ended: &impl Told, now: Instant) -> Option<ToWarden> {
        let alike = ended.alike();
        let bucket = if alike.verdict == Verdict::Allow { &mut self.allowed } else { &mut self.refused };
        if bucket.take(now) {
            return Some(ToWarden::Journal(Box::new(ended.summary())));
        }
        let exact = self.hash.hash_one(alike);
        if let Some((_, count)) = self.kinds.get_mut(&exact) {
            *count += 1;
        } else if self.kinds.len() < KINDS {
            self.kinds.insert(exact, (Box::new(ended.summary()), 1));
        } else {
            self.coarse(ended.summary());
        }
        None
    }

    /// What was folded since the last time. Call it each second.
    pub fn flush(&mut self) -> Vec<ToWarden> {
        let message = |(example, count): (Box<Summary>, u64)| match count {
            1 => ToWarden::Journal(example),
            _ => ToWarden::JournalFold { example, more: count - 1 },
        };
        self.kinds.drain().map(|(_, folded)| message(folded)).collect()
    }

    /// Hosts, methods and paths are the caller's to choose: there is no end of them, so they do not make kinds for ever.
    fn coarse(&mut self, summary: Summary) {
        let mut example = Summary {
            host: MANY.to_owned(),
            address: MANY.to_owned(),
            method: None,
            path: None,
            status: None,
            rule: None,
            error: None,
            caller_keys: Vec::new(),
            duration_us: None,
            ..summary
        };
        if self.kinds.len() >= 2 * KINDS && !self.kinds.contains_key(&self.hash.hash_one(example.alike())) {
            (example.tag, example.unit, example.start_time) = (MANY.to_owned(), None, None);
        }
        let kind = self.hash.hash_one(example.alike());
        self.kinds.entry(kind).or_insert_with(|| (Box::new(example), 0)).1 += 1;
    }
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + since * RATE).min(BURST);
        self.at = now;
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }
}

/// A [`Fold`] between the store's sink and the warden. Cheap to clone.
#[derive(Clone)]
pub struct Folding {
    fold: Arc<Mutex<Fold>>,
    send: Arc<dyn Fn(ToWarden) + Send + Sync>,
}

impl Folding {
    /// `send` must not block.
    pub fn new(send: impl Fn(ToWarden) + Send + Sync + 'static) -> Self {
        Self { fold: Arc::new(Mutex::new(Fold::new(Instant::now()))), send: Arc::new(send) }
    }

    /// What the store sends summaries to.
    pub fn sink(&self) -> Sink {
        let this = self.clone();
        Arc::new(move |ended| {
            let message = this.locked(|fold| fold.offer(ended, ended.at()));
            message.into_iter().for_each(|m| (this.send)(m));
        })
    }

    /// Sends what was folded. Call it each second and at the end.
    pub fn flush(&self) {
        self.locked(Fold::flush).into_iter().for_each(|m| (self.send)(m));
    }

    fn locked<T>(&self, f: impl FnOnce(&mut Fold) -> T) -> T {
        f(&mut self.fold.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::summary;
    use std::time::Duration;

    fn stands_for(messages: &[ToWarden]) -> u64 {
        let one = |m: &ToWarden| match m {
            ToWarden::Journal(_) => 1,
            ToWarden::JournalFold { more, .. } => 1 + more,
            other => panic!("{other:?}"),
        };
        messages.iter().map(one).sum()
    }

    #[test]
    fn a_burst_passes_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut fold = Fold::new(start);
        let passed = (0..1000).filter(|_| fold.offer(&summary(), start).is_some()).count();
        assert_eq!(passed, 200);
        let mut deny = summary();
        deny.verdict = Verdict::Deny;
        assert!(fold.offer(&deny, start).is_some(), "refusals have their own bucket");
        let flushed = fold.flush();
        assert_eq!(flushed.len(), 1);
        assert_eq!(stands_for(&flushed), 800);
        assert!(fold.flush().is_empty());
        let later = start + Duration::from_millis(500);
        let passed = (0..1000).filter(|_| fold.offer(&summary(), later).is_some()).count();
        assert_eq!(passed, 50);
    }

    #[test]
    fn one_folded_alone_is_itself() {
        let start = Instant::now();
        let mut fold = Fold::new(start);
        (0..201).for_each(|_| drop(fold.offer(&summary(), start)));
        assert!(matches!(&fold.flush()[..], [ToWarden::Journal(_)]));
    }

    #[test]
    fn kinds_are_bounded_and_counts_exact() {
        let start = Instant::now();
        let mut fold = Fold::new(start);
        for n in 0..20_000 {
            let mut s = summary();
            s.host = format!("{n}.example");
            s.tag = format!("tag{}", n % 1000);
            fold.offer(&s, start);
        }
        let flushed = fold.flush();
        assert!(flushed.len() <= 2 * KINDS + 3, "{}", flushed.len());
        assert_eq!(stands_for(&flushed), 20_000 - 200);
    }
}
