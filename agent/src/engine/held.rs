//! What bodies that are judged may take of the process's memory, all together and for one tag: a job that begins a thousand
//! requests with large bodies is refused, and the other tags' are read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::types::TagName;

/// Octets of all such bodies. Each counts twice: it is kept, too, to be judged again when the rules change.
const ALL: usize = 512 << 20;
/// Of them for one tag: two of the largest that a rule can ask for.
const OF_TAG: usize = 256 << 20;
/// Octets are taken by so many.
const STEP: usize = 16 << 10;

/// One for the process: it bounds the process's memory, whoever reads.
static BODIES: Mutex<Option<HashMap<TagName, usize>>> = Mutex::new(None);

/// What one body takes; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    tag: TagName,
    octets: usize,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent holds as many bodies of {0} as it may at once")]
pub(super) struct Full(&'static str);

impl Held {
    /// Nothing yet, of a tag's share.
    pub(super) fn of(tag: TagName) -> Self {
        Self { tag, octets: 0 }
    }

    /// Takes as much as a body of `length` octets needs.
    ///
    /// # Errors
    /// [`Full`]; what was taken before is kept.
    pub(super) fn reach(&mut self, length: usize) -> Result<(), Full> {
        let needed = length.saturating_mul(2);
        if needed <= self.octets {
            return Ok(());
        }
        let more = (needed - self.octets).max(STEP);
        let mut bodies = BODIES.lock().unwrap_or_else(PoisonError::into_inner);
        let bodies = bodies.get_or_insert_default();
        let of_tag = bodies.get(&self.tag).copied().unwrap_or(0);
        if of_tag.saturating_add(more) > OF_TAG {
            return Err(Full("its tag"));
        }
        if bodies.values().sum::<usize>().saturating_add(more) > ALL {
            return Err(Full("all tags"));
        }
        bodies.insert(self.tag.clone(), of_tag + more);
        self.octets += more;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.octets == 0 {
            return;
        }
        let mut bodies = BODIES.lock().unwrap_or_else(PoisonError::into_inner);
        let bodies = bodies.get_or_insert_default();
        if let Some(of_tag) = bodies.get_mut(&self.tag) {
            *of_tag -= self.octets;
            if *of_tag == 0 {
                bodies.remove(&self.tag);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tag_and_all_tags_have_a_bound_and_give_back() {
        let tag = |n: usize| TagName::parse(&format!("held-{n}")).expect("name");
        let largest = 64 << 20;
        let mut held: Vec<Held> = Vec::new();
        for n in 0..2 {
            for _ in 0..2 {
                let mut one = Held::of(tag(n));
                assert_eq!(one.reach(10), Ok(()));
                assert_eq!(one.reach(largest), Ok(()));
                held.push(one);
            }
            assert_eq!(Held::of(tag(n)).reach(1), Err(Full("its tag")));
        }
        assert_eq!(Held::of(tag(2)).reach(1), Err(Full("all tags")));
        held.pop();
        let mut other = Held::of(tag(2));
        assert_eq!(other.reach(largest), Ok(()), "what was given back");
        assert_eq!(other.reach(1), Ok(()), "it has that");
        drop((held, other));
        let bodies = BODIES.lock().expect("lock");
        assert!(bodies.iter().flatten().all(|(tag, _)| !tag.as_str().starts_with("held-")));
    }
}
