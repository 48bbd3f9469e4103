//! Which rules can match a host at all, so that a thousand rules cost what the few that name the host cost.

use std::collections::HashMap;

use super::lookup::NamePattern;
use crate::types::Action;

/// Rule numbers by the hosts that they name.
#[derive(Debug, Default)]
pub(super) struct Index {
    rules: usize,
    /// Rules that name no host, or `*`.
    any: Vec<usize>,
    /// By exact name, and by suffix (`example.com` for `*.example.com`).
    exact: HashMap<String, Vec<usize>>,
    below: HashMap<String, Vec<usize>>,
}

impl Index {
    /// From each rule's hosts, in order.
    pub fn of<'a>(hosts: impl Iterator<Item = &'a [NamePattern]>) -> Self {
        let mut index = Self::default();
        for (at, hosts) in hosts.enumerate() {
            index.rules = at + 1;
            if hosts.is_empty() || hosts.iter().any(|host| host.as_str() == "*") {
                index.any.push(at);
                continue;
            }
            for host in hosts {
                let (map, name) = match host.as_str().strip_prefix("*.") {
                    Some(suffix) => (&mut index.below, suffix),
                    None => (&mut index.exact, host.as_str()),
                };
                map.entry(name.to_owned()).or_default().push(at);
            }
        }
        index
    }

    /// The rules that may match, in order: all of them while the host is not known.
    pub fn candidates(&self, action: &Action<'_>) -> Candidates {
        let Some(host) = action.host() else { return Candidates::All(0..self.rules) };
        let mut few = self.any.clone();
        if let Some(host) = host {
            let name = host.as_str();
            few.extend(self.exact.get(name).into_iter().flatten());
            let parents = name.char_indices().filter(|(_, c)| *c == '.').map(|(at, _)| &name[at + 1..]);
            parents.for_each(|parent| few.extend(self.below.get(parent).into_iter().flatten()));
            few.sort_unstable();
            few.dedup();
        }
        Candidates::Few(few.into_iter())
    }
}

/// Rule numbers in order.
pub(super) enum Candidates {
    All(std::ops::Range<usize>),
    Few(std::vec::IntoIter<usize>),
}

impl Iterator for Candidates {
    type Item = usize;
    fn next(&mut self) -> Option<usize> {
        match self {
            Self::All(all) => all.next(),
            Self::Few(few) => few.next(),
        }
    }
}
