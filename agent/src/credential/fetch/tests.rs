//! Each source against a provider in this process: what it asks, what it makes of answers, good and bad.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::header::{ACCEPT, AUTHORIZATION};
use serde_json::{Value as Json, json};

use super::*;

mod stores;

use crate::policy::credential::Binding;
use crate::policy::{Policy, rule};
use crate::types::credential::*;

/// An RSA key, and its public one.
static PAIR: LazyLock<(String, String)> = LazyLock::new(|| {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("key");
    (pair.serialize_pem(), pair.public_key_pem())
});

fn rsa() -> &'static str {
    &PAIR.0
}

/// What a provider was asked.
pub(super) struct Seen {
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub fn form(&self) -> HashMap<String, String> {
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    pub fn json(&self) -> Json {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// A provider that answers each errand with the next of its answers, the last again and again.
pub(super) struct Rig {
    pub keeper: Arc<Keeper>,
    pub credential: Arc<Credential>,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    pub answers: Arc<Mutex<Vec<(u16, String)>>>,
    pub ask: Ask,
    _policy: tokio::sync::watch::Sender<Arc<Policy>>,
}

pub(super) fn name(text: &str) -> CredentialName {
    CredentialName::parse(text).expect("name")
}

fn credential(text: &str, source: Source, inject: Option<Inject>) -> Credential {
    let (binding, ttl) = (Binding::default(), Duration::from_secs(60));
    Credential { name: name(text), binding, source, inject, ttl }
}

/// `held`: what the warden's sources give, by name.
pub(super) fn rig(source: Source, held: &[(&str, &str)]) -> Rig {
    let (seen, answers) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<Mutex<Vec<(u16, String)>>>::default());
    let (noted, given) = (Arc::clone(&seen), Arc::clone(&answers));
    let run: Run = Arc::new(move |errand: Errand| {
        let Errand { method, url, headers, body, .. } = errand;
        let body = String::from_utf8(body.to_vec()).expect("text");
        noted.lock().expect("seen").push(Seen { method, url, headers, body });
        let mut given = given.lock().expect("answers");
        let (status, body) = if given.len() > 1 { given.remove(0) } else { given[0].clone() };
        let body = Zeroizing::new(body.into_bytes());
        Box::pin(async move { Ok(Reply { status, headers: HeaderMap::new(), body }) })
    });
    let mut credentials: Vec<Credential> =
        held.iter().map(|(name, _)| credential(name, Source::Env((*name).to_owned()), None)).collect();
    credentials.push(credential("c", source, Some(Inject::Bearer)));
    let compiled = Policy::compile(rule::Source { credentials, ..rule::Source::default() }).expect("policy");
    let credential = Arc::clone(&compiled.credentials()[&name("c")]);
    let (policies, in_force) = tokio::sync::watch::channel(Arc::new(compiled));
    let held: HashMap<String, String> =
        held.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let local: Fetch = Arc::new(move |cx| {
        let text = held[cx.credential.name.as_str()].clone();
        let secret = Secret::clean(text.into_bytes(), cx.credential.shape()).expect("a secret");
        Box::pin(async move { Ok(Fetched::lasting(secret)) })
    });
    let keeper = Keeper::new(in_force, local, Arc::new(network), run, Arc::new(|_, _| ()));
    let ask = Ask {
        tag: TagName::parse("ci").expect("tag"),
        session: SessionId(ulid::Ulid::nil()),
        identity: None,
        token: None,
        veil: Veil::none(),
    };
    Rig { keeper, credential, seen, answers, ask, _policy: policies }
}

impl Rig {
    pub fn answers(&self, answers: &[(u16, Json)]) {
        let all = answers.iter().map(|(status, body)| (*status, body.to_string())).collect();
        *self.answers.lock().expect("answers") = all;
    }

    pub fn answers_text(&self, status: u16, body: &str) {
        *self.answers.lock().expect("answers") = vec![(status, body.to_owned())];
    }

    /// Asks the source itself, past what is kept.
    pub async fn fetched(&self) -> Result<Fetched, String> {
        let run: Run = {
            let (_, fetching) = self.keeper.fetching(&self.credential, &self.ask, false).expect("a keeper");
            fetching.run
        };
        let keeper = Arc::clone(&self.keeper);
        let (credential, ask) = (Arc::clone(&self.credential), self.ask.clone());
        network(Fetching { credential, ask, again: false, keeper, run }).await.map_err(|Failed(why)| why)
    }

    pub async fn secret(&self) -> String {
        self.fetched().await.expect("a value").secret.expose().to_owned()
    }

    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().expect("seen"))
    }

