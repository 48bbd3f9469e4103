//! Tokens good and bad, issuers up and down.

mod bearer;
mod maker;
mod shapes;
mod sources;

use serde_json::{Value, json};

use super::keys::{BadKeys, Keys};
use super::token::{Invalid, verify};
use crate::types::Issuer;
use maker::{AUDIENCE, ISSUER, Maker, NOW, claims, header, issuer, key_pairs, raw};

fn set(keys: &[Value]) -> Keys {
    Keys::parse(json!({ "keys": keys }).to_string().as_bytes()).expect("a set of keys")
}

/// `claims` with one of them set, or taken out (null).
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    let map = claims.as_object_mut().expect("an object");
    match value {
        Value::Null => drop(map.remove(name)),
        value => drop(map.insert(name.to_owned(), value)),
    }
    claims
}

#[test]
fn every_accepted_algorithm() {
    for maker in key_pairs() {
        let keys = set(&[maker.jwk("k")]);
        for algorithm in maker.algorithms() {
            let token = maker.sign(&header(algorithm, Some("k")), &claims());
            let identity = verify(&token, &issuer(), &keys, NOW).expect(algorithm);
            assert_eq!((identity.subject.as_str(), identity.issuer.as_str()), ("me", ISSUER));
            assert_eq!(identity.groups, ["ml-team", "dev"]);
            assert_eq!(identity.expires, NOW + 300 + 60);
            assert_eq!(identity.claims, claims());
        }
    }
}

#[test]
fn claims_that_do_not_hold() {
    let maker = Maker::es256();
    let keys = set(&[maker.jwk("k")]);
    for (name, value, wanted) in [
        ("iss", json!("https://other.example"), Err(Invalid::Issuer)),
        ("iss", json!(format!("{ISSUER}/")), Err(Invalid::Issuer)),
        ("iss", json!(ISSUER.to_uppercase()), Err(Invalid::Issuer)),
        ("iss", json!([ISSUER]), Err(Invalid::Issuer)),
        ("iss", Value::Null, Err(Invalid::Issuer)),
        ("aud", json!("other"), Err(Invalid::Audience)),
        ("aud", json!([]), Err(Invalid::Audience)),
        ("aud", json!([AUDIENCE, 7]), Err(Invalid::Audience)),
        ("aud", json!({ "a": AUDIENCE }), Err(Invalid::Audience)),
        ("aud", Value::Null, Err(Invalid::Audience)),
        ("aud", json!([AUDIENCE]), Ok(())),
        ("aud", json!([AUDIENCE, "other"]), Err(Invalid::AuthorizedParty)),
        ("exp", Value::Null, Err(Invalid::Times)),
        ("exp", json!("soon"), Err(Invalid::Times)),
        ("exp", json!(-1), Err(Invalid::Times)),
        ("exp", json!(1e300), Err(Invalid::Times)),
        ("exp", json!(NOW - 60), Err(Invalid::Expired)),
        ("exp", json!(NOW - 59), Ok(())),
        ("exp", json!(NOW as f64 + 0.5), Ok(())),
        ("nbf", json!(NOW + 61), Err(Invalid::Early)),
        ("nbf", json!(NOW + 60), Ok(())),
        ("nbf", json!(null), Ok(())),
        ("nbf", json!("x"), Err(Invalid::Times)),
        ("iat", json!(NOW + 61), Err(Invalid::Early)),
        ("iat", json!(NOW + 60), Ok(())),
        ("sub", Value::Null, Err(Invalid::Subject)),
        ("sub", json!(""), Err(Invalid::Subject)),
        ("sub", json!(7), Err(Invalid::Subject)),
        ("sub", json!("x".repeat(1025)), Err(Invalid::Subject)),
        ("cnf", json!({ "jkt": "x" }), Err(Invalid::Bound)),
    ] {
        let token = maker.sign(&header("ES256", Some("k")), &with(name, value.clone()));
        assert_eq!(verify(&token, &issuer(), &keys, NOW).map(drop), wanted, "{name} {value}");
    }
    let mut two = with("aud", json!(["other", AUDIENCE]));
    for (azp, wanted) in [("other", Err(Invalid::AuthorizedParty)), (AUDIENCE, Ok(()))] {
        two["azp"] = json!(azp);
        let token = maker.sign(&header("ES256", Some("k")), &two);
        assert_eq!(verify(&token, &issuer(), &keys, NOW).map(drop), wanted, "azp {azp}");
    }
}

