//! How long decisions take. Ignored: figures mean something on a quiet machine and optimised only:
//! `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test -p sluice --lib -- --ignored --nocapture policy::tests_speed`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::facts::Facts;
use super::lookup::NamePattern;
use super::pattern::Glob;
use super::rule::{Effect, Rule, Source};
use super::when::tests::Sample;
use super::*;
use crate::types::action::Body;

const BODY: &str = r#"{"model": "gpt-4o-mini", "max_tokens": 100, "temperature": 0.5, "stream": false,
    "messages": [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "What is the capital of France?"}],
    "tools": [{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}]}"#;

const CONDITIONS: [&str; 10] = [
    r#"request.json.model in ["gpt-4o", "o3"] && request.json.max_tokens <= 1000"#,
    r#"request.json.tools.exists(t, t.type == "code_interpreter")"#,
    r#"request.llm.model.startsWith("gpt-5")"#,
    r#"request.json.max_tokens > 1000"#,
    r#"request.llm.prompt.contains("secret")"#,
    r#"identity.claims.ref == "release""#,
    r#""admins" in identity.groups && now.getHours() < 6"#,
    r#"request.headers["x-team"].exists(t, t == "red")"#,
    r#"request.query.a[0] == "9""#,
    r#"caller.unit == "other.service" && request.method == "DELETE""#,
];

/// Rules of which none matches but the last: 9 of 10 ask for a host, a method and a path, 1 of 10 has a condition.
fn rules(many: usize, host: impl Fn(usize) -> String) -> Vec<Rule> {
    let mut rules: Vec<Rule> = (0..many)
        .map(|n| {
            let mut rule =
                Rule { name: format!("r{n}"), verdict: Effect::Allow, body_max: 1 << 20, ..Rule::default() };
            rule.to.hosts = vec![NamePattern::parse(&host(n)).expect("host")];
            rule.request.methods = vec!["POST".to_owned()];
            rule.caller.groups = vec!["ml-team".to_owned()];
            if n % 10 == 5 {
                rule.when = Some(CONDITIONS[n / 10 % 10].to_owned());
            } else {
                rule.request.paths = vec![Glob::parse(&format!("/v1/thing{n}/*")).expect("path")];
            }
            rule
        })
        .collect();
    rules.last_mut().expect("one").request.paths.clear();
    rules
}

fn figures(policy: &Policy, body: Body<'_>) -> (Duration, Duration) {
    let sample = Sample::new();
    let mut times: Vec<Duration> = (0..50_000)
        .map(|_| {
            let before = cpu();
            let verdict = decide(policy, &sample.asked(black_box(body)));
            let took = cpu().saturating_sub(before);
            assert!(matches!(verdict, Verdict::Allow(_) | Verdict::More { .. }), "{verdict:?}");
            took
        })
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// This thread's: others' work on the machine is not a decision's.
fn cpu() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
    Duration::from(time)
}

fn compiled(rules: Vec<Rule>) -> Policy {
    Policy::compile(Source { mode: Mode::Enforce, rules, ..Source::default() }).expect("compiles")
}

#[test]
#[ignore = "measures"]
fn a_decision_takes_microseconds() {
    let body = Body::Whole(BODY.as_bytes());
    let of_one = |_| "api.openai.com".to_owned();
    let hundred = compiled(rules(100, of_one));
    // The same hundred, and nine hundred that name other hosts.
    let mut more = rules(900, |n| format!("h{n}.example.com"));
    more.extend(rules(100, of_one));
    let thousand = compiled(more);
    let mut medians = Vec::new();
    for (name, policy, body) in [
        ("100 rules, 10 conditions, head", &hundred, Body::Unread),
        ("100 rules, 10 conditions, body", &hundred, body),
        ("1000 rules, 100 for the host, body", &thousand, body),
        ("no rule with a body", &compiled(rules(4, of_one)), body),
    ] {
        let (median, p99) = figures(policy, body);
        println!("{name}: median {median:?}, p99 {p99:?}");
        medians.push(median);
        assert!(p99 <= Duration::from_micros(20), "{name}: {p99:?}");
    }
    assert!(medians[2] <= medians[1] * 2, "{medians:?}");
    println!("(json of {} bytes: {:?})", BODY.len(), {
        let before = Instant::now();
        (0..1000).for_each(|_| drop(black_box(body::json(BODY.as_bytes()))));
        before.elapsed() / 1000
    });
}

#[test]
#[ignore = "measures"]
fn the_worst_that_a_request_can_make_of_a_condition() {
    for (text, body) in when::tests_load::worst() {
        let sample = Sample::new();
        let condition = When::compile(text).expect(text);
        let asked = sample.asked(Body::Whole(body.as_bytes()));
        let facts = Facts::new(&asked);
        let before = Instant::now();
        let _ = black_box(facts.json(1 << 30).is_ok());
        let read = before.elapsed();
        let before = Instant::now();
        let _ = black_box(condition.holds(&facts, 1 << 30, true));
        println!("{:?} (body of {} KiB read in {read:?}): {text}", before.elapsed(), body.len() >> 10);
    }
    let rules = (0..100).map(|n| Rule {
        name: format!("r{n}"),
        when: Some("request.json.a.all(x, request.json.a.all(y, x == y))".to_owned()),
        body_max: 1 << 30,
        ..Rule::default()
    });
    let policy = compiled(rules.map(|rule| Rule { verdict: Effect::Allow, ..rule }).collect());
    let (sample, (_, body)) = (Sample::new(), when::tests_load::worst().remove(0));
    let before = Instant::now();
    let _ = black_box(decide(&policy, &sample.asked(Body::Whole(body.as_bytes()))));
    println!("{:?}: a decision of 100 such conditions", before.elapsed());
}
