//! How refusals read to the clients of well-known hosts.

use sluice::engine::Verified;
use sluice::engine::http::Version;
use sluice::types::HostName;

use super::rig::Rig;

#[tokio::test]
async fn each_client_is_told_in_its_own_words() {
    for (host, pointer, want) in [
        ("api.openai.com", "/error/type", "sluice_refused"),
        ("x.openai.azure.com", "/error/type", "sluice_refused"),
        ("api.anthropic.com", "/error/type", "invalid_request_error"),
        ("other.example", "/title", "Bad Request"),
    ] {
        let rig = Rig::verified(Verified::Name(HostName::parse(host).expect("name")));
        let mut ends = rig.http(Version::Http1);
        ends.ask("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
        let (head, body) = ends.refusal().await;
        assert!(head.starts_with("HTTP/1.1 400 ") && head.contains("connection: close\r\n"), "{head}");
        assert_eq!(body.pointer(pointer).and_then(|v| v.as_str()), Some(want), "{body}");
        assert!(body.to_string().contains("more than one Host"), "{body}");
        assert!(body.to_string().contains(&rig.session.id().to_string()), "{body}");
        let record = rig.record().await;
        assert_eq!((record.host.as_str(), record.method, record.path), (host, None, None));
    }
}

#[tokio::test]
async fn grpc_is_told_in_headers() {
    let rig = Rig::new();
    let mut ends = rig.http(Version::Http1);
    ends.ask("POST /s/m HTTP/1.1\r\nHost: b.example\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n").await;
    let head = super::rig::until(&mut ends.client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("grpc-status: 7\r\n"), "{head}");
}

#[tokio::test]
async fn a_request_to_a_plain_host_is_recorded_under_its_own_word() {
    let rig = Rig::plain();
    let mut ends = rig.http(Version::Http1);
    ends.ask("GET http://Somewhere.example:8080/x HTTP/1.1\r\nHost: somewhere.example:8080\r\n\r\n").await;
    ends.heard("GET http://Somewhere.example:8080/x HTTP/1.1\r\nHost: somewhere.example:8080\r\n\r\n").await;
    ends.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(rig.record().await.host, "somewhere.example");
}
