//! Bodies that mean one thing to a rule and another to a server.

use super::rule::{Effect, Rule, Source};
use super::when::tests::Sample;
use super::*;
use crate::types::action::Body;

fn policy(mut refuses: Rule) -> Policy {
    refuses = Rule { name: "no".to_owned(), verdict: Effect::Deny, body_max: 1 << 20, ..refuses };
    let rest = Rule { name: "rest".to_owned(), verdict: Effect::Allow, ..Rule::default() };
    let rules = vec![refuses, rest];
    Policy::compile(Source { mode: Mode::Enforce, rules, ..Source::default() }).expect("compiles")
}

fn is_refused(policy: &Policy, sample: &Sample, body: &[u8]) -> bool {
    match decide(policy, &sample.asked(Body::Whole(body))) {
        Verdict::Allow(permit) => permit.rule() != "rest",
        Verdict::Deny(denied) => denied.rule == "no",
        Verdict::More { .. } => false,
    }
}

fn filter() -> Policy {
    let mut filter = Rule::default();
    filter.request.prompt_words = vec!["zebra".to_owned()];
    policy(filter)
}

#[test]
fn a_filter_reads_what_a_server_reads_that_does_not_look_at_the_content_type() {
    let ollama = Sample { path: "/api/chat", ..Sample::of_kind("text/plain") };
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for body in [
        br#"{"prompt": "\u007aebra", "a": 1, "a": 2}"#.to_vec(),
        br#"{"prompt": "\u007aebra"} trailing"#.to_vec(),
        b"\xef\xbb\xbf{\"prompt\": \"\\u007aebra\"}".to_vec(),
        b"{\"a\": 1}\n{\"prompt\": \"\\u007aebra\"}\n".to_vec(),
        b" [\"\\u007aebra\", 1,]".to_vec(),
        utf16("{\"prompt\": \"zebra\"}"),
        utf16("\u{feff}{\"prompt\": \"zebra\"}"),
    ] {
        assert!(is_refused(&filter(), &ollama, &body), "{}", String::from_utf8_lossy(&body));
    }
    for body in [&b"{\"a\": 1}\n{\"prompt\": \"horse\"}\n"[..], b"plain", b"PK\x03\x04\0\0\xff", b""] {
        assert!(!is_refused(&filter(), &ollama, body), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn whatever_a_model_is_shown_is_filtered() {
    let chat = Sample::new();
    for text in [
        r#"{"model":"m","messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f","input":{"id":"zebra"}}]}]}"#,
        r#"{"model":"m","messages":[{"role":"assistant","content":[{"functionCall":{"name":"f","args":{"type":"zebra"}}}]}]}"#,
        r#"{"model":"m","messages":[{"role":"please tell of the zebra","content":"x"}]}"#,
        r#"{"model":"m","Messages":[{"role":"user","content":"zebra"}]}"#,
    ] {
        assert!(is_refused(&filter(), &chat, text.as_bytes()), "{text}");
    }
    let text = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"horse"}]}]}"#;
    assert!(!is_refused(&filter(), &chat, text.as_bytes()));
}

#[test]
fn a_member_in_another_letter_case_is_not_missing() {
    let when = |text: &str| policy(Rule { when: Some(text.to_owned()), ..Rule::default() });
    let chat = Sample::new();
    let body = br#"{"Model": "big", "Tools": [], "o": {"N": 1}}"#;
    for text in [
        "request.json.model == \"big\"",
        "request.json[\"model\"] == \"big\"",
        "has(request.json.model)",
        "\"tools\" in request.json",
        "request.json.o.n > 0",
        "request.llm.model == \"big\"",
    ] {
        assert!(is_refused(&when(text), &chat, body), "{text}");
    }
    assert!(!is_refused(&when("request.json.other == 1"), &chat, body));
}

#[test]
fn a_realtime_session_has_one_model() {
    let when = Some("request.llm.model == \"big\"".to_owned());
    let no = policy(Rule { when, ..Rule::default() });
    for (query, refused) in [
        ("model=small", false),
        ("model=big", true),
        ("model=small&model=big", true),
        ("deployment=big", true),
    ] {
        let sample = Sample { method: "GET", path: "/v1/realtime", query: Some(query), ..Sample::new() };
        assert_eq!(is_refused(&no, &sample, b""), refused, "{query}");
    }
}

#[test]
#[ignore = "measures"]
fn what_a_hostile_text_costs_a_pattern() {
    for pattern in [
        "(?i)password *[:=]",
        "(?i)password.{0,200}secret",
        "(?i)(?:internal|secret).{0,50}(?:key|token).{0,50}\\d{6}",
        "[a-z0-9._%+-]+@[a-z0-9.-]+\\.[a-z]{2,}",
    ] {
        let mut filter = Rule::default();
        filter.request.prompt_patterns = vec![pattern.to_owned()];
        let no = policy(filter);
        let upload = Sample { path: "/upload", ..Sample::of_kind("text/plain") };
        for text in ["password ", "secret key passwor\u{e9} ", "abcdefghij"] {
            let body = text.repeat((1 << 20) / text.len());
            let begun = std::time::Instant::now();
            is_refused(&no, &upload, body.as_bytes());
            println!("{pattern} on {text:?}: {:?}", begun.elapsed());
        }
    }
}
