//! Which rules can match at all, found without asking each: by host, method, the beginning of the path, and the header
//! fields and parameters that must be there. A thousand rules cost what the few cost that are left.
//!
//! Only what certainly does not match is left out: [`Compiled::judge`] has the say on the rest.

use std::collections::HashMap;

use super::facts::Facts;
use super::judge::Compiled;
use super::pattern::Glob;
use crate::types::action::Http;

/// Rules by what they ask.
#[derive(Debug, Default)]
pub(super) struct Index {
    all: Set,
    hosts: Hosts,
    /// By method; and the rules that name none.
    methods: HashMap<String, Set>,
    any_method: Set,
    paths: Paths,
    /// Header fields, and the rules that match nothing without them.
    headers: Vec<(String, Set)>,
    /// Rules that match nothing without a query.
    query: Set,
}

impl Index {
    pub fn of(rules: &[Compiled]) -> Self {
        let mut index = Self::default();
        let mut headers: HashMap<&str, Set> = HashMap::new();
        for (at, rule) in rules.iter().map(|compiled| &compiled.rule).enumerate() {
            index.all.add(at);
            let hosts: Vec<&str> = rule.to.hosts.iter().map(|host| host.as_str()).collect();
            index.hosts.add(at, &hosts);
            for method in &rule.request.methods {
                index.methods.entry(method.clone()).or_default().add(at);
            }
            if rule.request.methods.is_empty() {
                index.any_method.add(at);
            }
            index.paths.add(at, &rule.request.paths);
            if !rule.request.query.is_empty() {
                index.query.add(at);
            }
            rule.request.headers.keys().for_each(|name| headers.entry(name).or_default().add(at));
        }
        index.methods.values_mut().for_each(|set| set.join(&index.any_method));
        index.headers = headers.into_iter().map(|(name, set)| (name.to_owned(), set)).collect();
        index
    }

    /// The rules that may match, in order.
    pub fn candidates(&self, facts: &Facts<'_>) -> impl Iterator<Item = usize> + use<> {
        let mut left = match facts.asked.action.host() {
            None => self.all.clone(),
            Some(host) => self.hosts.naming(host.map(|host| host.as_str())),
        };
        if let Ok(http) = facts.http() {
            self.narrow(&mut left, http, facts);
        }
        left.into_iter()
    }

    fn narrow(&self, left: &mut Set, http: &Http<'_>, facts: &Facts<'_>) {
        left.keep(self.methods.get(http.method).unwrap_or(&self.any_method));
        if let Ok(path) = facts.path() {
            left.keep(&self.paths.beginning(path));
        }
        for (name, asking) in &self.headers {
            if facts.lacks_header(name) {
                left.drop(asking);
            }
        }
        if http.query.is_none_or(str::is_empty) && !facts.hides_queries() {
            left.drop(&self.query);
        }
    }
}

/// Rules by host.
#[derive(Debug, Default)]
struct Hosts {
    /// Rules that name none, or `*`.
    any: Set,
    /// By exact name, and by suffix (`example.com` for `*.example.com`).
    exact: HashMap<String, Vec<usize>>,
    below: HashMap<String, Vec<usize>>,
}

impl Hosts {
    fn add(&mut self, rule: usize, hosts: &[&str]) {
        if hosts.is_empty() || hosts.contains(&"*") {
            return self.any.add(rule);
        }
        for host in hosts {
            let (map, name) = match host.strip_prefix("*.") {
                Some(suffix) => (&mut self.below, suffix),
                None => (&mut self.exact, *host),
            };
            map.entry(name.to_owned()).or_default().push(rule);
        }
    }

    /// The rules that may mean this host.
    fn naming(&self, host: Option<&str>) -> Set {
        let mut named = self.any.clone();
        let Some(name) = host else { return named };
        let parents = name.char_indices().filter(|(_, c)| *c == '.').map(|(at, _)| &name[at + 1..]);
        let below = parents.filter_map(|parent| self.below.get(parent));
        self.exact.get(name).into_iter().chain(below).flatten().for_each(|rule| named.add(*rule));
        named
    }
}

/// Rules by what the paths that they name begin with: a tree, an octet a step.
#[derive(Debug)]
struct Paths {
    /// The first is the root.
    nodes: Vec<Step>,
}

/// Reached by the octets so far.
#[derive(Debug, Default)]
struct Step {
    next: Vec<(u8, usize)>,
    /// Rules of which a pattern begins so, to its first star.
    rules: Vec<usize>,
}

