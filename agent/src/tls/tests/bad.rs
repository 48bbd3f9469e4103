//! Bad upstreams and unwilling clients: each ends in the right alert and the right words, and nothing is minted.

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose};
use rustls::AlertDescription as Alert;
use rustls::server::WebPkiClientVerifier;
use time::{Duration as Span, OffsetDateTime};

use super::pki::{Server, must_staple, wildcard};
use super::*;

const HOST: &str = "api.example.com";

/// The alert that a client's failed handshake ended in.
fn alert_seen(client: std::io::Result<tokio_rustls::client::TlsStream<BoxStream>>) -> Option<Alert> {
    let error = client.err().expect("the client must fail");
    match refused::tls_error(&error) {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        _ => None,
    }
}

async fn refused(fixture: &Fixture, server: &Server, host: &str, alert: Alert, words: &str) {
    let ends = connect(fixture, "ci", fixture.client(&["h2"]), name(host), server.config(&["h2"])).await;
    let refused = ends.opened.err().expect(words);
    assert!(refused.reason.contains(words), "{words}: {refused}");
    assert_eq!((refused.stage, refused.alert), (Stage::Upstream, Some(alert)), "{words}");
    assert_eq!(alert_seen(ends.client), Some(alert), "{words}: what the client saw");
    assert!(refused.remedy.is_some(), "{words}: a remedy");
    assert_eq!(refused.facts.sni.as_deref(), Some(host));
    assert_eq!(fixture.signed(), 0, "{words}: nothing is minted");
}

#[tokio::test]
async fn bad_certificates() {
    let fixture = Fixture::new();
    let spoiled = |change: fn(&mut CertificateParams)| fixture.pki.server_with(&[HOST], change);
    let expired = spoiled(|p| p.not_after = OffsetDateTime::now_utc() - Span::HOUR);
    refused(&fixture, &expired, HOST, Alert::CertificateExpired, "expired at").await;
    let early = spoiled(|p| p.not_before = OffsetDateTime::now_utc() + Span::HOUR);
    refused(&fixture, &early, HOST, Alert::CertificateExpired, "not valid before").await;
    refused(&fixture, &Server::self_signed(&[HOST]), HOST, Alert::UnknownCA, "self-signed (CN=a server)")
        .await;
    let stranger = Pki::new("Stranger").server(&[HOST]);
    refused(&fixture, &stranger, HOST, Alert::UnknownCA, "no trusted root issued").await;
    let other = fixture.pki.server(&["other.example.com"]);
    refused(&fixture, &other, HOST, Alert::BadCertificate, "it is for other.example.com").await;
    let registry = spoiled(|p| p.subject_alt_names = vec![wildcard("*.com")]);
    refused(&fixture, &registry, "example.com", Alert::BadCertificate, "not valid for").await;
    let registry = spoiled(|p| p.subject_alt_names = vec![wildcard("*.co.uk")]);
    refused(&fixture, &registry, "example.co.uk", Alert::BadCertificate, "covers a whole registry").await;
    let purposeless = spoiled(|p| p.extended_key_usages.clear());
    refused(&fixture, &purposeless, HOST, Alert::UnsupportedCertificate, "no extendedKeyUsage").await;
    let any = spoiled(|p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::Any));
    refused(&fixture, &any, HOST, Alert::UnsupportedCertificate, "anyExtendedKeyUsage").await;
    let clients = spoiled(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    refused(&fixture, &clients, HOST, Alert::UnsupportedCertificate, "no serverAuth").await;
    let signing = spoiled(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign));
    refused(&fixture, &signing, HOST, Alert::BadCertificate, "may sign other certificates").await;
    let ca = spoiled(|p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    refused(&fixture, &ca, HOST, Alert::BadCertificate, "CA:TRUE").await;
    let unstapled = spoiled(|p| p.custom_extensions.push(must_staple()));
    refused(&fixture, &unstapled, HOST, Alert::BadCertificateStatusResponse, "none came").await;
}

