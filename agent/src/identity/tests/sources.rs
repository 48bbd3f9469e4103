//! An issuer that is up, down, slow, or changes its keys. Time stands still but where a test moves it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::time::{Instant, advance};

use super::maker::{ISSUER, Maker, claims_at, header, issuer};
use crate::identity::token::Invalid;
use crate::identity::{Fetch, Fetched, Identities, Tell, Unverified, unix_now};
use crate::types::Issuer;

/// What the issuer answers.
struct World {
    keys: Mutex<Result<Vec<Value>, String>>,
    discovery: Mutex<Value>,
    delay: Mutex<Duration>,
    max_age: Option<Duration>,
    fetched: AtomicUsize,
    told: Mutex<Vec<String>>,
}

impl World {
    fn new(keys: Vec<Value>, max_age: Option<Duration>) -> Arc<Self> {
        Arc::new(Self {
            keys: Mutex::new(Ok(keys)),
            discovery: Mutex::new(json!({ "issuer": ISSUER, "jwks_uri": "https://keys.example/set" })),
            delay: Mutex::default(),
            max_age,
            fetched: AtomicUsize::new(0),
            told: Mutex::default(),
        })
    }

    fn identities(self: &Arc<Self>, issuer: Issuer) -> Identities {
        let world = Arc::clone(self);
        let fetch: Fetch = Arc::new(move |url| {
            let world = Arc::clone(&world);
            async move {
                let delay = *world.delay.lock().expect("whole");
                tokio::time::sleep(delay).await;
                let keys = world.keys.lock().expect("whole").clone()?;
                if url.ends_with("/.well-known/openid-configuration") {
                    let body = world.discovery.lock().expect("whole").to_string().into_bytes();
                    return Ok(Fetched { body, max_age: None });
                }
                world.fetched.fetch_add(1, Ordering::Relaxed);
                let body = json!({ "keys": keys }).to_string().into_bytes();
                Ok(Fetched { body, max_age: world.max_age })
            }
            .boxed()
        });
        let world = Arc::clone(self);
        let tell: Tell = Arc::new(move |text| world.told.lock().expect("whole").push(text));
        Identities::new(vec![issuer], &fetch, &tell)
    }

    fn fetched(&self) -> usize {
        self.fetched.load(Ordering::Relaxed)
    }

    fn fails(&self) {
        *self.keys.lock().expect("whole") = Err("nobody is there".to_owned());
    }

    fn has(&self, keys: Vec<Value>) {
        *self.keys.lock().expect("whole") = Ok(keys);
    }
}

