//! `sluice policy check` and `sluice policy explain` as a user runs them.

use std::fs;

use sluice_tests::process::{Ended, PATIENCE, run};

use crate::rig::{TAG, curl, fetched, record, world};

fn sluice(args: &[&str]) -> Ended {
    let mut command = std::process::Command::new(sluice_tests::binary::sluice_binary().expect("sluice"));
    run(command.args(args).env_clear(), PATIENCE).expect("started")
}

fn directory(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("directory");
    fs::write(dir.path().join("sluice.toml"), text).expect("file");
    dir
}

const GOOD: &str = r#"mode = "enforce"
[[rule]]
name = "read"
tag = "ci"
host = "a.example"
method = "GET"
verdict = "allow"
[[rule]]
name = "rest"
verdict = "deny"
[[test]]
name = "can read"
tag = "ci"
url = "https://a.example/x"
expect = "allow"
rule = "read"
"#;

#[test]
fn check() {
    let dir = directory(GOOD);
    let path = dir.path().to_str().expect("text");
    let good = sluice(&["policy", "check", path]);
    assert!(good.good() && good.stdout.ends_with(": good, with 2 rule(s); 1 test(s) passed\n"), "{good:?}");
    let failing = GOOD.replace("https://a.example/x", "https://b.example/x");
    fs::write(dir.path().join("sluice.toml"), &failing).expect("file");
    let bad = sluice(&["policy", "check", path]);
    assert_eq!(bad.status.and_then(|s| s.code()), Some(2));
    let want = format!(
        "{path}/sluice.toml:11:1: [[test]] can read: expected allow by rule read, got deny by rule rest: rule read does not \
         match: its hosts\n"
    );
    assert_eq!(bad.stderr, want);
    fs::write(
        dir.path().join("sluice.toml"),
        format!("{failing}\nx = 1\n[[rule]]\nname = \"late\"\nverdict = \"allow\"\n"),
    )
    .expect("file");
    let bad = sluice(&["policy", "check", "--json", path]);
    assert_eq!(bad.status.and_then(|s| s.code()), Some(2));
    let lines: Vec<serde_json::Value> =
        bad.stdout.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let what: Vec<_> = lines.iter().map(|l| l["what"].as_str().expect("text")).collect();
    assert_eq!(what.len(), 2, "{what:?}");
    assert!(
        what[0] == "unknown key test.x" && what[1].starts_with("[[rule]] late is never reached: rest at "),
        "{what:?}"
    );
    assert_eq!((lines[0]["line"].as_u64(), lines[0]["severity"].as_str()), (Some(18), Some("error")));
}

#[test]
fn what_is_held_is_refused_until_somebody_can_approve() {
    let dir = directory("[[rule]]\nname = \"ask\"\nverdict = \"hold\"\n");
    let bad = sluice(&["policy", "check", dir.path().to_str().expect("text")]);
    assert_eq!(bad.status.and_then(|s| s.code()), Some(2));
    assert!(
        bad.stderr.contains("sluice.toml:3:11: verdict = \"hold\" is not there yet: nobody could approve"),
        "{bad:?}"
    );
}

#[test]
fn explain() {
    let dir = directory(GOOD);
    let path = dir.path().to_str().expect("text");
    let ask = ["policy", "explain", "--config", path, "--tag", "ci", "--url", "https://a.example/x"];
    let said = sluice(&[&ask[..], &["--method", "POST"]].concat());
    assert!(said.good(), "{said:?}");
    let lines: Vec<Vec<&str>> = said.stdout.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["read", "allow", "no:", "its", "methods"]);
    assert_eq!(lines[2], ["rest", "deny", "decides"]);
    assert_eq!(lines[3], ["deny", "by", "rule", "rest"]);
    let said = sluice(&[&ask[..], &["--json"]].concat());
    let lines: Vec<serde_json::Value> =
        said.stdout.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(
        (&lines[0]["matches"], &lines[0]["decides"]),
        (&"yes".into(), &true.into()),
        "{}",
        said.stdout
    );
    assert_eq!(
        (&lines[2]["decision"], &lines[2]["rule"]),
        (&"allow".into(), &"read".into()),
        "{}",
        said.stdout
    );
    let wrong = sluice(&["policy", "explain", "--config", path, "--url", "a.example"]);
    assert_eq!(wrong.status.and_then(|s| s.code()), Some(2), "{wrong:?}");
}

#[test]
fn explain_names_the_limits() {
    let limited = "[[rule]]\nname = \"few\"\nverdict = \"allow\"\nlimit = [{ requests = 2, per = \"60s\", by = \"identity\" }, { concurrent = 1 }]\n";
    let dir = directory(&format!("mode = \"enforce\"\n{limited}"));
    let path = dir.path().to_str().expect("text");
    let ask = ["policy", "explain", "--config", path, "--tag", "ci", "--url", "https://a.example/x"];
    let who = ["--identity", "someone", "--issuer", "https://i.example"];
    let said = sluice(&[&ask[..], &who].concat());
    let want = "allow by rule few\n\
                limit { requests = 2, per = \"1m\", by = \"identity\" }, on the count of https://i.example someone\n\
                limit { concurrent = 1, by = \"rule\" }, on the count of all callers of the rule\n";
    assert!(said.stdout.ends_with(want), "{said:?}");
    let said = sluice(&[&ask[..], &["--json"]].concat());
    let lines: Vec<serde_json::Value> =
        said.stdout.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines[0]["limits"][1], "concurrent = 1, by = \"rule\"", "{}", said.stdout);
    assert_eq!(lines[1]["limits"][0]["count"], "(none)", "{}", said.stdout);
}

#[test]
fn explain_a_recorded_exchange() {
    let world = world("mode = \"observe\"", "");
    let ask = ["-HX-Team: red", "-d{}", "https://www.example.test/echo?x=1"];
    let (status, _, ended) = fetched(&mut curl(&world, TAG, &ask));
    assert_eq!(status, "200", "{}", ended.stderr);
    let summary = record(&world, "the exchange", |s| s.path.as_deref() == Some("/echo?x=1"));
    let rules = "mode = \"enforce\"\n[[rule]]\nname = \"team\"\ntag = \"job\"\nexe = \"/usr/bin/curl\"\nport = 443\nprotocol = \"h2\"\n\
                 host = \"www.example.test\"\nmethod = \"POST\"\npath = \"/echo\"\nquery = { x = \"1\" }\nheaders = { x-team = \"red\" }\n\
                 verdict = \"allow\"\n";
    let dir = directory(rules);
    let id = format!("{}/{}", summary.session, summary.exchange);
    let store = world.daemon().store();
    let said = sluice(&[
        "policy",
        "explain",
        "--config",
        dir.path().to_str().expect("text"),
        "--store",
        store.to_str().expect("text"),
        "--exchange",
        &id,
        "--json",
    ]);
    assert!(said.stdout.contains("\"decision\":\"allow\""), "{} {}", said.stdout, said.stderr);
}
