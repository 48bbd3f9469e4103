//! Upstreams that refuse a credential and misbehave, or tell it where it is looked for last.

use sluice_tests::upstream::hostile::LONG;

use crate::rig::{Keys, credential, curl, record, rule, sluice, world};

const URL: &str = "https://hostile.example.test";
const BOUND: &str = "hosts = [\"hostile.example.test\"]\ninject.bearer = true\n";

#[test]
fn whoever_cannot_be_asked_again_is_heard_as_it_was() {
    let mut config = String::new();
    // Another value each time, so that there is one to try again with.
    for name in ["one", "two", "three"] {
        config += &format!(
            "[[credential]]\nname = \"{name}\"\nsource.command = [\"/bin/cat\", \"/proc/sys/kernel/random/uuid\"]\n{BOUND}"
        );
        config += &rule(name);
    }
    let keys = Keys::new();
    let secret = "Sk-Name-Canary_0123456789AbCdEf";
    config += &credential("name", &keys.put("name", secret), BOUND);
    config += &rule("name");
    let world = world(&config);

    let (status, body, ended) = curl(&world, &["--http1.1", &format!("{URL}/401-then-closes?is=one")]);
    assert_eq!((status.as_str(), body.as_str()), ("401", "wrong key\n"), "{ended:?}");
    let (status, body, ended) = curl(&world, &["--http1.1", &format!("{URL}/401-long?is=two")]);
    assert_eq!((status.as_str(), body.len()), ("401", LONG), "{}", ended.stderr);

    let (status, body, _) = curl(&world, &["--http1.1", &format!("{URL}/transfer-gzip?is=three")]);
    assert!(status == "502" && body.contains("is in a transfer coding"), "{status} {body}");
    let refused = record(&world, "the coded", |s| s.path.as_deref() == Some("/transfer-gzip?is=three"));
    assert_eq!(refused.status, Some(502));

    let (status, body, ended) = curl(&world, &["-i", "--http1.1", &format!("{URL}/key-in-name?is=name")]);
    assert_eq!(status, "200", "{body} {}", ended.stderr);
    assert!(!body.to_ascii_lowercase().contains(&secret.to_ascii_lowercase()), "{body}");

    let status = sluice(&world, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert!(status["memory"].as_str().is_some_and(|memory| !memory.is_empty()), "{status}");
}
