//! The ways in which servers read one request line. What is sent is never changed; but a server may decode a path once or
//! twice, take `\` for `/`, leave out `;parameters` and empty segments and go up at `..`, separate a query at `;`, and take
//! another method out of a header or a parameter. So a request is judged as every one of them would read it, and the strictest counts: a
//! rule that refuses is not passed by a spelling, and a rule that allows lets nothing else in.
//!
//! Not here: letter case (a server that ignores it in paths needs patterns for both), and methods in bodies (`_method`).

use std::borrow::Cow;

use http::HeaderMap;

use super::decide::decide_as_read;
use super::past::{NOTHING, Withheld};
use super::pattern::Glob;
use super::{Asked, Denied, Mode, NONE, Permit, Policy, Verdict};
use crate::codec::percent::decoded;
use crate::types::action::{Body, Http, Message};
use crate::types::{self, Action};

/// Readings of one request, as it was sent included: each costs a judgement. A request with more is refused.
const READINGS: usize = 8;
/// Octets of body or message that all readings together look at. Where there is one reading only, the rule's own bound holds.
const LOOKED_AT: usize = 16 << 20;
/// Octets of a path that is read in other ways at all.
const PATH: usize = 4096;
/// Parameters that some take it from (Symfony, Laravel, Express, Google's `$httpMethod`).
const PARAMETERS: [&str; 3] = ["_method", "$httpmethod", "x-http-method-override"];
/// Fields that some frameworks take the method from.
const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// A request line as some servers read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// See [`Http::path`].
    pub path: String,
    query: Option<String>,
    /// See [`Http::method`].
    pub method: String,
}

impl Reading {
    /// The request with this line.
    pub fn of<'a>(&'a self, http: &Http<'a>) -> Http<'a> {
        Http { path: &self.path, query: self.query.as_deref(), method: &self.method, ..*http }
    }
}

impl std::fmt::Display for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.method, self.path.chars().take(200).collect::<String>())?;
        self.query.iter().try_for_each(|query| write!(f, "?{}", query.chars().take(200).collect::<String>()))
    }
}

/// There are more readings than are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Decides: as every server would read it, where servers read it differently.
pub fn decide(policy: &Policy, asked: &Asked<'_>) -> Verdict {
    decide_without(policy, asked, &NOTHING)
}

/// The same of what is known only in part.
pub(super) fn decide_without(policy: &Policy, asked: &Asked<'_>, withheld: &Withheld) -> Verdict {
    let sent = decide_as_read(policy, asked, withheld);
    let Action::Http(http) = &asked.action else { return sent };
    if !policy.looks || matches!(sent, Verdict::Deny(_)) {
        return sent;
    }
    let mode = policy.mode(&asked.caller.tag);
    let refused = |reason: String| match mode {
        Mode::Observe => policy.permit(NONE, types::Verdict::Deny, false),
        Mode::Enforce => Verdict::Deny(Denied { rule: NONE.to_owned(), reason }),
    };
    let Ok(others) = others(http) else {
        return sent
            .and(refused("servers would read its path, query and method in too many ways".to_owned()));
    };
    let octets = match http.body {
        Body::Whole(body) | Body::Message(Message { data: Ok(body), .. }) => body.len(),
        _ => 0,
    };
    if octets.saturating_mul(others.len() + 1) > LOOKED_AT && !others.is_empty() {
        let why = "its body is too long to be judged in each way in which servers may read its path, query and method";
        return sent.and(refused(why.to_owned()));
    }
    others.iter().fold(sent, |sent, reading| {
        let http = reading.of(http);
        let read = decide_as_read(policy, &Asked { action: Action::Http(http), ..*asked }, withheld);
        let read = read.explained(|denied| Denied {
            reason: format!("{} (a server may read it as {reading})", denied.reason),
            ..denied
        });
        match (&sent, &read) {
            // What one rule gives must not be had by a spelling of what another allows.
            (Verdict::Allow(one), Verdict::Allow(other))
                if one.rule != other.rule && mode == Mode::Enforce =>
            {
                let (one, other) = (&one.rule, &other.rule);
                refused(format!(
                    "rule {one} allows it, rule {other} allows {reading}, as a server may read it"
                ))
            }
            _ => sent.and(read),
        }
    })
}

