//! What was seen, as the rules that allow it and as little else as can be said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::seen::{Done, Everything, Place, Protocol, To, Use};
use super::text::quoted;
use super::tree::Seen as _;
use crate::cli::policy::template;
use crate::policy::lookup::NamePattern;
use crate::policy::pattern::{Addresses, Glob, Ports};
use crate::policy::rule::{BODY_LIMIT, BODY_MAX, Effect, Rule};

/// Rules in all; more are left out.
const RULES: usize = 2000;
/// Bytes of a rule's name that are its host's.
const NAME: usize = 60;

/// A rule, and what is said of it.
pub struct Suggestion {
    /// The rule.
    pub rule: Rule,
    /// The port, as it is written.
    pub port: u16,
    /// The addresses, likewise.
    pub addresses: BTreeSet<IpAddr>,
    /// What it is for.
    pub seen: Use,
    /// Programs.
    pub exes: BTreeSet<String>,
    /// Whether it can allow what it was not made of, but for the ids in its paths.
    pub unlimited: bool,
}

/// What requests have in common beside method and path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    /// Nothing.
    None,
    /// To a model, of which the record does not know which.
    AnyModel,
    /// These models; perhaps none at all.
    Models(BTreeSet<Arc<str>>, bool),
    /// This very request.
    Exactly(String, String),
}

impl Condition {
    fn of(one: &Use) -> Self {
        match (&one.models, one.modelless > 0) {
            _ if one.other > 0 => Self::None,
            (models, false) if models.is_empty() => Self::AnyModel,
            (models, modelless) => Self::Models(models.clone(), modelless),
        }
    }

    /// In CEL.
    fn code(&self) -> Option<String> {
        let list = |models: &BTreeSet<Arc<str>>| {
            models.iter().map(|model| quoted(model)).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::None | Self::AnyModel => None,
            Self::Models(models, _) if models.is_empty() => Some("!has(request.llm.model)".to_owned()),
            Self::Models(models, false) => Some(format!("request.llm.model in [{}]", list(models))),
            Self::Models(models, true) => {
                Some(format!("!has(request.llm.model) || request.llm.model in [{}]", list(models)))
            }
            Self::Exactly(method, path) => {
                Some(format!("request.method == {} && request.path == {}", quoted(method), quoted(path)))
            }
        }
    }
}

/// The rules, in order. What does not fit is counted in `all`.
pub fn of(all: &mut Everything) -> Vec<Suggestion> {
    let mut suggestions: Vec<Suggestion> = Vec::new();
    let mut left = 0;
    for (place, done) in &all.places {
        let mut rules = of_place(place, done);
        let room = RULES.saturating_sub(suggestions.len());
        left += rules.iter().skip(room).map(|one| one.seen.count).sum::<u64>();
        rules.truncate(room);
        suggestions.append(&mut rules);
    }
    if left > 0 {
        *all.left.entry("would take more rules than are suggested").or_default() += left;
    }
    name(&mut suggestions);
    suggestions
}

/// Unique names that say what for.
fn name(suggestions: &mut [Suggestion]) {
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    for suggestion in suggestions {
        let rule = &mut suggestion.rule;
        let address = || suggestion.addresses.first().map(|ip| ip.to_string().replace(':', "."));
        let host = rule.to.hosts.first().map(|host| host.as_str().to_owned()).or_else(address);
        let host: String = host.unwrap_or_default().chars().take(NAME).collect();
        let tag = rule.caller.tags.first().map_or("", Glob::as_str);
        let tag: String = tag.chars().take(100 - NAME - 8).collect();
        let number = taken.entry(format!("{tag}/{host}")).or_default();
        *number += 1;
        rule.name = format!("{tag}/{host}/{number}");
    }
}

/// Methods and paths that go together.
type Groups<'d> = BTreeMap<(Condition, BTreeSet<&'d str>), Vec<(String, Use)>>;

