//! What a rule bounds of what it allows, and on whose count an exchange is. Plain data and names: nothing is counted here
//! (that is [`crate::limit`]).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::facts::Facts;
use super::rule::Rule;
use crate::types::identity::claim_at;

/// One `limit` of a rule: at least one amount, each at least 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Exchanges begun.
    pub requests: Option<u64>,
    /// Octets of bodies (of a tunnel or a WebSocket: all), both ways together.
    pub bytes: Option<u64>,
    /// Tokens of language models, of prompt and answer together.
    pub tokens: Option<u64>,
    /// Exchanges open at once.
    pub concurrent: Option<u64>,
    /// The window of the other three; `None` where `concurrent` stands alone.
    pub per: Option<Duration>,
    /// Who shares a count.
    pub by: By,
}

/// Who shares a count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum By {
    /// All callers of the rule.
    #[default]
    Rule,
    /// Callers with the same verified identity: issuer and subject.
    Identity,
    /// Callers in the same tag.
    Tag,
    /// Callers in the same systemd unit.
    Unit,
    /// Callers with the same user id.
    User,
    /// Callers with the same value of a verified claim (a path with dots).
    Claim(String),
}

/// Whose count it is, where that is not known: all such callers share one.
pub const NOBODY: &str = "(none)";
/// A longer key stands as its beginning and its SHA-256.
const KEY_MAX: usize = 200;
const KEY_KEPT: usize = 64;

/// What bounds an exchange: its rule's limits, each with the count that it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The rule.
    pub rule: String,
    /// Whether what is beyond is refused; else it is recorded only.
    pub applied: bool,
    /// Octets of the request's body that may be read for an estimate of its tokens; 0 where no limit asks for one.
    pub reads: u64,
    /// The limits.
    pub each: Vec<Bound>,
}

/// A limit, and whose count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The limit.
    pub limit: Limit,
    /// The caller's, by `limit.by`.
    pub key: String,
}

impl Bounds {
    /// Of a rule that allows; `None` where it has no limits.
    pub(super) fn of(rule: &Rule, applied: bool, facts: &Facts<'_>) -> Option<Box<Self>> {
        if rule.limits.is_empty() {
            return None;
        }
        let each: Vec<_> = rule
            .limits
            .iter()
            .map(|limit| Bound { limit: limit.clone(), key: limit.by.key(facts) })
            .collect();
        let reads = if each.iter().any(|one| one.limit.tokens.is_some()) { rule.body_max } else { 0 };
        Some(Box::new(Self { rule: rule.name.clone(), applied, reads, each }))
    }
}

impl By {
    /// The name that the configuration has for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Identity => "identity",
            Self::Tag => "tag",
            Self::Unit => "unit",
            Self::User => "user",
            Self::Claim(_) => "claim",
        }
    }

    /// What callers share who are on one count. No two kinds of caller have the same: issuers have no blanks, and claims stand
    /// as JSON.
    fn key(&self, facts: &Facts<'_>) -> String {
        let caller = facts.asked.caller;
        let known = match self {
            Self::Rule => return String::new(),
            Self::Identity => facts.identity().ok().map(|is| format!("{} {}", is.issuer, is.subject)),
            Self::Tag => Some(caller.tag.as_str().to_owned()),
            Self::Unit => caller.unit.clone(),
            Self::User => Some(format!("uid {}", caller.uid)),
            Self::Claim(path) => {
                let claims = facts.claims().ok().and_then(|claims| claims.as_object());
                claims.and_then(|claims| claim_at(claims, path)).map(ToString::to_string)
            }
        };
        known.map_or_else(|| NOBODY.to_owned(), short)
    }
}

/// Keys are held in memory by the thousand, and claims may be long.
fn short(key: String) -> String {
    if key.len() <= KEY_MAX {
        return key;
    }
    let sum = Sha256::digest(key.as_bytes());
    let kept = key.floor_char_boundary(KEY_KEPT);
    let mut short = format!("{}… sha256:", &key[..kept]);
    sum.iter().for_each(|b| short.push_str(&format!("{b:02x}")));
    short
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(path) => write!(f, "claim:{path}"),
            other => f.write_str(other.name()),
        }
    }
}

/// As the configuration has it: `requests = 60, tokens = 100000, per = "1m", by = "identity"`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amounts = [
            ("requests", self.requests),
            ("bytes", self.bytes),
            ("tokens", self.tokens),
            ("concurrent", self.concurrent),
        ];
        for (name, amount) in amounts {
            if let Some(amount) = amount {
                write!(f, "{name} = {amount}, ")?;
            }
        }
        if let Some(per) = self.per {
            write!(f, "per = \"{}\", ", span(per))?;
        }
        write!(f, "by = \"{}\"", self.by)
    }
}

/// A duration as the configuration has it, in the largest unit that says it whole.
pub fn span(time: Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (_, 1..) => format!("{}ms", time.as_millis()),
        (secs @ 1.., 0) if secs % 3600 == 0 => format!("{}h", secs / 3600),
        (secs @ 1.., 0) if secs % 60 == 0 => format!("{}m", secs / 60),
        (secs, 0) => format!("{secs}s"),
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::policy::Asked;
    use crate::types::{Action, Caller, Destination, Identity, TagName};

    #[test]
    fn keys() {
        let mut caller = Caller::unknown(TagName::parse("ci").expect("tag"), 1);
        caller.uid = 1000;
        let identity = Identity {
            issuer: "https://i.example".to_owned(),
            subject: "project a:main".to_owned(),
            groups: Vec::new(),
            claims: serde_json::json!({
                "team": "(none)",
                "n": 7,
                "long": "é".repeat(500),
                "k.io": {"ns": "x"},
            }),
            expires: i64::MAX,
        };
        let key = |by: By, identity: Option<&Identity>| {
            let asked = Asked {
                caller: &caller,
                identity: Some(identity),
                action: Action::Connect { destination: Destination::new([192, 0, 2, 1].into(), 443) },
                now: OffsetDateTime::UNIX_EPOCH,
            };
            by.key(&Facts::new(&asked))
        };
        let claim = |name: &str| By::Claim(name.to_owned());
        for (by, want) in [
            (By::Rule, ""),
            (By::Identity, "https://i.example project a:main"),
            (By::Tag, "ci"),
            (By::Unit, NOBODY),
            (By::User, "uid 1000"),
            (claim("team"), "\"(none)\""),
            (claim("n"), "7"),
            (claim("k.io.ns"), "\"x\""),
            (claim("other"), NOBODY),
        ] {
            assert_eq!(key(by.clone(), Some(&identity)), want, "{by}");
        }
        assert_eq!((key(By::Identity, None), key(claim("n"), None)), (NOBODY.into(), NOBODY.into()));
        let ended = Identity { expires: 0, ..identity.clone() };
        assert_eq!(key(By::Identity, Some(&ended)), NOBODY);
        let long = key(claim("long"), Some(&identity));
        assert!(long.len() < KEY_MAX && long.contains("… sha256:"), "{long}");
    }

    #[test]
    fn limits_are_said_as_they_are_written() {
        let limit = Limit {
            requests: Some(60),
            concurrent: Some(4),
            per: Some(Duration::from_secs(90)),
            by: By::Claim("ref".to_owned()),
            ..Limit::default()
        };
        assert_eq!(limit.to_string(), "requests = 60, concurrent = 4, per = \"90s\", by = \"claim:ref\"");
        for (ms, want) in [(1500, "1500ms"), (60_000, "1m"), (7_200_000, "2h"), (5_400_000, "90m"), (0, "0s")]
        {
            assert_eq!(span(Duration::from_millis(ms)), want);
        }
    }
}
