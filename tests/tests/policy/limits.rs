//! Limits: real clients run into them, and they hold across streams, connections, restarts and reloads.

use sluice::types::Verdict;
use sluice_tests::harness::World;

use crate::rig::{Running, TAG, curl, fetched, judged, record, world};

const URL: &str = "https://www.example.test";

fn limited(limit: &str) -> World {
    let rule = |limit: &str| {
        format!(
            "[[rule]]\nname = \"few\"\nverdict = \"allow\"\nhost = [\"www.example.test\", \"api.openai.com\"]\n{limit}\n"
        )
    };
    world("mode = \"enforce\"", &rule(&format!("limit = {limit}")))
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
