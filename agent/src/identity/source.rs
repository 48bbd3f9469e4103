//! Where an issuer's keys come from, and how long they count: found by discovery (OpenID Connect Discovery §4), kept as long
//! as the issuer says, asked for again when a token names one that is not there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::keys::Keys;
use crate::codec::json;
use crate::types::Issuer;

/// How long keys count, whatever the issuer says: a key that was taken back counts no longer than the most …
const LIFETIME: (Duration, Duration) = (Duration::from_secs(5 * 60), Duration::from_secs(24 * 60 * 60));
/// … and this long when it says nothing.
const LIFETIME_UNSAID: Duration = Duration::from_secs(60 * 60);
/// Of the lifetime so much passes (in quarters) before keys that are in use are fetched anew: an outage then has the last
/// quarter to end unnoticed.
const QUARTERS: u32 = 3;
/// Tokens with an unknown key make us ask so often at most: anybody can send one.
const UNKNOWN_EVERY: Duration = Duration::from_secs(30);
/// For the whole of one fetch.
const FETCH_WITHIN: Duration = Duration::from_secs(10);
/// After the first failure and after many.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What came from an URL.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The body, bounded by whoever fetched it.
    pub body: Vec<u8>,
    /// How long it may be kept (`Cache-Control`); zero for not at all, `None` when nothing was said.
    pub max_age: Option<Duration>,
}

/// Gets an `https` URL: verified TLS, no redirects, bounded.
pub type Fetch = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Fetched, String>> + Send + Sync>;

/// Told when an issuer's keys cannot be had, and when they can again.
pub type Tell = Arc<dyn Fn(String) + Send + Sync>;

type Flight = Shared<BoxFuture<'static, ()>>;

/// The keys of one issuer over time.
pub(super) struct Source {
    pub issuer: Issuer,
    fetch: Fetch,
    tell: Tell,
    state: Mutex<State>,
}

struct State {
    keys: Option<Kept>,
    /// Raised when a key was taken back: what was verified before must be verified again.
    generation: u64,
    flight: Option<Flight>,
    next_try: Instant,
    failures: u32,
    unknown_asked: Option<Instant>,
    trouble: Option<String>,
}

struct Kept {
    keys: Arc<Keys>,
    /// `None`: for ever (a file).
    until: Option<Until>,
}

#[derive(Clone, Copy)]
struct Until {
    end: Instant,
    refresh: Instant,
}

impl State {
    fn fresh(&self, now: Instant) -> Option<&Kept> {
        self.keys.as_ref().filter(|kept| kept.until.is_none_or(|until| now < until.end))
    }
}

/// Keys, and the generation that they are of.
pub(super) type Current = (Arc<Keys>, u64);

impl Source {
    pub fn new(issuer: Issuer, fetch: Fetch, tell: Tell) -> Arc<Self> {
        let mut state = State {
            keys: None,
            generation: 0,
            flight: None,
            next_try: Instant::now(),
            failures: 0,
            unknown_asked: None,
            trouble: None,
        };
        match issuer.jwks.as_ref().map(|text| Keys::parse(text.as_bytes())) {
            None => {}
            Some(Ok(keys)) => state.keys = Some(Kept { keys: Arc::new(keys), until: None }),
            Some(Err(bad)) => {
                tell(format!("issuer {}: its jwks_file: {bad}", issuer.url));
                state.trouble = Some(format!("its jwks_file: {bad}"));
            }
        }
        Arc::new(Self { issuer, fetch, tell, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there are no keys.
    pub fn trouble(&self) -> String {
        self.state().trouble.clone().unwrap_or_else(|| "they did not come in time".to_owned())
    }

    /// Whether what was verified with keys of this generation still is: the keys are current, and none was taken back.
    pub fn stands(self: &Arc<Self>, generation: u64) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let fresh = state.fresh(now).is_some() && state.generation == generation;
        self.refresh_ahead(&mut state, now);
        fresh
    }

    /// Begins to fetch, so that the first token need not wait.
    pub fn begin(self: &Arc<Self>) {
        let mut state = self.state();
        if state.fresh(Instant::now()).is_none() {
            self.start(&mut state, Instant::now());
        }
    }

    /// The current keys; waits for them until `deadline`.
    pub async fn keys(self: &Arc<Self>, deadline: Instant) -> Option<Current> {
        let flight = {
            let now = Instant::now();
            let mut state = self.state();
            self.refresh_ahead(&mut state, now);
            match state.fresh(now) {
                Some(kept) => return Some((Arc::clone(&kept.keys), state.generation)),
                None => self.start(&mut state, now)?,
            }
        };
        self.landed(flight, deadline).await
    }

    /// Keys that were fetched just now, since a token asks for one that is not there: `None` when that was tried a moment
    /// ago.
    pub async fn newer(self: &Arc<Self>, deadline: Instant) -> Option<Current> {
        let flight = {
            let now = Instant::now();
            let mut state = self.state();
            if state.flight.is_none() {
                if state.unknown_asked.is_some_and(|asked| now < asked + UNKNOWN_EVERY) {
                    return None;
                }
                state.unknown_asked = Some(now);
            }
            self.start(&mut state, now)?
        };
        self.landed(flight, deadline).await
    }

    async fn landed(&self, flight: Flight, deadline: Instant) -> Option<Current> {
        timeout_at(deadline, flight).await.ok()?;
        let state = self.state();
        state.fresh(Instant::now()).map(|kept| (Arc::clone(&kept.keys), state.generation))
    }

    fn refresh_ahead(self: &Arc<Self>, state: &mut State, now: Instant) {
        let due = |kept: &Kept| kept.until.is_some_and(|until| now >= until.refresh);
        if state.keys.as_ref().is_some_and(due) {
            self.start(state, now);
        }
    }

    /// One fetch at a time; `None` while an earlier failure is waited out, or when there is nothing to fetch.
    fn start(self: &Arc<Self>, state: &mut State, now: Instant) -> Option<Flight> {
        if let Some(flight) = &state.flight {
            return Some(flight.clone());
        }
        if self.issuer.jwks.is_some() || now < state.next_try {
            return None;
        }
        let source = Arc::clone(self);
        #[expect(
            clippy::disallowed_methods,
            reason = "outlives the connection that asked first: others wait, too"
        )]
        let task = tokio::spawn(async move { source.fly().await });
        let flight = task.map(|_| ()).boxed().shared();
        state.flight = Some(flight.clone());
        Some(flight)
    }

