//! The record: every session and exchange, written before it matters, to an embedded store that survives a crash.
//!
//! [`Store::open`] gives the writing side. A connection begins a [`Session`]; each request begins an [`Exchange`], whose
//! head is in the store when [`Session::exchange`] returns. What follows (answer, bodies) is held back for a moment and
//! written in few pieces, at most 40 ms late; [`Exchange::finish`] writes all of it. Both are guards: dropped
//! without an end, they record that. A call that gives [`Unrecordable`] means: refuse, never pass unrecorded.
//!
//! [`read`] is the other side, for the command line and for whoever has a copy. The format is in `docs/store.md`.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use crate::types::{Caller, CallerKey, CredentialName, Recipient};

pub mod age;
mod before;
pub mod bodies;
mod edges;
mod exchange;
pub mod fold;
pub mod frame;
pub mod headers;
mod held;
mod left;
mod lock;
pub(crate) use lock::in_use;
mod log;
mod logs;
mod open;
mod own;
mod notes;
pub mod payload;
pub mod read;
mod salt;
mod segment;
mod session;
mod synced;
pub mod trees;
pub mod veil;
pub mod visible;
mod wake;
mod write;
mod writer;

pub use exchange::Exchange;
pub use open::{Error, Store};
pub use own::Ended;
pub use session::Session;
use veil::Veil;

/// The store cannot take a record: the exchange must be refused, never passed unrecorded.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the record cannot be written: {0}")]
pub struct Unrecordable(pub String);

/// Who is told of exchanges that are over (the journal, by way of the warden). Must not block.
pub type Sink = Arc<dyn Fn(&Ended<'_>) + Send + Sync>;

/// What must not be seen in a session of this caller's. Asked once for each session: must not block.
pub type Unseen = Arc<dyn Fn(&Caller) -> Arc<Veil> + Send + Sync>;

/// How the store works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its directory: made when missing, used by one writer at a time.
    pub dir: PathBuf,
    /// Bytes kept of each body, each way.
    pub body_limit: u64,
    /// Size of a segment, allocated as a whole, and of the bodies beside it after which the next begins. At least 64 KiB.
    pub segment_bytes: u64,
    /// All segments together; beyond it the oldest are deleted, which is recorded. 0: no bound. The segment in use and the
    /// one ready to follow always stay.
    pub max_bytes: u64,
    /// Segments whose last record is older are deleted too. `None`: whatever their age.
    pub max_age: Option<std::time::Duration>,
    /// Who may read bodies: their keys are sealed for these. At least one.
    pub recipients: Vec<Recipient>,
}

impl Settings {
    /// The defaults for a store in `dir`: bodies up to 1 MiB, segments of 64 MiB, 4 GiB in all. Who may read is still to be
    /// said.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let recipients = Vec::new();
        let (body_limit, segment_bytes, max_bytes) = (1 << 20, 64 << 20, 4 << 30);
        Self { dir: dir.into(), body_limit, segment_bytes, max_bytes, max_age: None, recipients }
    }
}

/// How the store does, for the journal and `sluice status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why new sessions and exchanges are refused; `None` when all is well.
    pub refusing: Option<String>,
    /// How many things went wrong since the start, each of which was survived or is the reason above.
    pub troubles: u64,
    /// The last of them.
    pub last: Option<String>,
}

/// Facts of both TLS legs, recorded once a session (the link that FDP_CER_EXT.2 of the TLS inspection
/// profile of Common Criteria asks for).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

/// What an exchange begins with; written before its first byte goes upstream.
#[derive(Clone, Debug)]
pub struct ExchangeHead<'a> {
    /// `http/1.1`, `h2`, `websocket`, `dns`, `tunnel`, `tls`.
    pub protocol: &'static str,
    /// Name that was asked for, or the address.
    pub host: String,
    /// Who says that it is the name.
    pub host_source: crate::types::HostSource,
    /// HTTP method.
    pub method: Option<Cow<'a, str>>,
    /// Path and query.
    pub path: Option<Cow<'a, str>>,
    /// Request headers in order.
    pub headers: Cow<'a, HeaderMap>,
    /// Rule that decided.
    pub rule: Option<String>,
    /// Verdict.
    pub verdict: crate::types::Verdict,
    /// Who stands behind it.
    pub identity: Option<crate::types::identity::Recognised>,
    /// The credential that it bears.
    pub credential: Option<Borne>,
    /// Long-lived keys that the caller sent of its own.
    pub caller_keys: Vec<CallerKey>,
}

/// A credential in a request, without its value: `[credential NAME]` stands in the record where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Borne {
    /// Its name.
    pub name: CredentialName,
    /// The header field that it is in.
    pub field: Option<HeaderName>,
    /// The parameter of the query that it is in.
    pub parameter: Option<String>,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Towards the upstream.
    Up,
    /// Towards the client.
    Down,
}

#[cfg(test)]
mod tests;
