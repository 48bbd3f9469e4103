//! Which rules leave nothing to others: one covers another when it matches whatever the other matches. Said only where it
//! is certain.

use std::collections::BTreeMap;

use super::lookup::NamePattern;
use super::pattern::Glob;
use super::rule::{CallerAsks, Effect, RequestAsks, Rule, ToAsks};

impl Rule {
    /// Whether it asks anything.
    pub fn asks(&self) -> bool {
        *self
            != Self {
                name: self.name.clone(),
                mode: self.mode,
                verdict: self.verdict,
                durable: self.durable,
                body_max: self.body_max,
                credential: self.credential.clone(),
                caller_key: self.caller_key,
                masks: self.masks.clone(),
                limits: self.limits.clone(),
                ..Self::default()
            }
    }

    /// Whether it matches whatever `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        // What looks at the body sees no more of it than its bound, and nothing of what is beyond.
        let looks = self.when.is_some() || self.request.asks_body();
        let condition = !looks || (self.when == other.when && self.body_max >= other.body_max);
        // What is read in several ways, or stands there twice, matches a rule that refuses sooner than one that allows.
        let allows = |rule: &Self| rule.verdict == Effect::Allow;
        let sooner = allows(self) && !allows(other) && (looks || self.request.may_differ());
        condition
            && !sooner
            && self.to.cover(&other.to)
            && self.caller.cover(&other.caller)
            && self.request.cover(&other.request)
            && within(&self.windows, &other.windows, PartialEq::eq)
    }
}

/// Whether the list `wide` lets through all that `narrow` lets through; an empty list asks nothing.
fn within<T>(wide: &[T], narrow: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    let covered = |one: &T| wide.iter().any(|all| covers(all, one));
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(covered))
}

/// The same of tables: all that `wide` asks, `narrow` asks at least as strictly.
fn tables(wide: &BTreeMap<String, Vec<Glob>>, narrow: &BTreeMap<String, Vec<Glob>>) -> bool {
    wide.iter().all(|(key, all)| {
        narrow.get(key).is_some_and(|some| some.iter().all(|one| all.iter().any(|all| all.covers(one))))
    })
}

impl CallerAsks {
    fn cover(&self, other: &Self) -> bool {
        within(&self.tags, &other.tags, Glob::covers)
            && within(&self.units, &other.units, Glob::covers)
            && within(&self.users, &other.users, PartialEq::eq)
            && within(&self.exes, &other.exes, Glob::covers)
            && within(&self.exe_sha256, &other.exe_sha256, PartialEq::eq)
            && within(&self.containers, &other.containers, Glob::covers)
            && within(&self.identities, &other.identities, Glob::covers)
            && within(&self.groups, &other.groups, PartialEq::eq)
            && within(&self.issuers, &other.issuers, PartialEq::eq)
            && tables(&self.claims, &other.claims)
    }
}

impl ToAsks {
    fn cover(&self, other: &Self) -> bool {
        let protocol =
            |wide: &String, narrow: &String| wide == narrow || (wide == "http" && narrow != "tunnel");
        within(&self.protocols, &other.protocols, protocol)
            && within(&self.hosts, &other.hosts, host)
            && self.addresses.cover(&other.addresses)
            && self.ports.cover(&other.ports)
    }
}

impl RequestAsks {
    /// Whether it asks for what may have several readings or values.
    fn may_differ(&self) -> bool {
        !(self.paths.is_empty() && self.query.is_empty() && self.headers.is_empty())
    }

    fn cover(&self, other: &Self) -> bool {
        within(&self.methods, &other.methods, PartialEq::eq)
            && within(&self.paths, &other.paths, Glob::covers)
            && tables(&self.query, &other.query)
            && tables(&self.headers, &other.headers)
            && within(&self.prompt_words, &other.prompt_words, PartialEq::eq)
            && within(&self.prompt_patterns, &other.prompt_patterns, PartialEq::eq)
    }
}

fn host(wide: &NamePattern, narrow: &NamePattern) -> bool {
    match narrow.as_str().strip_prefix("*.") {
        None => wide.matches(narrow.as_str()),
        // What is below `*.a.example` is below `*.example`; `x.` stands for any of it.
        Some(below) => {
            wide == narrow || (wide.as_str().starts_with('*') && wide.matches(&format!("x.{below}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::pattern::{Addresses, Ports};

    #[test]
    fn globs() {
        for (wide, narrow, covers) in [
            ("/v1/**", "/v1/files/*", true),
            ("/v1/*", "/v1/files", true),
            ("/v1/*", "/v1/files/x", false),
            ("/v1/*", "/v1/**", false),
            ("/*/x", "/a*/x", true),
            ("**", "/*", true),
            ("**", "a**b", true),
            ("/v1/**", "/v1/**/x", true),
            ("*/*", "**", false),
            ("/a**", "/**", false),
            ("/a/b", "/a/b", true),
        ] {
            let glob = |text: &str| Glob::parse(text).expect(text);
            assert_eq!(glob(wide).covers(&glob(narrow)), covers, "{wide} {narrow}");
        }
    }

    #[test]
    fn hosts() {
        for (wide, narrow, covers) in [
            ("*", "*.a.example", true),
            ("*.example", "*.a.example", true),
            ("*.a.example", "*.example", false),
            ("a.example", "a.example", true),
            ("*.example", "a.example", true),
            ("a.example", "*.a.example", false),
            ("*.example", "example", false),
            ("*.a.example", "*", false),
        ] {
            let name = |text: &str| NamePattern::parse(text).expect(text);
            assert_eq!(host(&name(wide), &name(narrow)), covers, "{wide} {narrow}");
        }
    }

    #[test]
    fn addresses_and_ports() {
        let addresses = |text: &str| {
            let mut addresses = Addresses::default();
            text.split_whitespace().for_each(|one| addresses.add(one).expect(one));
            addresses
        };
        assert!(addresses("10.0.0.0/8 ::/0").cover(&addresses("10.1.0.0/16 2001:db8::1")));
        assert!(!addresses("10.0.0.0/8").cover(&addresses("10.1.0.0/16 192.0.2.1")));
        assert!(
            addresses("").cover(&addresses("192.0.2.1")) && !addresses("192.0.2.1").cover(&addresses(""))
        );
        let ports = |text: &str| {
            let mut ports = Ports::default();
            text.split_whitespace().for_each(|one| ports.add(one).expect(one));
            ports
        };
        assert!(ports("1-100").cover(&ports("80 90-100")) && !ports("1-100").cover(&ports("80 90-101")));
        assert!(ports("").cover(&ports("80")) && !ports("80").cover(&ports("")));
    }

    #[test]
    fn one_that_allows_leaves_something_to_one_that_refuses() {
        let rule = |verdict| {
            let mut rule = Rule { verdict, ..Rule::default() };
            rule.request.paths.push(Glob::parse("/v1/**").expect("pattern"));
            rule
        };
        let (allows, refuses) = (rule(Effect::Allow), rule(Effect::Deny));
        assert!(refuses.covers(&allows) && allows.covers(&allows) && refuses.covers(&refuses));
        assert!(!allows.covers(&refuses), "/v1/../x is the second one's");
        let all = Rule { verdict: Effect::Allow, ..Rule::default() };
        assert!(all.covers(&refuses));
    }
}
