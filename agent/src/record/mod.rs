//! The record: every session and exchange, written before it matters.
//!
//! SKELETON: signatures that the engine stands on.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;

use crate::types::{Caller, Destination, ExchangeNumber, SessionId, Summary};

/// The store cannot take a record: the exchange must be refused, never passed unrecorded.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the record cannot be written: {0}")]
pub struct Unrecordable(pub String);

/// Where finished summaries go (the journal, by way of the warden). Must not block.
pub type Sink = Arc<dyn Fn(&Summary) + Send + Sync>;

/// The store's writing side. Cheap to clone.
#[derive(Clone)]
pub struct Store {}

/// Facts of both TLS legs, recorded once a session (trust.md 1.3 items 8, FDP_CER_EXT.2).
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct TlsFacts {
    /// Name that the client asked for, if any.
    pub sni: Option<String>,
    /// Name (or IP address) that the upstream's certificate was verified for.
    pub verified_name: String,
    /// `TLSv1.3` …, suite, group, ALPN of the client's leg.
    pub client: Leg,
    /// The same of the upstream's leg.
    pub upstream: Leg,
    /// SHA-256 (hex) of the upstream's leaf certificate.
    pub upstream_leaf_sha256: String,
    /// SHA-256 (hex) of the leaf that we issued from it.
    pub issued_leaf_sha256: String,
}

/// Parameters of one TLS connection.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Leg {
    /// `TLSv1_3` …
    pub version: String,
    /// `TLS13_AES_128_GCM_SHA256` …
    pub suite: String,
    /// `X25519MLKEM768` …
    pub group: String,
    /// `h2`, `http/1.1`.
    pub alpn: Option<String>,
    /// Whether the handshake was resumed.
    pub resumed: bool,
}

/// One session. Dropped without `close`, it records that it was dropped.
pub struct Session {}

/// What an exchange begins with; written before its first byte goes upstream.
#[derive(Clone, Debug)]
pub struct ExchangeHead {
    /// `http/1.1`, `h2`, `websocket`, `tunnel`, `tls`.
    pub protocol: &'static str,
    /// Name that was asked for, or the address.
    pub host: String,
    /// HTTP method.
    pub method: Option<String>,
    /// Path and query.
    pub path: Option<String>,
    /// Request headers in order.
    pub headers: HeaderMap,
    /// Rule that decided.
    pub rule: Option<String>,
    /// Verdict.
    pub verdict: crate::types::Verdict,
}

/// One exchange: cheap to clone, shared by the two directions. The first `finish` counts; when the last clone is
/// dropped without one, the exchange is recorded as dropped.
#[derive(Clone)]
pub struct Exchange {}

impl Store {
    /// Begins a session.
    ///
    /// # Errors
    /// [`Unrecordable`]: refuse the connection.
    pub fn begin(&self, _caller: Arc<Caller>, _destination: Destination, _client: SocketAddr) -> Result<Session, Unrecordable> {
        Ok(Session {})
    }
}

impl Session {
    /// The session's id.
    pub fn id(&self) -> SessionId {
        SessionId(ulid::Ulid::nil())
    }

    /// Records the TLS legs.
    ///
    /// # Errors
    /// [`Unrecordable`]: refuse the connection.
    pub fn tls(&self, _facts: &TlsFacts) -> Result<(), Unrecordable> {
        Ok(())
    }

    /// Begins an exchange: its head is in the store (kill -9 safe) when this returns.
    ///
    /// # Errors
    /// [`Unrecordable`]: refuse the exchange.
    pub fn exchange(&self, _head: ExchangeHead) -> Result<Exchange, Unrecordable> {
        Ok(Exchange {})
    }

    /// Ends the session; `error` says what went wrong, if anything did.
    pub fn close(self, _error: Option<String>) {}
}

impl Exchange {
    /// The exchange's number in its session.
    pub fn number(&self) -> ExchangeNumber {
        ExchangeNumber(1)
    }

    /// Waits until everything recorded so far is synced to disk.
    ///
    /// # Errors
    /// [`Unrecordable`] when the sync failed: refuse.
    pub async fn durable(&self) -> Result<(), Unrecordable> {
        Ok(())
    }

    /// Body (or tunnel) bytes towards the upstream. Counted whole; kept up to the configured size.
    ///
    /// # Errors
    /// [`Unrecordable`]: end the exchange.
    pub fn up(&self, _bytes: &[u8]) -> Result<(), Unrecordable> {
        Ok(())
    }

    /// Body (or tunnel) bytes towards the client.
    ///
    /// # Errors
    /// [`Unrecordable`]: end the exchange.
    pub fn down(&self, _bytes: &[u8]) -> Result<(), Unrecordable> {
        Ok(())
    }

    /// Bytes that passed without being kept (WebSocket and tunnel bodies beyond reading): counted only.
    pub fn passed(&self, _up: u64, _down: u64) {}

    /// The answer's status and headers.
    ///
    /// # Errors
    /// [`Unrecordable`]: end the exchange.
    pub fn response(&self, _status: u16, _headers: &HeaderMap) -> Result<(), Unrecordable> {
        Ok(())
    }

    /// Trailers of the request (`Direction::Up`) or the answer.
    ///
    /// # Errors
    /// [`Unrecordable`]: end the exchange.
    pub fn trailers(&self, _direction: Direction, _trailers: &HeaderMap) -> Result<(), Unrecordable> {
        Ok(())
    }

    /// The protocol that the exchange became (`websocket` after 101).
    pub fn became(&self, _protocol: &'static str) {}

    /// Ends the exchange and sends its summary to the sink. Only the first call counts.
    pub fn finish(&self, _error: Option<String>) {}
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards the upstream.
    Up,
    /// Towards the client.
    Down,
}
