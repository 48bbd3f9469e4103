//! `[[credential]]`: where a secret is found, how it is put into a request, and whom it is bound to. No secret is read here,
//! and none can be written here.

use std::time::Duration;

use super::quantity;
use super::rule::{self, each};
use super::section::{Problems, Section, Sited};
use crate::policy::credential::{Binding, Credential};
use crate::policy::lookup::NamePattern;
use crate::policy::pattern::Ports;
use crate::types::credential::{CredentialName, Inject, Source};

mod check;
mod local;
mod source;

pub(super) use check::{check, unused};

/// Credentials that may be listed.
pub(super) const CREDENTIALS: usize = 1000;
/// How long the last good value may be used where nothing is said.
const TTL: Duration = Duration::from_secs(300);
/// The bounds of `ttl`: a command is no clock, and a source that fails for a week is gone.
const TTLS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(7 * 24 * 3600));

/// A credential as it was read.
pub(super) struct Read {
    pub credential: Sited<Credential>,
    /// The credentials that its source names.
    pub needs: Vec<Sited<CredentialName>>,
    /// The URLs that its source sends those to.
    pub urls: Vec<String>,
}

/// Reads one `[[credential]]`; whatever is wrong is reported. Without a name and a source there is none.
pub(super) fn resolve(mut section: Section<'_>, problems: &mut Problems<'_>) -> Option<Read> {
    let place = section.place().clone();
    let name = section.text("name", problems);
    let binding = binding(&mut section, problems);
    let ttl = section.quantity("ttl", problems);
    let inject = section.table("inject", problems).map(|table| inject(table, problems));
    let source = section.table("source", problems).map(|table| source::resolve(table, problems));
    section.finish(problems);

    let name = name.or_else(|| {
        problems.add(&place, "[[credential]] has no name", "add name = \"…\"");
        None
    })?;
    let Ok(good) = CredentialName::parse(&name.value) else {
        let remedy = "write 1 to 64 letters, digits, and - _ ., a letter or digit first";
        problems.add(&name.place, format!("credential.name is {:?}", name.value), remedy);
        return None;
    };
    if source.is_none() {
        let remedy = "add source.file, source.systemd, source.command, source.env or another source";
        problems.add(&place, format!("[[credential]] {good} has no source"), remedy);
    }
    let serves = inject.is_none();
    if serves && (binding.insecure || !binding.paths.is_empty() || !binding.methods.is_empty()) {
        let what = format!("[[credential]] {good} is bound to requests and has no inject");
        problems.add(&place, what, "add inject.bearer = true or another way into the request");
    }
    if !serves && binding.hosts.is_empty() {
        let remedy = "add hosts = [\"…\"]: it is sent nowhere else";
        problems.add(&place, format!("[[credential]] {good} has no hosts"), remedy);
    }
    // Where it could not be read, that has been told, and nothing is in force: the name is there for who asks for it.
    let unread = || source::Read::of(Source::Env(String::new()));
    let source::Read { source, needs, urls } = source.flatten().unwrap_or_else(unread);
    let credential =
        Credential { name: good, binding, source, inject: inject.flatten(), ttl: duration(ttl, problems) };
    Some(Read { credential: Sited { value: credential, place }, needs, urls })
}

fn duration(ttl: Option<Sited<String>>, problems: &mut Problems<'_>) -> Duration {
    let Some(text) = ttl else { return TTL };
    let found = quantity::duration(&text.value).filter(|ttl| (TTLS.0..=TTLS.1).contains(ttl));
    found.unwrap_or_else(|| {
        let what = format!("credential.ttl is {:?}", text.value);
        problems.add(&text.place, what, "write a duration from 1s to 168h, such as \"5m\"");
        TTL
    })
}

fn binding(section: &mut Section<'_>, problems: &mut Problems<'_>) -> Binding {
    let hosts = each(section.list(["hosts", "host"], problems), problems, host);
    let mut ports = Ports::default();
    for text in section.list(["ports", "port"], problems).unwrap_or_default() {
        if let Err(error) = ports.add(&text.value) {
            problems.add(&text.place, error.to_string(), "write 443, or \"8000-8999\"");
        }
    }
    Binding {
        hosts,
        ports,
        paths: each(section.list(["paths", "path"], problems), problems, rule::path),
        methods: each(section.list(["methods", "method"], problems), problems, rule::method),
        tags: each(section.list(["tags", "tag"], problems), problems, rule::glob),
        identities: each(section.list(["identities", "identity"], problems), problems, rule::glob),
        insecure: section.flag("insecure", problems).is_some_and(|flag| flag.value),
    }
}

