//! HashiCorp Vault and OpenBao: log in, read a path, take fields of it. What is leased is renewed, with the token of our own
//! login on which it hangs, for as long as the server lets it live; then another is fetched. When it is no longer needed it
//! is given back. A token of our own login goes as soon as nothing hangs on it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{HeaderName, HeaderValue};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::provider::{Answer, secret, segment};
use super::{Errand, Failed, Fetched, Fetching, Renew, Run};
use crate::types::credential::{Secret, Shape, Vault, VaultLogin};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
/// Between two fields of one secret.
const AND: char = ':';

pub(super) async fn fetch(source: &Vault, cx: &Fetching) -> Result<Fetched, Failed> {
    let at = At { url: source.url.trim_end_matches('/').to_owned(), namespace: source.namespace.clone() };
    let login = log_in(source, &at, cx).await?;
    let path: Vec<String> = source.path.trim_matches('/').split('/').map(segment).collect();
    let read = at.errand(Errand::get(at.url(&path.join("/"))), Some(&login.token))?.send(&cx.run).await;
    let taken = read.and_then(|mut answer| Taken::of(&mut answer, &source.field));
    let taken = match taken {
        Ok(taken) if taken.lease.is_some() => taken,
        // Nothing hangs on the token.
        other => {
            if login.own {
                let _ = at.revoke_self(&login.token, &cx.run).await;
            }
            other?
        }
    };
    let value = secret(&taken.text, cx.credential.shape())?;
    let Some(lease) = taken.lease else { return Ok(Fetched::lasting(value)) };
    // What a token read ends with it.
    let expires = sooner(lease.end, login.end);
    let leased = Arc::new(Leased { at, login, lease, run: Run::clone(&cx.run) });
    let renewed = Arc::clone(&leased);
    let renew: Renew = Arc::new(move || Box::pin(Arc::clone(&renewed).renew()));
    Ok(Fetched {
        secret: value,
        expires,
        renew: leased.lease.renewable.then_some(renew),
        revoke: Some(Box::new(move || Box::pin(async move { leased.revoke().await }))),
    })
}

fn sooner(one: Option<SystemTime>, other: Option<SystemTime>) -> Option<SystemTime> {
    [one, other].into_iter().flatten().min()
}

/// A server and a namespace of it.
struct At {
    url: String,
    namespace: Option<String>,
}

/// A token that we may use.
struct Login {
    token: Secret,
    end: Option<SystemTime>,
    /// Whether it came of a login of ours, and can go again.
    own: bool,
    /// Whether it may be made to live longer. What is not our own is not ours to renew.
    renewable: bool,
}

impl At {
    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.url)
    }

    fn errand(&self, mut errand: Errand, token: Option<&Secret>) -> Result<Errand, Failed> {
        errand.headers.insert(REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            errand = errand.with(NAMESPACE, &[namespace])?;
        }
        match token {
            Some(token) => errand.with(TOKEN, &[token.expose()]),
            None => Ok(errand),
        }
    }

    async fn revoke_self(&self, token: &Secret, run: &Run) -> Result<(), Failed> {
        let errand = Errand::json(self.url("auth/token/revoke-self"), json!({}));
        self.errand(errand, Some(token))?.reply(run).await.map(drop)
    }
}

async fn log_in(source: &Vault, at: &At, cx: &Fetching) -> Result<Login, Failed> {
    let (mount, body, certificate) = match &source.login {
        VaultLogin::Token(name) => {
            let token = cx.needed(name).await?.secret().copied();
            return Ok(Login { token, end: None, own: false, renewable: false });
        }
        VaultLogin::AppRole { mount, role_id, secret } => {
            let secret = cx.needed(secret).await?;
            (mount, json!({ "role_id": role_id, "secret_id": secret.secret().expose() }), None)
        }
        VaultLogin::Jwt { mount, role, secret: Some(name) } => {
            let jwt = cx.needed(name).await?;
            (mount, json!({ "role": role, "jwt": jwt.secret().expose() }), None)
        }
        VaultLogin::Jwt { mount, role, secret: None } => {
            let token = cx.ask.token.as_ref();
            let token = token.ok_or_else(|| Failed("the caller has no token to log in with".to_owned()))?;
            (mount, json!({ "role": role, "jwt": token.expose() }), None)
        }
        VaultLogin::Cert { mount, role, secret } => {
            let body = role.as_ref().map_or_else(|| json!({}), |role| json!({ "name": role }));
            (mount, body, Some(cx.needed(secret).await?))
        }
    };
    let mount: Vec<String> = mount.trim_matches('/').split('/').map(segment).collect();
    let mut errand = Errand::json(at.url(&format!("auth/{}/login", mount.join("/"))), body);
    errand.certificate = certificate;
    let mut answer = at.errand(errand, None)?.send(&cx.run).await?;
    let mut auth = answer.object("auth")?;
    // A token that never ends says 0.
    let end = lasts(&auth)?;
    let renewable = auth.is("renewable", true);
    let token = Secret::clean(auth.text("client_token")?.as_bytes().to_vec(), Shape::Line);
    let token = token.map_err(|why| Failed(format!("the token that the provider gave: {why}")))?;
    Ok(Login { token, end, own: true, renewable })
}

