//! Tokens in requests: ours are taken out, others' are let be.

use std::sync::Arc;

use futures_util::FutureExt as _;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::maker::{Maker, claims_at, header, issuer};
use crate::identity::{Fetch, Identities, Standing, Tell, Who, unix_now};
use crate::policy::Denied;
use crate::types::{Issuer, Token};

fn identities(maker: &Maker, accept_bearer: bool) -> Arc<Identities> {
    let fetch: Fetch = Arc::new(|_| async { Err("not asked".to_owned()) }.boxed());
    let tell: Tell = Arc::new(|_| {});
    let jwks = Some(json!({ "keys": [maker.jwk("k")] }).to_string());
    Arc::new(Identities::new(vec![Issuer { accept_bearer, jwks, ..issuer() }], &fetch, &tell))
}

fn token(maker: &Maker, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims_at(unix_now());
    change(&mut claims);
    maker.sign(&header("ES256", Some("k")), &claims)
}

fn headers(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).expect("a value"))])
}

#[tokio::test]
async fn a_bearer_for_us_is_taken_out_and_counts() {
    let maker = Maker::es256();
    let identities = identities(&maker, true);
    let mine = Token::parse(&token(&maker, |claims| claims["sub"] = json!("process"))).expect("a token");
    let connection = identities.first(&[mine]).await;
    let who = Who::new(Arc::clone(&identities), connection);
    assert!(who.so_far().is_none(), "a request may bring another");
    let stranger = Maker::es256();
    let now = unix_now();
    for (name, value, subject, kept) in [
        ("good", format!("Bearer {}", token(&maker, |_| ())), Some("me"), false),
        ("any case", format!("bEARER  {} ", token(&maker, |_| ())), Some("me"), false),
        ("expired", format!("Bearer {}", token(&maker, |c| c["exp"] = json!(now - 61))), None, false),
        ("forged", format!("Bearer {}", token(&stranger, |_| ())), None, false),
        (
            "for another",
            format!("Bearer {}", token(&maker, |c| c["aud"] = json!("vault"))),
            Some("process"),
            true,
        ),
        ("by another", format!("Bearer {}", token(&maker, |c| c["iss"] = json!("x"))), Some("process"), true),
        ("a key", "Bearer sk-1234".to_owned(), Some("process"), true),
        ("basic", "Basic dTpw".to_owned(), Some("process"), true),
    ] {
        let mut headers = headers(&value);
        let of_request = who.of_request(&mut headers).await;
        let standing = of_request.standing();
        assert_eq!(standing.identity().map(|is| is.subject.as_str()), subject, "{name}");
        assert_eq!(headers.contains_key(AUTHORIZATION), kept, "{name}");
        let denied = Denied { rule: "r".into(), reason: "no".into() };
        assert_eq!(standing.explain(denied).reason.contains("not verified"), subject.is_none(), "{name}");
    }
    let mut two = headers(&format!("Bearer {}", token(&maker, |_| ())));
    two.append(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
    let of_request = who.of_request(&mut two).await;
    assert_eq!(of_request.standing().identity().map(|is| is.subject.as_str()), Some("process"));
}

#[tokio::test]
async fn a_bearer_is_the_upstreams_unless_it_is_accepted() {
    let maker = Maker::es256();
    let who = Who::new(identities(&maker, false), Standing::default());
    assert!(who.so_far().is_some_and(|is| is.is_none()));
    let mut headers = headers(&format!("Bearer {}", token(&maker, |_| ())));
    assert!(who.of_request(&mut headers).await.standing().identity().is_none());
    assert!(headers.contains_key(AUTHORIZATION));
}

#[tokio::test]
async fn the_first_good_token_counts() {
    let maker = Maker::es256();
    let identities = identities(&maker, false);
    let parse = |text: String| Token::parse(&text).expect("a token");
    let expired = parse(token(&maker, |claims| claims["exp"] = json!(unix_now() - 100)));
    let good = parse(token(&maker, |_| ()));
    assert!(identities.first(&[expired.clone(), good]).await.identity().is_some());
    let none = identities.first(&[expired]).await;
    let denied = Denied { rule: "r".into(), reason: "no rule allows it".into() };
    assert!(none.explain(denied).reason.ends_with("the token is expired (exp)"));
    assert!(identities.first(&[]).await.identity().is_none());
}
