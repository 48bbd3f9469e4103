//! A layer of TLS: opened on both sides, with the client certificate that its upstream may be shown.

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use super::{Error, Line};
use crate::credential::{Ask, Failed};
use crate::policy::Asked;
use crate::policy::credential::Credential;
use crate::stream::BoxStream;
use crate::tls::{self, Alpn, Opened, Verified};
use crate::types::{Action, HostName, HostSource};

/// What is left of the line when both legs are open.
struct Inside {
    line: Line,
    alpn: Alpn,
    client: BoxStream,
    upstream: BoxStream,
    verified: Verified,
}

impl Line {
    /// TLS: both legs, and what flows inside.
    pub(super) async fn open(self, client: BoxStream, upstream: BoxStream) -> Result<(), Error> {
        // Boxed: what the handshakes need would keep its room for as long as the connection lasts.
        let Inside { line, alpn, client, upstream, verified } =
            Box::pin(self.opened(client, upstream)).await?;
        line.inside(alpn, client, upstream, verified).await
    }

    async fn opened(self, client: BoxStream, upstream: BoxStream) -> Result<Inside, Error> {
        let may = |host: Option<&HostName>| self.may(Action::Name { destination: self.destination, host });
        let (chosen, me) = (OnceLock::new(), self.clone());
        let certificate = |host: HostName| -> BoxFuture<'_, _> { Box::pin(me.certificate(host, &chosen)) };
        let (tag, tls) = (&self.caller.tag, &self.services.tls);
        let opening = tls.open(tag, self.destination, client, upstream, &may, &certificate);
        let opened = match opening.await {
            Ok(opened) => opened,
            Err(refused) => {
                let sni = refused.facts.sni.clone();
                if let Some(denied) = refused.denied.clone() {
                    return Err(self.denied("tls", sni, denied));
                }
                let error = Error::Tls(refused);
                match sni {
                    Some(name) => self.refused_for(name, HostSource::Tls, "tls", &error),
                    None => self.refused("tls", &error),
                }
                return Err(error);
            }
        };
        self.session.tls(&opened.facts)?;
        let Opened { alpn, client, upstream, verified, .. } = opened;
        let shown = chosen.into_inner().filter(|_| opened.shown);
        let line = Self { refusal: opened.refusal.or(self.refusal.clone()), shown, ..self };
        Ok(Inside { line, alpn, client, upstream, verified })
    }

    /// The certificate that may be shown to `host`, which TLS verifies before it is; `chosen` is set to whose it is. Where it
    /// cannot be had the connection goes on without: exchanges that are to bear it are refused, and told why.
    async fn certificate(
        &self,
        host: HostName,
        chosen: &OnceLock<Arc<Credential>>,
    ) -> Option<Arc<CertifiedKey>> {
        let policy = Arc::clone(&self.services.policy.borrow());
        let action = Action::Name { destination: self.destination, host: Some(&host) };
        let identity = self.who.so_far();
        let asked = Asked { caller: &self.caller, identity, action, now: OffsetDateTime::now_utc() };
        let credential = policy.shown_to(&asked, &host)?;
        let ask = Ask {
            tag: self.caller.tag.clone(),
            session: self.session.id(),
            identity: self.who.standing().shared(),
            token: self.who.standing().token(),
            veil: Arc::clone(self.session.veil()),
        };
        let value = self.services.credentials.value(&credential, &ask).await;
        let made =
            value.map_err(|Failed(why)| why).and_then(|value| tls::certificate(value.secret().expose()));
        match made {
            Ok(made) => chosen.set(credential).ok().map(|()| made),
            Err(why) => {
                tracing::warn!("credential {}: {host} is not shown it: {why}", credential.name);
                None
            }
        }
    }
}
