//! Limits: how much of what rules allow has been spent, and whether more is left. The gate has one [`Limits`]; an exchange
//! takes from it before it is sent, and holds the [`Spent`] until it is over.
//!
//! It judges nothing: which limits hold, and on whose count an exchange is, stands in the [`Permit`]. Nothing here waits; locks
//! are held for a few map look-ups.

mod count;
mod keep;
mod saved;
mod table;
mod window;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::policy::Permit;
use crate::policy::limit::{Bound, Limit};
use crate::types::Verdict;
use count::Count;
use keep::{Tell, Wake};
use table::{Id, Table};
use window::{Amount, Nanos};

/// Tells the time; tests have their own.
type Clock = Box<dyn Fn() -> Nanos + Send + Sync>;

/// See the module.
pub struct Limits {
    clock: Clock,
    table: Mutex<Table>,
    /// Something has changed since the counts were written.
    dirty: AtomicBool,
    /// They are kept on disk.
    kept: AtomicBool,
    /// Another gate serves, and this one drains.
    aside: AtomicBool,
    /// Held while they are written: a gate that stands aside writes its last between two turns.
    writing: Mutex<()>,
    wake: Wake,
}

/// Why an exchange does not go through now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// The rule.
    pub rule: String,
    /// What is spent: `requests`, `bytes`, `tokens`, `concurrent`.
    pub what: &'static str,
    /// How long until it may be tried again.
    pub retry_after: Duration,
    limit: String,
    /// There are too many counts to begin another.
    crowded: bool,
}

impl Over {
    /// [`Over::retry_after`] in whole seconds, rounded up, at least 1: what Retry-After takes (RFC 9110 §10.2.3).
    pub fn seconds(&self) -> u64 {
        let up = u64::from(self.retry_after.subsec_nanos() > 0);
        self.retry_after.as_secs().saturating_add(up).max(1)
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, limit, .. } = self;
        if self.crowded {
            write!(f, "more callers than can be told apart share the limit {{ {limit} }}")?;
        } else {
            write!(f, "the limit {{ {limit} }} is reached: {what}")?;
        }
        write!(f, "; try again in {} s", self.seconds())
    }
}

/// What one exchange has taken. It gives its place among those at once back when dropped.
pub struct Spent {
    limits: Arc<Limits>,
    taken: Vec<Taken>,
    /// What would have refused it, were its rule applied.
    observed: Option<Over>,
}

struct Taken {
    count: Arc<Count>,
    bytes: bool,
    /// Tokens that stand for it in the window.
    tokens: Option<Mutex<Parts>>,
    open: bool,
}

/// What was added when, the latest last; each is taken back where it was added.
type Parts = Vec<(Nanos, u64)>;
/// Parts of one exchange: what is added later joins the last.
const PARTS: usize = 64;

/// On its way to be taken.
struct Asked<'a> {
    count: Arc<Count>,
    limit: &'a Limit,
    /// The part of the limit that counts in a window; else the one that counts what is open.
    windowed: bool,
}

impl Limits {
    /// Empty, on the host's clock; kept nowhere.
    pub fn new() -> Arc<Self> {
        Self::with_clock(Box::new(clock))
    }

    /// On the host's clock, with the counts that are kept in `dir`: there they stay. `tell` hears what goes wrong with that;
    /// nothing of it refuses anything.
    pub fn open(dir: &Path, tell: Tell) -> Arc<Self> {
        let limits = Self::new();
        keep::start(&limits, dir, tell);
        limits
    }

    /// Writes all counts, and keeps them no more.
    pub fn close(&self) {
        keep::stop(self);
    }

