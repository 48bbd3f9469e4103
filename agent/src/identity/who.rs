//! Who stands behind one connection, and behind each request on it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::{Identities, Unverified};
use crate::policy::Denied;
use crate::types::{Identity, Token};

/// A verified identity, or that there is none and why.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    identity: Option<Arc<Identity>>,
    /// The token that proves it: some credentials are made of it.
    token: Option<Arc<Token>>,
    /// A token was there, and this is why it proves nothing.
    why: Option<Arc<str>>,
}

impl Standing {
    pub(super) fn verified(identity: Arc<Identity>, token: Option<Token>) -> Self {
        Self { identity: Some(identity), token: token.map(Arc::new), why: None }
    }

    pub(super) fn unverified(why: Option<&Unverified>) -> Self {
        Self { identity: None, token: None, why: why.map(|why| why.to_string().into()) }
    }

    /// The identity, if one is verified.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// The identity, shared: for the record.
    pub fn shared(&self) -> Option<Arc<Identity>> {
        self.identity.clone()
    }

    /// The verified token. Never to be shown.
    pub fn token(&self) -> Option<Arc<Token>> {
        self.token.clone()
    }

    /// How long the identity still is somebody's; `None` without one.
    pub fn remains(&self) -> Option<Duration> {
        let left = self.identity.as_ref()?.expires.saturating_sub(super::unix_now());
        Some(Duration::from_secs(left.max(0).cast_unsigned()))
    }

    /// A refusal that may have come of it says so.
    pub fn explain(&self, mut denied: Denied) -> Denied {
        if let Some(why) = &self.why {
            denied.reason = format!("{}; the caller's identity is not verified: {why}", denied.reason);
        }
        denied
    }
}

/// Who stands behind a connection. Cheap to clone.
#[derive(Clone)]
pub struct Who {
    identities: Arc<Identities>,
    standing: Standing,
}

impl Who {
    /// Of a connection whose own standing is known.
    pub fn new(identities: Arc<Identities>, standing: Standing) -> Self {
        Self { identities, standing }
    }

    /// Where nobody's tokens count.
    pub fn nobody() -> Self {
        Self::new(Arc::new(Identities::none()), Standing::default())
    }

    /// The same with another standing.
    #[must_use]
    pub fn with(&self, standing: Standing) -> Self {
        Self::new(Arc::clone(&self.identities), standing)
    }

    /// The connection's; of a request ([`Who::of_request`]), the request's.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The connection's identity, or `None` when a request may yet bring its own.
    pub fn so_far(&self) -> Option<Option<&Identity>> {
        (!self.identities.accept_bearer()).then(|| self.standing.identity())
    }

    /// The request's: its bearer token's, if that was made for us, which is then taken out: it is not the upstream's to
    /// see. One that is bad leaves the request without an identity. Otherwise the connection's.
    pub async fn of_request(&self, headers: &mut HeaderMap) -> Self {
        if !self.identities.accept_bearer() {
            return self.clone();
        }
        let Some(token) = bearer(headers) else { return self.clone() };
        let Some(verified) = self.identities.of_request(token).await else { return self.clone() };
        let token = Token::parse(token).ok();
        headers.remove(AUTHORIZATION);
        self.with(match verified {
            Ok(identity) => Standing::verified(identity, token),
            Err(unverified) => Standing::unverified(Some(&unverified)),
        })
    }
}

/// The token of the one `Authorization: Bearer` (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_ascii())
}
