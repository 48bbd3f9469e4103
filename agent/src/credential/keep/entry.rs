//! One value's state: what is good, what is under way, what failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::{Keeper, Value, good_for};
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
/// The value before is held so long: it may still be on its way, and be answered with.
pub(super) const BEFORE: Duration = Duration::from_secs(60);
/// Nobody has asked for so long: what was made for one identity or session goes back.
pub(super) const IDLE: Duration = Duration::from_secs(600);

type Flight = Shared<BoxFuture<'static, ()>>;

pub(super) struct Entry {
    credential: Arc<Credential>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    good: Option<Good>,
    /// The one before, and since when.
    before: Option<(Arc<Value>, Instant)>,
    /// Since when the good one may not be what the source has any more: that was said to have changed, or cannot be read.
    doubt: Option<Instant>,
    failing: Option<Failing>,
    /// The last time that anybody asked.
    asked: Option<Instant>,
    flight: Option<Flight>,
    /// How often the source was said to have changed.
    changes: u64,
    /// The last time that a refused value was fetched anew.
    renewed: Option<Instant>,
}

struct Good {
    value: Arc<Value>,
    life: Life,
    /// [`State::changes`] when its fetch began.
    as_of: u64,
}

/// How long a value may be used.
struct Life {
    /// How long it was when it began; `None`: until its source says something else.
    whole: Option<Duration>,
    refresh: Option<Instant>,
    end: Option<Instant>,
}

impl Life {
    /// Of what ends in `left`, as its source says, or else is good for `good` after it was read.
    fn begun(now: Instant, left: Option<Duration>, good: Option<Duration>, renewable: bool) -> Self {
        let share = if renewable { 2.0 / 3.0 } else { 0.8 };
        let (after, end) = match (left, good) {
            (Some(left), _) => (Some(left.mul_f64(share)), Some(left.saturating_sub(MARGIN.min(left / 10)))),
            // Read anew while there is as much again for a source that fails.
            (None, good) => (good.map(|good| good / 2), good),
        };
        Self { whole: left, refresh: after.map(|after| now + after), end: end.map(|end| now + end) }
    }
}

struct Failing {
    /// Until then nobody asks the source again.
    pause: Instant,
    why: Failed,
}