    /// Whatever is no good answer is refused, and never repeated.
    pub async fn refuses(&self, bad: &[&str]) {
        for body in bad {
            self.answers_text(200, body);
            let why = self.fetched().await.err().unwrap_or_else(|| panic!("taken: {body}"));
            assert!(!why.contains("echo"), "{why}");
        }
        for status in [301, 400, 401, 403, 404, 429, 500, 503] {
            self.answers_text(status, r#"{"error":"echo","error_description":"echo","token":"echo"}"#);
            let why = self.fetched().await.err().expect("refused");
            assert!(why.contains(&status.to_string()) && !why.contains("echo"), "{why}");
        }
    }
}

fn claims(token: &str, algorithm: jsonwebtoken::Algorithm, key: &jsonwebtoken::DecodingKey) -> (Json, Json) {
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let good = jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, algorithm);
    assert!(good.expect("a signature"), "the signature holds");
    let (header, payload) = signed.split_once('.').expect("two parts");
    let part =
        |text| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("JSON");
    (part(header), part(payload))
}

fn rsa_claims(token: &str) -> (Json, Json) {
    let key = jsonwebtoken::DecodingKey::from_rsa_pem(PAIR.1.as_bytes()).expect("key");
    claims(token, jsonwebtoken::Algorithm::RS256, &key)
}

fn oauth2(auth: ClientAuth) -> Rig {
    let source = OAuth2 {
        token_url: "https://login.example/token".into(),
        client_id: "me:x".into(),
        secret: name("s"),
        auth,
        scopes: vec!["a".into(), "b".into()],
        audience: Some("https://api.example".into()),
    };
    rig(Source::OAuth2(source), &[("s", "p w&d")])
}

#[tokio::test]
async fn client_credentials() {
    let rig = oauth2(ClientAuth::Basic);
    rig.answers(&[(200, json!({"access_token": "at-1", "token_type": "Bearer", "expires_in": 3600}))]);
    let fetched = rig.fetched().await.expect("a token");
    assert_eq!(fetched.secret.expose(), "at-1");
    let left = fetched.expires.expect("an end").duration_since(SystemTime::now()).expect("later");
    assert!((3590..=3600).contains(&left.as_secs()));
    let seen = rig.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.url.as_str()), ("POST", "https://login.example/token"));
    assert_eq!(seen.header(AUTHORIZATION), format!("Basic {}", BASE64_STANDARD.encode("me%3Ax:p+w%26d")));
    let form = seen.form();
    assert_eq!((form["grant_type"].as_str(), form["scope"].as_str()), ("client_credentials", "a b"));
    assert!(form["audience"] == "https://api.example" && form.len() == 3);

    let rig = oauth2(ClientAuth::Post);
    rig.answers(&[(200, json!({"access_token": "at-2"}))]);
    assert!(rig.fetched().await.expect("a token").expires.is_none());
    let seen = rig.seen().remove(0);
    assert!(!seen.headers.contains_key(AUTHORIZATION) && seen.form()["client_secret"] == "p w&d");
    rig.refuses(&[
        "",
        "echo",
        r#"{"access_token":""}"#,
        r#"{"access_token":7}"#,
        r#"{"access_token":"echo","access_token":"echo"}"#,
        r#"{"access_token":"echo","expires_in":0}"#,
        r#"{"access_token":"echo","expires_in":-1}"#,
        r#"{"access_token":"echo","token_type":"dpop"}"#,
        r#"{"access_token":"echo\r\nx-evil: 1"}"#,
        r#"{"access_token":" echo"}"#,
        r#"{"error":"echo"}"#,
    ])
    .await;
    rig.answers(&[(401, json!({"error": "invalid_client"}))]);
    assert_eq!(rig.fetched().await.err().expect("refused"), "login.example answered 401 (invalid_client)");
}