impl Verdict {
    /// What is said of one request as one to the host that it names, and as one to whom it really goes to: the stricter of
    /// both. The limits of a rule are not passed by the name of a host that another rule allows.
    #[must_use]
    pub fn both(self, really: Self, mode: Mode) -> Self {
        match (&self, &really) {
            (Self::Allow(one), Self::Allow(other))
                if mode == Mode::Enforce
                    && one.rule != other.rule
                    && (one.bounds.is_some() || other.bounds.is_some() || one.hides() || other.hides()) =>
            {
                let reason = format!(
                    "rule {} and rule {} allow it, and one has limits or masks",
                    one.rule, other.rule
                );
                Self::Deny(Denied { rule: NONE.to_owned(), reason })
            }
            _ => self.and(really),
        }
    }

    /// What is said of two ways in which one action can be taken: the stricter of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Deny(denied), _) | (_, Self::Deny(denied)) => Self::Deny(denied),
            (Self::More { passage, body: one }, Self::More { body: other, .. }) => {
                Self::More { passage, body: one.max(other) }
            }
            (more @ Self::More { .. }, Self::Allow(_)) | (Self::Allow(_), more @ Self::More { .. }) => more,
            (Self::Allow(mut one), Self::Allow(mut other)) => {
                (one.durable, other.durable) = (one.durable || other.durable, one.durable || other.durable);
                (one.messages, other.messages) =
                    (one.messages.max(other.messages), one.messages.max(other.messages));
                let refused = |permit: &Permit| permit.verdict == types::Verdict::Deny;
                let told = refused(&one) && &*one.rule != NONE;
                Self::Allow(if refused(&other) && !told { other } else { one })
            }
        }
    }
}

/// Every reading but that of what was sent.
///
/// # Errors
/// [`TooMany`].
pub fn others(http: &Http<'_>) -> Result<Vec<Reading>, TooMany> {
    let queries = queries(http.query);
    let methods = methods(http.method, http.query, http.headers);
    if queries.len() * methods.len() == 1 && !is_odd(http.path) {
        return Ok(Vec::new());
    }
    let paths = paths(http.path)?;
    if paths.len() * queries.len() * methods.len() > READINGS {
        return Err(TooMany);
    }
    let mut all = Vec::new();
    for path in &paths {
        for query in &queries {
            for method in &methods {
                let query = query.as_deref().map(str::to_owned);
                all.push(Reading { path: path.clone(), query, method: method.clone().into_owned() });
            }
        }
    }
    all.remove(0);
    Ok(all)
}

/// Whether servers may read a path in different ways.
fn is_odd(path: &str) -> bool {
    path.bytes().any(|b| matches!(b, b'%' | b';' | b'\\')) || path.contains("//") || path.contains("/.")
}

/// The patterns, and those of them that are written percent-encoded decoded too: a path is judged in both spellings.
pub fn decoded_too(globs: &mut Vec<Glob>) {
    let plain = |text: &str| {
        let decoded = decoded(text);
        let same_stars = decoded.matches('*').count() == text.matches('*').count();
        Glob::parse(&decoded).ok().filter(|glob| same_stars && glob.as_str() != text)
    };
    let more: Vec<Glob> = globs.iter().filter_map(|glob| plain(glob.as_str())).collect();
    globs.extend(more);
}

/// Every method that a server may take a request for, that which was sent first: some take another out of a field, or a
/// parameter.
pub fn methods<'a>(sent: &'a str, query: Option<&'a str>, headers: &'a HeaderMap) -> Vec<Cow<'a, str>> {
    let mut methods = vec![Cow::Borrowed(sent)];
    // Some servers fold the letter case of what was sent (gunicorn), and most of what takes its place.
    let mut add = |method: &str| {
        let upper = method.to_ascii_uppercase();
        if !methods.iter().any(|known| *known == upper) {
            methods.push(upper.into());
        }
    };
    if sent.bytes().any(|b| b.is_ascii_lowercase()) {
        add(sent);
    }
    for name in OVERRIDES {
        for value in headers.get_all(name) {
            add(value.to_str().unwrap_or_default().trim());
        }
    }
    if let Some(query) = query.filter(|query| may_name_a_method(query)) {
        let parameters = query.split(['&', ';']).flat_map(|part| form_urlencoded::parse(part.as_bytes()));
        let named = |name: &str| PARAMETERS.iter().any(|known| name.eq_ignore_ascii_case(known));
        parameters.filter(|(name, _)| named(name)).for_each(|(_, value)| add(value.trim()));
    }
    methods
}

