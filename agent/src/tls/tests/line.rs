//! Good connections: names, protocols, facts, sessions, the cache.

use super::*;

const HOST: &str = "api.example.com";

#[tokio::test]
async fn both_legs_stand_and_the_facts_tell_of_them() {
    let fixture = Fixture::new();
    let server = fixture.pki.server(&[HOST]);
    let mut ends = connect(
        &fixture,
        "ci",
        fixture.client(&["h2", "http/1.1"]),
        name(HOST),
        server.config(&["h2", "http/1.1"]),
    )
    .await;
    let (mut client, mut upstream) = (ends.client.expect("client"), ends.upstream.expect("upstream"));
    let mut opened = ends.opened.as_mut().map_err(|e| e.to_string()).expect("opened");
    flows(&mut client, &mut opened.client, b"to the agent").await;
    flows(&mut opened.upstream, &mut upstream, b"to the upstream").await;
    flows(&mut upstream, &mut opened.upstream, b"to the agent").await;
    flows(&mut opened.client, &mut client, b"to the client").await;

    opened = ends.opened.as_mut().map_err(|e| e.to_string()).expect("opened");
    assert_eq!(opened.alpn, Alpn::H2);
    assert_eq!(opened.verified, Verified::Name(HostName::parse(HOST).expect("name")));
    let facts = &opened.facts;
    assert_eq!((facts.sni.as_deref(), facts.verified_name.as_str()), (Some(HOST), HOST));
    for leg in [&facts.client, &facts.upstream] {
        assert_eq!((leg.version.as_str(), leg.group.as_str()), ("TLSv1_3", "X25519MLKEM768"));
        assert_eq!((leg.alpn.as_deref(), leg.resumed), (Some("h2"), false));
    }
    assert_eq!(facts.upstream_leaf_sha256, hex(&sha256(&server.chain[0])));
    let issued = client.get_ref().1.peer_certificates().expect("chain");
    assert_eq!(facts.issued_leaf_sha256, hex(&sha256(&issued[0])));
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn the_upstreams_protocol_is_mirrored() {
    let fixture = Fixture::new();
    let server = fixture.pki.server(&[HOST]);
    for (offered, spoken, chosen) in [
        (&["h2", "http/1.1"][..], &["h2", "http/1.1"][..], Alpn::H2),
        (&["h2", "http/1.1"], &["http/1.1"], Alpn::Http1),
        (&["h2", "http/1.1"], &[], Alpn::None),
        (&["http/1.1"], &["h2", "http/1.1"], Alpn::Http1),
        (&[], &["h2", "http/1.1"], Alpn::None),
        (&["postgresql"], &["postgresql"], Alpn::Other("postgresql".to_owned())),
        (&["imap"], &[], Alpn::None),
    ] {
        let ends = connect(&fixture, "ci", fixture.client(offered), name(HOST), server.config(spoken)).await;
        let case = format!("{offered:?} {spoken:?}");
        assert_eq!(ends.opened.map_err(|e| e.to_string()).expect(&case).alpn, chosen, "{case}");
        let (client, upstream) = (ends.client.expect(&case), ends.upstream.expect(&case));
        assert_eq!(client.get_ref().1.alpn_protocol(), upstream.get_ref().1.alpn_protocol(), "{case}");
    }
    // No protocol in common: the client learns it as from the upstream itself.
    let ends =
        connect(&fixture, "ci", fixture.client(&["h2"]), name(HOST), server.config(&["http/1.1"])).await;
    let refused = ends.opened.err().expect("refused");
    assert_eq!(
        (refused.stage, refused.alert),
        (Stage::Upstream, Some(AlertDescription::NoApplicationProtocol))
    );
}

#[tokio::test]
async fn tls12_on_either_leg() {
    let fixture = Fixture::new();
    let server = fixture.pki.server(&[HOST]);
    let old =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(server.chain.clone(), server.secret())
            .expect("cert");
    let ends = connect(&fixture, "ci", fixture.client(&[]), name(HOST), Arc::new(old)).await;
    let facts = ends.opened.map_err(|e| e.to_string()).expect("opened").facts;
    assert_eq!((facts.client.version.as_str(), facts.upstream.version.as_str()), ("TLSv1_3", "TLSv1_2"));
}

/// Runs a connection and lets the tickets of both legs arrive.
async fn session(
    fixture: &Fixture,
    tag: &str,
    client: &Arc<ClientConfig>,
    server: &Arc<rustls::ServerConfig>,
) -> (bool, bool) {
    let ends = connect(fixture, tag, Arc::clone(client), name(HOST), Arc::clone(server)).await;
    let (mut client, mut upstream) = (ends.client.expect("client"), ends.upstream.expect("upstream"));
    let mut opened = ends.opened.map_err(|e| e.to_string()).expect("opened");
    flows(&mut upstream, &mut opened.upstream, b"x").await;
    flows(&mut opened.client, &mut client, b"x").await;
    (opened.facts.client.resumed, opened.facts.upstream.resumed)
}

#[tokio::test]
async fn sessions_resume_within_a_tag_and_never_across() {
    let fixture = Fixture::new();
    let server = fixture.pki.server(&[HOST]);
    let mut config = server.bare(&["h2"]);
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().expect("tickets");
    let (client, config) = (fixture.client(&["h2"]), Arc::new(config));
    assert_eq!(session(&fixture, "a", &client, &config).await, (false, false), "the first is full");
    assert_eq!(
        session(&fixture, "a", &client, &config).await,
        (true, true),
        "the second resumes on both legs"
    );
    // The same client, with a ticket from tag a in hand, in tag b.
    assert_eq!(
        session(&fixture, "b", &client, &config).await,
        (false, false),
        "another tag: full on both legs"
    );
    assert_eq!(session(&fixture, "b", &client, &config).await, (true, true), "and resumes within its own");
}

#[tokio::test]
async fn leaves_are_kept_by_the_upstreams_certificate() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.pki.server(&[HOST]), fixture.pki.server(&[HOST]));
    let client = fixture.client(&["h2"]);
    for (server, signed) in [(&one, 1), (&one, 1), (&two, 2), (&one, 2)] {
        let ends = connect(&fixture, "a", Arc::clone(&client), name(HOST), server.config(&["h2"])).await;
        ends.opened.map_err(|e| e.to_string()).expect("opened");
        assert_eq!(fixture.signed(), signed);
    }
}

#[tokio::test]
async fn without_a_name_the_address_counts() {
    let fixture = Fixture::new();
    // The client dials an address: no SNI (RFC 6066), and the destination is 192.0.2.7.
    let server = fixture.pki.server(&["192.0.2.7"]);
    let ends = connect(&fixture, "a", fixture.client(&[]), name("192.0.2.7"), server.config(&[])).await;
    let opened = ends.opened.map_err(|e| e.to_string()).expect("opened");
    assert_eq!(opened.verified, Verified::Address("192.0.2.7".parse().expect("address")));
    assert_eq!(opened.facts.sni, None);
    ends.client.expect("the leaf has the address");

    let other = fixture.pki.server(&["192.0.2.8", HOST]);
    let ends = connect(&fixture, "a", fixture.client(&[]), name("192.0.2.7"), other.config(&[])).await;
    let refused = ends.opened.err().expect("refused");
    assert!(refused.reason.contains("not valid for 192.0.2.7; it is for"), "{refused}");
}
