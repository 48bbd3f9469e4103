//! Judgement of name lookups: which names, types and label lengths the resolver takes upstream. Pure; how *often* a name
//! may be asked for is counted by the resolver, with the bounds that stand here.

use serde::{Deserialize, Serialize};

use super::{Permit, Policy};
use crate::types::Caller;

/// The longest label that DNS can carry (RFC 1035 §2.3.4): as a bound it is none.
pub const LONGEST_LABEL: u8 = 63;

/// `[dns]` as far as it is judgement. The default lets everything through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookups {
    /// Names that are not looked up, nor passed on as the target of an alias.
    pub deny: Vec<NamePattern>,
    /// What the asker of a denied name is told.
    pub answer: Denial,
    /// Octets of the longest label of a name that is looked up.
    pub max_label: u8,
    /// Queries a second for each tag and registered domain; 0: no bound.
    pub rate: u32,
    /// Different names a minute below one registered domain, for each tag; 0: no bound.
    pub new_names: u32,
    /// Types that are looked up, in upper case (`A`, `TYPE65`); empty: every type.
    pub types: Vec<String>,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            deny: Vec::new(),
            answer: Denial::default(),
            max_label: LONGEST_LABEL,
            rate: 0,
            new_names: 0,
            types: Vec::new(),
        }
    }
}

/// How a denied lookup is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Denial {
    /// As if the name did not exist: clients stop asking.
    #[default]
    NxDomain,
    /// REFUSED: clients say that the server would not.
    Refused,
}

/// A name, or all below one: `example.com`, `*.example.com`, `*`. Letter case does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(String);

/// A text that is no pattern of names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name pattern")]
pub struct NotAName(pub String);

impl NamePattern {
    /// Reads a pattern, folding case and dropping one trailing dot.
    ///
    /// # Errors
    /// [`NotAName`]: not `*`, nor a name of labels with letters, digits, `-` and `_`, perhaps behind `*.`.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let pattern = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let name = pattern.strip_prefix("*.").unwrap_or(&pattern);
        let octet = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let label = |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(octet);
        if pattern == "*" || (name.len() <= 253 && name.split('.').all(label)) {
            Ok(Self(pattern))
        } else {
            Err(NotAName(text.chars().take(300).collect()))
        }
    }

    /// Whether `name` (lower case, without a trailing dot) is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_prefix('*') {
            Some("") => true,
            // `.example.com`: whatever ends so has a label before it.
            Some(below) => name.len() > below.len() && name.ends_with(below),
            None => name == self.0,
        }
    }

    /// As written, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NamePattern {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.0
    }
}

/// A lookup that somebody wants. Borrowed: it lives as long as the decision.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// The name: lower case, without the trailing dot, odd octets escaped as in zone files; empty for the root.
    pub name: &'a str,
    /// Octets of its longest label.
    pub longest_label: usize,
    /// Type in upper case: `A`, `TYPE65`.
    pub kind: &'a str,
}

/// Why a lookup is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The name matches a pattern of `dns.deny`.
    #[error("dns.deny has {pattern:?}")]
    Name {
        /// The pattern.
        pattern: String,
    },
    /// An alias of the name matches one.
    #[error("the name is an alias of {target}, and dns.deny has {pattern:?}")]
    Alias {
        /// Where the alias leads.
        target: String,
        /// The pattern.
        pattern: String,
    },
    /// Longer than `dns.max_label`.
    #[error("a label of {length} octets is longer than dns.max_label = {bound}")]
    Label {
        /// Its length.
        length: usize,
        /// The bound.
        bound: u8,
    },
    /// Not in `dns.types`.
    #[error("type {kind} is not in dns.types")]
    Type {
        /// The type.
        kind: String,
    },
    /// More than `dns.rate`.
    #[error("more than dns.rate = {bound} queries a second below {domain}")]
    Rate {
        /// The registered domain.
        domain: String,
        /// The bound.
        bound: u32,
    },
    /// More than `dns.new_names`.
    #[error("more than dns.new_names = {bound} different names a minute below {domain}")]
    NewNames {
        /// The registered domain.
        domain: String,
        /// The bound.
        bound: u32,
    },
}

impl Denied {
    /// The key of the configuration that denied it: the rule, for the record.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Name { .. } | Self::Alias { .. } => "dns.deny",
            Self::Label { .. } => "dns.max_label",
            Self::Type { .. } => "dns.types",
            Self::Rate { .. } => "dns.rate",
            Self::NewNames { .. } => "dns.new_names",
        }
    }
}

/// Decides a lookup. These bounds hold in observe mode too: whoever sets one means it.
///
/// # Errors
/// [`Denied`]: which bound it breaks.
pub fn decide(policy: &Policy, _caller: &Caller, lookup: Lookup<'_>) -> Result<Permit, Denied> {
    let bounds = &policy.lookups;
    if let Some(pattern) = denied_by(bounds, lookup.name) {
        return Err(Denied::Name { pattern: pattern.as_str().to_owned() });
    }
    if lookup.longest_label > usize::from(bounds.max_label) {
        return Err(Denied::Label { length: lookup.longest_label, bound: bounds.max_label });
    }
    if !bounds.types.is_empty() && !bounds.types.iter().any(|kind| kind == lookup.kind) {
        return Err(Denied::Type { kind: lookup.kind.to_owned() });
    }
    Ok(policy.minted(super::OBSERVE, crate::types::Verdict::Allow, false))
}

/// Decides where an alias leads: a denied name is not reached by another that points at it.
///
/// # Errors
/// [`Denied::Alias`].
pub fn decide_alias(policy: &Policy, target: &str) -> Result<(), Denied> {
    match denied_by(&policy.lookups, target) {
        Some(pattern) => {
            Err(Denied::Alias { target: target.to_owned(), pattern: pattern.as_str().to_owned() })
        }
        None => Ok(()),
    }
}

fn denied_by<'p>(bounds: &'p Lookups, name: &str) -> Option<&'p NamePattern> {
    bounds.deny.iter().find(|pattern| pattern.matches(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("example.com", "example.com", true),
            ("Example.COM.", "example.com", true),
            ("example.com", "www.example.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "notexample.com", false),
            ("*", "anything.test", true),
            ("*", "", true),
        ] {
            assert_eq!(NamePattern::parse(pattern).expect(pattern).matches(name), want, "{pattern} {name}");
        }
        for bad in ["", ".", "*..", "a..b", "*example.com", "a.*.com", "ex ample.com", &"a".repeat(64)] {
            NamePattern::parse(bad).expect_err(bad);
        }
    }

    #[test]
    fn each_bound_denies_what_breaks_it_and_only_that() {
        let caller = Caller::unknown(crate::types::TagName::parse("t").expect("tag"), 1);
        let mut policy = Policy::default();
        let lookup = Lookup { name: "www.bad.test", longest_label: 40, kind: "TXT" };
        decide(&policy, &caller, lookup).expect("nothing is denied by default");
        policy.lookups.types = vec!["A".to_owned()];
        assert_eq!(decide(&policy, &caller, lookup).expect_err("type").rule(), "dns.types");
        policy.lookups.max_label = 39;
        assert_eq!(decide(&policy, &caller, lookup).expect_err("label").rule(), "dns.max_label");
        policy.lookups.deny = vec![NamePattern::parse("*.bad.test").expect("pattern")];
        assert_eq!(decide(&policy, &caller, lookup).expect_err("name").rule(), "dns.deny");
        decide_alias(&policy, "x.bad.test").expect_err("alias");
        decide_alias(&policy, "good.test").expect("good");
    }
}
