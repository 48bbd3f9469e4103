//! Limits: real clients run into them, and they hold across streams, connections, restarts and reloads.

use std::process::Command;

use sluice::types::{Summary, Verdict};
use sluice_tests::client;
use sluice_tests::harness::{World, address};
use sluice_tests::process::{Ended, PATIENCE, eventually, run};

use crate::rig::{Running, TAG, curl, fetched, judged, record, reload, world, write};

const URL: &str = "https://www.example.test";

fn limited(limit: &str) -> World {
    world("mode = \"enforce\"", &rule("few", limit))
}

fn rule(name: &str, limit: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\nverdict = \"allow\"\nlimit = {limit}\n")
}

/// What a refused client sees: the body, and Retry-After.
fn refused(world: &World, tag: &str, args: &[&str]) -> (serde_json::Value, u64) {
    let (status, body, ended) = fetched(curl(world, tag, &["-D", "/dev/stderr"]).args(args));
    assert_eq!(status, "429", "{body} {}", ended.stderr);
    let after = ended
        .stderr
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("retry-after:").map(str::to_owned));
    let after = after.and_then(|text| text.trim().parse().ok()).expect("Retry-After in whole seconds");
    (serde_json::from_str(&body).expect("JSON"), after)
}

#[track_caller]
fn passes(world: &World, tag: &str, args: &[&str]) {
    let (status, body, ended) = fetched(&mut curl(world, tag, args));
    assert_eq!(status, "200", "{body} {}", ended.stderr);
}

