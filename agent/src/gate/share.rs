//! Sessions at once, fairly: a tag may hold as many as are still free. So one tag gets half of the places at most, two
//! get a third each, and whoever comes last finds room: no job can starve the others by holding connections open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::types::TagName;

/// Who holds how many of the places of a semaphore. Bound: one entry a tag that holds any.
pub(super) struct Shares {
    places: Arc<Semaphore>,
    held: Mutex<HashMap<TagName, usize>>,
}

/// One session's part of its tag's share; given back when dropped.
pub(super) struct Share<'a> {
    shares: &'a Shares,
    tag: TagName,
}

impl Shares {
    pub fn of(places: Arc<Semaphore>) -> Self {
        Self { places, held: Mutex::default() }
    }

    /// For a session that has its place already. `None`: its tag has no more, and it must give the place back.
    pub fn enter(&self, tag: &TagName) -> Option<Share<'_>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.get(tag).copied().unwrap_or(0);
        if count > self.places.available_permits() {
            return None;
        }
        held.insert(tag.clone(), count + 1);
        Some(Share { shares: self, tag: tag.clone() })
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.tag) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.tag);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tag_gets_half_and_the_next_half_of_the_rest() {
        let places = Arc::new(Semaphore::new(16_384));
        let shares = Shares::of(Arc::clone(&places));
        let tag = |name| TagName::parse(name).expect("name");
        let fill = |name| {
            let mut kept = Vec::new();
            loop {
                let place = places.try_acquire().expect("a place is always free");
                match shares.enter(&tag(name)) {
                    Some(share) => kept.push((place, share)),
                    None => return kept,
                }
            }
        };
        let greedy = fill("greedy");
        assert_eq!(greedy.len(), 8192, "8,000 at once are promised");
        assert_eq!(fill("other").len(), 4096);
        drop(greedy);
        assert_eq!(fill("greedy").len(), 8192);
        assert!(shares.held.lock().expect("whole").is_empty());
    }
}
