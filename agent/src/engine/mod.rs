//! Engines: each reads one protocol's exchanges and takes them through decide, record and forward.

use std::ops::Deref;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use time::OffsetDateTime;

use crate::credential::Keeper;
use crate::drain::Drain;
use crate::identity::{Standing, Who};
use crate::limit::Limits;
use crate::policy::credential::Credential;
use crate::policy::{self, Asked, Denied, InForce, Policy};
use crate::record::Session;
use crate::stream::BoxStream;
use crate::types::action::Http;
use crate::types::identity::Recognised;
use crate::types::{Action, Caller, Destination, HostName, HostSource, LookedUp};

pub use crate::tls::{Refusal, Verified};

mod held;
pub mod http;
mod live;
mod pump;
pub mod tunnel;

/// What an engine knows of the connection whose exchanges it reads. Cheap to clone: each exchange has its own.
#[derive(Clone)]
pub struct Context {
    connection: Arc<Connection>,
    /// Who stands behind the caller.
    pub who: Who,
    /// What is in force.
    pub policy: InForce,
}

/// What is the same for all exchanges of a connection.
pub struct Connection {
    /// Who.
    pub caller: Arc<Caller>,
    /// Where to, as the kernel remembered it.
    pub destination: Destination,
    /// What TLS proved of the other side.
    pub verified: Verified,
    /// The name that the job looked up and was told this address for. Nothing proves it.
    pub looked_up: Option<LookedUp>,
    /// What limits count.
    pub limits: Arc<Limits>,
    /// Set when everything is refused: there is nobody behind the upstream's side.
    pub refusal: Option<Refusal>,
    /// The client certificate that the upstream was shown: what is sent to it is sent in that one's name.
    pub shown: Option<Arc<Credential>>,
    /// The record of this session.
    pub session: Arc<Session>,
    /// Whether the agent is ending.
    pub drain: Drain,
    /// Keeps credentials.
    pub credentials: Arc<Keeper>,
    /// Takes a stream pair that came out of an HTTP CONNECT or upgrade back to the line's `detect` stage.
    pub again: Again,
}

impl Deref for Context {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Context {
    /// Of a connection, and who stands behind it.
    pub fn new(connection: Connection, who: Who, policy: InForce) -> Self {
        Self { connection: Arc::new(connection), who, policy }
    }

    /// The same for a request that somebody else may stand behind.
    fn of_request(&self, who: Who) -> Self {
        Self { connection: Arc::clone(&self.connection), who, policy: self.policy.clone() }
    }

    /// What is in force now.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// The same, and that it has been seen: only later rules are news to this copy.
    fn policy_seen(&mut self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow_and_update())
    }

    /// Decides what the caller wants now. A request whose host is the caller's word only (plain HTTP, CONNECT) is judged as
    /// one to that host, and as one to whom it really goes to: else a job could name an allowed host to its own server.
    ///
    /// # Errors
    /// [`Denied`]: also what was refused before its protocol was known.
    pub fn decide(&self, policy: &Policy, action: Action<'_>) -> Result<policy::Verdict, Denied> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.denied.clone());
        }
        let mut verdict = policy::decide(policy, &self.asked(action));
        let real = self.trusted_name();
        if let Action::Http(http) = action
            && http.host != real
        {
            let really = Action::Http(Http { host: real, ..http });
            let really = policy::decide(policy, &self.asked(really));
            verdict = verdict.both(really, policy.mode(&self.caller.tag)).explained(|denied| Denied {
                reason: format!(
                    "{} (nothing proves that {} is {}: it is judged as {} too)",
                    denied.reason,
                    self.destination,
                    http.host.map_or("the host that it names", HostName::as_str),
                    real.map_or("a host without a name", HostName::as_str),
                ),
                ..denied
            });
        }
        Ok(verdict.explained(|denied| self.who.standing().explain(denied)))
    }

    /// What is judged when the caller wants `action` now.
    fn asked<'a>(&'a self, action: Action<'a>) -> Asked<'a> {
        let identity = Some(self.who.standing().identity());
        Asked { caller: &self.caller, identity, action, now: OffsetDateTime::now_utc() }
    }

    /// An identity as a record is to bear it, with the claims that rules in force may ask for.
    pub fn recognised(&self, standing: &Standing) -> Option<Recognised> {
        standing.shared().map(|identity| Recognised::new(identity, self.policy.borrow().claims()))
    }

    /// The name of the other side, as far as somebody whom the job cannot be says it.
    pub fn trusted_name(&self) -> Option<&HostName> {
        match &self.verified {
            Verified::Name(name) => Some(name),
            Verified::Address(_) => None,
            // A server that the job asked from its own network namespace may be the job's own.
            Verified::Plain => {
                let found = self.looked_up.as_ref().filter(|found| found.by == HostSource::Dns);
                found.map(|found| &found.name)
            }
        }
    }

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
/// the peer that TLS verified; a CONNECT reaches another, of whom nothing is known (`None`), not even by a lookup.
pub type Again = Arc<dyn Fn(BoxStream, BoxStream, Option<Verified>) -> BoxFuture<'static, ()> + Send + Sync>;
