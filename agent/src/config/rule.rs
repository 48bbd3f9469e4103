//! `[[rule]]`: who may do what. Each key becomes what [`crate::policy`] compares with; nothing is judged here.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::section::{Code, Named, Problems, Section, Sited, nearest};
use super::{limit, quantity};
use crate::policy::lookup::NamePattern;
use crate::policy::pattern::{Addresses, Glob, Ports, Window};
use crate::policy::rule::{BODY_LIMIT, BODY_MAX, CallerAsks, CallerKeys, Effect, RequestAsks, Rule, ToAsks};
use crate::policy::when::When;
use crate::policy::{Mode, prompt_mistakes, trial};
use crate::types::{CredentialName, HostName};

/// A rule as it was read.
pub(super) struct Read {
    pub rule: Sited<Rule>,
    /// The credential that it names, and where.
    pub credential: Option<Sited<CredentialName>>,
    /// The masks that it names, and where.
    pub masks: Vec<Sited<String>>,
    /// Whether nothing of it is wrong: only then it asks what its writer meant.
    pub sound: bool,
}

/// Protocols by the names that policy knows.
const PROTOCOLS: [&str; 6] = ["http", "http/1.1", "h2", "websocket", "grpc", "tunnel"];
/// Methods of HTTP (RFC 9110, 5789) and WebDAV (RFC 4918, 3253): others may be named, unless they look like a slip.
pub const METHODS: [&str; 17] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
];
/// Longest name of a rule or a test.
const NAME_MAX: usize = 100;

/// Reads one `[[rule]]`; whatever is wrong is reported. Without a name there is none.
pub(super) fn resolve(mut section: Section<'_>, problems: &mut Problems<'_>) -> Option<Read> {
    let before = problems.0.len();
    let place = section.place().clone();
    let name = section.text("name", problems);
    let verdict = section.text("verdict", problems);
    let mut rule = Rule { body_max: BODY_MAX, ..Rule::default() };
    rule.caller = caller(&mut section, problems);
    rule.to = to(&mut section, problems);
    rule.request = request(&mut section, problems);
    rule.windows = each(section.list(["windows", "window"], problems), problems, |text| {
        Window::parse(text).map_err(|e| (e.to_string(), "write days and hours in UTC".to_owned()))
    });
    rule.when = section.code("when", problems).map(|code| condition(code, problems));
    rule.mode = section.text("mode", problems).and_then(|text| mode(&text, problems));
    rule.durable = section.flag("durable", problems).is_some_and(|flag| flag.value);
    if let Some(text) = section.quantity("body_max", problems) {
        match quantity::bytes(&text.value).filter(|n| (1..=BODY_LIMIT).contains(n)) {
            Some(bytes) => rule.body_max = bytes,
            None => problems.add(
                &text.place,
                format!("rule.body_max is {:?}", text.value),
                "write a size from 1 to 64MiB, such as \"1MiB\"",
            ),
        }
    }
    let credential = section.text("credential", problems).and_then(|text| named(text, problems));
    rule.caller_key = caller_key(&mut section, credential.is_some(), problems);
    rule.credential = credential.as_ref().map(|name| name.value.clone());
    let masks = section.list(["mask", "mask"], problems).unwrap_or_default();
    rule.masks = masks.iter().map(|name| name.value.clone()).collect();
    let mut refuses = false;
    match verdict {
        None => problems.add(&place, "[[rule]] has no verdict", "add verdict = \"allow\" or \"deny\""),
        Some(text) => {
            let effect = effect(&text, problems);
            refuses = effect == Some(Effect::Deny);
            rule.verdict = effect.unwrap_or_default();
        }
    }
    rule.limits = limit::resolve(&mut section, refuses, problems);
    section.finish(problems);
    let Some(name) = name else {
        problems.add(&place, "[[rule]] has no name", "add name = \"…\"");
        return None;
    };
    if let Err(remedy) = good_name(&name.value) {
        problems.add(&name.place, format!("rule.name is {:?}", name.value), remedy);
    }
    rule.name = name.value;
    Some(Read { rule: Sited { value: rule, place }, credential, masks, sound: problems.0.len() == before })
}

