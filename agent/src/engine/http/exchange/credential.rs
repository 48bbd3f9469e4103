//! The credential of one exchange: judged, fetched, put in. The caller's own goes first.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::{Request, StatusCode};

use super::{Asked, Exchanges, Failed};
use crate::credential::sigv4::{self, Chunks, Claim, Unsignable};
use crate::credential::{Ask, Bound, Failed as Unfetched, Value, bind, inject, strip};
use crate::engine::Verified;
use crate::engine::http::clean::Cleaner;
use crate::engine::http::refusal::Refusal;
use crate::engine::http::source::Source;
use crate::identity::Standing;
use crate::policy::credential::{Credential, Sending, Unbound};
use crate::policy::{Permit, Policy};
use crate::record::Borne;
use crate::tls;
use crate::types::credential::Inject;
use crate::types::{CredentialName, HostName};

/// A credential that an exchange is to bear, and its value.
pub(super) struct Bearing {
    credential: Arc<Credential>,
    ask: Ask,
    value: Arc<Value>,
    rule: String,
    /// What the client's own signature said, where it is replaced, and the body's hash, where that is to be signed.
    claim: Option<(Claim, Option<String>)>,
}

/// Whether a credential is bound to the other side of a connection, by these rules.
pub(super) type Echoes = Mutex<(Weak<Policy>, bool)>;

impl Bearing {
    pub(super) fn name(&self) -> &CredentialName {
        &self.credential.name
    }

    /// What the record says of it.
    pub(super) fn borne(&self) -> Option<Borne> {
        inject::borne(&self.credential)
    }

    fn refused(&self, status: StatusCode, why: impl std::fmt::Display) -> Refusal {
        refused(&self.credential, &self.rule, status, why)
    }
}

fn refused(credential: &Credential, rule: &str, status: StatusCode, why: impl std::fmt::Display) -> Refusal {
    let reason = format!("credential {}: {why} (rule {rule})", credential.name);
    Refusal { rule: Some(rule.to_owned()), ..Refusal::new(status, reason) }
}

impl Exchanges {
    /// What cleans the answer: of a request that bears a credential, and of any other to whom one is bound, since it may tell
    /// later what it was sent before.
    pub(super) fn cleaner(&self, bearing: Option<&Bearing>) -> Option<Cleaner> {
        let veil = self.cx.session.veil();
        match bearing {
            Some(bearing) => Some(Cleaner::new(veil, Some(&bearing.value))),
            None => (veil.needles().is_some() && self.may_echo()).then(|| Cleaner::new(veil, None)),
        }
    }

    fn may_echo(&self) -> bool {
        let policy = self.cx.policy();
        let mut known = self.echoes.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::ptr::eq(known.0.as_ptr(), Arc::as_ptr(&policy)) {
            let name = self.cx.trusted_name().map(HostName::as_str);
            let hosts = policy.credentials().values().flat_map(|credential| &credential.binding.hosts);
            let bound = name.is_some_and(|name| hosts.into_iter().any(|host| host.matches(name)));
            *known = (Arc::downgrade(&policy), bound);
        }
        known.1
    }

    /// Gets the credential that the permit names, and takes the caller's own out of the request. A CONNECT bears none: it
    /// is for the proxy, and what goes through it is judged for itself.
    pub(super) async fn bear(
        &self,
        asked: &Asked,
        permit: &Permit,
        standing: &Standing,
        request: &mut Request<Source>,
    ) -> Result<Option<Bearing>, Refusal> {
        let credential = permit.credential().filter(|_| !asked.tunnels);
        self.may_use_connection(credential, permit)?;
        let Some(credential) = credential else { return Ok(None) };
        let no = |status, why: &dyn std::fmt::Display| refused(credential, permit.rule(), status, why);
        let way = credential.inject.as_ref();
        let way = way.ok_or_else(|| no(StatusCode::FORBIDDEN, &"it serves other credentials only"))?;
        let ask = Ask {
            tag: self.cx.caller.tag.clone(),
            session: self.cx.session.id(),
            identity: standing.shared(),
            token: standing.token(),
            veil: Arc::clone(self.cx.session.veil()),
        };
        // Told at once, and judged again when it is sent.
        let bound = self.bound(credential, &ask, asked, request);
        drop(bound.map_err(|unbound| no(StatusCode::FORBIDDEN, &unbound))?);
        let value = self.cx.credentials.value(credential, &ask).await;
        let value = value.map_err(|Unfetched(why)| {
            no(StatusCode::SERVICE_UNAVAILABLE, &format!("it cannot be had: {why}"))
        })?;
        if *way == Inject::Tls && self.cx.shown.is_none() {
            let without = "this connection's handshake did not ask for it, or began without it: open another";
            let why = tls::certificate(value.secret().expose()).err().unwrap_or_else(|| without.to_owned());
            return Err(no(StatusCode::SERVICE_UNAVAILABLE, &why));
        }
        let claim = match way {
            Inject::Sigv4 { .. } => {
                let claim = self.claim(way, asked, request).await;
                Some(claim.map_err(|why| no(StatusCode::BAD_REQUEST, &why))?)
            }
            _ => None,
        };
        strip::strip(way, request);
        let (credential, rule) = (Arc::clone(credential), permit.rule().to_owned());
        Ok(Some(Bearing { credential, ask, value, rule, claim }))
    }

