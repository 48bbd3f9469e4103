//! Engines: each reads one protocol's exchanges and takes them through decide, record and forward.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::drain::Drain;
use crate::policy::Policy;
use crate::record::Session;
use crate::stream::BoxStream;
use crate::types::{Caller, Destination, HostSource, LookedUp};

pub use crate::tls::Verified;

pub mod http;
mod pump;
pub mod tunnel;

/// What an engine knows of the connection whose exchanges it reads.
#[derive(Clone)]
pub struct Context {
    /// Who.
    pub caller: Arc<Caller>,
    /// Where to, as the kernel remembered it.
    pub destination: Destination,
    /// What TLS proved of the other side.
    pub verified: Verified,
    /// The name that the job looked up and was told this address for. Nothing proves it.
    pub looked_up: Option<LookedUp>,
    /// What is in force.
    pub policy: Arc<Policy>,
    /// The record of this session.
    pub session: Arc<Session>,
    /// Whether the agent is ending.
    pub drain: Drain,
    /// Takes a stream pair that came out of an HTTP CONNECT or upgrade back to the line's `detect` stage.
    pub again: Again,
}

impl Context {
    /// The best name of the other side, and who says so, where the protocol itself names none.
    pub fn host(&self) -> (String, HostSource) {
        match (&self.verified, &self.looked_up) {
            (Verified::Name(name), _) => (name.to_string(), HostSource::Tls),
            (Verified::Plain, Some(found)) => (found.name.to_string(), found.by),
            (Verified::Address(_), _) | (Verified::Plain, None) => {
                (self.destination.ip().to_string(), HostSource::Address)
            }
        }
    }
}

/// See [`Context::again`]: client side, upstream side, and what is proved of who is behind the latter: an upgrade keeps
/// the peer that TLS verified, a CONNECT reaches another.
pub type Again = Arc<dyn Fn(BoxStream, BoxStream, Verified) -> BoxFuture<'static, ()> + Send + Sync>;