/// What becomes of a caller's own key.
fn caller_key(section: &mut Section<'_>, credential: bool, problems: &mut Problems<'_>) -> CallerKeys {
    let Some(text) = section.text("caller_key", problems) else { return CallerKeys::default() };
    match text.value.as_str() {
        "replace" if !credential => problems.add(
            &text.place,
            "rule.caller_key is \"replace\", and the rule has no credential",
            "add credential = \"…\", or write \"warn\" or \"deny\"",
        ),
        "replace" => return CallerKeys::Replace,
        "warn" => return CallerKeys::Warn,
        "deny" => return CallerKeys::Deny,
        other => {
            let what = format!("rule.caller_key is {other:?}");
            problems.add(&text.place, what, one_of(other, &["replace", "warn", "deny"]));
        }
    }
    CallerKeys::default()
}

/// The name of a credential.
fn named(text: Sited<String>, problems: &mut Problems<'_>) -> Option<Sited<CredentialName>> {
    match CredentialName::parse(&text.value) {
        Ok(value) => Some(Sited { value, place: text.place }),
        Err(_) => {
            let what = format!("rule.credential is {:?}", text.value);
            problems.add(&text.place, what, "write the name of a [[credential]]");
            None
        }
    }
}

/// Names stand in journals, answers and on command lines.
pub(super) fn good_name(name: &str) -> Result<(), &'static str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_./:".contains(&b);
    if name == crate::policy::OBSERVE {
        return Err("observe is what stands in records where there is no rule: take another name");
    }
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(good) {
        return Err("write up to 100 letters, digits, and - _ . / :");
    }
    Ok(())
}

/// `observe` or `enforce`.
pub(super) fn mode(text: &Sited<String>, problems: &mut Problems<'_>) -> Option<Mode> {
    match text.value.as_str() {
        "observe" => Some(Mode::Observe),
        "enforce" => Some(Mode::Enforce),
        other => {
            let what = format!("mode is {other:?}");
            problems.add(&text.place, what, one_of(other, &["observe", "enforce"]));
            None
        }
    }
}

/// `allow` or `deny`.
pub(super) fn effect(text: &Sited<String>, problems: &mut Problems<'_>) -> Option<Effect> {
    match text.value.as_str() {
        "allow" => Some(Effect::Allow),
        "deny" => Some(Effect::Deny),
        "hold" => {
            let what = "verdict = \"hold\" is not there yet: nobody could approve what is held";
            problems.add(&text.place, what, "write \"deny\" until approvals are there");
            None
        }
        other => {
            let what = format!("verdict is {other:?}");
            problems.add(&text.place, what, one_of(other, &["allow", "deny"]));
            None
        }
    }
}

pub(super) fn one_of(word: &str, names: &[&str]) -> String {
    match nearest(word, names) {
        Some(near) => format!("did you mean {near:?}?"),
        None => {
            format!("write one of {}", names.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", "))
        }
    }
}

/// What is wrong with a value, and what to do.
pub(super) type Wrong = (String, String);

pub(super) fn each<T>(
    texts: Option<Vec<Sited<String>>>,
    problems: &mut Problems<'_>,
    parse: impl Fn(&str) -> Result<T, Wrong>,
) -> Vec<T> {
    let read = |text: Sited<String>| match parse(&text.value) {
        Ok(value) => Some(value),
        Err((what, remedy)) => {
            problems.add(&text.place, what, remedy);
            None
        }
    };
    texts.unwrap_or_default().into_iter().filter_map(read).collect()
}

pub(super) fn wrong(what: impl Display, remedy: &str) -> Wrong {
    (what.to_string(), remedy.to_owned())
}