fn token(maker: &Maker, kid: &str) -> String {
    maker.sign(&header("ES256", Some(kid)), &claims_at(unix_now()))
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_once_and_kept() {
    let maker = Maker::es256();
    let world = World::new(vec![maker.jwk("k")], None);
    let identities = world.identities(issuer());
    let good = token(&maker, "k");
    let both = futures_util::join!(identities.verify(&good), identities.verify(&good));
    assert_eq!((both.0.expect("good").subject.as_str(), both.1.is_ok()), ("me", true));
    assert_eq!(world.fetched(), 1, "one fetch for all who wait");
    for _ in 0..10 {
        identities.verify(&token(&maker, "k")).await.expect("good");
    }
    assert_eq!(world.fetched(), 1);
    // In the last quarter of the hour: fetched ahead, nobody waits.
    advance(Duration::from_secs(46 * 60)).await;
    identities.verify(&good).await.expect("good");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.fetched(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_asked_for_and_a_stranger_asks_seldom() {
    let (old, new) = (Maker::es256(), Maker::es256());
    let world = World::new(vec![old.jwk("old")], None);
    let identities = world.identities(issuer());
    let kept = token(&old, "old");
    identities.verify(&kept).await.expect("good");
    world.has(vec![old.jwk("old"), new.jwk("new")]);
    identities.verify(&token(&new, "new")).await.expect("rotated");
    assert_eq!(world.fetched(), 2);
    for n in 0..50 {
        let refused = identities.verify(&token(&new, &format!("no-{n}"))).await;
        assert_eq!(refused.expect_err("unknown"), Unverified::Invalid(Invalid::UnknownKey));
    }
    assert_eq!(world.fetched(), 2, "once in 30 s");
    // The old key is taken back: what it signed counts no more, though it was verified before.
    advance(Duration::from_secs(31)).await;
    world.has(vec![new.jwk("new")]);
    identities.verify(&kept).await.expect("not known yet");
    identities.verify(&token(&new, "no-more")).await.expect_err("unknown");
    assert_eq!(world.fetched(), 3);
    assert_eq!(
        identities.verify(&kept).await.expect_err("taken back"),
        Unverified::Invalid(Invalid::UnknownKey)
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_kid_with_another_key() {
    let (old, new) = (Maker::es256(), Maker::es256());
    let world = World::new(vec![old.jwk("k")], None);
    let identities = world.identities(issuer());
    identities.verify(&token(&old, "k")).await.expect("good");
    world.has(vec![new.jwk("k")]);
    identities.verify(&token(&new, "k")).await.expect("fetched anew");
    identities.verify(&token(&old, "k")).await.expect_err("its key is gone");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_outlived_until_the_keys_end() {
    let maker = Maker::es256();
    // Less than is allowed: five minutes.
    let world = World::new(vec![maker.jwk("k")], Some(Duration::ZERO));
    let identities = world.identities(issuer());
    let early = token(&maker, "k");
    identities.verify(&early).await.expect("good");
    world.fails();
    advance(Duration::from_secs(299)).await;
    identities.verify(&token(&maker, "k")).await.expect("the keys at hand");
    identities.verify(&early).await.expect("remembered");
    advance(Duration::from_secs(2)).await;
    for token in [early.clone(), token(&maker, "k")] {
        let refused = identities.verify(&token).await.expect_err("no keys");
        assert!(
            matches!(&refused, Unverified::NoKeys { why, .. } if why.ends_with("nobody is there")),
            "{refused}"
        );
    }
    world.has(vec![maker.jwk("k")]);
    advance(Duration::from_secs(61)).await;
    identities.verify(&early).await.expect("back");
    let told = world.told.lock().expect("whole").clone();
    assert_eq!(told.len(), 2, "once down, once up: {told:?}");
    assert!(told[0].contains("nobody is there") && told[1].contains("again"));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_two_seconds() {
    let maker = Maker::es256();
    let world = World::new(vec![maker.jwk("k")], None);
    *world.delay.lock().expect("whole") = Duration::from_secs(3);
    let identities = world.identities(issuer());
    let begun = Instant::now();
    let refused = identities.verify(&token(&maker, "k")).await.expect_err("slow");
    assert!(matches!(refused, Unverified::NoKeys { .. }));
    assert_eq!(begun.elapsed().as_secs(), 2);
    // The fetch itself goes on.
    tokio::time::sleep(Duration::from_secs(5)).await;
    identities.verify(&token(&maker, "k")).await.expect("there");
}

#[tokio::test(start_paused = true)]
async fn discovery_must_be_the_issuers() {
    let maker = Maker::es256();
    for document in [
        json!({ "issuer": "https://evil.example", "jwks_uri": "https://keys.example/set" }),
        json!({ "issuer": ISSUER, "jwks_uri": "http://keys.example/set" }),
        json!({ "issuer": ISSUER }),
    ] {
        let world = World::new(vec![maker.jwk("k")], None);
        *world.discovery.lock().expect("whole") = document.clone();
        let refused = world.identities(issuer()).verify(&token(&maker, "k")).await.expect_err("no keys");
        assert!(refused.to_string().contains("discovery"), "{document}: {refused}");
        assert_eq!(world.fetched(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn keys_of_a_file_need_nobody() {
    let maker = Maker::es256();
    let world = World::new(Vec::new(), None);
    world.fails();
    let jwks = json!({ "keys": [maker.jwk("k")] }).to_string();
    let identities = world.identities(Issuer { jwks: Some(jwks), ..issuer() });
    let good = token(&maker, "k");
    identities.verify(&good).await.expect("good");
    advance(Duration::from_secs(100 * 3600)).await;
    identities.verify(&good).await.expect("still");
    let elsewhere = maker.sign(&header("ES256", Some("k")), &json!({ "iss": "https://other.example" }));
    assert_eq!(identities.verify(&elsewhere).await.expect_err("nobody's"), Unverified::Stranger);
    assert!(world.told.lock().expect("whole").is_empty());
}

#[tokio::test]
#[ignore = "a measurement: cargo test --release -p sluice --lib -- --ignored --nocapture identity_speed"]
async fn identity_speed() {
    for (name, maker, algorithm) in [("RS256", Maker::rsa(), "RS256"), ("ES256", Maker::es256(), "ES256")] {
        let jwks = json!({ "keys": [maker.jwk("k")] }).to_string();
        let world = World::new(Vec::new(), None);
        let identities = world.identities(Issuer { jwks: Some(jwks), ..issuer() });
        let mut claims = claims_at(unix_now());
        claims["project_path"] = json!("x".repeat(500));
        let token = maker.sign(&header(algorithm, Some("k")), &claims);
        let begun = std::time::Instant::now();
        identities.verify(&token).await.expect("good");
        let first = begun.elapsed();
        const N: u32 = 200_000;
        let begun = std::time::Instant::now();
        for _ in 0..N {
            identities.verify(&token).await.expect("good");
        }
        let each = begun.elapsed() / N;
        println!("{name}: token of {} bytes, first {first:?}, then {each:?} each", token.len());
    }
}
