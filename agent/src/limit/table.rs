//! The counts by limit and key. Bound: so many keys a limit; at the bound those on which nothing counts any more make
//! room, and without any the newcomer is refused: nobody's count is dropped for another's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::count::Count;
use super::window::Nanos;
use crate::policy::limit::By;

/// Keys of one limit.
pub(super) const KEYS: usize = 10_000;
/// A full limit is looked through for room once in that time at most.
const LOOK: Duration = Duration::from_secs(1);

/// Which limit, across changes of its amounts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub rule: String,
    pub by: By,
    /// Its window; `None`: what is open is counted.
    pub per: Option<Duration>,
}

#[derive(Debug, Default)]
pub struct Table {
    groups: HashMap<Id, Group>,
    /// How many newcomers found no room.
    pub crowded: u64,
}

#[derive(Debug, Default)]
struct Group {
    counts: HashMap<Arc<str>, Arc<Count>>,
    look_at: Nanos,
}

impl Table {
    /// The count of a key, or how long until there may be room for it.
    pub fn count(&mut self, id: Id, key: &str, now: Nanos) -> Result<Arc<Count>, Duration> {
        let per = id.per;
        let group = self.groups.entry(id).or_default();
        if let Some(count) = group.counts.get(key) {
            return Ok(Arc::clone(count));
        }
        if group.counts.len() >= KEYS && now >= group.look_at {
            group.look_at = now.saturating_add(u64::try_from(LOOK.as_nanos()).unwrap_or(u64::MAX));
            group.sweep(now);
        }
        if group.counts.len() >= KEYS {
            self.crowded += 1;
            return Err(Duration::from_nanos(group.look_at.saturating_sub(now)));
        }
        let count = Arc::new(Count::new(per));
        group.counts.insert(key.into(), Arc::clone(&count));
        Ok(count)
    }

    /// Forgets what counts no more.
    pub fn sweep(&mut self, now: Nanos) {
        self.groups.retain(|_, group| {
            group.sweep(now);
            !group.counts.is_empty()
        });
    }

    /// Everything that there is.
    pub fn all(&self) -> Vec<(Id, Vec<(Arc<str>, Arc<Count>)>)> {
        let counts = |group: &Group| {
            group.counts.iter().map(|(key, count)| (Arc::clone(key), Arc::clone(count))).collect()
        };
        self.groups.iter().map(|(id, group)| (id.clone(), counts(group))).collect()
    }
}

impl Group {
    fn sweep(&mut self, now: Nanos) {
        // One that somebody holds is on its way to be spent from.
        self.counts.retain(|_, count| Arc::strong_count(count) > 1 || !count.kept().is_idle(now));
    }
}