    /// A connection on which a client certificate was shown is for exchanges whose rule names that certificate: whatever else is
    /// sent there would bear it too.
    fn may_use_connection(&self, named: Option<&Arc<Credential>>, permit: &Permit) -> Result<(), Refusal> {
        match &self.cx.shown {
            Some(shown) if named != Some(shown) => {
                let why = "its certificate was shown on this connection, and the rule does not name it";
                Err(refused(shown, permit.rule(), StatusCode::FORBIDDEN, why))
            }
            _ => Ok(()),
        }
    }

    /// What the client's own signature says, and the body's hash, where that is to be signed.
    async fn claim(
        &self,
        way: &Inject,
        asked: &Asked,
        request: &mut Request<Source>,
    ) -> Result<(Claim, Option<String>), Unsignable> {
        let claim = Claim::of(request)?;
        if !claim.wants_body(way, &asked.host.text) {
            return Ok((claim, None));
        }
        self.invite(request);
        let whole = request.body_mut().whole(sigv4::BODY_MAX).await;
        let body = whole.ok().flatten().ok_or(Unsignable::Body)?;
        Ok((claim, Some(sigv4::hash(body))))
    }

    /// Puts the value in, if this exchange may bear it. What is given back, if anything, the body must go through.
    pub(super) fn put_in(
        &self,
        bearing: &Bearing,
        asked: &Asked,
        request: &mut Request<Source>,
    ) -> Result<Option<Box<Chunks>>, Failed> {
        let no = |status, why: &dyn std::fmt::Display| {
            Failed::Refused(Refusal { last: self.gate.is_some(), ..bearing.refused(status, why) })
        };
        let bound = self.bound(&bearing.credential, &bearing.ask, asked, request);
        let bound = bound.map_err(|unbound| no(StatusCode::FORBIDDEN, &unbound))?;
        if bound.credential().inject == Some(Inject::Tls) {
            // The connection bears it.
            return Ok(None);
        }
        let Some((claim, hash)) = &bearing.claim else {
            let put = inject::apply(bound, &bearing.value, request).map(|()| None);
            return put.map_err(|why| no(StatusCode::SERVICE_UNAVAILABLE, &why));
        };
        let host = asked.host.text.as_str();
        let signed = sigv4::sign(&bound, &bearing.value, claim, host, hash.as_deref(), request);
        signed.map(|chunks| chunks.map(Box::new)).map_err(|why| no(StatusCode::BAD_REQUEST, &why))
    }

    /// The same with the value that comes after one which the upstream refused; `None`: there is no other.
    pub(super) async fn renewed(&self, bearing: Bearing) -> Option<Bearing> {
        let Bearing { credential, ask, value: refused, rule, claim } = bearing;
        if credential.inject == Some(Inject::Tls) {
            // Another value could only be shown on another connection.
            return None;
        }
        let value = self.cx.credentials.renewed(&credential, &ask, &refused).await.ok()?;
        let other = !value.secret().same(refused.secret());
        other.then_some(Bearing { credential, ask, value, rule, claim })
    }

    fn bound(
        &self,
        credential: &Arc<Credential>,
        ask: &Ask,
        asked: &Asked,
        request: &Request<Source>,
    ) -> Result<Bound, Unbound> {
        // What was allowed a while ago may since be bound to other hosts, or be another secret under the same name.
        let policy = self.cx.policy();
        if policy.credentials().get(&credential.name).is_none_or(|now| now != credential) {
            return Err(Unbound::Changed);
        }
        let sending = Sending {
            name: self.cx.trusted_name(),
            tls: self.cx.verified != Verified::Plain,
            asked: asked.host.name.as_ref(),
            port: self.cx.destination.port(),
            method: asked.method.as_str(),
            headers: request.headers(),
            path: request.uri().path(),
            query: request.uri().query(),
            tag: &ask.tag,
            identity: ask.identity.as_deref(),
        };
        bind(credential, &sending)
    }
}