#[tokio::test]
async fn exchange() {
    let source = Exchange {
        token_url: "https://sts.example/token".into(),
        client_id: Some("me".into()),
        secret: None,
        auth: ClientAuth::Basic,
        scopes: vec![],
        audience: Some("aud".into()),
        resource: None,
        subject_token_type: "urn:ietf:params:oauth:token-type:jwt".into(),
        requested_token_type: Some("urn:ietf:params:oauth:token-type:access_token".into()),
    };
    let mut rig = rig(Source::Exchange(source), &[]);
    rig.answers(&[(
        200,
        json!({"access_token": "at", "expires_in": "300",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "N_A"}),
    )]);
    assert_eq!(
        rig.fetched().await.err().expect("refused"),
        "the caller has no token that could be exchanged"
    );
    assert!(rig.seen().is_empty(), "nothing is asked for nobody");
    rig.ask.token = Some(Arc::new(Token::parse("aa.bb.cc").expect("token")));
    assert_eq!(rig.secret().await, "at");
    let form = rig.seen().remove(0).form();
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:token-exchange");
    assert_eq!((form["subject_token"].as_str(), form["client_id"].as_str()), ("aa.bb.cc", "me"));
    assert_eq!(form.len(), 6);
    rig.refuses(&[r#"{"access_token":"echo","issued_token_type":"echo"}"#]).await;
}

fn jwt_source(algorithm: Algorithm, token_url: Option<&str>) -> Source {
    Source::Jwt(Jwt {
        key: name("k"),
        algorithm,
        key_id: Some("kid-1".into()),
        issuer: "iss".into(),
        subject: None,
        audience: "aud".into(),
        lifetime: Duration::from_secs(300),
        token_url: token_url.map(Into::into),
        scopes: vec!["s".into()],
    })
}

#[tokio::test]
async fn signed_here() {
    let rig = rig(jwt_source(Algorithm::Rs256, None), &[("k", rsa())]);
    let fetched = rig.fetched().await.expect("a token");
    let (header, payload) = rsa_claims(fetched.secret.expose());
    assert_eq!(
        (&header["alg"], &header["kid"], &header["typ"]),
        (&json!("RS256"), &json!("kid-1"), &json!("JWT"))
    );
    assert_eq!(
        (&payload["iss"], &payload["sub"], &payload["aud"]),
        (&json!("iss"), &json!("iss"), &json!("aud"))
    );
    assert_eq!(payload["scope"], "s");
    let exp = payload["exp"].as_u64().expect("exp");
    assert_eq!(exp - payload["iat"].as_u64().expect("iat"), 300);
    let end = fetched.expires.expect("an end").duration_since(UNIX_EPOCH).expect("later").as_secs();
    assert_eq!(end, exp);
    let other = rsa_claims(&rig.secret().await).1;
    assert_ne!(other["jti"], payload["jti"]);
    assert!(rig.seen().is_empty());
}

#[tokio::test]
async fn every_algorithm() {
    use jsonwebtoken::{Algorithm as Alg, DecodingKey};
    for (algorithm, alg, kind) in [
        (Algorithm::Es256, Alg::ES256, &rcgen::PKCS_ECDSA_P256_SHA256),
        (Algorithm::Es384, Alg::ES384, &rcgen::PKCS_ECDSA_P384_SHA384),
        (Algorithm::EdDsa, Alg::EdDSA, &rcgen::PKCS_ED25519),
    ] {
        let pair = rcgen::KeyPair::generate_for(kind).expect("key");
        let public = pair.public_key_pem();
        let key = match alg {
            Alg::EdDSA => DecodingKey::from_ed_pem(public.as_bytes()),
            _ => DecodingKey::from_ec_pem(public.as_bytes()),
        };
        let signed = rig(jwt_source(algorithm, None), &[("k", &pair.serialize_pem())]).secret().await;
        claims(&signed, alg, &key.expect("key"));
    }
    let secret = "0123456789abcdef0123456789abcdef";
    let signed = rig(jwt_source(Algorithm::Hs256, None), &[("k", secret)]).secret().await;
    claims(&signed, Alg::HS256, &DecodingKey::from_secret(secret.as_bytes()));
    for (algorithm, key) in [
        (Algorithm::Hs256, "echo"),
        (Algorithm::Rs256, "echo"),
        (Algorithm::Es256, rsa()),
        (Algorithm::EdDsa, rsa()),
        (Algorithm::Rs256, "-----BEGIN PRIVATE KEY-----\nZWNobw==\n-----END PRIVATE KEY-----\n"),
    ] {
        let why = rig(jwt_source(algorithm, None), &[("k", key)]).fetched().await.err().expect("refused");
        assert!(why.starts_with("its key is ") && !why.contains("echo"), "{why}");
    }
}

#[tokio::test]
async fn signed_here_and_exchanged() {
    let rig = rig(jwt_source(Algorithm::Rs256, Some("https://t.example/token")), &[("k", rsa())]);
    rig.answers(&[(200, json!({"access_token": "at", "expires_in": 60, "token_type": "bearer"}))]);
    assert_eq!(rig.secret().await, "at");
    let form = rig.seen().remove(0).form();
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert!(rsa_claims(&form["assertion"]).1.get("scope").is_none() && form["scope"] == "s");
    rig.refuses(&["{}"]).await;
}

#[tokio::test]
async fn github_app() {
    let source = GithubApp {
        app_id: "42".into(),
        installation_id: "7/../8".into(),
        key: name("k"),
        api_url: "https://api.github.example/".into(),
        repositories: vec!["one".into()],
        permissions: BTreeMap::from([("contents".to_owned(), "read".to_owned())]),
    };
    let rig = rig(Source::GithubApp(source), &[("k", rsa())]);
    let answer =
        json!({"token": "ghs_x", "expires_at": "2999-01-01T00:00:00Z", "permissions": {"contents": "read"}});
    rig.answers(&[(201, answer)]);
    let fetched = rig.fetched().await.expect("a token");
    assert!(fetched.secret.expose() == "ghs_x" && fetched.expires.is_some());
    let seen = rig.seen().remove(0);
    assert_eq!(seen.url, "https://api.github.example/app/installations/7%2F..%2F8/access_tokens");
    assert_eq!(seen.json(), json!({"repositories": ["one"], "permissions": {"contents": "read"}}));
    assert_eq!(seen.header(ACCEPT), "application/vnd.github+json");
    let (_, payload) = rsa_claims(seen.header(AUTHORIZATION).strip_prefix("Bearer ").expect("a bearer"));
    let (from, to) = (payload["iat"].as_u64().expect("iat"), payload["exp"].as_u64().expect("exp"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("now").as_secs();
    assert!(payload["iss"] == "42" && from < now && now < to && to - from <= 600);
    rig.answers_text(204, "");
    fetched.revoke.expect("it can be given back")().await.expect("given back");
    let seen = rig.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.header(AUTHORIZATION)), ("DELETE", "Bearer ghs_x"));
    rig.refuses(&[
        r#"{"token":"echo"}"#,
        r#"{"token":"echo","expires_at":"2001-01-01T00:00:00Z"}"#,
        r#"{"token":"echo","expires_at":"echo"}"#,
        r#"{"expires_at":"2999-01-01T00:00:00Z"}"#,
    ])
    .await;
}