/// When a token ends.
fn lasts(auth: &Answer) -> Result<Option<SystemTime>, Failed> {
    let later = |seconds: u64| SystemTime::now() + Duration::from_secs(seconds.min(30 * 24 * 3600));
    Ok(auth.number("lease_duration")?.filter(|seconds| *seconds > 0).map(later))
}

/// What a path held.
struct Taken {
    text: Zeroizing<String>,
    lease: Option<Lease>,
}

struct Lease {
    id: String,
    end: Option<SystemTime>,
    /// In seconds, as it was given: so long it is asked to live on.
    duration: Option<u64>,
    renewable: bool,
}

impl Taken {
    fn of(answer: &mut Answer, field: &str) -> Result<Self, Failed> {
        let id = answer.maybe_text("lease_id")?.filter(|id| !id.is_empty());
        let lease = match id {
            // KV 1 says how long it may be kept, without a lease: that is no end.
            None => None,
            Some(id) => Some(Lease {
                id: id.to_string(),
                end: answer.lasts("lease_duration")?,
                duration: answer.number("lease_duration")?,
                renewable: answer.is("renewable", true),
            }),
        };
        let mut data = answer.object("data")?;
        // KV 2 has its data one level down, beside what is known of the version.
        if data.is_object("data") && data.is_object("metadata") {
            let metadata = data.object("metadata")?;
            if metadata.is("destroyed", true) {
                return Err(Failed("its version is destroyed in the vault".to_owned()));
            }
            data = data.object("data")?;
        }
        let text = if data.has(field) || !field.contains(AND) {
            data.text(field)?
        } else {
            let mut whole = Zeroizing::new(String::with_capacity(8192));
            for (n, field) in field.split(AND).enumerate() {
                // A session token that is null is none.
                let Some(text) = data.maybe_text(field)?.filter(|text| !text.is_empty()) else {
                    if n < 2 {
                        return Err(data.wrong(&format!("it has no {field}")));
                    }
                    continue;
                };
                if n > 0 {
                    whole.push(AND);
                }
                whole.push_str(&text);
            }
            whole
        };
        Ok(Self { text, lease })
    }
}

/// A lease and what it hangs on.
struct Leased {
    at: At,
    login: Login,
    lease: Lease,
    run: Run,
}

impl Leased {
    /// The token first, since the lease ends with it. (`/sys/leases/renew`, `/auth/token/renew-self`.)
    async fn renew(self: Arc<Self>) -> Result<Option<SystemTime>, Failed> {
        let Self { at, login, lease, run } = &*self;
        let mut token_end = login.end;
        if login.own && login.end.is_some() && login.renewable {
            let errand = Errand::json(at.url("auth/token/renew-self"), json!({}));
            let mut answer = at.errand(errand, Some(&login.token))?.send(run).await?;
            token_end = lasts(&answer.object("auth")?)?;
        }
        let mut body = json!({ "lease_id": lease.id });
        if let Some(seconds) = lease.duration {
            body["increment"] = json!(seconds);
        }
        let errand = at.errand(Errand::json(at.url("sys/leases/renew"), body), Some(&login.token))?;
        let end = errand.send(run).await?.lasts("lease_duration")?;
        Ok(sooner(end, token_end))
    }

    async fn revoke(&self) -> Result<(), Failed> {
        let Self { at, login, lease, run } = self;
        let body: Json = json!({ "lease_id": lease.id });
        let errand = at.errand(Errand::json(at.url("sys/leases/revoke"), body), Some(&login.token))?;
        let done = errand.reply(run).await.map(drop);
        if login.own {
            // What hangs on the token goes with it.
            return at.revoke_self(&login.token, run).await.or(done);
        }
        done
    }
}
