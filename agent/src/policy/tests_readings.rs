//! What servers read in several ways is judged in all of them.

use http::HeaderMap;
use time::OffsetDateTime;

use super::lookup::NamePattern;
use super::pattern::Glob;
use super::rule::{Effect, Rule, Source};
use super::*;
use crate::types::action::{Body, Http};
use crate::types::{Action, Caller, Destination, HostName, TagName};

fn rule(name: &str, verdict: Effect, paths: &[&str]) -> Rule {
    let mut rule = Rule { name: name.to_owned(), verdict, ..Rule::default() };
    rule.to.hosts = vec![NamePattern::parse("a.example").expect("pattern")];
    rule.request.paths = paths.iter().map(|text| Glob::parse(text).expect("pattern")).collect();
    rule
}

fn policy(mode: Mode, rules: Vec<Rule>) -> Policy {
    Policy::compile(Source { mode, rules, ..Source::default() }).expect("compiles")
}

fn says(policy: &Policy, (method, target): (&str, &str), headers: &HeaderMap, body: &[u8]) -> String {
    let caller = Caller::unknown(TagName::parse("ci").expect("tag"), 1);
    let host = HostName::parse("a.example").expect("name");
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let action = Action::Http(Http {
        destination: Destination::new("192.0.2.7".parse().expect("address"), 443),
        host: Some(&host),
        protocol: "http/1.1",
        method,
        path,
        query,
        headers,
        body: Body::Whole(body),
    });
    let now = OffsetDateTime::from_unix_timestamp(1_795_000_000).expect("time");
    match decide(policy, &Asked { caller: &caller, identity: Some(None), action, now }) {
        Verdict::Allow(permit) => {
            let observed = permit.verdict() == types::Verdict::Deny;
            format!("{} {}", if observed { "observed" } else { "allow" }, permit.rule())
        }
        Verdict::Deny(denied) => format!("deny {}", denied.rule),
        Verdict::More { .. } => "more".to_owned(),
    }
}

fn get(policy: &Policy, target: &str) -> String {
    says(policy, ("GET", target), &HeaderMap::new(), b"")
}

const SPELLINGS: [&str; 12] = [
    "/admin/x",
    "/%61dmin/x",
    "/%2561dmin/x",
    "//admin/x",
    "/open/../admin/x",
    "/open/%2e%2e/admin/x",
    "/open/..%2fadmin/x",
    "/open/..;/admin/x",
    "/open/..%5cadmin/x",
    "/admin;v=1/x",
    "/./admin/x",
    "/admin%2Fx",
];

#[test]
fn a_refusal_of_a_path_is_not_passed_by_its_spelling() {
    let denies = policy(
        Mode::Enforce,
        vec![rule("no-admin", Effect::Deny, &["/admin/**"]), rule("all", Effect::Allow, &[])],
    );
    let mut condition = rule("no-admin", Effect::Deny, &[]);
    condition.when = Some("request.path.startsWith(\"/admin/\")".to_owned());
    let when = policy(Mode::Enforce, vec![condition, rule("all", Effect::Allow, &[])]);
    let allows = policy(Mode::Enforce, vec![rule("open", Effect::Allow, &["/open/**"])]);
    for path in SPELLINGS {
        assert_eq!(get(&denies, path), "deny no-admin", "{path}");
        assert_eq!(get(&when, path), "deny no-admin", "{path}");
        assert_eq!(get(&allows, path), "deny (none)", "{path}");
    }
    assert_eq!(get(&denies, "/open/x"), "allow all");
    assert_eq!(get(&denies, "/open/a%2Fb%20c"), "allow all");
    assert_eq!(get(&allows, "/open/a%2Fb%20c"), "allow open");
    assert_eq!(get(&allows, "/open/a;b//%2e%252e/%5c../;x/..%2f"), "deny (none)");
    let observed = policy(Mode::Observe, vec![rule("no-admin", Effect::Deny, &["/admin/**"])]);
    assert_eq!(get(&observed, "/%61dmin/x"), "observed no-admin");
}

#[test]
fn what_one_rule_gives_is_not_had_by_a_spelling_of_what_another_allows() {
    let two = policy(
        Mode::Enforce,
        vec![rule("chat", Effect::Allow, &["/v1/chat/**"]), rule("models", Effect::Allow, &["/v1/models"])],
    );
    assert_eq!(get(&two, "/v1/chat/x"), "allow chat");
    assert_eq!(get(&two, "/v1/chat/../models"), "deny (none)");
}

#[test]
fn a_path_that_is_written_encoded_is_meant_in_both_spellings() {
    let allows = policy(Mode::Enforce, vec![rule("file", Effect::Allow, &["/files/a%20b"])]);
    assert_eq!(get(&allows, "/files/a%20b"), "allow file");
}

