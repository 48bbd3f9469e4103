//! One rule against one action: whether it matches, and if not, what it fails on.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::claims;
use super::facts::{Facts, alike_parameters};
use super::filter::Filter;
use super::known::Known;
use super::pattern::Glob;
use super::rule::{CallerAsks, Effect, RequestAsks, Rule, ToAsks};
use super::when::When;
use crate::types::action::Http;
use crate::types::{Action, Caller, HostName, Identity};

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// Who stands behind it: `None` when that may yet come with the request, `Some(None)` when nobody does.
    pub identity: Option<Option<&'a Identity>>,
    /// What is wanted.
    pub action: Action<'a>,
    /// The host's clock.
    pub now: OffsetDateTime,
}

/// A rule, ready to be judged by.
#[derive(Debug)]
pub(super) struct Compiled {
    pub rule: Rule,
    pub when: Option<When>,
    pub filter: Filter,
}

/// What a rule asks, by the key that it is written with.
pub type Key = &'static str;

/// How far a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// All that it asks.
    Yes,
    /// Not, and the first key that failed.
    No(Key),
    /// Perhaps: the first key that asks for what is not known yet.
    NotYet(Key),
    /// It cannot be judged: the first such key, and why. A rule that allows then does not match; one that refuses does.
    Cannot(Key, String),
}

impl Match {
    /// The first no ends it; a "not yet" stays until then, and before what cannot be judged.
    fn and(self, key: Key, next: impl FnOnce() -> Known) -> Self {
        if let Self::No(_) = self {
            return self;
        }
        match (next(), self) {
            (Known::No, _) => Self::No(key),
            (Known::NotYet, Self::Yes | Self::Cannot(..)) => Self::NotYet(key),
            (Known::Cannot(why), Self::Yes) => Self::Cannot(key, why),
            (_, matched) => matched,
        }
    }
}

impl Compiled {
    /// Judges the cheap keys first, what asks for the body last.
    pub fn judge(&self, facts: &Facts<'_>) -> Match {
        let (rule, asked) = (&self.rule, facts.asked);
        facts.deaf.set(!self.asks_speaker());
        facts.refuses.set(rule.verdict != Effect::Allow);
        let matched = to(&rule.to, asked, Match::Yes);
        if let Match::No(_) = matched {
            return matched;
        }
        let matched = caller(&rule.caller, facts, matched);
        if let Match::No(_) = matched {
            return matched;
        }
        let refuses = rule.verdict != Effect::Allow;
        let matched = request(&rule.request, facts, refuses, matched);
        if let Match::No(_) = matched {
            return matched;
        }
        let matched = matched.and("windows", || any(&rule.windows, |window| window.holds(asked.now)));
        let matched = matched.and("when", || {
            self.when.as_ref().map_or(Known::Yes, |when| when.holds(facts, rule.body_max, refuses))
        });
        let matched = matched.and("prompt_words", || self.filter.words(facts, rule.body_max));
        matched.and("prompt_patterns", || self.filter.patterns(facts, rule.body_max))
    }

    /// Whether it may ask for messages on a WebSocket.
    pub fn asks_message(&self) -> bool {
        self.rule.request.asks_body() || self.when.as_ref().is_some_and(When::asks_message)
    }

    /// Whether it asks which side of a WebSocket sent a message. One that does not is about the client's.
    pub fn asks_speaker(&self) -> bool {
        self.when.as_ref().is_some_and(When::asks_speaker)
    }

    /// Whether it may ask for the body.
    pub fn asks_body(&self) -> bool {
        self.rule.request.asks_body() || self.when.as_ref().is_some_and(When::asks_body)
    }
}

/// Yes when nothing is asked.
fn any<T>(asks: &[T], holds: impl FnMut(&T) -> bool) -> Known {
    Known::of(asks.is_empty() || asks.iter().any(holds))
}

/// As [`any`], of something that may be absent: then no.
fn any_of<T, V: ?Sized>(asks: &[T], value: Option<&V>, holds: impl Fn(&T, &V) -> bool) -> Known {
    Known::of(asks.is_empty() || value.is_some_and(|value| asks.iter().any(|ask| holds(ask, value))))
}

fn to(asks: &ToAsks, asked: &Asked<'_>, matched: Match) -> Match {
    let destination = asked.action.destination();
    matched
        .and("ports", || Known::of(asks.ports.is_empty() || asks.ports.hold(destination.port())))
        .and("addresses", || Known::of(asks.addresses.is_empty() || asks.addresses.hold(destination.ip())))
        .and("hosts", || {
            if asks.hosts.is_empty() {
                return Known::Yes;
            }
            match asked.action.host() {
                None => Known::NotYet,
                Some(host) => {
                    any_of(&asks.hosts, host, |pattern, host: &HostName| pattern.matches(host.as_str()))
                }
            }
        })
        .and("protocols", || {
            if asks.protocols.is_empty() {
                return Known::Yes;
            }
            match asked.action {
                Action::Connect { .. } | Action::Name { .. } => Known::NotYet,
                Action::Tunnel { .. } => any(&asks.protocols, |protocol| protocol == "tunnel"),
                Action::Http(Http { protocol, .. }) => {
                    any(&asks.protocols, |ask| ask == protocol || ask == "http")
                }
            }
        })
}

