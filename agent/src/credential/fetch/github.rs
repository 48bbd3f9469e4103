//! Installation tokens of a GitHub App: the app signs who it is, and gets a token of one hour for one installation,
//! narrowed to what the configuration names.

use std::time::{Duration, SystemTime};

use http::Method;
use http::header::{ACCEPT, HeaderName, HeaderValue};
use serde_json::json;

use super::provider::{secret, segment};
use super::{Errand, Failed, Fetched, Fetching, Revoke, Run, jwt};
use crate::types::credential::{Algorithm, GithubApp, Secret};

/// Clocks may differ by this: GitHub refuses a token that begins in its future.
const SKEW: Duration = Duration::from_secs(60);
/// GitHub takes no token that is good for more than ten minutes.
const GOOD: Duration = Duration::from_secs(9 * 60);
const VERSION: HeaderName = HeaderName::from_static("x-github-api-version");

pub(super) async fn fetch(source: &GithubApp, cx: &Fetching) -> Result<Fetched, Failed> {
    let key = cx.needed(&source.key).await?;
    let claims = jwt::claims(&source.app_id, SystemTime::now() - SKEW, GOOD);
    let app = jwt::sign(Algorithm::Rs256, None, claims, key.secret().expose())?;
    let mut narrowed = json!({});
    if !source.repositories.is_empty() {
        narrowed["repositories"] = json!(source.repositories);
    }
    if !source.permissions.is_empty() {
        narrowed["permissions"] = json!(source.permissions);
    }
    let api = source.api_url.trim_end_matches('/');
    let url = format!("{api}/app/installations/{}/access_tokens", segment(&source.installation_id));
    let mut answer = github(Errand::json(url, narrowed)).bearer(&app)?.send(&cx.run).await?;
    let expires = answer.moment("expires_at")?.ok_or_else(|| answer.wrong("it has no expires_at"))?;
    let token = secret(&answer.text("token")?, cx.credential.shape())?;
    let revoke = revoke(format!("{api}/installation/token"), token.copied(), &cx.run);
    Ok(Fetched { revoke: Some(revoke), ..Fetched::ending(token, Some(expires)) })
}

fn github(mut errand: Errand) -> Errand {
    errand.headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
    errand.headers.insert(VERSION, HeaderValue::from_static("2022-11-28"));
    errand
}

fn revoke(url: String, token: Secret, run: &Run) -> Revoke {
    let run = Run::clone(run);
    Box::new(move || {
        Box::pin(async move {
            let errand = Errand { method: Method::DELETE, ..github(Errand::get(url)) };
            errand.bearer(token.expose())?.reply(&run).await.map(drop)
        })
    })
}