#[tokio::test]
async fn our_own_ca_is_no_root_even_when_the_hosts_store_has_it() {
    let own = Pki::new("Sluice CA test 0000");
    let other = Pki::new("Upstream Root");
    let settings = Settings {
        ca: own.root.to_vec(),
        system_roots: false,
        extra_roots: vec![format!("{}{}", own.root_pem(), other.root_pem()).into_bytes()],
        deadlines: Deadlines::default(),
    };
    let sign: Sign = Arc::new(|_| Box::pin(async { panic!("nothing is minted") }));
    let (tls, omitted) = Tls::new(&settings, sign).expect("TLS");
    assert_eq!(omitted.len(), 1, "{omitted:?}");
    assert!(omitted[0].why.contains("our own CA"));
    let fixture = Fixture {
        tls,
        ca: own.root.to_vec(),
        signed: Arc::default(),
        pki: other,
        policy: Policy::default(),
        certificate: None,
    };
    refused(&fixture, &own.server(&[HOST]), HOST, Alert::UnknownCA, "this host's own Sluice CA").await;
}

#[tokio::test]
async fn a_certificate_that_is_its_own_root_stands_for_itself_only() {
    let fixed = Pki::not_a_ca("a fixed server");
    let fixture = Fixture::trusting(Some(fixed.root_pem()));
    let itself = fixed.itself();
    let ends =
        connect(&fixture, "ci", fixture.client(&["h2"]), name("fixed.example.com"), itself.config(&["h2"]))
            .await;
    ends.opened.map_err(|e| e.to_string()).expect("trusted as it is");

    let fixture = Fixture::trusting(Some(fixed.root_pem()));
    refused(&fixture, &fixed.server(&[HOST]), HOST, Alert::BadCertificate, "is no CA").await;
}

#[tokio::test]
async fn a_client_that_does_not_trust_us_is_told_apart() {
    let fixture = Fixture::new();
    let server = fixture.pki.server(&[HOST]);
    let stranger = trusting(&fixture.pki.root, &["h2"]);
    let ends = connect(&fixture, "ci", stranger, name(HOST), server.config(&["h2"])).await;
    let refused = ends.opened.err().expect("refused");
    assert_eq!((refused.stage, refused.alert), (Stage::Client, None));
    assert!(
        refused.reason.contains("does not accept the certificate of Sluice's CA: unknown_ca (48)"),
        "{refused}"
    );
    assert!(refused.remedy.expect("remedy").contains("sluice trust"));
    assert_eq!(refused.facts.verified_name, HOST, "the upstream was verified");
}

/// A server of this version whose verifier asks for a client certificate.
fn demanding(
    server: &Server,
    version: &'static rustls::SupportedProtocolVersion,
    verifier: rustls::server::ClientCertVerifierBuilder,
) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("version")
        .with_client_cert_verifier(verifier.build().expect("verifier"))
        .with_single_cert(server.chain.clone(), server.secret())
        .expect("cert");
    Arc::new(config)
}

