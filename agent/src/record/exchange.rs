//! The record of one exchange: its head at once, what follows in few writes, its end exactly once.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use http::HeaderMap;
use time::OffsetDateTime;

use super::edges::{end, framed, masked, opening, shortened, unrecorded};
use super::frame::{Batch, Kind};
use super::headers::Redacted;
use super::held::{Body, seal, unseen};
use super::log::Holding;
use super::own::{Ended, Own};
use super::payload::{Kept, Response, Trailers, stamp};
use super::session::{Facts, micros};
use super::write::{Write, scratch};
use super::writer::Need;
use super::{Direction, ExchangeHead, Unrecordable};
use crate::types::ExchangeNumber;

mod told;

/// Bytes held back before they are written; what is held is written with the next sync at the latest.
const HELD: usize = 16 * 1024;

/// One exchange: cheap to clone, shared by the two directions. The first `finish` counts; when the last clone is
/// dropped without one, the exchange is recorded as dropped.
#[derive(Clone)]
pub struct Exchange(Arc<Inner>);

struct Inner {
    session: Arc<Facts>,
    number: u32,
    write: Write,
    begun: Instant,
    up: Way,
    down: Way,
    state: Mutex<State>,
    me: Weak<Inner>,
}

/// Bytes that went one way.
#[derive(Default)]
struct Way {
    total: AtomicU64,
    /// Some passed unseen: what follows would stand at a wrong place in the body, so nothing more is kept.
    gap: AtomicBool,
}

struct State {
    /// What is known of it; `None` when it is over.
    own: Option<Box<Own>>,
    bodies: [Body; 2],
    /// The sync thread knows that something is held, under this number.
    announced: Option<u64>,
    /// Sequence number of the last frame that was written.
    last: u64,
    /// Something of this exchange could not be written: nothing more will be taken.
    failed: Option<Unrecordable>,
}

impl State {
    fn put_back(&mut self, rests: [Vec<u8>; 2]) {
        self.bodies.iter_mut().zip(rests).for_each(|(body, rest)| body.put_back(rest));
    }
}

impl Exchange {
    pub(super) fn begin(
        session: Arc<Facts>,
        number: u32,
        head: ExchangeHead<'_>,
        write: Write,
    ) -> Result<Self, Unrecordable> {
        // Before the head's own time is taken: what is told since then is never before what has a time of its own.
        let begun = Instant::now();
        let (own, last) = scratch(|batch| {
            let (own, framed) = opening(batch, &session, number, head);
            framed?;
            Ok((own, write.append(&session.shared.log, batch, Need::Begin)?))
        })?;
        Ok(Self(Arc::new_cyclic(|me| Inner {
            session,
            number,
            write,
            begun,
            up: Way::default(),
            down: Way::default(),
            state: Mutex::new(State {
                own: Some(own),
                bodies: Default::default(),
                announced: None,
                last,
                failed: None,
            }),
            me: me.clone(),
        })))
    }

    pub(super) fn refused(
        session: Arc<Facts>,
        number: u32,
        head: ExchangeHead<'_>,
        status: Option<u16>,
        error: String,
    ) {
        let own = scratch(|batch| {
            let (mut own, framed) = opening(batch, &session, number, head);
            own.status = status;
            own.duration_us = Some(0);
            own.error = Some(shortened(masked(session.needles().as_deref(), error)));
            let written = framed.and_then(|()| {
                end(batch, &session, &own, Kept::default(), Kept::default())?;
                session.shared.log.append(batch, Need::More)
            });
            if let Err(unrecordable) = written {
                unrecorded(&mut own, &unrecordable);
            }
            own
        });
        (session.shared.sink)(&Ended { session: &session, own: &own, at: Instant::now() });
    }

    /// The exchange's number in its session.
    pub fn number(&self) -> ExchangeNumber {
        ExchangeNumber(self.0.number)
    }

    /// Waits until everything recorded of it so far is synced to disk.
    ///
    /// # Errors
    /// [`Unrecordable`] when the sync failed or took too long: refuse.
    pub async fn durable(&self) -> Result<(), Unrecordable> {
        let last = {
            let mut state = self.0.state();
            self.0.flush_state(&mut state)?;
            state.last
        };
        self.0.session.shared.log.durable(last).await
    }

