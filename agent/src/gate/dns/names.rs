//! What each tag looked up: address → names, so that a later connection to the address bears the name that it was looked
//! up for. A name in here is what a name server said, no proof of who is behind the address: whoever owns a name can
//! point it anywhere. What the host's servers said is kept apart from what a server in the caller's own network namespace
//! did, which may be the job itself: the latter neither replaces nor pushes out the former.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::types::{HostSource, LookedUp, TagName};

/// Addresses remembered for each tag; beyond it the one that was not used for longest goes.
const ADDRESSES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Tags remembered: more than the kernel part can number at once.
const TAGS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Names remembered for one address; beyond it the oldest goes.
const NAMES: usize = 4;
/// A name holds at least so long, whatever its time to live: pools, JVMs and load balancers' clients connect to an address
/// long after they looked it up.
const AT_LEAST: Duration = Duration::from_secs(10 * 60);
/// And at most so long.
const AT_MOST: Duration = Duration::from_secs(24 * 3600);

/// See the module.
pub(in crate::gate) struct Names(Mutex<LruCache<TagName, LruCache<IpAddr, Vec<Seen>>>>);

struct Seen {
    found: LookedUp,
    /// Who asked last.
    pid: u32,
    until: Instant,
}

impl Seen {
    fn is_hosts(&self) -> bool {
        self.found.by == HostSource::Dns
    }
}

impl Default for Names {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(TAGS)))
    }
}

impl Names {
    /// The process `pid` of `tag` was told `addresses` for a name, each with its time to live in seconds.
    pub fn remember(
        &self,
        tag: &TagName,
        pid: u32,
        found: &LookedUp,
        addresses: &[(IpAddr, u32)],
        now: Instant,
    ) {
        if addresses.is_empty() {
            return;
        }
        let mut tags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tags.get_or_insert_mut(tag.clone(), || LruCache::new(ADDRESSES));
        for (ip, ttl) in addresses.iter().take(ADDRESSES.get()) {
            let ttl = Duration::from_secs((*ttl).into()).clamp(AT_LEAST, AT_MOST);
            let names = known.get_or_insert_mut(*ip, Vec::new);
            let before = names.iter().position(|seen| seen.found == *found);
            let until = now + ttl;
            let until = before.map_or(until, |at| names.remove(at).until.max(until));
            if names.len() == NAMES {
                match names.iter().position(|seen| !seen.is_hosts()) {
                    Some(at) => drop(names.remove(at)),
                    None if found.by == HostSource::Dns => drop(names.remove(0)),
                    None => continue,
                }
            }
            names.push(Seen { found: found.clone(), pid, until });
        }
    }

    /// The name for which `tag` was told `ip`: the last that the process `pid` itself asked for, else the last of any. What
    /// the host's servers said comes first.
    pub fn of(&self, tag: &TagName, pid: u32, ip: IpAddr, now: Instant) -> Option<LookedUp> {
        let mut tags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tags.get_mut(tag)?;
        let names = known.get_mut(&ip)?;
        names.retain(|seen| now < seen.until);
        let best = names.iter().rev().enumerate().min_by_key(|(age, seen)| {
            let (is_hosts, is_own) = (seen.is_hosts(), seen.pid == pid);
            (!is_hosts, !is_own, *age)
        });
        let found = best.map(|(_, seen)| seen.found.clone());
        if found.is_none() {
            known.pop(&ip);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::HostName;

    fn tag(name: &str) -> TagName {
        TagName::parse(name).expect("tag")
    }

    fn host(name: &str) -> LookedUp {
        LookedUp { name: HostName::parse(name).expect("name"), by: HostSource::Dns }
    }

    fn theirs(name: &str) -> LookedUp {
        LookedUp { by: HostSource::DnsCaller, ..host(name) }
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn names_hold_for_their_tag_and_time() {
        let (names, now) = (Names::default(), Instant::now());
        names.remember(&tag("a"), 1, &host("db.example"), &[(ip(1), 5)], now);
        let soon = now + Duration::from_secs(599);
        assert_eq!(names.of(&tag("a"), 1, ip(1), soon), Some(host("db.example")), "the floor of ten minutes");
        assert_eq!(names.of(&tag("b"), 1, ip(1), soon), None, "another tag");
        assert_eq!(names.of(&tag("a"), 1, ip(2), soon), None, "another address");
        assert_eq!(names.of(&tag("a"), 1, ip(1), now + Duration::from_secs(600)), None);
        names.remember(&tag("a"), 1, &host("db.example"), &[(ip(1), u32::MAX)], now);
        assert_eq!(names.of(&tag("a"), 1, ip(1), now + AT_MOST), None, "the ceiling of a day");
    }

    #[test]
    fn of_several_names_the_askers_own_counts_and_then_the_last() {
        let (names, now) = (Names::default(), Instant::now());
        for (pid, name) in [(1, "one.example"), (2, "two.example"), (3, "three.example")] {
            names.remember(&tag("a"), pid, &host(name), &[(ip(1), 60)], now);
        }
        assert_eq!(names.of(&tag("a"), 2, ip(1), now), Some(host("two.example")));
        assert_eq!(names.of(&tag("a"), 9, ip(1), now), Some(host("three.example")));
    }

    #[test]
    fn what_the_callers_own_server_says_does_not_touch_what_the_hosts_did() {
        let (names, now) = (Names::default(), Instant::now());
        names.remember(&tag("a"), 1, &theirs("bank.example"), &[(ip(1), 60)], now);
        assert_eq!(names.of(&tag("a"), 1, ip(1), now), Some(theirs("bank.example")));
        names.remember(&tag("a"), 2, &host("shop.example"), &[(ip(1), 60)], now);
        for n in 0..10 {
            let far = [(ip(1), u32::MAX)];
            names.remember(&tag("a"), 1, &theirs(&format!("n{n}.example")), &far, now);
            names.remember(&tag("a"), 1, &theirs("shop.example"), &far, now);
        }
        assert_eq!(
            names.of(&tag("a"), 1, ip(1), now),
            Some(host("shop.example")),
            "though it asked for others"
        );
        let later = now + Duration::from_secs(600);
        assert_eq!(
            names.of(&tag("a"), 1, ip(1), later),
            Some(theirs("shop.example")),
            "its time was not drawn out"
        );
        for n in 0..4 {
            names.remember(&tag("a"), 1, &host(&format!("h{n}.example")), &[(ip(1), 60)], later);
        }
        names.remember(&tag("a"), 1, &theirs("bank.example"), &[(ip(1), 60)], later);
        assert_eq!(names.of(&tag("a"), 1, ip(1), later), Some(host("h3.example")), "no room is made for it");
    }

    #[test]
    fn memory_is_bounded() {
        let (names, now) = (Names::default(), Instant::now());
        for n in 0..100 {
            names.remember(&tag("a"), n, &host(&format!("n{n}.example")), &[(ip(1), 60)], now);
        }
        for n in 0..5000_u32 {
            let ip = IpAddr::from(n.to_be_bytes());
            names.remember(&tag("a"), 1, &host("flood.example"), &[(ip, 60)], now);
        }
        for n in 0..300 {
            names.remember(&tag(&format!("t{n}")), 1, &host("x.example"), &[(ip(9), 60)], now);
        }
        let tags = names.0.lock().expect("whole");
        assert_eq!(tags.len(), 256);
        assert!(tags.iter().all(|(_, known)| known.len() <= 4096));
        assert!(tags.iter().flat_map(|(_, k)| k.iter()).all(|(_, names)| names.len() <= NAMES));
    }
}