pub(super) fn glob(text: &str) -> Result<Glob, Wrong> {
    Glob::parse(text).map_err(|e| wrong(e, "* is anything but a slash, ** is anything"))
}

/// A text that is compared as it stands.
fn word(text: &str) -> Result<String, Wrong> {
    match text {
        "" => Err(wrong("an empty text", "leave the key out to ask nothing")),
        _ if text.contains('*') => {
            Err(wrong(format!("{text:?} has a star, and patterns are not taken here"), "write it in full"))
        }
        _ => Ok(text.to_owned()),
    }
}

fn caller(section: &mut Section<'_>, problems: &mut Problems<'_>) -> CallerAsks {
    CallerAsks {
        tags: each(section.list(["tags", "tag"], problems), problems, glob),
        units: each(section.list(["units", "unit"], problems), problems, unit),
        users: each(section.list(["users", "user"], problems), problems, word),
        exes: each(section.list(["exes", "exe"], problems), problems, exe),
        exe_sha256: each(section.list(["exe_sha256", "exe_sha256"], problems), problems, sha256),
        containers: each(section.list(["containers", "container"], problems), problems, glob),
        identities: each(section.list(["identities", "identity"], problems), problems, glob),
        groups: each(section.list(["groups", "group"], problems), problems, word),
        issuers: each(section.list(["issuers", "issuer"], problems), problems, word),
        claims: table(section.lists("claims", problems), problems, |name| Ok(name.to_owned())),
    }
}

/// As for systemctl, a name without a suffix is a service's.
fn unit(text: &str) -> Result<Glob, Wrong> {
    let kind = text.rsplit_once('.').map_or("", |(_, kind)| kind);
    let whole = text.contains('*') || matches!(kind, "service" | "scope" | "slice");
    if whole { glob(text) } else { glob(&format!("{text}.service")) }
}

fn exe(text: &str) -> Result<Glob, Wrong> {
    if text.starts_with(['/', '*']) {
        glob(text)
    } else {
        Err(wrong(format!("exe {text:?} is no path"), "write it from /"))
    }
}

/// What sha256sum(1) prints.
fn sha256(text: &str) -> Result<String, Wrong> {
    let good = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let lower = text.to_ascii_lowercase();
    good.then_some(lower)
        .ok_or_else(|| wrong(format!("exe_sha256 {text:?}"), "write the 64 hex digits of sha256sum"))
}

fn to(section: &mut Section<'_>, problems: &mut Problems<'_>) -> ToAsks {
    let protocols = each(section.list(["protocols", "protocol"], problems), problems, |text| {
        let known = PROTOCOLS.contains(&text);
        known.then(|| text.to_owned()).ok_or_else(|| (format!("protocol {text:?}"), one_of(text, &PROTOCOLS)))
    });
    let hosts = each(section.list(["hosts", "host"], problems), problems, host);
    let mut addresses = Addresses::default();
    for text in section.list(["addresses", "address"], problems).unwrap_or_default() {
        if let Err(error) = addresses.add(&text.value) {
            let remedy = "write addresses and networks; names belong under hosts";
            problems.add(&text.place, error.to_string(), remedy);
        }
    }
    let mut ports = Ports::default();
    for text in section.list(["ports", "port"], problems).unwrap_or_default() {
        if let Err(error) = ports.add(&text.value) {
            problems.add(&text.place, error.to_string(), "write 443, or \"8000-8999\"");
        }
    }
    ToAsks { protocols, hosts, addresses, ports }
}

pub(super) fn host(text: &str) -> Result<NamePattern, Wrong> {
    let address = text.parse::<std::net::IpAddr>().is_ok();
    let name = text.strip_prefix("*.").unwrap_or(text);
    let named = text == "*" || HostName::parse(name).is_ok();
    match NamePattern::parse(text) {
        _ if address => Err(wrong(format!("host {text:?} is an address"), "write it under addresses")),
        Ok(pattern) if named => Ok(pattern),
        _ => Err(wrong(
            format!("host {text:?} is no name"),
            "write a name in ASCII without scheme, port and path; *. before it is all below it",
        )),
    }
}