fn caller(asks: &CallerAsks, facts: &Facts<'_>, matched: Match) -> Match {
    let caller = facts.asked.caller;
    let glob = |glob: &Glob, text: &str| glob.matches(text);
    let exe = caller.exe.as_ref();
    matched
        .and("tags", || any(&asks.tags, |tag| tag.matches(caller.tag.as_str())))
        .and("units", || any_of(&asks.units, caller.unit.as_deref(), glob))
        .and("users", || {
            any(&asks.users, |user| Some(user) == caller.user.as_ref() || user.parse() == Ok(caller.uid))
        })
        .and("exes", || any_of(&asks.exes, exe.map(|exe| exe.path.as_str()), glob))
        .and("exe_sha256", || {
            if asks.exe_sha256.is_empty() {
                return Known::Yes;
            }
            Known::from(facts.exe_sha256().map(|sum| asks.exe_sha256.iter().any(|ask| ask == sum)))
        })
        .and("containers", || {
            let is = |ask: &Glob| {
                [&caller.container, &caller.image].into_iter().flatten().any(|text| ask.matches(text))
            };
            any(&asks.containers, is)
        })
        .and("identities", || identity(&asks.identities, facts, |ask, is| ask.matches(&is.subject)))
        .and("groups", || identity(&asks.groups, facts, |ask, is| is.groups.contains(ask)))
        .and("issuers", || {
            if asks.issuers.is_empty() {
                return Known::Yes;
            }
            Known::from(facts.issuer().map(|issuer| asks.issuers.iter().any(|ask| ask == issuer)))
        })
        .and("claims", || claims::hold(&asks.claims, facts))
}

fn identity<T>(asks: &[T], facts: &Facts<'_>, holds: impl Fn(&T, &Identity) -> bool) -> Known {
    if asks.is_empty() {
        return Known::Yes;
    }
    Known::from(facts.identity().map(|is| asks.iter().any(|ask| holds(ask, is))))
}

fn request(asks: &RequestAsks, facts: &Facts<'_>, refuses: bool, matched: Match) -> Match {
    let http = match facts.asked.action {
        Action::Http(http) => Some(http),
        Action::Connect { .. } | Action::Name { .. } => {
            let later = |asks: bool| if asks { Known::NotYet } else { Known::Yes };
            return matched.and("request", || later(asks.asks()));
        }
        Action::Tunnel { .. } => None,
    };
    let http = http.as_ref();
    matched
        .and("methods", || any_of(&asks.methods, http, |ask, http: &Http<'_>| ask == http.method))
        .and("paths", || {
            if asks.paths.is_empty() {
                return Known::Yes;
            }
            Known::from(facts.path().map(|path| asks.paths.iter().any(|ask| ask.matches(path))))
        })
        .and("query", || {
            let values = |http: &Http<'_>, name: &str| parameters(http.query.unwrap_or_default(), name);
            every(&asks.query, refuses, http, |name| facts.hides_query(name), values)
        })
        .and("headers", || {
            every(
                &asks.headers,
                refuses,
                http,
                |name| facts.hides_header(name),
                |http, name| {
                    let text =
                        |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                    let named = http.headers.get_all(name).iter().map(|value| (true, text(value)));
                    let alike = facts.alike_headers(name).flat_map(|key| http.headers.get_all(key));
                    named.chain(alike.map(|value| (false, text(value)))).collect()
                },
            )
        })
}

/// Every name has a value, and all its values match; for a rule that refuses, any of them: a second one can hide neither
/// behind the first nor the first behind it. Values of names that servers may take for it (`false`) count, too.
fn every(
    asks: &BTreeMap<String, Vec<Glob>>,
    refuses: bool,
    http: Option<&Http<'_>>,
    hidden: impl Fn(&str) -> bool,
    values: impl Fn(&Http<'_>, &str) -> Vec<(bool, String)>,
) -> Known {
    let (unknown, known): (Vec<_>, Vec<_>) =
        asks.iter().partition(|(name, _)| http.is_some() && hidden(name));
    let holds = known.into_iter().all(|(name, globs)| {
        let values = http.map(|http| values(http, name)).unwrap_or_default();
        let mut matches = values.iter().map(|(_, value)| globs.iter().any(|glob| glob.matches(value)));
        if refuses {
            matches.any(|is| is)
        } else {
            values.iter().any(|(named, _)| *named) && matches.all(|is| is)
        }
    });
    if holds && !unknown.is_empty() { Known::NotYet } else { Known::of(holds) }
}

/// The values of a query parameter, percent-decoded, `+` as a space (application/x-www-form-urlencoded).
fn parameters(query: &str, name: &str) -> Vec<(bool, String)> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let named = pairs.filter(|(key, _)| key == name || alike_parameters(key, name));
    named.map(|(key, value)| (key == name, value.into_owned())).collect()
}
