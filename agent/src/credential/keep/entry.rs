//! One value's state: what is good, what is under way, what failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::{Keeper, Value, refresh_after};
use crate::credential::fetch::{Ask, Failed, Fetched};
use crate::policy::credential::Credential;

/// A fetch takes no longer; a command of the warden's has 10 s of it.
const WITHIN: Duration = Duration::from_secs(15);
/// A source that failed is asked again after this time, not by each request.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// A value that an upstream refused is fetched anew at most so often: an upstream that always refuses is no reason to have
/// tokens minted by each request.
pub(super) const RENEW_PAUSE: Duration = Duration::from_secs(10);
/// A value is not used in the last moments before its end: it would end on the way.
const MARGIN: Duration = Duration::from_secs(10);

type Flight = Shared<BoxFuture<'static, ()>>;

pub(super) struct Entry {
    credential: Arc<Credential>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    good: Option<Good>,
    /// The one before: it may still be on its way, and be answered with.
    before: Option<Arc<Value>>,
    failing: Option<Failing>,
    flight: Option<Flight>,
    /// How often the source was said to have changed.
    changes: u64,
    /// The last time that a refused value was fetched anew.
    renewed: Option<Instant>,
}

struct Good {
    value: Arc<Value>,
    refresh: Option<Instant>,
    end: Option<Instant>,
    /// [`State::changes`] when its fetch began.
    as_of: u64,
}

struct Failing {
    since: Instant,
    /// Until then nobody asks the source again.
    pause: Instant,
    why: Failed,
}

impl State {
    /// The value that may be used now.
    fn usable(&self, ttl: Duration, now: Instant) -> Option<Arc<Value>> {
        let good = self.good.as_ref()?;
        let ended = good.end.is_some_and(|end| now >= end)
            // This clock goes on while the machine sleeps.
            || good.value.expires.is_some_and(|expires| SystemTime::now() >= expires);
        let failed = self.failing.as_ref().is_some_and(|failing| now >= failing.since + ttl);
        (!ended && !failed).then(|| Arc::clone(&good.value))
    }

    fn settled(&self, ttl: Duration) -> Result<Arc<Value>, Failed> {
        let why =
            || self.failing.as_ref().map_or_else(|| Failed("it has ended".to_owned()), |f| f.why.clone());
        self.usable(ttl, Instant::now()).ok_or_else(why)
    }
}

impl Entry {
    pub(super) fn new(credential: Arc<Credential>) -> Self {
        Self { credential, state: Mutex::default() }
    }

    /// Whether what it holds is what `credential` would give.
    pub(super) fn is_of(&self, credential: &Arc<Credential>) -> bool {
        Arc::ptr_eq(&self.credential, credential)
            || (self.credential.source == credential.source
                && self.credential.ttl == credential.ttl
                && self.credential.shape() == credential.shape())
    }

    pub(super) fn changed(&self) {
        let mut state = self.state();
        state.changes += 1;
        // What failed may be well again.
        if let Some(failing) = &mut state.failing {
            failing.pause = Instant::now();
        }
    }

    pub(super) async fn value(self: &Arc<Self>, keeper: &Keeper, ask: &Ask) -> Result<Arc<Value>, Failed> {
        let flight = {
            let now = Instant::now();
            let mut state = self.state();
            let good = state.good.as_ref();
            let stale = good.is_none_or(|good| good.as_of != state.changes);
            let due = good.and_then(|good| good.refresh).is_some_and(|at| now >= at);
            let paused = state.failing.as_ref().is_some_and(|failing| now < failing.pause);
            match state.usable(self.credential.ttl, now) {
                Some(value) if paused || !(stale || due) => return Ok(value),
                // Still good: who asks does not wait.
                Some(value) if !stale => {
                    drop(self.flight(&mut state, keeper, ask, false));
                    return Ok(value);
                }
                None if paused => return state.settled(self.credential.ttl),
                _ => self.flight(&mut state, keeper, ask, false),
            }
        };
        flight.await;
        self.state().settled(self.credential.ttl)
    }

    pub(super) async fn renewed(
        self: &Arc<Self>,
        keeper: &Keeper,
        ask: &Ask,
        refused: &Arc<Value>,
    ) -> Result<Arc<Value>, Failed> {
        let flight = {
            let now = Instant::now();
            let mut state = self.state();
            let usable = state.usable(self.credential.ttl, now);
            // Somebody was faster.
            if let Some(value) = usable.as_ref().filter(|value| !Arc::ptr_eq(value, refused)) {
                return Ok(Arc::clone(value));
            }
            let recently = state.renewed.is_some_and(|last| now < last + RENEW_PAUSE);
            if state.flight.is_none() && recently {
                return state.settled(self.credential.ttl);
            }
            state.renewed = Some(now);
            self.flight(&mut state, keeper, ask, true)
        };
        flight.await;
        self.state().settled(self.credential.ttl)
    }