    fn with_clock(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            table: Mutex::default(),
            dirty: AtomicBool::default(),
            kept: AtomicBool::default(),
            aside: AtomicBool::default(),
            writing: Mutex::default(),
            wake: Wake::default(),
        })
    }

    fn aside(&self) -> bool {
        self.aside.load(Ordering::SeqCst)
    }

    /// The counts have changed.
    fn changed(&self) {
        if self.kept.load(Ordering::Relaxed)
            && !self.dirty.load(Ordering::Relaxed)
            && !self.dirty.swap(true, Ordering::AcqRel)
        {
            self.wake.dirty();
        }
    }

    /// Takes for an exchange that is about to be sent; `None` where its rule has no limits. `tokens`: what it may cost, as far
    /// as that can be said.
    ///
    /// # Errors
    /// [`Over`]: nothing was taken.
    pub fn take(self: &Arc<Self>, permit: &Permit, tokens: u64) -> Result<Option<Spent>, Over> {
        let Some(bounds) = permit.bounds() else { return Ok(None) };
        // One at a time: what is looked at here is what is taken below.
        let mut table = locked(&self.table);
        let now = (self.clock)();
        let taken = asked(&mut table, &bounds.rule, &bounds.each, now).and_then(|asked| {
            let over = asked.iter().filter_map(|one| one.over(&bounds.rule, now, tokens));
            match over.max_by_key(|over| over.retry_after) {
                Some(over) => Err(over),
                None => Ok(asked.iter().map(|one| one.take(now, tokens, self.aside())).collect()),
            }
        });
        drop(table);
        self.changed();
        let spent = |taken, observed| Some(Spent { limits: Arc::clone(self), taken, observed });
        match taken {
            Ok(taken) => Ok(spent(taken, None)),
            Err(over) if bounds.applied => Err(over),
            // As it would be if it were applied: what is beyond takes nothing.
            Err(over) => Ok(spent(Vec::new(), Some(over))),
        }
    }
}

fn asked<'a>(table: &mut Table, rule: &str, bounds: &'a [Bound], now: Nanos) -> Result<Vec<Asked<'a>>, Over> {
    let mut all = Vec::new();
    for Bound { limit, key } in bounds {
        let parts = [(limit.per, true), (None, false)];
        let there = [limit.per.is_some(), limit.concurrent.is_some()];
        for ((per, windowed), _) in parts.into_iter().zip(there).filter(|(_, there)| *there) {
            let id = Id { rule: rule.to_owned(), by: limit.by.clone(), per };
            let count = table.count(id, key, now).map_err(|full| Over {
                rule: rule.to_owned(),
                what: "callers",
                retry_after: full,
                limit: limit.to_string(),
                crowded: true,
            })?;
            all.push(Asked { count, limit, windowed });
        }
    }
    Ok(all)
}

impl Asked<'_> {
    /// What does not fit, and when it will.
    fn over(&self, rule: &str, now: Nanos, tokens: u64) -> Option<Over> {
        let Limit { requests, bytes, tokens: most, concurrent, .. } = *self.limit;
        let mut kept = self.count.kept();
        kept.window.advance(now);
        let full = |amount, much, most: Option<u64>| kept.window.wait(now, amount, much, most?);
        let parts = match self.windowed {
            true => vec![
                ("requests", full(Amount::Requests, 1, requests)),
                ("bytes", full(Amount::Bytes, 1, bytes)),
                ("tokens", full(Amount::Tokens, tokens.max(1), most)),
            ],
            // When one of them ends nobody can say.
            false => {
                vec![(
                    "concurrent",
                    concurrent.filter(|most| kept.open(now) >= *most).map(|_| Duration::ZERO),
                )]
            }
        };
        let (what, retry_after) =
            parts.into_iter().filter_map(|(what, wait)| Some((what, wait?))).max_by_key(|(_, wait)| *wait)?;
        let limit = self.limit.to_string();
        Some(Over { rule: rule.to_owned(), what, retry_after, limit, crowded: false })
    }

    fn take(&self, now: Nanos, tokens: u64, aside: bool) -> Taken {
        let mut kept = self.count.kept();
        if !self.windowed {
            kept.open += 1;
            return Taken { count: Arc::clone(&self.count), bytes: false, tokens: None, open: true };
        }
        if self.limit.requests.is_some() {
            kept.spend(now, Amount::Requests, 1, aside);
        }
        // More than the whole is let through by an empty window; then the whole is what it takes.
        let tokens = self.limit.tokens.map(|most| tokens.min(most));
        if let Some(tokens) = tokens.filter(|tokens| *tokens > 0) {
            kept.spend(now, Amount::Tokens, tokens, aside);
        }
        drop(kept);
        let tokens = tokens.map(|tokens| Mutex::new(vec![(now, tokens)]));
        Taken { count: Arc::clone(&self.count), bytes: self.limit.bytes.is_some(), tokens, open: false }
    }
}

