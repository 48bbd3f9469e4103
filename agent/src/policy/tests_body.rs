//! Decisions that look at the body: conditions and filters in allowing and refusing rules.

use super::pattern::Glob;
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

#[test]
fn messages_on_a_websocket() {
    use crate::types::action::{Message, Speaker};
    let from = Speaker::Client;
    let ws = Sample { protocol: "websocket", method: "GET", ..Sample::new() };
    let text = |text: &'static str| Body::Message(Message { from, binary: false, data: Ok(text.as_bytes()) });
    let binary = Body::Message(Message { from, binary: true, data: Ok(b"\x00{}") });
    let lost = Body::Message(Message { from, binary: false, data: Err("it is longer than 5 bytes") });
    let mut words = rule("words", Effect::Deny);
    words.request.prompt_words = vec!["unicorn".to_owned()];
    let rules = vec![
        when("no admin", Effect::Deny, r#"message.json.op == "admin""#),
        words,
        Rule { body_max: 20, ..when("short", Effect::Allow, "message.size < 10 && !message.binary") },
        when(
            "ops",
            Effect::Allow,
            r#"message.json.op in ["read", "list"] || message.text == "hello websocket""#,
        ),
    ];
    let in_force = policy(Mode::Enforce, rules.clone());
    assert_eq!(in_force.message_max(), 1 << 20);
    for (body, want) in [
        (Body::Handshake, "allow short"),
        (text(r#"{"op": "read"}"#), "allow ops"),
        (text(r#"{"op":"wipe"}"#), "deny (none): no rule allows it"),
        (text("{}"), "allow short"),
        (text(r#"{"op": "admin"}"#), "deny no admin: the rule refuses it"),
        (text(r#"{"op": "read", "what": "a UNICORN"}"#), "deny words: the rule refuses it"),
    ] {
        assert_eq!(says(&in_force, &ws, body), want);
    }
    for body in [text("hello websocket"), binary, lost] {
        let said = says(&in_force, &ws, body);
        assert!(said.starts_with("deny no admin: its when cannot be judged: "), "{said}");
    }
    let of = |rules: &[Rule], body| says(&policy(Mode::Enforce, rules.to_vec()), &ws, body);
    // A leave is none where a message cannot be judged, and needs one that fits.
    let leaves = &rules[2..];
    assert_eq!(of(leaves, text("tiny")), "allow short");
    assert_eq!(of(leaves, text("hello websocket")), "allow ops");
    assert_eq!(of(leaves, text("hello web")), "allow short");
    for none in [binary, lost, text("something else")] {
        assert_eq!(of(leaves, none), "deny (none): no rule allows it");
    }
    // Requests have no messages, and messages no body.
    assert_eq!(says(&in_force, &Sample::new(), Body::Whole(b"{}")), "deny (none): no rule allows it");
    let json = [when("json", Effect::Allow, "has(request.json.op)")];
    assert_eq!(of(&json, text(r#"{"op": 1}"#)), "deny (none): no rule allows it");
}

#[test]
fn a_handshake_says_whether_messages_are_judged() {
    let ws = Sample { protocol: "websocket", method: "GET", ..Sample::new() };
    let asks = || {
        vec![
            when("no admin", Effect::Deny, r#"message.json.op == "admin""#),
            when("short", Effect::Allow, "message.size < 10"),
        ]
    };
    let all = |rules: Vec<Rule>| match decide(&policy(Mode::Enforce, rules), &ws.asked(Body::Handshake)) {
        Verdict::Allow(permit) => (permit.rule().to_owned(), permit.messages()),
        other => panic!("{other:?}"),
    };
    let any = rule("any", Effect::Allow);
    let said = |name: &str, messages| (name.to_owned(), messages);
    assert_eq!(all([vec![any.clone()], asks()].concat()), said("any", Hears::Nobody));
    assert_eq!(all(vec![asks().remove(0), any]), said("any", Hears::Client));
    assert_eq!(all(asks()), said("short", Hears::Client));
}

#[test]
fn messages_of_both_sides() {
    use crate::types::action::{Message, Speaker};
    let ws = Sample { protocol: "websocket", method: "GET", ..Sample::new() };
    let of =
        |from, text: &'static str| Body::Message(Message { from, binary: false, data: Ok(text.as_bytes()) });
    let (client, server) = (|text| of(Speaker::Client, text), |text| of(Speaker::Server, text));
    let mut words = when("no answer", Effect::Deny, r#"message.from == "server""#);
    words.request.prompt_words = vec!["unicorn".to_owned()];
    let mut said = rule("no words", Effect::Deny);
    said.request.prompt_words = vec!["dragon".to_owned()];
    let short = when("short", Effect::Allow, "message.size < 10");
    // A rule that asks who sends a message is about both sides'; the others stay about the client's, and what they said of
    // the handshake holds for the server's.
    let rules = policy(Mode::Enforce, vec![words.clone(), said.clone(), short.clone()]);
    for (body, want) in [
        (Body::Handshake, "allow short"),
        (client("unicorn"), "allow short"),
        (server("a unicorn"), "deny no answer: the rule refuses it"),
        (client("dragon"), "deny no words: the rule refuses it"),
        (server("a dragon, and many words"), "allow short"),
        (client("many many words"), "deny (none): no rule allows it"),
    ] {
        assert_eq!(says(&rules, &ws, body), want, "{body:?}");
    }
    let both = when("both", Effect::Allow, r#"message.from == "client" || message.text.startsWith("ok")"#);
    let rules = policy(Mode::Enforce, vec![both]);
    assert_eq!(says(&rules, &ws, client("anything")), "allow both");
    assert_eq!(says(&rules, &ws, server("ok then")), "allow both");
    assert_eq!(says(&rules, &ws, server("no")), "deny (none): no rule allows it");
    let lost = Body::Message(Message { from: Speaker::Server, binary: false, data: Err("it is long") });
    assert_eq!(says(&rules, &ws, lost), "deny (none): no rule allows it");
    let hears = |rules| match decide(&policy(Mode::Enforce, rules), &ws.asked(Body::Handshake)) {
        Verdict::Allow(permit) => permit.messages(),
        other => panic!("{other:?}"),
    };
    assert_eq!(hears(vec![words.clone(), short.clone()]), Hears::Both);
    assert_eq!(hears(vec![said, short.clone()]), Hears::Client);
    assert_eq!(
        hears(vec![short, words]),
        Hears::Client,
        "what stands behind the rule that decides is not asked"
    );
}

#[test]
fn messages_are_heard_whatever_spelling_asks_for_them() {
    let mut admin = when("no admin", Effect::Deny, r#"message.text == "wipe""#);
    admin.request.paths = vec![Glob::parse("/admin/**").expect("pattern")];
    let rules = policy(Mode::Enforce, vec![admin, rule("any", Effect::Allow)]);
    let ws = Sample { protocol: "websocket", method: "GET", path: "/%61dmin/ws", ..Sample::new() };
    match decide(&rules, &ws.asked(Body::Handshake)) {
        Verdict::Allow(permit) => assert_eq!(permit.messages(), Hears::Client),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_by_text_reads_binary_messages_too() {
    use crate::types::action::{Message, Speaker};
    let ws = Sample { protocol: "websocket", method: "GET", ..Sample::new() };
    let of = |binary, data: &'static [u8]| {
        Body::Message(Message { from: Speaker::Client, binary, data: Ok(data) })
    };
    let no = when("no", Effect::Deny, r#"message.text.contains("drop table")"#);
    let yes = when("yes", Effect::Allow, r#"message.text.startsWith("select") || message.size == 1"#);
    let rules = policy(Mode::Enforce, vec![no, yes]);
    for (body, want) in [
        (of(false, b"drop table x"), "deny no: the rule refuses it"),
        (of(true, b"\xffdrop table x"), "deny no: the rule refuses it"),
        (of(false, b"select 1"), "allow yes"),
        (of(true, b"select 1"), "deny (none): no rule allows it"),
        (of(true, b"\x00"), "allow yes"),
    ] {
        assert_eq!(says(&rules, &ws, body), want, "{body:?}");
    }
}