    async fn fly(&self) {
        let fetched = timeout(FETCH_WITHIN, self.fetch_keys()).await;
        let fetched =
            fetched.unwrap_or_else(|_| Err(format!("no answer within {} s", FETCH_WITHIN.as_secs())));
        let now = Instant::now();
        let mut state = self.state();
        state.flight = None;
        match fetched {
            Ok((keys, lifetime)) => {
                let until = Until { end: now + lifetime, refresh: now + lifetime / 4 * QUARTERS };
                let taken_back = |kept: &Kept| !keys.keeps_all_of(&kept.keys);
                if state.keys.as_ref().is_some_and(taken_back) {
                    state.generation += 1;
                }
                state.keys = Some(Kept { keys: Arc::new(keys), until: Some(until) });
                state.next_try = now;
                state.trouble = None;
                if std::mem::take(&mut state.failures) > 0 {
                    (self.tell)(format!("issuer {}: its keys could be fetched again", self.issuer.url));
                }
            }
            Err(why) => {
                let wait = BACK_OFF.0 * 2u32.saturating_pow(state.failures);
                state.next_try = now + wait.min(BACK_OFF.1);
                state.failures = state.failures.saturating_add(1).min(16);
                if state.failures == 1 {
                    let until =
                        if state.fresh(now).is_some() { "; those at hand are used meanwhile" } else { "" };
                    (self.tell)(format!(
                        "issuer {}: its keys cannot be fetched: {why}{until}",
                        self.issuer.url
                    ));
                }
                state.trouble = Some(why);
            }
        }
    }

    async fn fetch_keys(&self) -> Result<(Keys, Duration), String> {
        let url = &self.issuer.url;
        let at = format!("{}/.well-known/openid-configuration", url.strip_suffix('/').unwrap_or(url));
        let found = (self.fetch)(at).await.map_err(|why| format!("discovery: {why}"))?;
        let found = json::object(&found.body).map_err(|why| format!("discovery: {why}"))?;
        if found.get("issuer").and_then(Value::as_str) != Some(url) {
            return Err(
                "discovery: the document is another issuer's: `issuer` is not the configured url".to_owned()
            );
        }
        let at = found.get("jwks_uri").and_then(Value::as_str);
        let at = at.filter(|at| at.starts_with("https://")).ok_or("discovery: there is no https jwks_uri")?;
        let set = (self.fetch)(at.to_owned()).await.map_err(|why| format!("jwks_uri: {why}"))?;
        let keys = Keys::parse(&set.body).map_err(|bad| format!("jwks_uri: {bad}"))?;
        Ok((keys, set.max_age.unwrap_or(LIFETIME_UNSAID).clamp(LIFETIME.0, LIFETIME.1)))
    }
}
