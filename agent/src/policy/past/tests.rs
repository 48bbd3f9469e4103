//! What is known of something past, and what is not.

use http::HeaderMap;

use super::*;
use crate::policy::pattern::Glob;
use crate::policy::rule::{Rule, Source};
use crate::policy::{Mode, NONE};
use crate::types::TagName;

fn past(url: &str) -> Past {
    Past::from(Question::of(TagName::parse("ci").expect("tag"), url).expect("a URL"))
}

fn policy(rules: Vec<Rule>) -> Policy {
    Policy::compile(Source { mode: Mode::Enforce, rules, ..Source::default() }).expect("compiles")
}

fn allow(name: &str, change: impl FnOnce(&mut Rule)) -> Rule {
    let mut rule = Rule { name: name.to_owned(), verdict: Effect::Allow, body_max: 100, ..Rule::default() };
    change(&mut rule);
    rule
}

fn when(code: &str) -> Policy {
    policy(vec![allow("a", |rule| rule.when = Some(code.to_owned()))])
}

/// `allow RULE`, `deny RULE`, `?`.
fn says(past: &Past, policy: &Policy) -> String {
    match past.decide(policy) {
        Outcome::Decided(decision) => format!("{} {}", decision.effect, decision.rule),
        Outcome::Unknown(_) => "?".to_owned(),
    }
}

