//! An errand against servers in this process.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Asks a server that writes `answer` whole and closes.
async fn answered(answer: &'static str) -> Result<Fetched, String> {
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let server = async move {
        let mut question = Vec::new();
        while !question.ends_with(b"\r\n\r\n") {
            theirs.read_buf(&mut question).await.expect("a question");
        }
        theirs.write_all(answer.as_bytes()).await.expect("it fits");
    };
    let request = Request::get("/jwks").header(HOST, "id.example.com").body(Once::of(Bytes::new()));
    tokio::join!(ask(ours, request.expect("a request"), 1000), server).0.and_then(fetched)
}

#[tokio::test]
async fn a_server_may_close_as_soon_as_it_has_answered() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.0 200 OK\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ] {
        assert_eq!(answered(answer).await.map(|fetched| fetched.body), Ok(b"{}".to_vec()), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_none() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
    ] {
        assert!(answered(answer).await.is_err(), "{answer}");
    }
}

#[test]
fn how_long_an_answer_may_be_kept() {
    for (value, wanted) in [
        ("max-age=600", Some(600)),
        ("public, max-age=21600, must-revalidate, no-transform", Some(21600)),
        ("Max-Age=\"60\"", Some(60)),
        ("max-age=600, no-store", Some(0)),
        ("no-cache", Some(0)),
        ("max-age=-1", None),
        ("private", None),
    ] {
        let headers = HeaderMap::from_iter([(CACHE_CONTROL, value.parse().expect("a value"))]);
        assert_eq!(max_age(&headers), wanted.map(Duration::from_secs), "{value}");
    }
    assert_eq!(max_age(&HeaderMap::new()), None);
}

/// A provider over TLS that answers each connection with `answer`, and what it was sent.
async fn provider(
    host: &'static str,
    answer: Vec<u8>,
) -> (Tls, Target, Vec<SocketAddr>, tokio::task::JoinHandle<String>) {
    let key = rcgen::KeyPair::generate().expect("key");
    let mut params = rcgen::CertificateParams::new([host.to_owned()]).expect("params");
    params.not_before = time::OffsetDateTime::now_utc() - time::Duration::DAY;
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(30);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let ca_key = rcgen::KeyPair::generate().expect("key");
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    ca.distinguished_name.push(rcgen::DnType::CommonName, "Providers");
    let root = ca.self_signed(&ca_key).expect("root");
    let issuer = rcgen::Issuer::from_ca_cert_der(root.der(), ca_key).expect("issuer");
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(&key, &issuer).expect("leaf");
    let der = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("key");
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], der)
            .expect("a server");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("address");
    #[expect(clippy::disallowed_methods, reason = "joined by the test")]
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let accepted = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        let Ok(mut stream) = accepted else { return String::new() };
        let mut question = Vec::new();
        while !question.ends_with(b"END") && stream.read_buf(&mut question).await.is_ok_and(|n| n > 0) {}
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
        String::from_utf8(question).expect("text")
    });
    let settings = tls::Settings {
        ca: rcgen::CertificateParams::default()
            .self_signed(&rcgen::KeyPair::generate().expect("key"))
            .expect("ca")
            .der()
            .to_vec(),
        system_roots: false,
        extra_roots: vec![root.pem().into_bytes()],
        deadlines: tls::Deadlines::default(),
    };
    let (tls, _) =
        Tls::new(&settings, Arc::new(|_| Box::pin(async { Err("none".to_owned()) }))).expect("TLS");
    let target =
        Target::of(&format!("https://login.example:{}/token?x=1", address.port())).expect("a target");
    (tls, target, vec![address], server)
}

fn post(body: &str) -> Errand {
    let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("evil.example"))]);
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("1"));
    headers.insert(http::header::AUTHORIZATION, HeaderValue::from_static("Bearer sk-1"));
    let body = Zeroizing::new(body.as_bytes().to_vec());
    Errand { method: Method::POST, url: String::new(), headers, body, certificate: None }
}

#[tokio::test]
async fn a_provider_is_verified_and_asked() {
    let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}".to_vec();
    let (tls, target, addresses, server) = provider("login.example", answer).await;
    let reply = converse(post("a=b&END"), target, &addresses, &tls, None, 1000).await.expect("a reply");
    assert_eq!((reply.status, reply.body.as_slice()), (201, &b"{}"[..]));
    let seen = server.await.expect("the server");
    assert!(seen.starts_with("POST /token?x=1 HTTP/1.1\r\n") && seen.ends_with("\r\n\r\na=b&END"), "{seen}");
    assert!(
        seen.contains("\r\ncontent-length: 7\r\n") && seen.contains("\r\nauthorization: Bearer sk-1\r\n")
    );
    assert!(
        seen.contains("\r\nhost: login.example:")
            && !seen.contains("evil")
            && seen.contains("accept: application/json")
    );
}

#[tokio::test]
async fn another_name_is_told_nothing() {
    let (tls, target, addresses, server) = provider("other.example", Vec::new()).await;
    let why = converse(post("END"), target, &addresses, &tls, None, 1000).await.err().expect("refused");
    assert!(!why.contains("sk-1"), "{why}");
    assert_eq!(server.await.expect("the server"), "");
}

#[tokio::test]
async fn what_is_too_much_or_no_answer_is_refused() {
    let head = "HTTP/1.1 200 OK\r\n";
    for answer in [
        format!("{head}Content-Length: 1001\r\n\r\n{}", "x".repeat(1001)),
        format!("{head}Content-Length: 18446744073709551615\r\n\r\nx"),
        format!("{head}\r\n{}", "x".repeat(2000)),
        format!("{head}X: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(40_000)),
        format!("{head}Content-Length: 7\r\n\r\nx"),
        "sk-1".to_owned(),
        String::new(),
    ] {
        let (tls, target, addresses, server) = provider("login.example", answer.into_bytes()).await;
        let why = converse(post("END"), target, &addresses, &tls, None, 1000).await.err().expect("refused");
        assert!(!why.contains("sk-1"), "{why}");
        server.await.expect("the server");
    }
}

#[test]
fn only_https_without_a_user() {
    for bad in ["http://a.example/", "https://u:p@a.example/", "a.example", "https:///x", "ftp://a.example/"]
    {
        assert!(Target::of(bad).is_err(), "{bad}");
    }
    let target = Target::of("https://[::1]:8200/v1/x?y").expect("a target");
    assert!(target.port == 8200 && target.path == "/v1/x?y" && target.authority == "[::1]:8200");
}