fn may_name_a_method(query: &str) -> bool {
    query.contains('%') || query.as_bytes().windows(6).any(|six| six.eq_ignore_ascii_case(b"method"))
}

/// To some, `;` separates as `&` does (HTML 4.01 §B.2.2).
fn queries(query: Option<&str>) -> Vec<Option<Cow<'_, str>>> {
    let mut queries = vec![query.map(Cow::Borrowed)];
    if let Some(text) = query.filter(|text| text.contains(';')) {
        queries.push(Some(text.replace(';', "&").into()));
    }
    queries
}

fn paths(path: &str) -> Result<Vec<String>, TooMany> {
    let mut all = vec![path.to_owned()];
    if !is_odd(path) {
        return Ok(all);
    }
    if path.len() > PATH {
        return Err(TooMany);
    }
    let once = |path: &str| decoded(path).into_owned();
    let backslashes = |path: &str| path.replace('\\', "/");
    let steps: [&dyn Fn(&str) -> String; 6] =
        [&once, &once, &backslashes, &without_parameters, &merged, &resolved];
    for step in steps {
        for at in 0..all.len() {
            let next = step(&all[at]);
            if !all.contains(&next) {
                all.push(next);
            }
        }
        if all.len() > READINGS {
            return Err(TooMany);
        }
    }
    Ok(all)
}

/// `/a;v=1/b` as `/a/b` (RFC 3986 §3.3).
fn without_parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/")
}

fn merged(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

/// Without dot segments (RFC 3986 §5.2.4).
fn resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    if !path.starts_with('/') {
        return path.to_owned();
    }
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_read_a_path() {
        for (path, has) in [
            ("/%61dmin/x", "/admin/x"),
            ("/%2561dmin/x", "/admin/x"),
            ("//admin/x", "/admin/x"),
            ("/public/../admin/x", "/admin/x"),
            ("/public/%2e%2E/admin/x", "/admin/x"),
            ("/public/..%2fadmin/x", "/admin/x"),
            ("/public/..%5cadmin/x", "/admin/x"),
            ("/public\\..\\admin/x", "/admin/x"),
            ("/public/..;/admin/x", "/admin/x"),
            ("/admin;a=b/x", "/admin/x"),
            ("/./admin/x", "/admin/x"),
            ("/admin/./x", "/admin/x"),
            ("/a/b/..", "/a/"),
            ("/projects/a%2Fb", "/projects/a/b"),
        ] {
            let all = paths(path).expect("few");
            assert!(all.iter().any(|one| one == has), "{path}: {all:?}");
            assert_eq!(all[0], path, "what was sent stands first");
        }
        for plain in ["/", "*", "", "/v1/chat/completions", "/.well-known/x", "/a.b/..c", "/a:b@c/~d"] {
            assert_eq!(paths(plain), Ok(vec![plain.to_owned()]), "{plain}");
        }
        assert_eq!(paths(&"/%61".repeat(2000)), Err(TooMany));
        assert_eq!(paths("/a;b//%2e%252e/%5c../;x/..%2f"), Err(TooMany));
    }

    #[test]
    fn patterns_are_known_in_both_spellings() {
        let mut globs: Vec<Glob> =
            ["/a%20b/*", "/plain", "/%2A"].iter().map(|text| Glob::parse(text).expect("pattern")).collect();
        decoded_too(&mut globs);
        let texts: Vec<&str> = globs.iter().map(Glob::as_str).collect();
        assert_eq!(texts, ["/a%20b/*", "/plain", "/%2A", "/a b/*"]);
    }
}