#[test]
fn headers_that_do_not_hold() {
    let maker = Maker::es256();
    let keys = set(&[maker.jwk("k")]);
    let plain = json!({ "alg": "ES256", "kid": "k" });
    for (name, value, wanted) in [
        ("alg", json!("none"), Err(Invalid::Algorithm)),
        ("alg", json!("None"), Err(Invalid::Algorithm)),
        ("alg", json!("HS256"), Err(Invalid::Algorithm)),
        ("alg", json!("ES512"), Err(Invalid::Algorithm)),
        ("alg", json!("es256"), Err(Invalid::Algorithm)),
        ("alg", json!(["ES256"]), Err(Invalid::Algorithm)),
        ("alg", json!("ES384"), Err(Invalid::WrongKey)),
        ("alg", json!("RS256"), Err(Invalid::WrongKey)),
        ("kid", json!("other"), Err(Invalid::UnknownKey)),
        ("kid", json!(1), Err(Invalid::Header)),
        ("crit", json!(["exp"]), Err(Invalid::Critical)),
        ("crit", json!([]), Err(Invalid::Critical)),
        ("b64", json!(false), Err(Invalid::Critical)),
        ("cty", json!("JWT"), Err(Invalid::Type)),
        ("typ", json!("logout+jwt"), Err(Invalid::Type)),
        ("typ", json!("dpop+jwt"), Err(Invalid::Type)),
        ("typ", json!(1), Err(Invalid::Type)),
        ("typ", json!("jwt"), Ok(())),
        ("typ", json!("application/at+jwt"), Ok(())),
        ("enc", json!("A256GCM"), Err(Invalid::Encrypted)),
        // Keys that the token brings along are not looked at.
        ("jwk", Maker::es256().jwk("k"), Ok(())),
        ("jku", json!("https://evil.example/keys"), Ok(())),
    ] {
        let mut header = plain.clone();
        header[name] = value.clone();
        let token = maker.sign(&header, &claims());
        assert_eq!(verify(&token, &issuer(), &keys, NOW).map(drop), wanted, "{name} {value}");
    }
}

#[test]
fn forgeries() {
    let (maker, other) = (Maker::es256(), Maker::es256());
    let rsa = Maker::rsa();
    let keys = set(&[maker.jwk("k"), rsa.jwk("r")]);
    let check = |token: &str| verify(token, &issuer(), &keys, NOW).map(drop);
    let good = maker.sign(&header("ES256", Some("k")), &claims());
    assert_eq!(check(&good), Ok(()));
    assert_eq!(check(&other.sign(&header("ES256", Some("k")), &claims())), Err(Invalid::Signature));

    // The public key as the secret of an HMAC.
    let [head, body] = [header("HS256", Some("r")), claims()].map(|part| raw(&part));
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &rsa.public());
    let mac = aws_lc_rs::hmac::sign(&secret, format!("{head}.{body}").as_bytes());
    let forged = format!("{head}.{body}.{}", maker::base64(mac.as_ref()));
    assert_eq!(check(&forged), Err(Invalid::Algorithm));

    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, sign] = parts[..] else { panic!("three parts") };
    let swapped = raw(&with("sub", json!("root")));
    for (token, wanted) in [
        (format!("{head}.{swapped}.{sign}"), Invalid::Signature),
        (format!("{head}.{body}."), Invalid::Signature),
        (format!("{head}.{body}.{}", "A".repeat(86)), Invalid::Signature),
        (format!("{head}.{body}.{sign}=="), Invalid::Signature),
        (format!("{}.{body}.", raw(&json!({ "alg": "none" }))), Invalid::Algorithm),
        (format!("{head}.{body}"), Invalid::Shape),
        (format!("{head}.{body}.{sign}.x"), Invalid::Shape),
        (format!("{head}.{body}.{sign}.x.y"), Invalid::Encrypted),
        (format!("{head}..{sign}"), Invalid::Shape),
        (String::new(), Invalid::Shape),
        (format!("{head}=.{body}.{sign}"), Invalid::Header),
        (format!("{head} .{body}.{sign}"), Invalid::Header),
        (format!("{head}.{body}.{}", "A".repeat(16 * 1024)), Invalid::TooLong),
    ] {
        assert_eq!(check(&token), Err(wanted), "{token}");
    }
}