    /// Body (or tunnel) bytes towards the upstream. Counted whole; kept up to the configured size.
    ///
    /// # Errors
    /// [`Unrecordable`]: end the exchange.
    pub fn up(&self, bytes: &[u8]) -> Result<(), Unrecordable> {
        self.0.body(Direction::Up, bytes)
    }

    /// Body (or tunnel) bytes towards the client.
    ///
    /// # Errors
    /// [`Unrecordable`]: end the exchange.
    pub fn down(&self, bytes: &[u8]) -> Result<(), Unrecordable> {
        self.0.body(Direction::Down, bytes)
    }

    /// Bytes that passed without being kept (WebSocket and tunnel bodies beyond reading): counted only.
    pub fn passed(&self, up: u64, down: u64) {
        for (way, bytes) in [(&self.0.up, up), (&self.0.down, down)] {
            if bytes > 0 {
                way.gap.store(true, Ordering::Relaxed);
                way.total.fetch_add(bytes, Ordering::Relaxed);
            }
        }
    }

    /// The answer's status and headers. After an informational one the next replaces its status.
    ///
    /// # Errors
    /// [`Unrecordable`]: end the exchange.
    pub fn response(&self, status: u16, headers: &HeaderMap) -> Result<(), Unrecordable> {
        let inner = &self.0;
        let mut state = inner.open_state()?;
        let redacted = Redacted::new(headers, &inner.session.shared.salt);
        let response = Response {
            session: Cow::Borrowed(&inner.session.text),
            exchange: inner.number,
            time: stamp(OffsetDateTime::now_utc()),
            status,
            headers_cut: redacted.cut(),
            headers: redacted,
        };
        let needles = inner.session.needles();
        inner.append(&mut state, |batch| {
            framed(batch.masked(Kind::Response, &response, needles.as_deref()))
        })?;
        if let Some(own) = &mut state.own {
            own.status = Some(status);
        }
        Ok(())
    }

    /// Trailers of the request (`Direction::Up`) or the answer.
    ///
    /// # Errors
    /// [`Unrecordable`]: end the exchange.
    pub fn trailers(&self, direction: Direction, trailers: &HeaderMap) -> Result<(), Unrecordable> {
        let inner = &self.0;
        let mut state = inner.open_state()?;
        let redacted = Redacted::new(trailers, &inner.session.shared.salt);
        let trailers = Trailers {
            session: Cow::Borrowed(&inner.session.text),
            exchange: inner.number,
            direction,
            headers_cut: redacted.cut(),
            headers: redacted,
        };
        inner.flush_way(&mut state, Some(direction))?;
        let needles = inner.session.needles();
        inner.append(&mut state, |batch| framed(batch.masked(Kind::Trailers, &trailers, needles.as_deref())))
    }

    /// Ends the exchange and sends its summary to the sink. Only the first call counts.
    pub fn finish(&self, error: Option<String>) {
        self.0.finish(error);
    }
}

impl Inner {
    fn named(&self) -> (u128, u32) {
        (self.session.id.0.0, self.number)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not stop the record; every holder leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_state(&self) -> Result<MutexGuard<'_, State>, Unrecordable> {
        let state = self.state();
        match &state.failed {
            Some(failed) => Err(failed.clone()),
            None if state.own.is_none() => Err(Unrecordable("the exchange is over".to_owned())),
            None => Ok(state),
        }
    }

    fn body(&self, direction: Direction, bytes: &[u8]) -> Result<(), Unrecordable> {
        let (way, which) = match direction {
            Direction::Up => (&self.up, 0),
            Direction::Down => (&self.down, 1),
        };
        let limit = self.session.shared.body_limit;
        let before = way.total.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        // Beyond what is kept a body costs an addition, and its end is noticed by `finish` alone.
        let keep = limit.saturating_sub(before).min(bytes.len() as u64);
        if keep == 0 || way.gap.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut state = self.open_state()?;
        // invariant: `keep` is at most the slice's length, so it fits.
        let keep = keep as usize;
        state.bodies[which].push(&bytes[..keep], self.begun);
        self.hold(&mut state)
    }

    /// Writes what is held when it is much, else makes sure that it will be written soon.
    fn hold(&self, state: &mut State) -> Result<(), Unrecordable> {
        if state.bodies[0].held.len() + state.bodies[1].held.len() >= HELD {
            return self.flush_state(state);
        }
        if state.announced.is_none() {
            state.announced = Some(self.session.shared.log.hold(self.me.clone() as Weak<dyn Holding>));
        }
        Ok(())
    }