impl Default for Paths {
    fn default() -> Self {
        Self { nodes: vec![Step::default()] }
    }
}

impl Paths {
    fn add(&mut self, rule: usize, globs: &[Glob]) {
        if globs.is_empty() {
            self.nodes[0].rules.push(rule);
        }
        for glob in globs {
            let mut at = 0;
            for octet in glob.beginning().bytes() {
                at = self.step(at, octet).unwrap_or_else(|| {
                    let new = self.nodes.len();
                    self.nodes.push(Step::default());
                    self.nodes[at].next.push((octet, new));
                    new
                });
            }
            self.nodes[at].rules.push(rule);
        }
    }

    fn step(&self, from: usize, octet: u8) -> Option<usize> {
        self.nodes[from].next.iter().find(|(next, _)| *next == octet).map(|(_, to)| *to)
    }

    /// The rules that may mean a path.
    fn beginning(&self, path: &str) -> Set {
        let mut begin = Set::default();
        let mut octets = path.bytes();
        let mut at = Some(0);
        while let Some(node) = at {
            self.nodes[node].rules.iter().for_each(|rule| begin.add(*rule));
            at = octets.next().and_then(|octet| self.step(node, octet));
        }
        begin
    }
}

/// Rule numbers, a bit each.
#[derive(Clone, Debug, Default)]
struct Set(Vec<u64>);

impl Set {
    fn add(&mut self, rule: usize) {
        let (word, bit) = (rule / 64, rule % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    fn keep(&mut self, other: &Self) {
        self.0.truncate(other.0.len());
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    fn drop(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= !other);
    }

    /// In order.
    fn into_iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(at, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                (word != 0).then(|| {
                    word &= word - 1;
                    at * 64 + bit
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rules: &[usize]) -> Set {
        let mut set = Set::default();
        rules.iter().for_each(|rule| set.add(*rule));
        set
    }

    fn list(set: Set) -> Vec<usize> {
        set.into_iter().collect()
    }

    #[test]
    fn sets_of_any_length() {
        let long = set(&[0, 63, 64, 200]);
        assert_eq!(list(long.clone()), [0, 63, 64, 200]);
        for (with, joined, kept, left) in [
            (&[][..], &[0, 63, 64, 200][..], &[][..], &[0, 63, 64, 200][..]),
            (&[63, 1], &[0, 1, 63, 64, 200], &[63], &[0, 64, 200]),
            (&[200, 300], &[0, 63, 64, 200, 300], &[200], &[0, 63, 64]),
        ] {
            let other = set(with);
            let (mut a, mut b, mut c) = (long.clone(), long.clone(), long.clone());
            a.join(&other);
            b.keep(&other);
            c.drop(&other);
            assert_eq!((list(a), list(b), list(c)), (joined.to_vec(), kept.to_vec(), left.to_vec()));
        }
    }

    #[test]
    fn paths_by_their_beginnings() {
        let mut paths = Paths::default();
        for (rule, globs) in
            [&["/v1/**"][..], &[], &["/v1/files/*", "/v2"], &["**"], &["/v"], &["/v1/files/a"]]
                .iter()
                .enumerate()
        {
            let globs: Vec<Glob> = globs.iter().map(|glob| Glob::parse(glob).expect("a pattern")).collect();
            paths.add(rule, &globs);
        }
        for (path, rules) in [
            ("", &[1, 3][..]),
            ("/", &[1, 3]),
            ("/v", &[1, 3, 4]),
            ("/v1/files/ab", &[0, 1, 2, 3, 4, 5]),
            ("/v2", &[1, 2, 3, 4]),
            ("*", &[1, 3]),
        ] {
            assert_eq!(list(paths.beginning(path)), rules, "{path}");
        }
    }

    #[test]
    fn hosts_by_name_and_by_what_is_below() {
        let mut hosts = Hosts::default();
        for (rule, names) in
            [&["a.example"][..], &[], &["*.example", "b.test"], &["*"], &["*.a.example"]].iter().enumerate()
        {
            hosts.add(rule, names);
        }
        for (host, rules) in [
            (None, &[1, 3][..]),
            (Some("a.example"), &[0, 1, 2, 3]),
            (Some("x.a.example"), &[1, 2, 3, 4]),
            (Some("example"), &[1, 3]),
            (Some("b.test"), &[1, 2, 3]),
        ] {
            assert_eq!(list(hosts.naming(host)), rules, "{host:?}");
        }
    }
}
