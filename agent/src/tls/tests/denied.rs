//! Names that policy refuses.

use super::*;
use crate::policy::rule::Source;
use crate::policy::{Mode, NONE};

#[tokio::test]
async fn a_refused_name_is_answered_for_the_refusal_and_reaches_nobody() {
    let mut fixture = Fixture::new();
    fixture.policy = Policy::compile(Source { mode: Mode::Enforce, ..Source::default() }).expect("compiles");
    for (offered, alpn) in [
        (&["h2", "http/1.1"][..], Alpn::Http1),
        (&["h2"], Alpn::H2),
        (&[], Alpn::None),
        (&["imap"], Alpn::None),
    ] {
        let (client_end, agent_client) = pipe();
        let (agent_upstream, mut upstream_end) = pipe();
        let client = TlsConnector::from(fixture.client(offered)).connect(name("secret.example"), client_end);
        let (client, opened) = tokio::join!(client, fixture.open("ci", agent_client, agent_upstream));
        let case = format!("{offered:?}");
        // An ALPN of which we speak nothing: the client has been told by an alert.
        let Ok(mut opened) = opened else {
            assert!(offered == ["imap"] && client.is_err(), "{case}");
            continue;
        };
        assert_eq!((opened.alpn, &opened.verified), (alpn, &Verified::Plain), "{case}");
        let refusal = opened.refusal.expect("a refusal");
        assert_eq!(refusal.denied.rule, NONE);
        let mut client = client.expect("answered");
        flows(&mut client, &mut opened.client, b"a request").await;
        flows(&mut opened.client, &mut client, b"a refusal").await;
        let mut seen = Vec::new();
        upstream_end.read_to_end(&mut seen).await.expect("closed");
        assert_eq!(seen, b"", "not one byte went there");
        assert_eq!(
            (opened.facts.verified_name.as_str(), opened.facts.upstream_leaf_sha256.as_str()),
            ("", "")
        );
    }
}