fn of_place(place: &Place, done: &Done) -> Vec<Suggestion> {
    let mut groups: Groups<'_> = BTreeMap::new();
    for (path, by_method) in done.tree.paths() {
        let mut alike: BTreeMap<Condition, (BTreeSet<&str>, Use)> = BTreeMap::new();
        for (method, one) in &by_method.0 {
            let (methods, seen) = alike.entry(Condition::of(one)).or_default();
            methods.insert(method);
            seen.merge(one.clone());
        }
        for (condition, (methods, seen)) in alike {
            groups.entry((condition, methods)).or_default().push((template::pattern(&path), seen));
        }
    }
    let mut suggestions = Vec::new();
    for ((condition, methods), paths) in groups {
        suggestions.extend(suggestion(place, done, condition, &methods, paths));
    }
    for ((method, path), seen) in &done.odd {
        let condition = Condition::Exactly(method.clone(), path.clone());
        suggestions.extend(suggestion(
            place,
            done,
            condition,
            &BTreeSet::new(),
            vec![(String::new(), seen.clone())],
        ));
    }
    if let Some(seen) = &done.tunnels {
        let paths = vec![(String::new(), seen.clone())];
        suggestions.extend(suggestion(place, done, Condition::None, &BTreeSet::new(), paths));
    }
    // What a wider rule allows needs no rule of its own. The order of places sees to it that no other place's covers it.
    let mut kept: Vec<Suggestion> = Vec::new();
    for one in suggestions {
        if kept.iter().any(|wider| wider.rule.covers(&one.rule)) {
            continue;
        }
        kept.push(one);
    }
    kept
}

fn suggestion(
    place: &Place,
    done: &Done,
    condition: Condition,
    methods: &BTreeSet<&str>,
    paths: Vec<(String, Use)>,
) -> Option<Suggestion> {
    let mut rule = Rule { verdict: Effect::Allow, body_max: BODY_MAX, ..Rule::default() };
    rule.caller.tags.push(Glob::parse(&place.tag).ok()?);
    if let Some(unit) = &place.unit {
        rule.caller.units.push(Glob::parse(unit).ok()?);
    }
    let mut addresses = done.addresses.clone();
    match &place.to {
        To::Host(host) => rule.to.hosts.push(NamePattern::parse(host).ok()?),
        To::Address(ip) => drop(addresses.insert(*ip)),
    }
    rule.to.addresses = list(&addresses)?;
    rule.to.ports = ports(place.port)?;
    let protocols: &[&str] = match place.protocol {
        Protocol::Http => &["http/1.1", "h2"],
        Protocol::WebSocket => &["websocket"],
        Protocol::Grpc => &["grpc"],
        Protocol::Tunnel => &["tunnel"],
    };
    rule.to.protocols = protocols.iter().map(|text| (*text).to_owned()).collect();
    rule.request.methods = methods.iter().map(|text| (*text).to_owned()).collect();
    // An extended CONNECT (HTTP/2) does what a GET with Upgrade (HTTP/1.1) does.
    if place.protocol == Protocol::WebSocket
        && methods.iter().any(|method| matches!(*method, "GET" | "CONNECT"))
    {
        rule.request.methods = vec!["CONNECT".to_owned(), "GET".to_owned()];
    }
    let mut seen = Use::default();
    let mut globs: Vec<Glob> = Vec::new();
    for (path, one) in paths {
        seen.merge(one);
        if !path.is_empty() {
            globs.push(Glob::parse(&path).ok()?);
        }
    }
    let all = globs.clone();
    globs.retain(|one| !all.iter().any(|wide| wide != one && wide.covers(one)));
    rule.request.paths = globs;
    rule.when = condition.code();
    if rule.when.is_some() && seen.longest > BODY_MAX {
        rule.body_max = seen.longest.next_power_of_two().min(BODY_LIMIT);
    }
    let unlimited = condition == Condition::AnyModel;
    Some(Suggestion { rule, port: place.port, addresses, seen, exes: done.exes.clone(), unlimited })
}

fn list(ips: &BTreeSet<IpAddr>) -> Option<Addresses> {
    let mut addresses = Addresses::default();
    ips.iter().try_for_each(|ip| addresses.add(&ip.to_string())).ok()?;
    Some(addresses)
}

fn ports(port: u16) -> Option<Ports> {
    let mut ports = Ports::default();
    ports.add(&port.to_string()).ok()?;
    Some(ports)
}
