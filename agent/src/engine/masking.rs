//! What the connections of a gate share of masks: how much was hidden, and whose tokens stand for whose values: one map for a connection, or one for all connections of a tag. Maps are in memory only
//! and die with their scope: a connection's with it, a tag's when none of its connections has asked for it in an hour.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::mask::Scope;
use crate::policy::mask::Within;
use crate::types::TagName;

/// So long a tag's map outlives the last exchange that asked for it.
const IDLE: Duration = Duration::from_secs(3600);

/// So many names of detectors and fields are counted apart, and so many letters of them; the rest under [`OTHER`].
const NAMES: usize = 256;
const LETTERS: usize = 64;
const OTHER: &str = "other";

/// How much was hidden since the gate began, by detector. Never a value.
#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    /// An exchange is over.
    pub(super) fn add(&self, masked: &BTreeMap<String, u64>) {
        if masked.is_empty() {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, count) in masked {
            let name = name.get(..LETTERS).unwrap_or(name);
            let known = all.contains_key(name) || all.len() < NAMES;
            let name = if known && name.len() <= LETTERS { name } else { OTHER };
            let sum = all.entry(name.to_owned()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// All of it, where it is more than so many.
    pub fn beyond(&self, before: u64) -> Option<BTreeMap<String, u64>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (all.values().sum::<u64>() > before).then(|| all.clone())
    }
}

/// The maps of tags, and what was hidden in all.
#[derive(Default)]
pub struct Tags {
    maps: Mutex<HashMap<TagName, (Arc<Scope>, Instant)>>,
    /// How much.
    pub tally: Tally,
}

/// The maps that a connection's exchanges may ask for.
pub struct Tokens {
    tags: Arc<Tags>,
    tag: TagName,
    own: OnceLock<Arc<Scope>>,
}

fn drawn() -> Arc<Scope> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).expect("the kernel's generator answers");
    Arc::new(Scope::new(secret))
}

impl Tags {
    fn of(&self, tag: &TagName, now: Instant) -> Arc<Scope> {
        let mut tags = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        tags.retain(|other, (scope, asked)| {
            other == tag || Arc::strong_count(scope) > 1 || now.saturating_duration_since(*asked) < IDLE
        });
        let (scope, asked) = tags.entry(tag.clone()).or_insert_with(|| (drawn(), now));
        *asked = now;
        Arc::clone(scope)
    }
}

impl Tokens {
    /// Of a new connection.
    pub fn new(tags: Arc<Tags>, tag: TagName) -> Self {
        Self { tags, tag, own: OnceLock::new() }
    }

    /// Where what is hidden is counted.
    pub(super) fn tags(&self) -> Arc<Tags> {
        Arc::clone(&self.tags)
    }

    /// The map for an exchange.
    pub(super) fn scope(&self, within: Within) -> Arc<Scope> {
        match within {
            Within::Session => Arc::clone(self.own.get_or_init(drawn)),
            Within::Tag => self.tags.of(&self.tag, Instant::now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_counted_by_few_names() {
        let tally = Tally::default();
        assert_eq!(tally.beyond(0), None);
        for name in 0..2 * NAMES as u64 {
            tally.add(&BTreeMap::from([(format!("field {name}"), 2), ("x".repeat(9 * LETTERS), 1)]));
        }
        let all = tally.beyond(3).expect("more");
        assert!(all.len() <= NAMES + 1 && all.keys().all(|name| name.len() <= LETTERS), "{}", all.len());
        assert_eq!((all["field 1"], all.values().sum::<u64>()), (2, 6 * NAMES as u64));
        assert_eq!(tally.beyond(6 * NAMES as u64), None);
    }

    #[test]
    fn a_tags_map_is_shared_and_forgotten_when_nobody_asks() {
        let (tags, now) = (Arc::new(Tags::default()), Instant::now());
        let tag = |name| TagName::parse(name).expect(name);
        let connection = |name| Tokens::new(Arc::clone(&tags), tag(name));
        let (one, two, other) = (connection("a"), connection("a"), connection("b"));
        assert!(Arc::ptr_eq(&one.scope(Within::Tag), &two.scope(Within::Tag)));
        assert!(!Arc::ptr_eq(&one.scope(Within::Tag), &other.scope(Within::Tag)));
        assert!(!Arc::ptr_eq(&one.scope(Within::Session), &two.scope(Within::Session)));
        assert!(Arc::ptr_eq(&one.scope(Within::Session), &one.scope(Within::Session)));
        let (before, later) = (tags.of(&tag("a"), now), now + IDLE + Duration::from_secs(1));
        tags.of(&tag("c"), later);
        assert!(Arc::ptr_eq(&before, &tags.of(&tag("a"), later)), "still in use");
        let gone = Arc::downgrade(&before);
        drop(before);
        tags.of(&tag("c"), later + IDLE + IDLE);
        assert!(gone.upgrade().is_none());
    }
}