fn request(section: &mut Section<'_>, problems: &mut Problems<'_>) -> RequestAsks {
    RequestAsks {
        methods: each(section.list(["methods", "method"], problems), problems, method),
        paths: each(section.list(["paths", "path"], problems), problems, path),
        query: table(section.lists("query", problems), problems, |name| Ok(name.to_owned())),
        headers: table(section.lists("headers", problems), problems, |name| {
            let lower = name.to_ascii_lowercase();
            let good = http::HeaderName::from_bytes(lower.as_bytes()).is_ok();
            good.then_some(lower)
                .ok_or_else(|| wrong(format!("{name:?} is no header field"), "write its name"))
        }),
        ..prompts(section, problems)
    }
}

/// `prompt_words` and `prompt_patterns`.
fn prompts(section: &mut Section<'_>, problems: &mut Problems<'_>) -> RequestAsks {
    let mut read = |key| section.list([key, key], problems).unwrap_or_default();
    let (words, patterns) = (read("prompt_words"), read("prompt_patterns"));
    let texts = |list: &[Sited<String>]| list.iter().map(|text| text.value.clone()).collect::<Vec<_>>();
    let (prompt_words, prompt_patterns) = (texts(&words), texts(&patterns));
    for (key, mistake) in prompt_mistakes(&prompt_words, &prompt_patterns) {
        let list = if key == "prompt_words" { &words } else { &patterns };
        if let Some(entry) = list.get(mistake.at).or(list.first()) {
            problems.add(
                &entry.place,
                format!("rule.{key}: {}", mistake.what),
                "mend or leave out the entry",
            );
        }
    }
    RequestAsks { prompt_words, prompt_patterns, ..RequestAsks::default() }
}

pub(super) fn method(text: &str) -> Result<String, Wrong> {
    let upper = text.to_ascii_uppercase();
    let token = http::Method::from_bytes(text.as_bytes()).is_ok();
    let slip = nearest(&upper, &METHODS).filter(|near| *near != text);
    match slip {
        Some(near) => Err((format!("method {text:?}"), format!("did you mean {near:?}?"))),
        None if token => Ok(text.to_owned()),
        None => Err(wrong(format!("method {text:?}"), "write a method such as \"GET\"")),
    }
}

pub(super) fn path(text: &str) -> Result<Glob, Wrong> {
    if text.contains('?') {
        return Err(wrong(
            format!("path {text:?} has a query"),
            "write query = { name = \"value\" } beside it",
        ));
    }
    if text.starts_with(['/', '*']) {
        glob(text)
    } else {
        Err(wrong(format!("path {text:?} never matches"), "begin it with /"))
    }
}

fn table(
    named: Vec<Named>,
    problems: &mut Problems<'_>,
    key: impl Fn(&str) -> Result<String, Wrong>,
) -> BTreeMap<String, Vec<Glob>> {
    let mut found = BTreeMap::new();
    for Named { name, values } in named {
        let values = each(Some(values), problems, glob);
        match key(&name.value) {
            Ok(key) => drop(found.insert(key, values)),
            Err((what, remedy)) => problems.add(&name.place, what, remedy),
        }
    }
    found
}

fn condition(code: Code<'_>, problems: &mut Problems<'_>) -> String {
    match When::compile(&code.text) {
        Ok(when) => {
            if let Some(why) = trial(&when) {
                problems.add(&code.place(0), format!("when: {why}"), "");
            }
        }
        Err(mistakes) => {
            for mistake in mistakes {
                problems.add(&code.place(mistake.at), format!("when: {}", mistake.what), "");
            }
        }
    }
    code.text
}