#[tokio::test]
async fn an_upstream_that_wants_a_client_certificate() {
    let fixture = Fixture::new();
    let server = fixture.pki.server(&[HOST]);
    let mut roots = RootCertStore::empty();
    roots.add(fixture.pki.root.clone()).expect("root");
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for optional in [false, true] {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
            let verifier = if optional { verifier.allow_unauthenticated() } else { verifier };
            let config = demanding(&server, version, verifier);
            let ends = connect(&fixture, "ci", fixture.client(&[]), name(HOST), config).await;
            let case = format!("{version:?} optional={optional}");
            if optional {
                let mut opened = ends.opened.map_err(|e| e.to_string()).expect(&case);
                flows(&mut ends.upstream.expect(&case), &mut opened.upstream, b"hello").await;
                continue;
            }
            let refused = ends.opened.err().expect(&case);
            assert!(refused.reason.contains("demands a client certificate"), "{case}: {refused}");
            assert!(refused.remedy.expect("remedy").contains("exempt"));
            assert_eq!(alert_seen(ends.client), refused.alert, "{case}");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_is_shown_a_client_certificate() {
    let mut fixture = Fixture::new();
    let server = fixture.pki.server(&[HOST]);
    let roots = |pki: &Pki| {
        let mut roots = RootCertStore::empty();
        roots.add(pki.root.clone()).expect("root");
        Arc::new(roots)
    };
    let (own, other) = (roots(&fixture.pki), roots(&Pki::new("Other Root")));
    let client = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
    };
    let job = fixture.pki.server_with(&["job.example"], client);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = CertifiedKey::from_der(job.chain.clone(), job.secret(), &provider).expect("a key");
    fixture.certificate = Some(Arc::new(key));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (roots, good) in [(&own, true), (&other, false)] {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider));
            let config = demanding(&server, version, verifier);
            let ends = connect(&fixture, "ci", fixture.client(&[]), name(HOST), config).await;
            let case = format!("{version:?} good={good}");
            if !good {
                let refused = ends.opened.err().expect(&case);
                assert!(refused.reason.contains("refuses the client certificate"), "{case}: {refused}");
                continue;
            }
            let mut opened = ends.opened.map_err(|e| e.to_string()).expect(&case);
            let mut upstream = ends.upstream.expect(&case);
            assert_eq!(upstream.get_ref().1.peer_certificates(), Some(&job.chain[..]), "{case}");
            assert!(opened.shown, "{case}");
            flows(&mut upstream, &mut opened.upstream, b"hello").await;
        }
    }
    // Whoever is not verified is shown nothing.
    let stranger = Pki::new("Nobody's Root").server(&[HOST]);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&own), Arc::clone(&provider));
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .expect("version")
            .with_client_cert_verifier(verifier.build().expect("verifier"))
            .with_single_cert(stranger.chain.clone(), stranger.secret())
            .expect("cert");
        let ends = connect(&fixture, "ci", fixture.client(&[]), name(HOST), Arc::new(config)).await;
        assert!(ends.opened.is_err());
        // It would have ended otherwise with the client's certificate in its hands.
        assert!(ends.upstream.is_err());
    }
    // Not asked for: not shown.
    let ends = connect(&fixture, "ci", fixture.client(&[]), name(HOST), server.config(&[])).await;
    assert!(!ends.opened.map_err(|e| e.to_string()).expect("open").shown);
}

#[tokio::test]
async fn upstreams_that_break_off() {
    let fixture = Fixture::new();
    for (answer, words) in [
        (&b""[..], "closed within its TLS handshake"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS"),
        (b"\x15\x03\x03\x00\x02\x02\x70", "refused the TLS handshake: unrecognised_name (112)"),
    ] {
        let (client_end, agent_client) = pipe();
        let (agent_upstream, mut upstream_end) = pipe();
        let client = TlsConnector::from(fixture.client(&["h2"])).connect(name(HOST), client_end);
        let upstream = async {
            let mut hello = [0; 512];
            upstream_end.read_exact(&mut hello).await.expect("hello");
            upstream_end.write_all(answer).await.expect("write");
            upstream_end.shutdown().await.expect("shutdown");
        };
        let (client, opened, ()) =
            tokio::join!(client, fixture.open("ci", agent_client, agent_upstream), upstream);
        let refused = opened.err().expect(words);
        assert!(refused.reason.contains(words), "{words}: {refused}");
        assert_eq!(alert_seen(client), refused.alert, "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_stalls() {
    let fixture = Fixture::new();
    let (client_end, agent_client) = pipe();
    let (agent_upstream, _silent) = pipe();
    let client = TlsConnector::from(fixture.client(&["h2"])).connect(name(HOST), client_end);
    let (client, opened) = tokio::join!(client, fixture.open("ci", agent_client, agent_upstream));
    let refused = opened.err().expect("refused");
    assert!(refused.reason.contains("upstream did not finish its TLS handshake in time"), "{refused}");
    assert_eq!(alert_seen(client), Some(Alert::InternalError));
}