#[test]
fn queries_and_methods() {
    let mut asks = rule("small", Effect::Allow, &[]);
    asks.request.query = [("size".to_owned(), vec![Glob::parse("small").expect("pattern")])].into();
    asks.request.methods = vec!["POST".to_owned()];
    let policy = policy(Mode::Enforce, vec![asks]);
    let mut headers = HeaderMap::new();
    assert_eq!(says(&policy, ("POST", "/?size=small"), &headers, b""), "allow small");
    assert_eq!(says(&policy, ("POST", "/?size=small&a=1;b=2"), &headers, b""), "allow small");
    assert_eq!(says(&policy, ("POST", "/?size=small&a=1;size=large"), &headers, b""), "deny (none)");
    headers.insert("x-http-method-override", http::HeaderValue::from_static("post"));
    assert_eq!(says(&policy, ("POST", "/?size=small"), &headers, b""), "allow small");
    headers.append("x-http-method-override", http::HeaderValue::from_static("DELETE"));
    assert_eq!(says(&policy, ("POST", "/?size=small"), &headers, b""), "deny (none)");
}

#[test]
fn a_refusal_of_a_method_is_not_passed_by_its_spelling() {
    let mut no = rule("no-delete", Effect::Deny, &[]);
    no.request.methods = vec!["DELETE".to_owned()];
    let policy = policy(Mode::Enforce, vec![no, rule("all", Effect::Allow, &[])]);
    let mut headers = HeaderMap::new();
    for (method, target) in [
        ("DELETE", "/"),
        ("delete", "/"),
        ("POST", "/?a=1&_method=delete"),
        ("POST", "/?a=1;_Method=DELETE"),
        ("POST", "/?%24httpMethod=DELETE"),
        ("GET", "/?x-http-m%65thod-override=DELETE"),
    ] {
        assert_eq!(says(&policy, (method, target), &headers, b""), "deny no-delete", "{method} {target}");
    }
    assert_eq!(says(&policy, ("POST", "/?method=delete"), &headers, b""), "allow all");
    headers.insert("x-http-method", http::HeaderValue::from_static("Delete"));
    assert_eq!(says(&policy, ("POST", "/"), &headers, b""), "deny no-delete");
}

#[test]
fn a_model_is_asked_for_however_the_path_is_spelled() {
    let mut no = rule("no-large", Effect::Deny, &[]);
    no.when = Some("request.llm.model == \"large\"".to_owned());
    no.body_max = 1000;
    let policy = policy(Mode::Enforce, vec![no, rule("all", Effect::Allow, &[])]);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", http::HeaderValue::from_static("application/json"));
    for path in [
        "/v1/chat/completions",
        "/v1/chat/./completions",
        "/v1/chat/x/../completions",
        "/v1/chat;x/completions",
        "/v1/chat/%2563ompletions",
        "/openai/deployments/small/../../../v1/chat/completions",
    ] {
        let body = br#"{"model": "large", "messages": []}"#;
        assert_eq!(says(&policy, ("POST", path), &headers, body), "deny no-large", "{path}");
    }
}

#[test]
fn a_refusal_by_a_name_is_not_passed_by_its_spelling() {
    let globs = |text: &str| vec![Glob::parse(text).expect("pattern")];
    let (mut query, mut field) = (rule("no-zone", Effect::Deny, &[]), rule("no-team", Effect::Deny, &[]));
    query.request.query = [("zone".to_owned(), globs("**"))].into();
    field.request.headers = [("x-team".to_owned(), globs("red"))].into();
    let all = rule("all", Effect::Allow, &[]);
    let keys = policy(Mode::Enforce, vec![query, field, all.clone()]);
    let when = |name: &str, text: &str| Rule { when: Some(text.to_owned()), ..rule(name, Effect::Deny, &[]) };
    let conditions = policy(
        Mode::Enforce,
        vec![
            when("no-zone", "has(request.query.zone)"),
            when("no-team", "\"red\" in request.headers[\"x-team\"]"),
            all,
        ],
    );
    let (none, mut spelled) = (HeaderMap::new(), HeaderMap::new());
    spelled.insert("x_team", http::HeaderValue::from_static("red"));
    for rules in [&keys, &conditions] {
        for target in
            ["/?zone=1", "/?ZONE=1", "/?zone[]=1", "/?zone%5B0%5D=1", "/?%20zone=1", "/?a=1&zone[x][y]=2"]
        {
            assert_eq!(says(rules, ("GET", target), &none, b""), "deny no-zone", "{target}");
        }
        assert_eq!(says(rules, ("GET", "/?zones=1&xzone=2"), &none, b""), "allow all");
        assert_eq!(says(rules, ("GET", "/"), &spelled, b""), "deny no-team");
    }
    // A leave asks for the name itself, and that nothing servers may take for it says otherwise.
    let mut asks = rule("red", Effect::Allow, &[]);
    asks.request.headers = [("x-team".to_owned(), globs("red"))].into();
    let leave = policy(Mode::Enforce, vec![asks]);
    assert_eq!(says(&leave, ("GET", "/"), &spelled, b""), "deny (none)");
    spelled.insert("x-team", http::HeaderValue::from_static("red"));
    assert_eq!(says(&leave, ("GET", "/"), &spelled, b""), "allow red");
    spelled.insert("x_team", http::HeaderValue::from_static("blue"));
    assert_eq!(says(&leave, ("GET", "/"), &spelled, b""), "deny (none)");
}
