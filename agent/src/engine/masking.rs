//! Whose tokens stand for whose values: one map for a connection, or one for all connections of a tag. Maps are in memory only
//! and die with their scope: a connection's with it, a tag's when none of its connections has asked for it in an hour.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::mask::Scope;
use crate::policy::mask::Within;
use crate::types::TagName;

/// So long a tag's map outlives the last exchange that asked for it.
const IDLE: Duration = Duration::from_secs(3600);

/// The maps of tags.
#[derive(Default)]
pub struct Tags(Mutex<HashMap<TagName, (Arc<Scope>, Instant)>>);

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
        let mut tags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
