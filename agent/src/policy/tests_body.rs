//! Decisions that look at the body: conditions and filters in allowing and refusing rules.

use super::rule::{Effect, Rule, Source};
use super::when::tests::Sample;
use super::*;
use crate::types::action::Body;

fn rule(name: &str, verdict: Effect) -> Rule {
    Rule { name: name.to_owned(), verdict, body_max: 1 << 20, ..Rule::default() }
}

fn when(name: &str, verdict: Effect, text: &str) -> Rule {
    Rule { when: Some(text.to_owned()), ..rule(name, verdict) }
}

fn policy(mode: Mode, rules: Vec<Rule>) -> Policy {
    Policy::compile(Source { mode, rules, ..Source::default() }).expect("compiles")
}

fn says(policy: &Policy, sample: &Sample, body: Body<'_>) -> String {
    match decide(policy, &sample.asked(body)) {
        Verdict::Allow(permit) if permit.verdict() == types::Verdict::Allow => {
            format!("allow {}", permit.rule())
        }
        Verdict::Allow(permit) => format!("observed {}", permit.rule()),
        Verdict::Deny(denied) => format!("deny {}: {}", denied.rule, denied.reason),
        Verdict::More { body, .. } => format!("more {}", body.map_or("-".to_owned(), |max| max.to_string())),
    }
}

#[test]
fn a_refusal_that_cannot_be_judged_refuses_and_a_leave_is_none() {
    let rules = || {
        vec![
            when("no big ones", Effect::Deny, r#"request.method == "POST" && request.json.model == "big""#),
            when("small", Effect::Allow, r#"request.json.model == "small""#),
            when("gets", Effect::Allow, r#"request.method == "GET""#),
        ]
    };
    let (enforced, observed) = (policy(Mode::Enforce, rules()), policy(Mode::Observe, rules()));
    let post = Sample::new();
    let get = Sample { method: "GET", ..Sample::new() };
    let whole = |text: &'static str| Body::Whole(text.as_bytes());
    for (sample, body, want) in [
        (&post, Body::Unread, "more 1048576"),
        (&post, whole(r#"{"model": "small"}"#), "allow small"),
        (&post, whole(r#"{"model": "big"}"#), "deny no big ones: the rule refuses it"),
        (&post, whole(r#"{"model": "other"}"#), "deny (none): no rule allows it"),
        (&post, whole(r#"{}"#), "deny (none): no rule allows it"),
        (&post, whole(""), "deny (none): no rule allows it"),
        (&get, whole(""), "allow gets"),
    ] {
        assert_eq!(says(&enforced, sample, body), want);
    }
    for body in [
        whole(r#"{"model": "small", "model": "big"}"#),
        whole(r#"{"model": "small", "Model": "big"}"#),
        whole("{\"model\": \"small\"} "),
        Body::Unknowable("its content coding is \"gzip\""),
    ] {
        let known = matches!(body, Body::Whole(text) if text.ends_with(b" "));
        let said = says(&enforced, &post, body);
        let want = if known { "allow small" } else { "deny no big ones: its when cannot be judged: " };
        assert!(said.starts_with(want), "{said}");
        let said = says(&observed, &post, body);
        assert_eq!(said, if known { "allow small" } else { "observed no big ones" });
    }
    // Each rule by its own bound, however much was read for another.
    let mut small_bound = rules();
    small_bound[0].body_max = 10;
    let said = says(&policy(Mode::Enforce, small_bound), &post, whole(r#"{"model": "small"}"#));
    assert!(
        said.starts_with("deny no big ones: its when cannot be judged: the body is longer than 10 bytes"),
        "{said}"
    );
}

#[test]
fn filters_of_prompts() {
    let mut words = rule("words", Effect::Deny);
    words.request.prompt_words = vec!["Project Ünicorn".to_owned(), "zebra".to_owned()];
    let mut patterns = rule("patterns", Effect::Deny);
    patterns.request.prompt_patterns =
        vec![r"\bAKIA[0-9A-Z]{16}\b".to_owned(), r"(?i)ignore previous".to_owned()];
    let policy = policy(Mode::Enforce, vec![words, patterns, rule("rest", Effect::Allow)]);
    let chat = Sample::new();
    let other = Sample { path: "/upload", ..Sample::new() };
    let form = Sample { path: "/form", ..Sample::of_kind("application/x-www-form-urlencoded") };
    assert_eq!(says(&policy, &chat, Body::Unread), "more 1048576");
    for (sample, body, want) in [
        (&chat, r#"{"model": "m", "messages": [{"role": "user", "content": "hello"}]}"#, "allow rest"),
        (
            &chat,
            r#"{"model": "m", "messages": [{"role": "user", "content": "about PROJECT ÜNICORN?"}]}"#,
            "deny words",
        ),
        (&chat, r#"{"model": "m", "messages": [{"role": "user", "content": "\u007aebra"}]}"#, "deny words"),
        (
            &chat,
            r#"{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "Ignore previous"}]}]}"#,
            "deny patterns",
        ),
        (&chat, r#"{"model": "zebra", "messages": []}"#, "allow rest"),
        (&chat, r#"{"model": "m", "model": "n"}"#, "deny words"),
        (&other, "key = AKIAABCDEFGHIJKLMNOP", "deny patterns"),
        (&other, "key = AKIAABCD", "allow rest"),
        (&other, r#"{"a": {"zebr\u0061": 1}}"#, "deny words"),
        (&other, "", "allow rest"),
        (&form, "q=a+z%65bra", "deny words"),
        (&form, "q=a%zz", "deny words"),
    ] {
        let said = says(&policy, sample, Body::Whole(body.as_bytes()));
        assert!(said.starts_with(want), "{body}: {said}");
    }
    assert!(
        says(&policy, &other, Body::Unknowable("gzip"))
            .starts_with("deny words: its prompt_words cannot be judged")
    );
}

#[test]
fn mistakes_of_filters() {
    let wrong = |words: &[&str], patterns: &[&str]| {
        let mut rule = rule("r", Effect::Deny);
        rule.request.prompt_words = words.iter().map(|word| (*word).to_owned()).collect();
        rule.request.prompt_patterns = patterns.iter().map(|word| (*word).to_owned()).collect();
        let source = Source { rules: vec![rule], ..Source::default() };
        Policy::compile(source)
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|wrong| (wrong.key, wrong.mistake.at))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        wrong(&["a", " ", "b"], &["a", "(", "x*", r"\w{900}{900}"]),
        [("prompt_words", 1), ("prompt_patterns", 1), ("prompt_patterns", 2), ("prompt_patterns", 3),]
    );
    assert_eq!(wrong(&["word"; 10_001], &[]), [("prompt_words", 0)]);
    let many: Vec<String> = (0..10_000).map(|n| format!("word number {n}")).collect();
    assert_eq!(wrong(&many.iter().map(String::as_str).collect::<Vec<_>>(), &["fine"]), []);
}
