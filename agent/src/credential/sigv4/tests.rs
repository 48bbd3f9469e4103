//! Signatures against AWS's published ones: its test suite (as `aws-sigv4` ships it) and the examples of S3's manual.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::{Method, Request};

use super::*;
use crate::credential::{bind, strip};
use crate::policy::credential::{Binding, Credential, Sending};
use crate::policy::lookup::NamePattern;
use crate::types::credential::{Secret, Shape, Source};
use crate::types::{CredentialName, HostName, TagName};

fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

fn signature(parts: &Request<()>) -> (String, String) {
    let value = parts.headers()[AUTHORIZATION].to_str().expect("text");
    let (rest, signature) = value.rsplit_once(", Signature=").expect("a signature");
    let (_, signed) = rest.rsplit_once("SignedHeaders=").expect("its fields");
    (signed.to_owned(), signature.to_owned())
}

#[test]
fn the_test_suite_of_aws() {
    let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTfl\
                 fKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlR\
                 d8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3\
                 iSIlTJabIQwj2ICCR/oLxBA==";
    let scope = Scope {
        service: "service".into(),
        region: "us-east-1".into(),
        time: UNIX_EPOCH + Duration::from_secs(1_440_938_160),
    };
    let keys = |token: Option<&str>| {
        let token = token.map(|token| format!(":{token}")).unwrap_or_default();
        Keys::parse(&format!("AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY{token}")).expect("keys")
    };
    for (method, uri, fields, token, wanted) in
        SUITE.iter().map(|(method, uri, fields, wanted)| (*method, *uri, *fields, None, *wanted)).chain([(
            "POST",
            "/",
            &[][..],
            Some(token),
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        )])
    {
        let host = [("host", "example.amazonaws.com")];
        let mut parts = head(method, uri, &[&host, fields].concat());
        let claim = Claim::own(&parts);
        assert_eq!(
            sign_with(&keys(token), &scope, &claim, Some(&hash(b"")), &mut parts).map(|c| c.is_none()),
            Ok(true)
        );
        assert_eq!(signature(&parts).1, wanted, "{method} {uri}");
        assert_eq!(parts.headers().contains_key(TOKEN), token.is_some());
    }
}

type Vector = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

