//! What was seen, as the rules that allow it and as little else as can be said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::seen::{Done, Everything, Lines, Place, Protocol, To, Use};
use super::text::quoted;
use super::tree::Seen as _;
use crate::cli::policy::template;
use crate::policy::lookup::NamePattern;
use crate::policy::pattern::{Glob, Ports};
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
    /// The address, likewise.
    pub address: Option<IpAddr>,
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
    /// This very request, as any server reads it.
    Exactly(Lines),
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
            Self::Exactly((methods, paths)) => {
                Some(format!("request.method in [{}] && request.path in [{}]", texts(methods), texts(paths)))
            }
        }
    }
}

fn texts(texts: &BTreeSet<String>) -> String {
    texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ")
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
        let address = || suggestion.address.map(|ip| ip.to_string().replace(':', "."));
        let host = rule.to.hosts.first().map(|host| host.as_str().to_owned()).or_else(address);
        let host: String = host.unwrap_or_default().chars().take(NAME).collect();
        let tag = rule.caller.tags.first().map_or("", Glob::as_str);
        let tag: String = tag.chars().take(100 - NAME - 8).collect();
        let number = taken.entry(format!("{tag}/{host}")).or_default();
        *number += 1;
        rule.name = format!("{tag}/{host}/{number}");
    }
}

/// Methods and what they are for, by the paths that they go to.
type Groups<'d> = BTreeMap<(Condition, Vec<String>), (BTreeSet<&'d str>, Use)>;

/// All paths of a method stand in one rule: a path that servers read as another of them is allowed by one rule or by none.
fn groups(done: &Done) -> Groups<'_> {
    let mut by_method: BTreeMap<(Condition, &str), (Vec<String>, Use)> = BTreeMap::new();
    for (path, methods) in done.tree.paths() {
        for (method, one) in &methods.0 {
            let (paths, seen) = by_method.entry((Condition::of(one), method)).or_default();
            paths.push(template::pattern(&path));
            seen.merge(one.clone());
        }
    }
    let mut groups: Groups<'_> = BTreeMap::new();
    for ((condition, method), (paths, one)) in by_method {
        let (methods, seen) = groups.entry((condition, paths)).or_default();
        methods.insert(method);
        seen.merge(one);
    }
    groups
}

fn of_place(place: &Place, done: &Done) -> Vec<Suggestion> {
    let mut suggestions = Vec::new();
    for ((condition, paths), (methods, seen)) in groups(done) {
        suggestions.extend(suggestion(place, done, condition, &methods, &paths, seen));
    }
    for (lines, seen) in &done.odd {
        let condition = Condition::Exactly(lines.clone());
        suggestions.extend(suggestion(place, done, condition, &BTreeSet::new(), &[], seen.clone()));
    }
    if let Some(seen) = &done.tunnels {
        suggestions.extend(suggestion(place, done, Condition::None, &BTreeSet::new(), &[], seen.clone()));
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
    paths: &[String],
    seen: Use,
) -> Option<Suggestion> {
    let mut rule = Rule { verdict: Effect::Allow, body_max: BODY_MAX, ..Rule::default() };
    rule.caller.tags.push(Glob::parse(&place.tag).ok()?);
    if let Some(unit) = &place.unit {
        rule.caller.units.push(Glob::parse(unit).ok()?);
    }
    let mut address = None;
    match &place.to {
        To::Host(host) => rule.to.hosts.push(NamePattern::parse(host).ok()?),
        To::Hosts(one, other) => {
            rule.to.hosts = vec![NamePattern::parse(one).ok()?, NamePattern::parse(other).ok()?];
        }
        To::Address(ip) => {
            rule.to.addresses.add(&ip.to_string()).ok()?;
            address = Some(*ip);
        }
    }
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
    let patterns = paths.iter().filter(|path| !path.is_empty());
    let mut globs: Vec<Glob> = patterns.map(|path| Glob::parse(path).ok()).collect::<Option<_>>()?;
    let all = globs.clone();
    globs.retain(|one| !all.iter().any(|wide| wide != one && wide.covers(one)));
    rule.request.paths = globs;
    rule.when = condition.code();
    if rule.when.is_some() && seen.longest > BODY_MAX {
        rule.body_max = seen.longest.next_power_of_two().min(BODY_LIMIT);
    }
    let unlimited = condition == Condition::AnyModel;
    Some(Suggestion { rule, port: place.port, address, seen, exes: done.exes.clone(), unlimited })
}

fn ports(port: u16) -> Option<Ports> {
    let mut ports = Ports::default();
    ports.add(&port.to_string()).ok()?;
    Some(ports)
}
