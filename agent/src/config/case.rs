//! `[[test]]`: what the rules are to say to a request, kept beside them. `sluice policy check` asks; the daemon does not.

use http::header::{HeaderName, HeaderValue};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::section::{Named, Place, Problems, Section, Sited};
use super::{Problem, rule};
use crate::policy::question::Question;
use crate::policy::rule::Effect;
use crate::policy::{NONE, Policy};
use crate::types::action::Speaker;
use crate::types::{Identity, TagName};

/// One test of the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// What is asked.
    pub question: Question,
    /// What is to be said.
    pub expect: Effect,
    /// The rule that is to say it, where that matters.
    pub rule: Option<String>,
    pub(super) place: Place,
}

impl Case {
    /// What is wrong with what `policy` says; `None` when it says what is expected.
    pub fn run(&self, policy: &Policy) -> Option<Problem> {
        let decision = self.question.decide(policy);
        if decision.effect == self.expect && self.rule.as_ref().is_none_or(|rule| *rule == decision.rule) {
            return None;
        }
        let by = self.rule.as_ref().map_or(String::new(), |rule| format!(" by rule {rule}"));
        let what = format!(
            "[[test]] {}: expected {}{by}, got {} by rule {}",
            self.name, self.expect, decision.effect, decision.rule
        );
        let failed = self.rule.as_ref().filter(|rule| **rule != decision.rule && *rule != NONE);
        let remedy = match failed {
            None => "mend the rule or the test".to_owned(),
            Some(rule) => match self.question.fails_on(policy, rule) {
                Some(key) => format!("rule {rule} does not match: its {key}"),
                None => format!("rule {rule} matches, but {} stands before it", decision.rule),
            },
        };
        let Place { file, line, column } = self.place.clone();
        Some(Problem { file, line, column, what, remedy })
    }
}

/// Reads one `[[test]]`; whatever is wrong is reported, and then there is none.
pub(super) fn resolve(mut section: Section<'_>, problems: &mut Problems<'_>) -> Option<Case> {
    let before = problems.0.len();
    let place = section.place().clone();
    let name = section.text("name", problems);
    let tag = section.text("tag", problems);
    let url = section.text("url", problems);
    let expect = section.text("expect", problems);
    let rule = section.text("rule", problems).map(|text| text.value);
    let (mut question, expect, name) = match (begin(tag, url, problems), expect, name) {
        (Some(question), Some(expect), Some(name)) => (question, rule::effect(&expect, problems), name),
        (question, expect, name) => {
            let keys = [("name", name.is_none()), ("url", question.is_none()), ("expect", expect.is_none())];
            let missing: Vec<_> = keys.iter().filter(|(_, missing)| *missing).map(|(key, _)| *key).collect();
            if problems.0.len() == before {
                let what = format!("[[test]] has no {}", missing.join(" and no "));
                problems.add(
                    &place,
                    what,
                    "add name = \"…\", url = \"https://…\", expect = \"allow\" or \"deny\"",
                );
            }
            // Its other keys are still read, so that they are not called unknown.
            let tag = TagName::parse("x").ok()?;
            (
                Question::of(tag, "https://x/").ok()?,
                None,
                Sited { value: String::new(), place: place.clone() },
            )
        }
    };
    caller(&mut section, &mut question, problems);
    request(&mut section, &mut question, problems);
    section.finish(problems);
    let case = Case { name: name.value, question, expect: expect?, rule, place };
    (problems.0.len() == before).then_some(case)
}

fn begin(
    tag: Option<Sited<String>>,
    url: Option<Sited<String>>,
    problems: &mut Problems<'_>,
) -> Option<Question> {
    let tag = match tag {
        Some(tag) => {
            TagName::parse(&tag.value).map_err(|e| problems.add(&tag.place, e.to_string(), "")).ok()?
        }
        None => TagName::parse("any").ok()?,
    };
    let url = url?;
    Question::of(tag, &url.value)
        .map_err(|e| problems.add(&url.place, e.to_string(), "write the whole of it"))
        .ok()
}

fn caller(section: &mut Section<'_>, question: &mut Question, problems: &mut Problems<'_>) {
    let mut text = |section: &mut Section<'_>, key| section.text(key, problems).map(|text| text.value);
    question.caller.unit = text(section, "unit");
    question.caller.container = text(section, "container");
    if let Some(user) = text(section, "user") {
        question.by_user(&user);
    }
    let sha256 = text(section, "exe_sha256").map(|sum| sum.to_ascii_lowercase());
    if let Some(exe) = text(section, "exe").or(sha256.as_ref().map(|_| "/".to_owned())) {
        question.by_exe(exe, sha256);
    }
    let subject = text(section, "identity");
    let issuer = text(section, "issuer");
    let groups = section.list(["groups", "group"], problems).unwrap_or_default();
    let claims = section.json("claims", problems);
    if subject.is_some() || issuer.is_some() || !groups.is_empty() || claims.is_some() {
        question.identity = Some(Identity {
            issuer: issuer.unwrap_or_default(),
            subject: subject.unwrap_or_default(),
            groups: groups.into_iter().map(|group| group.value).collect(),
            claims: claims.map_or_else(|| serde_json::json!({}), |claims| claims.value),
            expires: i64::MAX,
        });
    }
}

/// Who sends the message: the client, where nobody is named.
fn speaker(from: Option<Sited<String>>, problems: &mut Problems<'_>) -> Speaker {
    let Some(from) = from else { return Speaker::Client };
    Speaker::parse(&from.value).unwrap_or_else(|| {
        let what = format!("message_from is {:?}", from.value);
        problems.add(&from.place, what, "write \"client\" or \"server\"");
        Speaker::Client
    })
}

fn request(section: &mut Section<'_>, question: &mut Question, problems: &mut Problems<'_>) {
    if let Some(method) = section.text("method", problems) {
        question.http.method = method.value;
    }
    if let Some(protocol) = section.text("protocol", problems) {
        question.http.protocol = protocol.value.into();
    }
    if let Some(address) = section.text("address", problems) {
        match address.value.parse() {
            Ok(ip) => question.at(ip),
            Err(_) => problems.add(
                &address.place,
                format!("{:?} is no address", address.value),
                "write such as 192.0.2.7",
            ),
        }
    }
    for Named { name, values } in section.lists("headers", problems) {
        for value in values {
            let header = HeaderName::from_bytes(name.value.as_bytes()).ok();
            match (header, HeaderValue::from_str(&value.value)) {
                (Some(header), Ok(value)) => drop(question.http.headers.append(header, value)),
                _ => problems.add(
                    &name.place,
                    format!("no header field: {:?}", name.value),
                    "write name = \"value\"",
                ),
            }
        }
    }
    let from = section.text("message_from", problems);
    if let Some(message) = section.text("message", problems) {
        question.with_message(speaker(from, problems), message.value);
    } else if let Some(from) = from {
        problems.add(&from.place, "message_from stands without a message", "add message = \"…\"");
    }
    if let Some(json) = section.json("json", problems) {
        question.with_json(json.value.to_string());
    }
    if let Some(at) = section.text("at", problems) {
        match OffsetDateTime::parse(&at.value, &Rfc3339) {
            Ok(now) => question.now = now,
            Err(_) => {
                problems.add(&at.place, format!("at is {:?}", at.value), "write such as 2026-01-31T09:30:00Z")
            }
        }
    }
}