const SUITE: &[Vector] = &[
    // get-vanilla
    ("GET", "/", &[], "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    // get-header-value-trim
    (
        "GET",
        "/",
        &[("my-header1", "value1"), ("my-header2", "\"a   b   c\"")],
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    // get-header-key-duplicate
    (
        "GET",
        "/",
        &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    // get-header-value-order
    (
        "GET",
        "/",
        &[
            ("my-header1", "value4"),
            ("my-header1", "value1"),
            ("my-header1", "value3"),
            ("my-header1", "value2"),
        ],
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    // get-vanilla-query-order-encoded
    (
        "GET",
        "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
        &[],
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    ),
    // get-relative-normalized
    ("GET", "/example/..", &[], "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    // get-slashes-normalized
    ("GET", "//example//", &[], "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
    // get-unreserved
    (
        "GET",
        "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        &[],
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    // get-vanilla-query-unreserved
    (
        "GET",
        "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        &[],
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    // post-vanilla-query
    ("POST", "/?Param1=value1", &[], "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
    // post-header-key-sort
    (
        "POST",
        "/",
        &[("my-header1", "value1")],
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    // get-vanilla-empty-query-key
    ("GET", "/?Param1=value1", &[], "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
    // get-vanilla-query-order-key-case
    (
        "GET",
        "/?Param2=value2&Param1=value1",
        &[],
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
];

type Example = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
);

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const HASH: &str = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
const VIRTUAL: &str = "examplebucket.s3.amazonaws.com";

/// Method, URI, host, fields, which of them the client signed, and the signature.
const EXAMPLES: [Example; 5] = [
    (
        "GET",
        "/test.txt",
        VIRTUAL,
        &[("range", "bytes=0-9"), ("x-amz-content-sha256", EMPTY)],
        "host;range",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    (
        "PUT",
        "/test$file.text",
        VIRTUAL,
        &[
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-content-sha256", HASH),
        ],
        "date;host",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    (
        "GET",
        "/?lifecycle",
        VIRTUAL,
        &[("x-amz-content-sha256", EMPTY)],
        "host",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    (
        "GET",
        "/?max-keys=2&prefix=J",
        VIRTUAL,
        &[("x-amz-content-sha256", EMPTY)],
        "host",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
    (
        "PUT",
        "/examplebucket/chunkObject.txt",
        "s3.amazonaws.com",
        &[
            ("content-encoding", "aws-chunked"),
            ("content-length", "66824"),
            ("x-amz-decoded-content-length", "66560"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-content-sha256", STREAMING),
        ],
        "content-encoding;content-length;host",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    ),
];

/// The examples of "Authenticating Requests: Using the Authorization Header" of S3's manual.
#[test]
fn the_examples_of_s3() {
    let keys = Keys::parse("AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY").expect("keys");
    let scope = Scope {
        service: "s3".into(),
        region: "us-east-1".into(),
        time: UNIX_EPOCH + Duration::from_secs(1_369_353_600),
    };
    for (method, uri, host, fields, signed, wanted) in EXAMPLES {
        let placeholder = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAPLACEHOLDER/20130524/us-east-1/s3/aws4_request, SignedHeaders={signed}, Signature=00"
        );
        let own = [("host", host), ("authorization", placeholder.as_str()), ("x-amz-security-token", "old")];
        let mut parts = head(method, uri, &[&own, fields].concat());
        let claim = Claim::of(&parts).expect("a claim");
        strip::strip(&Inject::Sigv4 { region: None, service: None }, &mut parts);
        let chunks = sign_with(&keys, &scope, &claim, None, &mut parts).expect("signed");
        assert_eq!(signature(&parts).1, wanted, "{method} {uri}");
        assert_eq!(chunks.is_some(), fields.contains(&("x-amz-content-sha256", STREAMING)));
        assert!(
            parts.headers().get_all(AUTHORIZATION).iter().count() == 1
                && !parts.headers().contains_key(TOKEN)
        );
        assert!(parts.headers()[AUTHORIZATION].is_sensitive());
    }
}

fn through(
    inject: Inject,
    secret: &str,
    host: &str,
    body: Option<&[u8]>,
    mut parts: Request<()>,
) -> Result<Request<()>, Unsignable> {
    let name = HostName::parse(host).expect("name");
    let credential = Arc::new(Credential {
        name: CredentialName::parse("aws").expect("name"),
        binding: Binding { hosts: vec![NamePattern::parse(host).expect("host")], ..Binding::default() },
        source: Source::Env("AWS".into()),
        inject: Some(inject.clone()),
        ttl: Duration::from_secs(1),
    });
    let tag = TagName::parse("ci").expect("tag");
    let sending = Sending {
        name: Some(&name),
        tls: true,
        asked: Some(&name),
        port: 443,
        method: "GET",
        headers: &http::HeaderMap::new(),
        query: None,
        path: "/",
        tag: &tag,
        identity: None,
    };
    let bound = bind(&credential, &sending).expect("bound");
    let secret = Secret::clean(secret.as_bytes().to_vec(), Shape::Text).expect("a secret");
    let value = Value::bare(secret);
    let claim = Claim::of(&parts)?;
    assert_eq!(claim.wants_body(&inject, host), body.is_some(), "{host}");
    strip::strip(&inject, &mut parts);
    sign(&bound, &value, &claim, host, body.map(hash).as_deref(), &mut parts).map(|_| parts)
}

#[test]
fn what_the_client_said_goes_and_what_it_asked_for_stays() {
    let any = || Inject::Sigv4 { region: None, service: None };
    let presigned = "/k?versionId=7&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAOLD%2F20200101%2Feu-west-1%2Fs3%2F\
                     aws4_request&X-Amz-Date=20200101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00\
                     &x-amz-acl=private";
    let parts = through(
        any(),
        "AK:SK:TOK",
        "minio.example",
        None,
        head("GET", presigned, &[("host", "minio.example")]),
    );
    let parts = parts.expect("signed");
    assert_eq!(parts.uri().to_string(), "/k?versionId=7&x-amz-acl=private");
    assert!(parts.headers()[SHA] == "UNSIGNED-PAYLOAD" && parts.headers()[TOKEN] == "TOK");
    let value = parts.headers()[AUTHORIZATION].to_str().expect("text");
    assert!(
        value.starts_with("AWS4-HMAC-SHA256 Credential=AK/") && value.contains("/eu-west-1/s3/aws4_request")
    );
    assert_eq!(signature(&parts).0, "host;x-amz-content-sha256;x-amz-date;x-amz-security-token");

    // Without any signature, by the host's name; h2 has the host in the URI.
    let host = "dynamodb.eu-north-1.amazonaws.com";
    let plain = || head("POST", &format!("https://{host}/"), &[("x-amz-target", "T"), ("content-type", "j")]);
    let parts = through(any(), "AK:SK", host, Some(b"{}"), plain()).expect("signed");
    assert_eq!(signature(&parts).0, "content-type;host;x-amz-date;x-amz-target");
    assert!(parts.headers()[AUTHORIZATION].to_str().expect("text").contains("/eu-north-1/dynamodb/"));
    let fixed = Inject::Sigv4 { region: Some("us-east-1".into()), service: Some("s3".into()) };
    let parts = through(fixed, "AK:SK", host, None, plain()).expect("signed");
    assert!(parts.headers()[AUTHORIZATION].to_str().expect("text").contains("/us-east-1/s3/"));
}

#[test]
fn what_cannot_be_signed_is_refused() {
    let any = || Inject::Sigv4 { region: None, service: None };
    let with = |fields: &[(&str, &str)]| Claim::of(&head("GET", "/", fields));
    let scope = |scope: &str| format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
    assert!(matches!(
        with(&[("authorization", "AWS4-ECDSA-P256-SHA256 Credential=x")]),
        Err(Unsignable::Way(_))
    ));
    for bad in
        ["AK", "AK/20200101/us-east-1/s3", "AK/20200101/US EAST/s3/aws4_request", "AK/1//s3/aws4_request"]
    {
        let claim = with(&[("authorization", &scope(bad))]);
        assert!(
            claim.is_err() || claim.as_ref().is_ok_and(|c| c.service.as_deref() == Some("us-east-1")),
            "{bad}: {claim:?}"
        );
    }
    for sha in
        ["STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-EVENTS", "deadbeef", "a\tb"]
    {
        with(&[("x-amz-content-sha256", sha)]).expect_err(sha);
    }
    let twice = [("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), ("x-amz-content-sha256", STREAMING)];
    with(&twice).expect_err("two of them");
    let plain = || head("GET", "/", &[("host", "a.example")]);
    let why = through(any(), "AK:SK", "a.example", Some(b""), plain()).expect_err("where");
    assert_eq!(why, Unsignable::Unsaid("service"));
    let s3 = || Inject::Sigv4 { region: Some("r".into()), service: Some("s3".into()) };
    let why = through(s3(), "sk-secret", "a.example", None, plain()).expect_err("no keys");
    assert!(!why.to_string().contains("sk-secret"));
    let lambda = Inject::Sigv4 { region: Some("r".into()), service: Some("lambda".into()) };
    let mut parts = head("POST", "/", &[("host", "a.example")]);
    *parts.method_mut() = Method::POST;
    let claim = Claim::of(&parts).expect("a claim");
    assert!(claim.wants_body(&lambda, "a.example") && !claim.wants_body(&s3(), "a.example"));
    let keys = Keys::parse("AK:SK").expect("keys");
    let scope = Scope { service: "lambda".into(), region: "r".into(), time: SystemTime::now() };
    assert_eq!(sign_with(&keys, &scope, &claim, None, &mut parts).err(), Some(Unsignable::Body));
}