#[test]
fn requests_by_tag() {
    let world = limited(r#"{ requests = 2, per = "1h", by = "tag" }"#);
    let url = format!("{URL}/bytes/1");
    passes(&world, TAG, &[&url]);
    passes(&world, TAG, &["--http1.1", &url]);
    let before = world.seen().requests().len();
    let (said, after) = refused(&world, TAG, &["--http1.1", &url]);
    assert_eq!((said["status"].as_u64(), said["rule"].as_str()), (Some(429), Some("few")), "{said}");
    assert!((3500..=3660).contains(&after), "{after}");
    let session = said["session"].as_str().expect("session").to_owned();
    let summary = record(&world, "the refusal", |s| s.session == session);
    assert_eq!((judged(&summary), summary.status), ((Some("few"), Verdict::Deny), Some(429)));
    let why = summary.error.expect("why");
    assert!(
        why.contains("the limit { requests = 2, per = \"1h\", by = \"tag\" } is reached: requests"),
        "{why}"
    );
    refused(&world, TAG, &["--http2", &url]);
    assert_eq!(world.seen().requests().len(), before, "what is refused does not reach the upstream");
    passes(&world, "other", &[&url]);
}

#[test]
fn what_is_open_at_once() {
    let world = limited("{ concurrent = 2 }");
    let url = format!("{URL}/bytes/1");
    let stream = |name: &str, version: &str| {
        let mut command = world.job(name, "curl").expect("a job");
        let url = format!("{URL}/sse?n=2000&ms=20");
        Running::start(&world, name, command.args(["-sSN", version, "--max-time", "60", &url]))
    };
    let (h2, h1) = (stream("h2", "--http2"), stream("h1", "--http1.1"));
    h2.says("at=", 0);
    h1.says("at=", 0);
    let (_, after) = refused(&world, TAG, &[&url]);
    assert_eq!(after, 1);
    drop(h1);
    record(&world, "its end", |s| s.protocol == "http/1.1" && s.duration_us.is_some());
    passes(&world, TAG, &[&url]);
    passes(&world, TAG, &[&url]);
    drop(h2);
}

/// The openai package with these calls.
fn package(world: &World, tag: &str, retries: u32, calls: &[&str]) -> Ended {
    let python = client::python().expect("Python with openai");
    let mut command: Command = world.job(tag, &python).expect("a job");
    command.arg(client::program("openai_budget.py")).args(calls);
    command.env("OPENAI_API_KEY", "sk-test").env("RETRIES", retries.to_string());
    let ended = run(&mut command, PATIENCE * 2).expect("started");
    assert!(ended.good(), "{ended:?}");
    ended
}

/// The package's error and what it knows of it, from its last line.
fn error(ended: &Ended) -> Vec<&str> {
    ended.stdout.lines().last().expect("a line").split(' ').collect()
}

#[test]
fn the_package_tries_again_as_told_and_else_raises_its_rate_limit_error() {
    let world =
        limited(r#"[{ requests = 1, per = "5s", by = "tag" }, { requests = 2, per = "1h", by = "tag" }]"#);
    let ended = package(&world, TAG, 2, &["chat:4", "response:4", "chat:4"]);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{ended:?}");
    assert!(lines[..2].iter().all(|line| line.ends_with("echo: hello there")), "{ended:?}");
    let [name, status, kind, code, after] = error(&ended)[..] else { panic!("{ended:?}") };
    assert_eq!((name, status, kind, code), ("RateLimitError", "429", "requests", "rate_limit_exceeded"));
    assert!((3500..=3660).contains(&after.parse::<u32>().expect("seconds")), "{after}");
    // An hour is longer than the package waits for anything.
    assert_eq!((refusals(&world, "per = \"5s\"", 1), refusals(&world, "per = \"1h\"", 1)), (1, 1));
    assert_eq!(world.seen().requests().len(), 2);
}

#[test]
fn the_package_gives_up_after_its_last_try() {
    let world = limited("{ concurrent = 1 }");
    let mut command = world.job("stream", "curl").expect("a job");
    let url = format!("{URL}/sse?n=6000&ms=20");
    let stream = Running::start(&world, "stream", command.args(["-sSN", "--max-time", "100", &url]));
    stream.says("at=", 0);
    let ended = package(&world, TAG, 2, &["chat:4"]);
    assert_eq!(error(&ended), ["RateLimitError", "429", "concurrent", "rate_limit_exceeded", "1"]);
    assert_eq!(refusals(&world, "concurrent = 1", 3), 3);
}

/// How many records say that they were refused for this; waits for at least so many.
fn refusals(world: &World, why: &str, least: usize) -> usize {
    let counted = || {
        let refused =
            |s: &&Summary| s.status == Some(429) && s.error.as_deref().unwrap_or_default().contains(why);
        let all = world.sessions()?.iter().filter(refused).count();
        Ok((all >= least).then_some(all))
    };
    eventually(PATIENCE, counted).expect("asked").unwrap_or_default()
}

#[test]
fn a_budget_of_tokens() {
    let world = limited(r#"{ tokens = 1000, per = "1h", by = "tag" }"#);
    let calls = [
        "chat:197",
        "stream:197",
        "response-stream:197:gpt-4o-mini-gzip",
        "stream:197:gpt-4o-mini-gzip",
        "response:197",
    ];
    let ended = package(&world, TAG, 0, &[&calls[..], &["chat:1"]].concat());
    assert_eq!(error(&ended)[..4], ["RateLimitError", "429", "tokens", "rate_limit_exceeded"], "{ended:?}");
    assert_eq!(ended.stdout.matches("echo: hello there\n").count(), 5, "five of 200 each: {ended:?}");
    let ended = package(&world, "other", 0, &["chat:9997", "chat:1"]);
    assert_eq!(ended.stdout.matches("echo: hello there\n").count(), 1, "one may run over: {ended:?}");
    assert_eq!(error(&ended)[0], "RateLimitError");
}

#[test]
fn tokens_are_reckoned_with_before_and_whoever_leaves_early_pays() {
    let world = limited(r#"{ tokens = 1000, per = "1h", by = "tag" }"#);
    let url = "https://api.openai.com/v1/chat/completions";
    let ask = |tag: &str, body: &str, more: &[&str]| {
        let mut command =
            curl(&world, tag, &["-HAuthorization: Bearer x", "-HContent-Type: application/json", "-d", body]);
        fetched(command.args(more).arg(url))
    };
    let bounded = r#"{"model": "m", "max_tokens": 900, "messages": [{"role": "user", "content": "hi"}]}"#;
    assert_eq!(ask(TAG, bounded, &[]).0, "200");
    assert_eq!(ask(TAG, bounded, &[]).0, "200", "what was not used is given back");
    let words = "word ".repeat(300);
    let long = format!(
        r#"{{"model": "m", "max_tokens": 900, "stream": true, "messages": [{{"role": "user", "content": "{words}"}}]}}"#
    );
    let (_, body, ended) = ask("early", &long, &["-N", "--max-time", "1"]);
    assert!(ended.status.and_then(|s| s.code()) == Some(28) && body.contains("word"), "{ended:?}");
    record(&world, "who left", |s| s.tag == "early" && s.duration_us.is_some());
    let (status, body, _) = ask("early", bounded, &[]);
    assert!(status == "429" && body.contains("tokens"), "{status} {body}");
    let (_, after) = refused(
        &world,
        "early",
        &["-HAuthorization: Bearer x", "-HContent-Type: application/json", "-d", bounded, url],
    );
    assert!(after > 3500);
}

#[test]
fn bytes_both_ways() {
    let world = limited(r#"{ bytes = "100KiB", per = "1h", by = "tag" }"#);
    let url = |path: &str| format!("{URL}{path}");
    passes(&world, "down", &[&url("/bytes/150000")]);
    refused(&world, "down", &[&url("/bytes/1")]);
    let file = world.space().dir().join("upload");
    std::fs::write(&file, vec![b'x'; 60_000]).expect("written");
    let data = format!("@{}", file.display());
    let up = ["--data-binary", &data, &url("/sink")];
    passes(&world, "up", &up);
    passes(&world, "up", &up);
    refused(&world, "up", &up);
}

/// The gate has written counts in which the rule stands.
fn kept(world: &World, rule: &str) {
    let path = world.daemon().store().join("limits");
    let there = || {
        Ok(std::fs::read(&path)
            .is_ok_and(|bytes| memchr::memmem::find(&bytes, rule.as_bytes()).is_some())
            .then_some(()))
    };
    assert!(eventually(PATIENCE, there).expect("read").is_some(), "{} is not written", path.display());
}

#[test]
fn counts_outlive_a_killed_gate_and_a_restart() {
    let mut world = limited(r#"{ requests = 3, per = "1h" }"#);
    let url = format!("{URL}/bytes/1");
    passes(&world, TAG, &[&url]);
    kept(&world, "few");
    let gate = world.daemon().gate_pid().expect("gate");
    world.daemon().signal(gate, nix::sys::signal::Signal::SIGKILL).expect("killed");
    world.daemon().gate_pid_other_than(gate).expect("another");
    passes(&world, TAG, &[&url]);
    world.daemon_mut().stop().expect("stopped");
    world.daemon_mut().start().expect("started");
    passes(&world, TAG, &[&url]);
    refused(&world, TAG, &[&url]);
    world.daemon_mut().stop().expect("stopped");
    let path = world.daemon().store().join("limits");
    std::fs::write(&path, b"rubbish").expect("written");
    world.daemon_mut().start().expect("started");
    passes(&world, TAG, &[&url]);
    assert!(world.daemon().log().contains("limits is damaged"), "{}", world.daemon().log());
}

#[test]
fn a_reload_changes_the_limit_and_not_what_was_spent() {
    let world = world("mode = \"enforce\"", "");
    let url = format!("{URL}/bytes/1");
    let change = |name: &str, limit: &str| {
        // A rule of the change's own says when it is in force.
        write(
            &world,
            &format!(
                "[[rule]]\nname = \"{name}\"\npath = \"/{name}\"\nverdict = \"deny\"\n{}",
                rule("few", limit)
            ),
        );
        reload(&world);
        let asked = || {
            let (_, body, _) = fetched(&mut curl(&world, "asks", &[&format!("{URL}/{name}")]));
            Ok(body.contains(&format!("\"rule\":\"{name}\"")).then_some(()))
        };
        assert!(eventually(PATIENCE, asked).expect("asked").is_some(), "{}", world.daemon().log());
    };
    change("one", r#"{ requests = 2, per = "1h", by = "tag" }"#);
    passes(&world, TAG, &[&url]);
    passes(&world, TAG, &[&url]);
    refused(&world, TAG, &[&url]);
    change("two", r#"{ requests = 3, per = "1h", by = "tag" }"#);
    passes(&world, TAG, &[&url]);
    refused(&world, TAG, &[&url]);
    change("three", r#"{ requests = 2, per = "1h", by = "tag" }"#);
    refused(&world, TAG, &[&url]);
}

#[test]
fn observing_sends_what_is_beyond_and_says_so() {
    let world = world("mode = \"observe\"", &rule("few", r#"{ requests = 1, per = "1h" }"#));
    passes(&world, TAG, &[&format!("{URL}/bytes/1")]);
    passes(&world, TAG, &[&format!("{URL}/bytes/2")]);
    let first =
        record(&world, "the first", |s| s.path.as_deref() == Some("/bytes/1") && s.duration_us.is_some());
    assert_eq!((judged(&first), first.error.as_deref()), ((Some("few"), Verdict::Allow), None));
    let beyond =
        record(&world, "the second", |s| s.path.as_deref() == Some("/bytes/2") && s.duration_us.is_some());
    assert_eq!((judged(&beyond), beyond.status), ((Some("few"), Verdict::Deny), Some(200)));
    assert!(beyond.error.expect("why").starts_with("observed only: the limit { requests = 1"));
}

#[test]
fn websockets_and_tunnels_are_open_until_they_close() {
    let world = limited("{ concurrent = 1, by = \"user\" }");
    let start = |name: &str, program: &str, code: &str| {
        let mut command = world.job(name, program).expect("a job");
        Running::start(&world, name, command.args(["-c", code]))
    };
    let ws = start("ws", "python3", super::reload::WEBSOCKET);
    ws.says("101 Switching Protocols", 0);
    refused(&world, TAG, &[&format!("{URL}/bytes/1")]);
    drop(ws);
    record(&world, "its end", |s| s.protocol == "websocket" && s.duration_us.is_some());
    passes(&world, TAG, &[&format!("{URL}/bytes/1")]);

    let dial = format!("exec 3<>/dev/tcp/{}/1004; cat <&3", address("hostile.example.test"));
    let first = start("first", "bash", &dial);
    first.says("220 greeting", 0);
    let mut second = start("second", "bash", &dial);
    second.ends();
    assert!(!second.said().contains("220"), "{}", second.said());
    let refused = record(&world, "the refusal", |s| s.protocol == "tunnel" && s.verdict == Verdict::Deny);
    assert!(refused.error.expect("why").contains("is reached: concurrent"));
}

/// Many streams of one connection race for few places.
#[test]
fn streams_that_race_do_not_get_past_the_limit() {
    let world = limited("[{ concurrent = 5 }, { requests = 40, per = \"1h\" }]");
    let urls: Vec<String> = (0..120).map(|n| format!("{URL}/slow?ms=300&n={n}")).collect();
    let mut command = world.job(TAG, "curl").expect("a job");
    command.args([
        "-sS",
        "--http2",
        "--parallel",
        "--parallel-max",
        "120",
        "--max-time",
        "60",
        "-w",
        "%{http_code}\n",
    ]);
    for url in &urls {
        command.args(["-o", "/dev/null"]).arg(url);
    }
    let ended = run(&mut command, PATIENCE).expect("started");
    let of = |status: &str| ended.stdout.lines().filter(|line| *line == status).count();
    assert_eq!(of("200") + of("429"), 120, "{ended:?}");
    assert!((5..=40).contains(&of("200")), "{}", of("200"));
    assert_eq!(world.seen().requests().len(), of("200"));
}