    /// Frames something of this exchange and writes it. A failure is the exchange's: nothing more will be taken.
    fn append(
        &self,
        state: &mut State,
        frame: impl FnOnce(&mut Batch) -> Result<(), Unrecordable>,
    ) -> Result<(), Unrecordable> {
        if let Some(failed) = &state.failed {
            return Err(failed.clone());
        }
        let written = scratch(|batch| {
            frame(batch)?;
            self.write.append(&self.session.shared.log, batch, Need::More)
        });
        match written {
            Ok(last) => {
                state.last = last;
                Ok(())
            }
            Err(error) => {
                state.bodies.iter_mut().for_each(|body| body.held = Vec::new());
                state.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn flush_state(&self, state: &mut State) -> Result<(), Unrecordable> {
        self.flush_way(state, None)
    }

    /// Writes what is held, but for bytes that may be the beginning of what must not be seen. `over`: the way whose body
    /// has ended.
    fn flush_way(&self, state: &mut State, over: Option<Direction>) -> Result<(), Unrecordable> {
        if state.bodies.iter().all(|body| body.held.is_empty()) {
            return state.failed.clone().map_or(Ok(()), Err);
        }
        let mut bodies = std::mem::take(&mut state.bodies);
        let needles = self.session.needles();
        let ended = |which: usize| over == Some([Direction::Up, Direction::Down][which]);
        let rests = unseen(&mut bodies, needles.as_deref(), ended);
        if bodies.iter().all(|body| body.held.is_empty()) {
            state.bodies = bodies;
            state.put_back(rests);
            return state.failed.clone().map_or(Ok(()), Err);
        }
        let sealer = self.session.shared.log.sealer();
        let written = self.append(state, |batch| seal(&bodies, self.named(), sealer, batch));
        state.bodies = bodies.map(|body| body.settled(written.is_ok()));
        if written.is_ok() {
            state.put_back(rests);
        }
        written
    }

    fn finish(&self, error: Option<String>) {
        let mut state = self.state();
        let Some(mut own) = state.own.take() else { return };
        if let Some(number) = state.announced.take() {
            self.session.shared.log.release(number);
        }
        let at = Instant::now();
        own.duration_us = Some(micros(at.duration_since(self.begun)));
        own.bytes_up = self.up.total.load(Ordering::Relaxed);
        own.bytes_down = self.down.total.load(Ordering::Relaxed);
        let needles = self.session.needles();
        own.error = error.map(|error| shortened(masked(needles.as_deref(), error)));
        unseen(&mut state.bodies, needles.as_deref(), |_| true);
        if let Err(unrecordable) = self.write_end(&state, &own) {
            unrecorded(&mut own, &unrecordable);
            tracing::warn!(session = self.session.text, exchange = self.number, %unrecordable, "an exchange's end is not in the store");
        }
        drop(state);
        (self.session.shared.sink)(&Ended { session: &self.session, own: &own, at });
    }

    /// The held bytes and the end in one write; when there is no room for both, the end alone, which then states what was
    /// kept.
    fn write_end(&self, state: &State, own: &Own) -> Result<(), Unrecordable> {
        let log = &self.session.shared.log;
        let of = |state: &State, held| {
            (state.bodies[0].kept(held, own.bytes_up), state.bodies[1].kept(held, own.bytes_down))
        };
        let ended = |batch: &mut Batch, held: bool, need| {
            let (up, down) = of(state, held);
            end(batch, &self.session, own, up, down)?;
            self.write.append(log, batch, need).map(drop)
        };
        if state.failed.is_none() {
            let whole = scratch(|batch| {
                seal(&state.bodies, self.named(), log.sealer(), batch)?;
                ended(batch, true, Need::Close)
            });
            if whole.is_ok() {
                return Ok(());
            }
        }
        scratch(|batch| ended(batch, false, Need::End))
    }
}

impl Holding for Inner {
    fn flush(&self) {
        let mut state = self.state();
        state.announced = None;
        if state.own.is_some() {
            // A failure is kept in the state: the next call of the engine gets it.
            let _ = self.flush_state(&mut state);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.finish(Some("dropped: the exchange was cut before its end".to_owned()));
    }
}