impl State {
    /// The value that may be used now.
    fn usable(&self, ttl: Duration, now: Instant) -> Option<Arc<Value>> {
        let good = self.good.as_ref()?;
        let ended = good.life.end.is_some_and(|end| now >= end)
            // This clock goes on while the machine sleeps.
            || good.value.expires().is_some_and(|expires| SystemTime::now() >= expires);
        let doubtful = self.doubt.is_some_and(|since| now >= since + ttl);
        (!ended && !doubtful).then(|| Arc::clone(&good.value))
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
                // What it must look like, and in which forms it is looked for.
                && self.credential.inject == credential.inject)
    }

    pub(super) fn changed(&self) {
        let mut state = self.state();
        state.changes += 1;
        state.doubt.get_or_insert_with(Instant::now);
        // What failed may be well again.
        if let Some(failing) = &mut state.failing {
            failing.pause = Instant::now();
        }
    }

    pub(super) async fn value(self: &Arc<Self>, keeper: &Keeper, ask: &Ask) -> Result<Arc<Value>, Failed> {
        let flight = {
            let now = Instant::now();
            let mut state = self.state();
            state.asked = Some(now);
            let good = state.good.as_ref();
            let stale = good.is_none_or(|good| good.as_of != state.changes);
            let due = good.and_then(|good| good.life.refresh).is_some_and(|at| now >= at);
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
            let as_of = state.changes;
            // What lives on needs no other, unless there may be another.
            let good = state.good.as_ref().filter(|good| !again && good.as_of == as_of);
            let renewed = good.and_then(|good| Some((good.value.renew()?.clone(), good.life.whole)));
            let (keeper, ask) = (Arc::clone(&fetching.keeper), ask.clone());
            let landing = Landing { entry: Arc::clone(self), keeper, as_of, _done: done, landed: false };
            let bringing = async move {
                if let Some((renew, whole)) = renewed
                    && let Ok(end) = renew().await
                    && lives_on(end, whole)
                {
                    return Ok(Brought::Time(end));
                }
                let fetched = fetch(fetching).await?;
                Ok(Brought::Value(fetched))
            };
            #[expect(clippy::disallowed_methods, reason = "bounded by its deadline, and no session's own")]
            tokio::spawn(async move {
                let late = || Err(Failed(format!("it did not come within {} s", WITHIN.as_secs())));
                let brought = timeout(WITHIN, bringing).await.unwrap_or_else(|_| late());
                let brought = match brought {
                    Ok(Brought::Time(end)) => Ok(Landed::Time(end)),
                    Ok(Brought::Value(fetched)) => {
                        let credential = &landing.entry.credential;
                        let hidden = landing.keeper.hidden(credential, &ask, fetched).await;
                        hidden.map(|value| Landed::Value(Arc::new(value)))
                    }
                    Err(why) => Err(why),
                };
                landing.land(brought);
            });
        }
        flight
    }

    /// Takes in what a fetch gave.
    fn land(&self, keeper: &Keeper, as_of: u64, landed: Result<Landed, Failed>) {
        let now = Instant::now();
        let ended = |end: Option<SystemTime>| end.is_some_and(|end| end <= SystemTime::now());
        let landed = landed.and_then(|landed| match landed {
            Landed::Value(value) if ended(value.expires()) => {
                Err(Failed("its source gave a value that has ended".to_owned()))
            }
            landed => Ok(landed),
        });
        let told = landed.as_ref().map(Landed::end).map_err(Clone::clone);
        let mut state = self.state();
        state.flight = None;
        match landed {
            Ok(landed) => {
                let good = state.good.take();
                state.good = match landed {
                    Landed::Value(value) => {
                        state.before = good.map(|good| (good.value, now));
                        let life = self.life(now, &value);
                        Some(Good { value, life, as_of })
                    }
                    // It may have been let go meanwhile.
                    Landed::Time(end) => good.map(|good| {
                        good.value.lives_until(end);
                        let life = Life { whole: good.life.whole, ..self.life(now, &good.value) };
                        Good { life, ..good }
                    }),
                };
                state.doubt = (state.changes != as_of).then_some(now);
                if state.failing.take().is_some() {
                    tracing::info!("credential {}: its source is well again", self.credential.name);
                }
            }
            Err(why) => {
                if state.failing.as_ref().is_none_or(|failing| failing.why != why) {
                    tracing::warn!("credential {}: {why}", self.credential.name);
                }
                state.doubt.get_or_insert(now);
                // What changed meanwhile is worth a look at once.
                let pause = if state.changes == as_of { now + PAUSE } else { now };
                state.failing = Some(Failing { pause, why });
            }
        }
        drop(state);
        (keeper.tell)(&self.credential, told.as_ref().map(|expires| *expires));
    }

    fn life(&self, now: Instant, value: &Value) -> Life {
        let left = value.expires().map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
        Life::begun(now, left, good_for(&self.credential), value.renew().is_some())
    }

    /// Lets go of what cannot be used any more; says whether nobody has asked in a while.
    pub(super) fn tend(&self) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        if state.usable(self.credential.ttl, now).is_none() {
            state.good = None;
        }
        state.before.take_if(|(_, since)| now >= *since + BEFORE);
        state.flight.is_none() && state.asked.is_none_or(|asked| now >= asked + IDLE)
    }

    /// Lets go of what it holds: what nobody else holds goes back to its provider.
    pub(super) fn let_go(&self) {
        let mut state = self.state();
        let held = (state.good.take(), state.before.take());
        drop(state);
        drop(held);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a value that was made to live longer does so for half of its whole life at least: else it is near the longest that
/// its provider lets it live.
fn lives_on(end: Option<SystemTime>, whole: Option<Duration>) -> bool {
    let left = end.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
    left.is_none_or(|left| whole.is_none_or(|whole| left >= whole / 2))
}

/// What a flight brings.
enum Brought {
    Value(Fetched),
    /// More time for the value that is there.
    Time(Option<SystemTime>),
}

/// The same, looked for.
enum Landed {
    Value(Arc<Value>),
    Time(Option<SystemTime>),
}

impl Landed {
    fn end(&self) -> Option<SystemTime> {
        match self {
            Self::Value(value) => value.expires(),
            Self::Time(end) => *end,
        }
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
    fn land(mut self, landed: Result<Landed, Failed>) {
        self.landed = true;
        self.entry.land(&self.keeper, self.as_of, landed);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.landed {
            self.entry.land(&self.keeper, self.as_of, Err(Failed("reading its source failed".to_owned())));
        }
    }
}
