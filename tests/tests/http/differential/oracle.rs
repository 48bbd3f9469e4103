//! The rules of one batch, and which of them decides over a request by its octets alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use sluice::policy::Mode;
use sluice::policy::pattern::Glob;
use sluice::policy::rule::{BODY_MAX, Effect, RequestAsks, Rule};

use super::draw::Draw;
use super::heard::Heard;

/// Every rule; all refuse but the last.
pub const NAMES: [&str; 9] =
    ["method", "host", "query", "mark", "parameter", "glob", "path", "model", "rest"];

/// See the module.
#[derive(Debug)]
pub struct Rules {
    pub enforced: bool,
    /// Whether there is a rule that asks for the body.
    reads_bodies: bool,
    mark: &'static str,
    parameter: &'static str,
    glob: &'static str,
    /// Where nobody but the request names the host: the host that is really reached.
    pub reached: Option<&'static str>,
}

/// What is decided.
#[derive(Debug)]
pub enum Want {
    /// By this rule, which refuses or not.
    Rule(String, bool),
    /// Servers read the request line in several ways: by one of the rules over it if one of the ways is refused, else by the
    /// last.
    Either,
}

impl Want {
    /// Whether a record is as it must be.
    pub fn is(&self, rule: Option<&str>, denies: bool) -> bool {
        match self {
            Self::Rule(name, refuses) => rule == Some(name) && denies == *refuses,
            Self::Either => match rule {
                Some("rest") => !denies,
                Some("host" | "model" | "query" | "parameter" | "glob" | "path" | "(none)") => denies,
                _ => false,
            },
        }
    }
}

impl Rules {
    pub fn draw(draw: &mut Draw) -> Self {
        Self {
            enforced: draw.one_in(4),
            reads_bodies: draw.one_in(2),
            mark: draw.of(&["m1*", "m2", "*1"]),
            parameter: draw.of(&["1", "a b", "2*"]),
            glob: draw.of(&["/m1/**", "/**/m1", "/a/*", "/v1/*/**"]),
            reached: None,
        }
    }

    pub fn mode(&self) -> Mode {
        if self.enforced { Mode::Enforce } else { Mode::Observe }
    }

    pub fn written(&self) -> Vec<Rule> {
        let rule = |name: &str| Rule {
            name: name.to_owned(),
            verdict: if name == "rest" { Effect::Allow } else { Effect::Deny },
            body_max: BODY_MAX,
            ..Rule::default()
        };
        let when = |name: &str, text: &str| Rule { when: Some(text.to_owned()), ..rule(name) };
        let asks = |name: &str, request: RequestAsks| Rule { request, ..rule(name) };
        let glob = |text: &str| vec![Glob::parse(text).expect("a pattern")];
        let mut rules = vec![
            when("method", r#"request.method != request.headers["x-method"][0]"#),
            when("host", r#"host != request.headers["x-host"][0]"#),
            when(
                "query",
                r#""q" in request.query && "x-q" in request.headers && request.query["q"] != request.headers["x-q"]"#,
            ),
            asks(
                "mark",
                RequestAsks {
                    headers: BTreeMap::from([("x-mark".to_owned(), glob(self.mark))]),
                    ..RequestAsks::default()
                },
            ),
            asks(
                "parameter",
                RequestAsks {
                    query: BTreeMap::from([("q".to_owned(), glob(self.parameter))]),
                    ..RequestAsks::default()
                },
            ),
            asks("glob", RequestAsks { paths: glob(self.glob), ..RequestAsks::default() }),
            when("path", r#"request.path != request.headers["x-path"][0]"#),
            when(
                "model",
                r#""x-model" in request.headers && request.json.model != request.headers["x-model"][0]"#,
            ),
            rule("rest"),
        ];
        rules.retain(|rule| rule.name != "model" || self.reads_bodies);
        rules
    }

    /// What is decided.
    pub fn decide(&self, heard: &Heard) -> Want {
        let first = |name: &str| heard.values(name).into_iter().next();
        let path = String::from_utf8_lossy(&heard.path).into_owned();
        let (said, query, host) = (heard.values("x-q"), heard.parameters("q"), heard.host());
        let alike = heard.alike("q");
        let named = host.parse::<std::net::IpAddr>().is_err();
        let found = [
            ("method", first("x-method").is_none_or(|m| m != heard.method)),
            // To a rule that refuses, what is not there is another than any.
            ("host", !named || first("x-host").is_none_or(|h| h != host)),
            // What servers may take for it leaves it in doubt, which refuses.
            ("query", !query.is_empty() && !said.is_empty() && (query != said || !alike.is_empty())),
            ("mark", heard.values("x-mark").iter().any(|v| matches(self.mark, v))),
            ("parameter", query.iter().chain(&alike).any(|v| matches(self.parameter, v))),
            ("glob", matches(self.glob, &path)),
            ("path", first("x-path").is_none_or(|p| p != path)),
            ("model", self.reads_bodies && other_model(first("x-model"), &heard.body)),
        ];
        let found = found.into_iter().find(|(_, holds)| *holds);
        let odd = path.contains(['%', ';', '\\']) || path.contains("//") || path.contains("/.");
        match found.map(|(name, _)| name) {
            Some(name) if name != "model" => Want::Rule(name.to_owned(), true),
            _ if odd || heard.query.as_ref().is_some_and(|query| query.contains(';')) => Want::Either,
            // A refusal by the head comes before the body is read.
            at if self.reached.is_some_and(|reached| reached != host) && (self.enforced || at.is_none()) => {
                Want::Rule("host".to_owned(), true)
            }
            Some(name) => Want::Rule(name.to_owned(), true),
            None => Want::Rule("rest".to_owned(), false),
        }
    }
}

/// `*` within a segment, `**` anywhere: by trying everything.
fn matches(glob: &str, text: &str) -> bool {
    if let Some(rest) = glob.strip_prefix("**") {
        return (0..=text.len()).any(|at| text.is_char_boundary(at) && matches(rest, &text[at..]));
    }
    if let Some(rest) = glob.strip_prefix('*') {
        let end = text.find('/').unwrap_or(text.len());
        return (0..=end).any(|at| text.is_char_boundary(at) && matches(rest, &text[at..]));
    }
    match (glob.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some(g), Some(t)) => g == t && matches(&glob[g.len_utf8()..], &text[t.len_utf8()..]),
        _ => false,
    }
}

/// Whether a body does not name that model: also one that names none, or that is not read alike by everybody.
fn other_model(said: Option<String>, body: &[u8]) -> bool {
    let Some(said) = said else { return false };
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else { return true };
    let Ok(members) = serde_json::from_slice::<Members>(body) else { return true };
    let folded: BTreeSet<String> = members.0.iter().map(|m| m.to_lowercase()).collect();
    folded.len() != members.0.len() || value["model"] != said
}

/// Names of an object's members, each as often as it stands there.
struct Members(Vec<String>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Members, A::Error> {
                let mut names = Vec::new();
                while let Some((name, _)) = from.next_entry::<String, IgnoredAny>()? {
                    names.push(name);
                }
                Ok(Members(names))
            }
        }
        from.deserialize_map(Names)
    }
}
