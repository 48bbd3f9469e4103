//! How often names are asked for, and how many different ones: what tells a tunnel through DNS from a job that looks up
//! its hosts. Counted for each tag and registered domain, so that one noisy domain does not silence another.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::policy::lookup::{Denied, Lookups};
use crate::types::TagName;

/// Domains counted apart for each tag; more within a minute share one count. Nobody is evicted: a job could otherwise
/// wash its count away by asking for many domains.
const DOMAINS: usize = 4096;
/// Tags counted; the kernel part cannot number more at once. Beyond it the counts begin anew.
const TAGS: usize = 256;
/// What stands for the domains beyond the bound.
const OTHERS: &str = "(others)";
/// What stands for names without a registered domain: single labels and the root.
const TOP: &str = ".";
/// The time over which different names are counted.
const MINUTE: Duration = Duration::from_secs(60);
/// How often what is over is looked for, at the earliest.
const SWEEP: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Default)]
pub(super) struct Rates {
    tags: Mutex<HashMap<TagName, Tag>>,
    hasher: RandomState,
}

struct Tag {
    domains: HashMap<String, Count>,
    swept: Instant,
}

struct Count {
    /// Queries that may be asked now, and when that was so.
    tokens: f64,
    at: Instant,
    /// Hashes of the names of this minute, and when it began.
    names: HashSet<u64>,
    since: Instant,
}

impl Rates {
    /// Counts a question for `name` (lower case, no trailing dot).
    ///
    /// # Errors
    /// [`Denied::Rate`] or [`Denied::NewNames`] when it is one too many.
    pub fn count(&self, bounds: &Lookups, tag: &TagName, name: &str, now: Instant) -> Result<(), Denied> {
        if bounds.rate == 0 && bounds.new_names == 0 {
            return Ok(());
        }
        let domain = registered(name);
        let hash = self.hasher.hash_one(name);
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        if tags.len() >= TAGS && !tags.contains_key(tag) {
            tags.clear();
        }
        let tag = tags.entry(tag.clone()).or_insert_with(|| Tag { domains: HashMap::new(), swept: now });
        let count = tag.count(domain, f64::from(bounds.rate), now);
        count.refill(f64::from(bounds.rate), now);
        if bounds.rate > 0 && count.tokens < 1.0 {
            return Err(Denied::Rate { domain: domain.to_owned(), bound: bounds.rate });
        }
        if bounds.new_names > 0 && !count.names.contains(&hash) {
            if count.names.len() >= bounds.new_names as usize {
                return Err(Denied::NewNames { domain: domain.to_owned(), bound: bounds.new_names });
            }
            count.names.insert(hash);
        }
        count.tokens -= 1.0;
        Ok(())
    }
}

impl Tag {
    fn count(&mut self, domain: &str, rate: f64, now: Instant) -> &mut Count {
        if self.domains.len() >= DOMAINS && now.duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.domains.retain(|_, count| now.duration_since(count.at.max(count.since)) < MINUTE);
        }
        let known = self.domains.contains_key(domain) || self.domains.len() < DOMAINS;
        let key = if known { domain } else { OTHERS };
        let fresh = || Count { tokens: burst(rate), at: now, names: HashSet::new(), since: now };
        self.domains.entry(key.to_owned()).or_insert_with(fresh)
    }
}

impl Count {
    fn refill(&mut self, rate: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate).min(burst(rate));
        self.at = now;
        if now.saturating_duration_since(self.since) >= MINUTE {
            self.names = HashSet::new();
            self.since = now;
        }
    }
}

/// A start-up looks up many names at once: three seconds' worth.
fn burst(rate: f64) -> f64 {
    rate * 3.0
}

/// The part of a name that somebody registered (public suffix and one label), or what stands for it.
fn registered(name: &str) -> &str {
    psl::domain_str(name).unwrap_or(TOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str) -> TagName {
        TagName::parse(name).expect("tag")
    }

    #[test]
    fn registered_domains() {
        for (name, want) in [
            ("a.b.example.co.uk", "example.co.uk"),
            ("example.com", "example.com"),
            ("x.y.corp", "y.corp"),
            ("localhost", "."),
            ("com", "."),
            ("", "."),
            ("5.2.0.192.in-addr.arpa", "192.in-addr.arpa"),
        ] {
            assert_eq!(registered(name), want, "{name}");
        }
    }

    #[test]
    fn queries_a_second_for_each_tag_and_domain() {
        let bounds = Lookups { rate: 10, ..Lookups::default() };
        let (rates, now) = (Rates::default(), Instant::now());
        let passed = (0..100).filter(|_| rates.count(&bounds, &tag("a"), "x.example.com", now).is_ok());
        assert_eq!(passed.count(), 30, "three seconds' worth at once");
        rates.count(&bounds, &tag("a"), "other.test", now).expect("another domain");
        rates.count(&bounds, &tag("b"), "x.example.com", now).expect("another tag");
        let later = now + Duration::from_secs(1);
        let passed = (0..100).filter(|_| rates.count(&bounds, &tag("a"), "y.example.com", later).is_ok());
        assert_eq!(passed.count(), 10);
    }

    #[test]
    fn different_names_a_minute_below_a_domain() {
        let bounds = Lookups { new_names: 50, ..Lookups::default() };
        let (rates, now) = (Rates::default(), Instant::now());
        let ask = |n: u32, now| rates.count(&bounds, &tag("a"), &format!("d{n}.t.example.com"), now);
        assert_eq!((0..200).filter(|n| ask(*n, now).is_ok()).count(), 50);
        assert_eq!(ask(60, now).expect_err("new").rule(), "dns.new_names");
        ask(7, now).expect("a name that is known");
        ask(60, now + MINUTE).expect("the next minute");
    }

    #[test]
    fn counts_are_bounded_and_cannot_be_washed_away() {
        let bounds = Lookups { new_names: 5, ..Lookups::default() };
        let (rates, now) = (Rates::default(), Instant::now());
        let ask = |name: &str| rates.count(&bounds, &tag("a"), name, now);
        (0..5).for_each(|n| ask(&format!("d{n}.tunnel.example")).expect("below the bound"));
        let passed = (0..10_000).filter(|n| ask(&format!("www.d{n}.com")).is_ok()).count();
        assert!(passed < DOMAINS + 10, "{passed}: the others share one count");
        ask("d6.tunnel.example").expect_err("still counted");
        let tags = rates.tags.lock().expect("whole");
        assert!(tags.values().all(|tag| tag.domains.len() <= DOMAINS + 1));
    }
}