    /// The fetch that is under way, or one that begins now. It goes on when whoever asked for it has left.
    fn flight(self: &Arc<Self>, state: &mut State, keeper: &Keeper, ask: &Ask, again: bool) -> Flight {
        if let Some(flight) = &state.flight {
            return flight.clone();
        }
        let (done, wait) = oneshot::channel::<()>();
        let flight = wait.map(drop).boxed().shared();
        // Without a keeper the agent is ending; who waits learns it by the sender's end.
        if let Some((fetch, fetching)) = keeper.fetching(&self.credential, ask, again) {
            state.flight = Some(flight.clone());
            let landing = Landing {
                entry: Arc::clone(self),
                keeper: Arc::clone(&fetching.keeper),
                as_of: state.changes,
                _done: done,
                landed: false,
            };
            #[expect(clippy::disallowed_methods, reason = "bounded by its deadline, and no session's own")]
            tokio::spawn(async move {
                let late = || Err(Failed(format!("it did not come within {} s", WITHIN.as_secs())));
                landing.land(timeout(WITHIN, fetch(fetching)).await.unwrap_or_else(|_| late()));
            });
        }
        flight
    }

    /// Takes in what a fetch gave.
    fn land(&self, keeper: &Keeper, as_of: u64, fetched: Result<Fetched, Failed>) {
        let now = Instant::now();
        let fetched = fetched.and_then(|fetched| {
            let left = fetched.expires.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
            match left {
                Some(Duration::ZERO) => Err(Failed("its source gave a value that has ended".to_owned())),
                left => Ok((fetched, left)),
            }
        });
        let told = fetched.as_ref().map(|(fetched, _)| fetched.expires).map_err(Clone::clone);
        let mut state = self.state();
        state.flight = None;
        match fetched {
            Ok((fetched, left)) => {
                let value = Arc::new(Value::new(fetched));
                keeper.announce(&self.credential.name, &value);
                let good = Good {
                    value,
                    refresh: refresh_after(&self.credential, left).map(|after| now + after),
                    end: left.map(|left| now + left.saturating_sub(MARGIN.min(left / 10))),
                    as_of,
                };
                state.before = state.good.replace(good).map(|good| good.value);
                if state.failing.take().is_some() {
                    tracing::info!("credential {}: its source is well again", self.credential.name);
                }
            }
            Err(why) => {
                if state.failing.as_ref().is_none_or(|failing| failing.why != why) {
                    tracing::warn!("credential {}: {why}", self.credential.name);
                }
                let since = state.failing.as_ref().map_or(now, |failing| failing.since);
                // What changed meanwhile is worth a look at once.
                let pause = if state.changes == as_of { now + PAUSE } else { now };
                state.failing = Some(Failing { since, pause, why });
            }
        }
        drop(state);
        (keeper.tell)(&self.credential, told.as_ref().map(|expires| *expires));
    }

    /// Gives the value back to the provider, where that can be done.
    pub(super) fn give_back(&self) {
        let value = self.state().good.take().map(|good| good.value);
        let revoke =
            value.and_then(|value| value.revoke.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let (Some(revoke), Ok(runtime)) = (revoke, tokio::runtime::Handle::try_current()) {
            let name = self.credential.name.clone();
            runtime.spawn(async move {
                match timeout(WITHIN, revoke()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => tracing::warn!("credential {name}: it cannot be given back: {why}"),
                    Err(_) => tracing::warn!("credential {name}: giving it back took too long"),
                }
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a flight, also when its fetch panics: nobody waits for ever.
struct Landing {
    entry: Arc<Entry>,
    keeper: Arc<Keeper>,
    as_of: u64,
    /// Dropped last: who waits looks at what has landed.
    _done: oneshot::Sender<()>,
    landed: bool,
}

impl Landing {
    fn land(mut self, fetched: Result<Fetched, Failed>) {
        self.landed = true;
        self.entry.land(&self.keeper, self.as_of, fetched);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.landed {
            self.entry.land(&self.keeper, self.as_of, Err(Failed("reading its source failed".to_owned())));
        }
    }
}