#[test]
fn what_was_taken_out_is_not_known_and_the_rest_is() {
    let mut one = past("https://a.example/x?key=redacted-1&plain=1");
    one.withheld.headers.push("authorization".to_owned());
    one.withheld.query.push("key".to_owned());
    if let What::Request { http, .. } = &mut one.what {
        http.headers = HeaderMap::from_iter([
            (http::header::AUTHORIZATION, "[redacted 5 bytes 12345678]".parse().expect("value")),
            (http::header::ACCEPT, "text/html".parse().expect("value")),
        ]);
    }
    for (code, want) in [
        (r#"request.headers["accept"] == ["text/html"]"#, "allow a"),
        (r#"request.headers.accept == ["text/plain"]"#, "deny (none)"),
        (r#"request.headers["authorization"] == ["x"]"#, "?"),
        (r#"has(request.headers.authorization)"#, "?"),
        (r#"size(request.headers) == 2"#, "?"),
        (r#"request.query.plain == ["1"]"#, "allow a"),
        (r#"request.query.key == ["1"]"#, "?"),
        (r#"request.query.other == ["1"]"#, "deny (none)"),
        (r#"request.query.key == ["1"] && host == "b.example""#, "deny (none)"),
        (r#"request.query.key == ["1"] || host == "a.example""#, "allow a"),
    ] {
        assert_eq!(says(&one, &when(code)), want, "{code}");
    }
    let glob = |text: &str| vec![Glob::parse(text).expect("pattern")];
    let asks = |name: &'static str, header: bool| {
        policy(vec![allow("a", |rule| {
            let table = if header { &mut rule.request.headers } else { &mut rule.request.query };
            table.insert(name.to_owned(), glob("*"));
        })])
    };
    for (name, header, want) in [
        ("authorization", true, "?"),
        ("x-none", true, "deny (none)"),
        ("key", false, "?"),
        ("plain", false, "allow a"),
    ] {
        assert_eq!(says(&one, &asks(name, header)), want, "{name}");
    }
    one.withheld.headers_cut = true;
    assert_eq!(says(&one, &asks("x-none", true)), "?", "it may have been among those that were left out");
    one.withheld.path = true;
    assert_eq!(says(&one, &policy(vec![allow("a", |rule| rule.request.paths = glob("/y"))])), "?");
    assert_eq!(
        says(&one, &policy(vec![allow("a", |rule| rule.request.methods = vec!["PUT".to_owned()])])),
        "deny (none)"
    );
}

#[test]
fn an_identity_is_known_as_far_as_it_was_recorded() {
    let mut one = past("https://a.example/");
    let ann = Identity {
        issuer: String::new(),
        subject: "ann".to_owned(),
        groups: vec!["ml".to_owned()],
        claims: serde_json::Value::Null,
        expires: i64::MAX,
    };
    one.identity = Some(ann.clone());
    one.withheld =
        Withheld { issuer: true, claims: Some(SomeClaims::default()), exe_sha256: true, ..Withheld::NOTHING };
    for (code, want) in [
        (r#"identity.subject == "ann""#, "allow a"),
        (r#""ml" in identity.groups"#, "allow a"),
        (r#"identity.issuer == "https://i.example""#, "?"),
        (r#"identity.claims.ref == "main""#, "?"),
    ] {
        assert_eq!(says(&one, &when(code)), want, "{code}");
    }
    let issuers = policy(vec![allow("a", |rule| rule.caller.issuers = vec!["https://i.example".to_owned()])]);
    assert_eq!(says(&one, &issuers), "?");
    one.identity = None;
    assert_eq!(says(&one, &issuers), "deny (none)", "nobody has no issuer");
    let known = serde_json::json!({ "ref": "main", "a.b": { "c": ["x", "y"] } });
    let serde_json::Value::Object(said) = known.clone() else { panic!("an object") };
    one.identity = Some(Identity { claims: known, ..ann });
    one.withheld.claims =
        Some(SomeClaims { said, absent: vec!["a".to_owned(), "a.b.c".to_owned(), "env".to_owned()] });
    for (code, want) in [
        (r#"identity.claims.ref == "main""#, "allow a"),
        (r#"identity.claims["ref"] == "dev""#, "deny (none)"),
        ("has(identity.claims.env)", "deny (none)"),
        ("has(identity.claims.other)", "?"),
        ("size(identity.claims) > 0", "?"),
    ] {
        assert_eq!(says(&one, &when(code)), want, "{code}");
    }
    for (path, value, want) in [
        ("ref", "main", "allow a"),
        ("a.b.c", "y", "allow a"),
        ("a.b.c", "z", "deny (none)"),
        ("env", "prod", "deny (none)"),
        ("env.name", "prod", "?"),
        ("other", "x", "?"),
    ] {
        let glob = Glob::parse(value).expect("pattern");
        let rules = allow("a", |rule| drop(rule.caller.claims.insert(path.to_owned(), vec![glob.clone()])));
        let asks = policy(vec![rules]);
        assert_eq!(says(&one, &asks), want, "{path}");
        assert!(asks.claims().iter().any(|name| name == path), "{:?}", asks.claims());
    }
    one.identity = None;
    let sums = policy(vec![allow("a", |rule| rule.caller.exe_sha256 = vec!["00".to_owned()])]);
    one.caller.exe = Some(crate::types::Exe { path: "/bin/x".to_owned(), device: 0, inode: 0, sha256: None });
    assert_eq!(says(&one, &sums), "?");
}

#[test]
fn a_body_is_judged_when_it_is_known_or_does_not_matter() {
    let asks = when(r#"request.json.model == "a""#);
    let with = |body: KeptBody, told: Option<u64>| {
        let mut one = past("https://a.example/");
        if let What::Request { http, length, .. } = &mut one.what {
            http.body = body;
            *length = told;
        }
        one
    };
    let whole = |text: &str| KeptBody::Whole(text.as_bytes().to_vec());
    for (body, told, want) in [
        (whole(r#"{"model": "a"}"#), Some(14), "allow a"),
        (whole(r#"{"model": "b"}"#), Some(14), "deny (none)"),
        (KeptBody::Unread, Some(14), "?"),
        (KeptBody::Unread, None, "?"),
        (KeptBody::Unread, Some(101), "deny (none)"),
        (KeptBody::Unknowable("it is packed".to_owned()), Some(14), "deny (none)"),
    ] {
        let one = with(body.clone(), told);
        assert_eq!(says(&one, &asks), want, "{body:?}");
        assert!(one.asks_body(&asks) && !one.asks_body(&when("host == 'a.example'")));
    }
    let unread = with(KeptBody::Unread, None);
    assert_eq!(says(&unread, &policy(vec![allow("a", |_| {})])), "allow a", "nothing asks for it");
}

#[test]
fn what_was_refused_on_the_way_is_refused_again_or_nobody_knows() {
    let mut one = past("https://a.example/");
    let What::Request { http, .. } = &one.what else { panic!("a request") };
    let (to, host) = (http.destination, http.host.clone());
    let b = policy(vec![allow("b", |rule| {
        rule.to.hosts.push(lookup::NamePattern::parse("b.example").expect("name"))
    })]);
    one.what = What::Name(to, host);
    assert_eq!(
        (says(&one, &b), says(&one, &when("host == 'a.example'"))),
        (format!("deny {NONE}"), "?".to_owned())
    );
    one.what = What::Connect(to);
    assert_eq!(says(&one, &b), "?", "its name was not known yet");
    assert_eq!(says(&one, &policy(Vec::new())), "deny (none)");
}

#[test]
fn the_nearest_rule_is_the_one_that_fails_last() {
    let rules = vec![
        allow("other-host", |rule| {
            rule.to.hosts.push(lookup::NamePattern::parse("b.example").expect("name"))
        }),
        allow("other-path", |rule| rule.request.paths.push(Glob::parse("/y").expect("pattern"))),
        allow("other-method", |rule| rule.request.methods.push("PUT".to_owned())),
    ];
    let nearest = past("https://a.example/x").nearest(&policy(rules));
    assert_eq!(nearest, Some(("other-path".to_owned(), "paths")));
}

#[test]
fn labels_are_measured_as_they_were_asked_for() {
    for (name, want) in [("", 0), ("a.bc.d", 2), (r"a\.b.c", 3), (r"\000\255.x", 2), (r"a\\b", 3)] {
        assert_eq!(longest_label(name), want, "{name}");
    }
}