/// A host to be bound to: who may register a name below the pattern gets the secret.
fn host(text: &str) -> Result<NamePattern, rule::Wrong> {
    let pattern = rule::host(text)?;
    let below = pattern.as_str().strip_prefix("*.").map(str::to_owned);
    let anybodys = |below: &str| psl::domain_str(below).is_none();
    if pattern.as_str() == "*" {
        return Err(rule::wrong("host \"*\": that is no binding", "name the hosts that may have the secret"));
    }
    if below.is_some_and(|below| anybodys(&below)) {
        let what = format!("host {text:?}: anybody can register a name below it");
        return Err((what, "name the hosts, or a domain of one owner".to_owned()));
    }
    Ok(pattern)
}

/// The way into a request: exactly one key.
fn inject(mut section: Section<'_>, problems: &mut Problems<'_>) -> Option<Inject> {
    let place = section.place().clone();
    let bearer = section.is_true("bearer", problems).then_some(Inject::Bearer);
    let tls = section.is_true("tls", problems).then_some(Inject::Tls);
    let header = section.text("header", problems);
    let prefix = section.text("prefix", problems);
    if let (Some(prefix), None) = (&prefix, &header) {
        problems.add(
            &prefix.place,
            "inject.prefix stands without inject.header",
            "add inject.header = \"…\"",
        );
    }
    let header = header.and_then(|name| field(&name, prefix, problems));
    let basic = match section.is_flag("basic") {
        true => section.is_true("basic", problems).then_some(Inject::Basic { user: None }),
        false => section.text("basic", problems).and_then(|user| basic(user, problems)),
    };
    let query = section.text("query", problems).and_then(|name| {
        let good = !name.value.is_empty() && !name.value.contains(char::is_control);
        good_or(good, &name, "inject.query", "write the parameter's name", problems)
            .map(|name| Inject::Query { name })
    });
    let cookie = section.text("cookie", problems).and_then(|name| {
        let good = http::HeaderName::from_bytes(name.value.as_bytes()).is_ok();
        good_or(good, &name, "inject.cookie", "write the cookie's name", problems)
            .map(|name| Inject::Cookie { name })
    });
    let sigv4 = section.table("sigv4", problems).map(|mut table| {
        let region = table.text("region", problems).map(|text| text.value);
        let service = table.text("service", problems).map(|text| text.value);
        table.finish(problems);
        Inject::Sigv4 { region, service }
    });
    let before = problems.0.len();
    section.finish(problems);
    let mut found: Vec<Inject> =
        [bearer, header, basic, query, cookie, sigv4, tls].into_iter().flatten().collect();
    if found.len() > 1 {
        let keys: Vec<&str> = found.iter().map(Inject::key).collect();
        let what = format!("[[credential]] is injected in more than one way: {}", keys.join(", "));
        problems.add(&place, what, "keep one, and write another [[credential]] for the other");
    } else if found.is_empty() && problems.0.len() == before {
        let remedy = "write bearer = true, header = \"…\", basic = \"user\", query = \"…\", cookie = \"…\", \
                      sigv4 = {} or tls = true";
        problems.add(&place, "credential.inject names no way into the request", remedy);
    }
    found.pop()
}

fn good_or(
    good: bool,
    text: &Sited<String>,
    key: &str,
    remedy: &str,
    problems: &mut Problems<'_>,
) -> Option<String> {
    if !good {
        problems.add(&text.place, format!("{key} is {:?}", text.value), remedy);
    }
    good.then(|| text.value.clone())
}

/// Fields that say how a message is framed or where it goes, or that belong to one connection (RFC 9110 §7.6.1).
const FRAMING: [&str; 11] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keep-alive",
    "proxy-connection",
    "cookie",
];

fn field(name: &Sited<String>, prefix: Option<Sited<String>>, problems: &mut Problems<'_>) -> Option<Inject> {
    let lower = name.value.to_ascii_lowercase();
    let good = http::HeaderName::from_bytes(lower.as_bytes()).is_ok() && !FRAMING.contains(&lower.as_str());
    good_or(good, name, "inject.header", "write a field that holds a key, such as \"x-api-key\"", problems)?;
    let prefix = prefix.filter(|prefix| {
        let good = !prefix.value.contains(char::is_control) && prefix.value.trim_start() == prefix.value;
        good_or(good, prefix, "inject.prefix", "write a text such as \"token \"", problems).is_some()
    });
    Some(Inject::Header { name: lower, prefix: prefix.map(|prefix| prefix.value).unwrap_or_default() })
}

/// RFC 7617 §2: no colon in the user's name, no control character.
fn basic(user: Sited<String>, problems: &mut Problems<'_>) -> Option<Inject> {
    let good = !user.value.contains(|c: char| c == ':' || c.is_control());
    let remedy = "write the user without a colon, or true where the secret is user:password";
    good_or(good, &user, "inject.basic", remedy, problems).map(|user| Inject::Basic { user: Some(user) })
}
