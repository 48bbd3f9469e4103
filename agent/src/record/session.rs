//! The record of one session: a guard that writes its begin and, exactly once, its end.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::edges::summary;
use super::exchange::Exchange;
use super::frame::{Batch, Kind};
use super::open::Shared;
use super::own::same;
use super::payload::{SessionBegin, SessionEnd, Tls, stamp};
use super::veil::Veil;
use super::write::Write;
use super::writer::Need;
use super::{ExchangeHead, TlsFacts, Unrecordable};
use crate::codec::scrub::Needles;
use crate::types::{Caller, CallerKey, Destination, LookedUp, SessionId};

/// Longest text of an error that is kept.
const ERROR: usize = 1024;

/// One session. Dropped without `close`, it records that it was dropped.
pub struct Session(Arc<Facts>);

/// What the session's exchanges know of it.
pub(super) struct Facts {
    pub shared: Arc<Shared>,
    pub id: SessionId,
    pub text: String,
    pub caller: Arc<Caller>,
    pub destination: Destination,
    /// What must not be seen in its frames.
    pub veil: Arc<Veil>,
    /// What the summaries of all its exchanges say: see [`same`].
    pub same: Vec<u8>,
    begun: Instant,
    exchanges: AtomicU32,
    ended: AtomicBool,
}

impl Facts {
    /// What must not be seen in a frame that is made now.
    pub fn needles(&self) -> Option<Arc<Needles>> {
        self.veil.needles()
    }
}

impl Session {
    pub(super) fn begin(
        shared: Arc<Shared>,
        caller: Arc<Caller>,
        destination: Destination,
        client: SocketAddr,
        looked_up: Option<&LookedUp>,
    ) -> Result<Self, Unrecordable> {
        let id = SessionId(ulid::Ulid::generate());
        let text = id.to_string();
        let time = stamp(OffsetDateTime::now_utc());
        let looked_up = Some(looked_up.cloned().into_iter().collect());
        let begin =
            SessionBegin { session: text.clone(), time, client, destination, caller: &*caller, looked_up };
        let veil = shared.veil(&caller);
        write(&shared, &veil, Kind::Session, &begin, Need::Begin)?;
        let same = same(&summary(&text, 0, &caller, destination));
        Ok(Self(Arc::new(Facts {
            shared,
            id,
            text,
            caller,
            destination,
            veil,
            same,
            begun: Instant::now(),
            exchanges: AtomicU32::new(0),
            ended: AtomicBool::new(false),
        })))
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// What must not be seen in it, whoever looks.
    pub fn veil(&self) -> &Arc<Veil> {
        &self.0.veil
    }

    /// What is recorded of a long-lived key of this kind that the caller sent.
    pub fn caller_key(&self, kind: &str, key: &[u8]) -> CallerKey {
        let last4 = String::from_utf8_lossy(&key[key.len().saturating_sub(4)..]).into_owned();
        CallerKey { kind: kind.to_owned(), fingerprint: self.0.shared.salt.fingerprint_of_key(key), last4 }
    }

    /// Records the TLS legs.
    ///
    /// # Errors
    /// [`Unrecordable`]: refuse the connection.
    pub fn tls(&self, facts: &TlsFacts) -> Result<(), Unrecordable> {
        let time = stamp(OffsetDateTime::now_utc());
        let tls = Tls { session: Cow::Borrowed(&self.0.text), time, facts: Cow::Borrowed(facts) };
        write(&self.0.shared, &self.0.veil, Kind::Tls, &tls, Need::More).map(drop)
    }

    /// Begins an exchange: its head is in the store (kill -9 safe) when this returns.
    ///
    /// # Errors
    /// [`Unrecordable`]: refuse the exchange, and say so with [`Session::refused`].
    pub fn exchange(&self, head: ExchangeHead<'_>) -> Result<Exchange, Unrecordable> {
        Exchange::begin(self.0.clone(), self.next(), head, Write::Now)
    }

    /// As [`Session::exchange`], for an exchange all of whose bytes leave through a [`Socket`](crate::stream::Socket)
    /// with this store ahead: what is recorded of it is in the store, kill -9 safe, before the first of them does.
    ///
    /// # Errors
    /// As [`Session::exchange`].
    pub fn exchange_ahead(&self, head: ExchangeHead<'_>) -> Result<Exchange, Unrecordable> {
        Exchange::begin(self.0.clone(), self.next(), head, Write::Ahead)
    }

    /// Records an exchange that is over at once: nothing was sent upstream. Its summary reaches the sink even when the
    /// store takes nothing.
    pub fn refused(&self, head: ExchangeHead<'_>, error: String) {
        self.refused_with(head, None, error);
    }

    /// As [`Session::refused`], with the status that the client was given.
    pub fn refused_with(&self, head: ExchangeHead<'_>, status: Option<u16>, error: String) {
        Exchange::refused(self.0.clone(), self.next(), head, status, error);
    }

    /// Ends the session; `error` says what went wrong, if anything did.
    pub fn close(self, error: Option<String>) {
        self.end(error);
    }

    /// As [`Session::close`], for a session that is shared. Only the first end counts.
    pub fn end(&self, error: Option<String>) {
        let facts = &self.0;
        if facts.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        let end = SessionEnd {
            session: Cow::Borrowed(&facts.text),
            time: stamp(OffsetDateTime::now_utc()),
            duration_us: micros(facts.begun.elapsed()),
            exchanges: facts.exchanges.load(Ordering::Acquire),
            error: error.map(|error| Cow::Owned(cut(error, ERROR))),
        };
        if let Err(error) = write(&facts.shared, &facts.veil, Kind::SessionEnd, &end, Need::End) {
            // The reader shows it as interrupted; the store's health says why.
            tracing::warn!(session = facts.text, %error, "a session's end is not in the store");
        }
    }

    fn next(&self) -> u32 {
        self.0.exchanges.fetch_add(1, Ordering::AcqRel) + 1
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end(Some("dropped: the session was cut before its end".to_owned()));
    }
}

fn write(
    shared: &Shared,
    veil: &Veil,
    kind: Kind,
    payload: &impl serde::Serialize,
    need: Need,
) -> Result<u64, Unrecordable> {
    let mut batch = Batch::with_capacity(1024);
    let needles = veil.needles();
    batch.masked(kind, payload, needles.as_deref()).map_err(|error| Unrecordable(error.to_string()))?;
    shared.log.append(&mut batch, need)
}

/// In whole microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A text of at most `limit` bytes, its end replaced by `…` when it was longer.
pub(super) fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
