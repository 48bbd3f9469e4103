//! The leak alarm: a caller's own long-lived key is told of by kind, fingerprint and last four, and never by itself.

use serde_json::Value;
use sluice_tests::canary::{Found, Search};

use crate::rig::{Keys, WWW, credential, curl, record, seen, sluice, world};

const KEY: &str = "sk-proj-EXAMPLEexampleEXAMPLEexampleEXAMPLEcafe";

#[test]
fn a_callers_own_key_is_recorded_refused_or_replaced() {
    let keys = Keys::new();
    let file = keys.put("0", "the-credential-of-the-rule");
    let config = credential("mine", &file, "hosts = [\"www.example.test\"]\ninject.bearer = true")
        + "[[rule]]\nname = \"deny\"\nquery = { is = \"deny\" }\nverdict = \"allow\"\ncaller_key = \"deny\"\n"
        + "[[rule]]\nname = \"replace\"\nquery = { is = \"replace\" }\nverdict = \"allow\"\ncredential = \"mine\"\ncaller_key = \"replace\"\n"
        + "[[rule]]\nname = \"warn\"\nverdict = \"allow\"\n";
    let world = world(&config);
    let bearer = format!("Authorization: Bearer {KEY}");
    let ask = |is: &str, field: &str| {
        curl(&world, &["--http1.1", "-H", field, &format!("https://{WWW}/mirror/plain?is={is}")])
    };
    let (status, body, _) = ask("deny", &bearer);
    assert_eq!(status, "403", "{body}");
    assert!(body.contains("openai, …cafe") && !body.contains(KEY), "{body}");
    let (status, body, _) = ask("replace", &bearer);
    assert_eq!(status, "200", "{body}");
    assert!(!body.contains(KEY) && body.contains("[credential mine]"), "{body}");
    let (status, body, _) = ask("replace", &format!("X-My-Token: {KEY}"));
    assert_eq!(status, "403", "where it cannot be replaced it is refused: {body}");
    let (status, body, _) = ask("warn", &bearer);
    assert_eq!(status, "200");
    assert!(body.contains(KEY), "its own key is the caller's to see: {body}");
    let (status, _, _) = ask("none", "Authorization: Bearer sk-sluice-placeholder");
    assert_eq!(status, "200");
    assert_eq!(seen(&world, "/mirror").len(), 3);

    let warned =
        record(&world, "the warned", |s| s.rule.as_deref() == Some("warn") && !s.caller_keys.is_empty());
    let key = &warned.caller_keys[0];
    assert_eq!((key.kind.as_str(), key.last4.as_str(), key.fingerprint.len()), ("openai", "cafe", 16));
    let store = world.daemon().store().display().to_string();
    let shown =
        sluice(&world, &["show", &format!("{}/{}", warned.session, warned.exchange), "--store", &store]);
    let redacted = format!("Bearer [redacted {} bytes {}]", KEY.len(), key.fingerprint);
    assert!(shown.stdout.contains(&redacted), "the same fingerprint: {}", shown.stdout);

    let listed = sluice(&world, &["credentials", "leaks", "--json", "--store", &store]);
    let lines: Vec<Value> =
        listed.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 1, "{}", listed.stdout);
    let leak = &lines[0];
    assert_eq!(leak["fingerprint"], key.fingerprint.as_str());
    assert_eq!((leak["count"].as_u64(), leak["tags"][0].as_str()), (Some(4), Some("job")), "{leak}");
    assert!(leak["exes"][0].as_str().is_some_and(|exe| exe.ends_with("curl")), "{leak}");

    // The answer of `warn` is the caller's own, and is recorded as it was; nothing else has the key.
    let log = world.daemon().log();
    assert!(!log.contains(KEY), "{log}");
    assert!(log.contains("a key of the caller's own (openai, …cafe) was sent to"), "{log}");
    let (mut found, search) = (Found::new(), Search::new([("key", KEY)]).expect("a search"));
    search.place(&world.space().dir().join("runtime"), &mut found).expect("searched");
    assert_eq!(found, Found::new());
}