impl Spent {
    /// What would have refused it, were its rule applied.
    pub fn observed(&self) -> Option<&Over> {
        self.observed.as_ref()
    }

    /// The verdict for the record: what is only observed, and beyond a limit, would be refused.
    pub fn verdict(spent: Option<&Self>, permit: &Permit) -> Verdict {
        match spent.and_then(Self::observed) {
            Some(_) => Verdict::Deny,
            None => permit.verdict(),
        }
    }

    /// How the exchange ended, for the record: with what would have refused it.
    pub fn note(&self, error: Option<String>) -> Option<String> {
        let Some(over) = &self.observed else { return error };
        let note = format!("observed only: {over}");
        Some(error.map_or(note.clone(), |error| format!("{error}; {note}")))
    }

    /// Whether tokens are counted.
    pub fn counts_tokens(&self) -> bool {
        self.taken.iter().any(|taken| taken.tokens.is_some())
    }

    /// So many octets have passed.
    pub fn bytes(&self, octets: u64) {
        if octets == 0 || !self.taken.iter().any(|taken| taken.bytes) {
            return;
        }
        let now = (self.limits.clock)();
        for taken in self.taken.iter().filter(|taken| taken.bytes) {
            taken.count.kept().spend(now, Amount::Bytes, octets, self.limits.aside());
        }
        self.limits.changed();
    }

    /// It has cost so many tokens so far, or in all: what was taken for it is corrected, either way.
    pub fn tokens(&self, cost: u64) {
        if self.counts_tokens() {
            self.limits.changed();
        }
        for taken in &self.taken {
            let Some(tokens) = &taken.tokens else { continue };
            let mut parts = locked(tokens);
            let before = parts.iter().fold(0_u64, |sum, (_, tokens)| sum.saturating_add(*tokens));
            if cost > before {
                let now = (self.limits.clock)();
                taken.count.kept().spend(now, Amount::Tokens, cost - before, self.limits.aside());
                let full = parts.len() == PARTS;
                match parts.last_mut() {
                    Some((at, tokens)) if *at == now || full => *tokens += cost - before,
                    _ => parts.push((now, cost - before)),
                }
            }
            let mut beyond = before.saturating_sub(cost);
            while beyond > 0
                && let Some((at, tokens)) = parts.last_mut()
            {
                let back = beyond.min(*tokens);
                taken.count.kept().give_back(*at, Amount::Tokens, back, self.limits.aside());
                (*tokens, beyond) = (*tokens - back, beyond - back);
                if *tokens == 0 {
                    parts.pop();
                }
            }
        }
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        for taken in self.taken.iter().filter(|taken| taken.open) {
            let mut kept = taken.count.kept();
            kept.open = kept.open.saturating_sub(1);
        }
    }
}

/// Time since the host's boot, suspended or not; the origin lies so far back that no age reaches before it.
fn clock() -> Nanos {
    const ORIGIN: Nanos = 1 << 62;
    let Ok(time) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return ORIGIN };
    let nanos = time.tv_sec().cast_unsigned().saturating_mul(1_000_000_000);
    ORIGIN.saturating_add(nanos).saturating_add(time.tv_nsec().cast_unsigned())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere must not open a limit; every holder leaves the value whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
