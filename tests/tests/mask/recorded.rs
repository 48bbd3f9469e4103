//! What is recorded is masked where the wire is not.

use crate::rig::{CARD, EMAIL, WWW, curl, kept_nowhere, record, sent, with};

const RULES: &str = r#"mode = "enforce"
record_masked = ["pii"]

[[mask]]
name = "pii"
detect = ["email", "card"]
with = "redact"

[[rule]]
name = "none"
path = "/denied/**"
verdict = "deny"

[[rule]]
name = "all"
verdict = "allow"
"#;

#[test]
fn the_wire_has_it_and_the_record_has_not() {
    let world = with(RULES);
    let body = format!("{{\"mail\":\"{EMAIL}\",\"card\":\"{CARD}\"}}");
    for version in ["--http1.1", "--http2"] {
        let header = format!("X-Note: {EMAIL}");
        let url = format!("{WWW}/echo?to={EMAIL}");
        let (status, back, ended) = curl(&world, &[version, "-H", &header, "--json", &body, &url]);
        assert_eq!((status.as_str(), back.as_str()), ("200", body.as_str()), "{ended:?}");
    }
    assert!(sent(&world).contains(EMAIL));
    assert!(world.seen().requests()[0].path.contains(EMAIL));
    let (status, _, ended) = curl(&world, &[&format!("{WWW}/denied/{EMAIL}")]);
    assert_eq!(status, "403", "{ended:?}");
    let (status, _, ended) =
        curl(&world, &["-H", &format!("X-Note: {EMAIL}"), &format!("{WWW}/mirror/gzip")]);
    assert_eq!(status, "200", "{ended:?}");
    let summary = record(&world, "an exchange", |s| {
        s.path.as_deref().is_some_and(|p| p.starts_with("/echo?to=%5Bemail%5D"))
    });
    assert!(summary.masked["email"] >= 2, "{summary:?}");
    record(&world, "the refused", |s| s.path.as_deref() == Some("/denied/%5Bemail%5D"));
    kept_nowhere(&world, &[EMAIL, "jane.roe", CARD]);
}

#[test]
fn observing_changes_nothing_on_the_wire() {
    let world = with(&crate::rig::RULES.replace("enforce", "observe"));
    let body = format!("{{\"mail\":\"{EMAIL}\"}}");
    let (status, back, ended) = curl(&world, &["--json", &body, &format!("{WWW}/echo")]);
    assert_eq!((status.as_str(), back.as_str()), ("200", body.as_str()), "{ended:?}");
    assert!(sent(&world).contains(EMAIL));
    kept_nowhere(&world, &["jane.roe"]);
}