#[test]
fn texts_with_two_meanings_and_tokens_in_tokens() {
    let maker = Maker::es256();
    let keys = set(&[maker.jwk("k")]);
    let check = |head: &str, body: &str| {
        let token = maker.sign_text(head, body, "ES256");
        verify(&token, &issuer(), &keys, NOW).map(drop)
    };
    let head = header("ES256", Some("k")).to_string();
    let body = claims().to_string();
    assert_eq!(check(&head, &body), Ok(()));
    let twice = body.replacen('{', "{\"sub\":\"root\",", 1);
    assert_eq!(check(&head, &twice), Err(Invalid::Claims));
    let twice = head.replacen('{', "{\"alg\":\"none\",", 1);
    assert_eq!(check(&twice, &body), Err(Invalid::Header));
    let inner = maker.sign_text(&head, &body, "ES256");
    assert_eq!(check(&head, &inner), Err(Invalid::Claims));
    assert_eq!(check(&head, &format!("[{body}]")), Err(Invalid::Claims));
    assert_eq!(check(&head, &format!("{body}{body}")), Err(Invalid::Claims));
    assert_eq!(check(&head, "{\"sub\":\"\\ud800\"}"), Err(Invalid::Claims));
}

#[test]
fn refusals_never_show_the_token() {
    let maker = Maker::es256();
    let keys = set(&[maker.jwk("k")]);
    let token = maker.sign(&header("ES256", Some("kid-of-mine")), &with("sub", json!("subject-of-mine")));
    let refused = verify(&token, &issuer(), &keys, NOW).expect_err("unknown key");
    let shown = format!("{refused} {refused:?}");
    assert!(
        !shown.contains("of-mine") && !shown.contains(token.split('.').next().expect("a part")),
        "{shown}"
    );
}

#[test]
fn keys_that_are_used_and_keys_that_are_not() {
    let (ec, rsa) = (Maker::es256(), Maker::rsa());
    let token = |kid| ec.sign(&header("ES256", kid), &claims());
    let check = |keys: &[Value], kid| verify(&token(kid), &issuer(), &set(keys), NOW).map(drop);
    let mut unnamed = ec.jwk("x");
    unnamed.as_object_mut().expect("object").remove("kid");
    // Without a kid: the only key that could be meant.
    assert_eq!(check(&[unnamed.clone(), rsa.jwk("r")], None), Ok(()));
    assert_eq!(check(&[unnamed.clone(), Maker::es256().jwk("y")], None), Err(Invalid::NoKeyId));
    assert_eq!(check(&[unnamed], Some("x")), Err(Invalid::UnknownKey));
    let changed = |name: &str, value: Value| {
        let mut jwk = ec.jwk("k");
        jwk[name] = value;
        jwk
    };
    for (name, value) in [
        ("use", json!("enc")),
        ("use", json!(1)),
        ("key_ops", json!(["sign"])),
        ("kty", json!("oct")),
        ("crv", json!("P-521")),
        ("crv", json!("secp256k1")),
        ("alg", json!("ECDH-ES")),
        ("x", json!(7)),
    ] {
        // Passed over, beside a good one.
        let refused = check(&[changed(name, value.clone()), rsa.jwk("r")], Some("k"));
        assert_eq!(refused, Err(Invalid::UnknownKey), "{name} {value}");
    }
    assert_eq!(check(&[changed("alg", json!("ES384"))], Some("k")), Err(Invalid::WrongKey));
    assert_eq!(check(&[changed("key_ops", json!(["verify"]))], Some("k")), Ok(()));
    let bad = |text: &str| Keys::parse(text.as_bytes()).expect_err("bad keys");
    assert_eq!(bad(r#"{"keys":[]}"#), BadKeys::None);
    assert_eq!(bad(r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"short"}]}"#), BadKeys::None);
    assert_eq!(bad(r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"shared"}]}"#), BadKeys::None);
    for text in ["", "[]", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        assert!(matches!(bad(text), BadKeys::Shape(_)), "{text}");
    }
    let two = json!({ "keys": [ec.jwk("k"), rsa.jwk("k")] }).to_string();
    assert!(matches!(bad(&two), BadKeys::Shape(_)));
}

#[test]
fn an_audience_of_several() {
    let maker = Maker::es256();
    let issuer = Issuer { audiences: vec!["other".into(), AUDIENCE.into()], ..issuer() };
    let token = maker.sign(&header("ES256", Some("k")), &claims());
    assert!(verify(&token, &issuer, &set(&[maker.jwk("k")]), NOW).is_ok());
}
