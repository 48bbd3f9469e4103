//! How a value is had from its source. The warden's sources are asked for over the wire; the others are fetched over the
//! network by a module below, each a function of [`Fetching`].

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};
use zeroize::Zeroizing;

mod aws;
mod azure;
mod gcp;
mod github;
mod jwt;
mod oauth2;
mod provider;
mod vault;

use super::keep::{Keeper, Value};
use crate::policy::credential::Credential;
use crate::record::veil::Veil;
use crate::types::credential::{CredentialName, Scope, Secret, Source};
use crate::types::{Identity, SessionId, TagName, Token};

/// For whom a value is wanted.
#[derive(Clone)]
pub struct Ask {
    /// The caller's tag.
    pub tag: TagName,
    /// The session.
    pub session: SessionId,
    /// Who stands behind the caller.
    pub identity: Option<Arc<Identity>>,
    /// The verified token that says so.
    pub token: Option<Arc<Token>>,
    /// What must not be seen in the session: what is made for it, or for an identity in its tag, is added.
    pub veil: Arc<Veil>,
}

/// What a source gave.
pub struct Fetched {
    /// The secret.
    pub secret: Secret,
    /// When it ends, as the source says; `None`: when the source says something else.
    pub expires: Option<SystemTime>,
    /// What gives it back to the provider when it is no longer needed.
    pub revoke: Option<Revoke>,
    /// What has the provider let it live longer.
    pub renew: Option<Renew>,
}

impl Fetched {
    /// What lasts until its source says something else.
    pub fn lasting(secret: Secret) -> Self {
        Self::ending(secret, None)
    }

    /// What ends then.
    pub fn ending(secret: Secret, expires: Option<SystemTime>) -> Self {
        Self { secret, expires, revoke: None, renew: None }
    }
}

/// Gives a value back; dropped, it is left to its expiry.
pub type Revoke = Box<dyn FnOnce() -> BoxFuture<'static, Result<(), Failed>> + Send + Sync>;

/// Has a value's life made longer; tells its new end. `None` of a value that does not end.
pub type Renew = Arc<dyn Fn() -> BoxFuture<'static, Result<Option<SystemTime>, Failed>> + Send + Sync>;

/// Why a source gave nothing. The text never has a secret's bytes: it is told to clients, logged and shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

/// One fetch: what it may use.
pub struct Fetching {
    /// The credential that is fetched.
    pub credential: Arc<Credential>,
    /// For whom.
    pub ask: Ask,
    /// Whether a value that was had before has been refused by the upstream: no cache on the way may answer.
    pub again: bool,
    /// Where the credentials are that it needs itself.
    pub keeper: Arc<Keeper>,
    /// Runs errands.
    pub run: Run,
}

impl Fetching {
    /// The value of a credential that this one needs (`secret`, `key`, `keys`).
    ///
    /// # Errors
    /// [`Failed`], with that one's name.
    pub async fn needed(&self, name: &CredentialName) -> Result<Arc<Value>, Failed> {
        self.keeper.needed(name, &self.ask).await
    }
}

/// A source's reader.
pub type Fetch = Arc<dyn Fn(Fetching) -> BoxFuture<'static, Result<Fetched, Failed>> + Send + Sync>;

/// A request of the gate's own to a provider: over TLS verified for the URL's host, by the host's name servers, no redirect
/// followed.
pub struct Errand {
    /// Method.
    pub method: Method,
    /// `https` URL.
    pub url: String,
    /// Header fields beside Host, Content-Length and Accept.
    pub headers: HeaderMap,
    /// Body; wiped.
    pub body: Zeroizing<Vec<u8>>,
    /// A client certificate: PEM, a key and its chain.
    pub certificate: Option<Arc<Value>>,
}

/// What a provider answered.
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body, bounded; wiped.
    pub body: Zeroizing<Vec<u8>>,
}

/// Runs an errand; the error is a sentence without secrets.
pub type Run = Arc<dyn Fn(Errand) -> BoxFuture<'static, Result<Reply, String>> + Send + Sync>;

/// Fetches from a provider over the network.
pub fn network(fetching: Fetching) -> BoxFuture<'static, Result<Fetched, Failed>> {
    Box::pin(async move {
        match &fetching.credential.source {
            Source::File(_) | Source::Systemd(_) | Source::Command(_) | Source::Env(_) => {
                Err(Failed("the warden reads this source".to_owned()))
            }
            Source::OAuth2(source) => oauth2::fetch(source, &fetching).await,
            Source::Exchange(source) => oauth2::exchange(source, &fetching).await,
            Source::Jwt(source) => jwt::fetch(source, &fetching).await,
            Source::GithubApp(source) => github::fetch(source, &fetching).await,
            Source::GcpSecret(source) => gcp::fetch(source, &fetching).await,
            Source::AzureSecret(source) => azure::fetch(source, &fetching).await,
            Source::Vault(source) => vault::fetch(source, &fetching).await,
            Source::AwsSecret(source) => aws::secret_manager(source, &fetching).await,
            Source::AwsSsm(source) => aws::parameter(source, &fetching).await,
            Source::Sts(source) => aws::assume_role(source, &fetching).await,
        }
    })
}

/// For whom one value is: the key of a kept one beside its credential's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum For {
    Everyone,
    /// In one tag, in all of which it is looked for. Issuer and subject, since two issuers may have an alice each, and
    /// what else the token says: she may have one that may do less.
    Identity(TagName, String, String, String),
    /// And whose requests on it: a connection may carry those of several.
    Session(SessionId, Option<(String, String)>),
}

impl For {
    /// Whom a source's values are for, when `ask` asks.
    pub(super) fn of(scope: Scope, ask: &Ask) -> Result<Self, Failed> {
        match (scope, &ask.identity) {
            (Scope::Everyone, _) => Ok(Self::Everyone),
            (Scope::Session, who) => {
                let who = who.as_ref().map(|who| (who.issuer.clone(), who.subject.clone()));
                Ok(Self::Session(ask.session, who))
            }
            (Scope::Identity, Some(identity)) => {
                let claims = identity.claims.to_string();
                let (issuer, subject) = (identity.issuer.clone(), identity.subject.clone());
                Ok(Self::Identity(ask.tag.clone(), issuer, subject, claims))
            }
            (Scope::Identity, None) => Err(Failed(
                "it is made of the caller's own token, and the caller has none that is verified".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
