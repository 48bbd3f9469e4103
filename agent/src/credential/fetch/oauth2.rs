//! OAuth 2: client credentials (RFC 6749 §4.4) and token exchange of the caller's own verified token (RFC 8693).

use zeroize::Zeroizing;

use super::provider::{Answer, secret};
use super::{Errand, Failed, Fetched, Fetching};
use crate::types::credential::{ClientAuth, CredentialName, Exchange, OAuth2};

/// RFC 8693 §2.1.
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Client credentials.
pub(super) async fn fetch(source: &OAuth2, cx: &Fetching) -> Result<Fetched, Failed> {
    let scopes = source.scopes.join(" ");
    let form = [
        ("grant_type", "client_credentials"),
        ("scope", &scopes),
        ("audience", source.audience.as_deref().unwrap_or_default()),
    ];
    let client = (source.client_id.as_str(), Some(&source.secret));
    token(ask(cx, &source.token_url, &form, client, source.auth).await?, cx)
}

/// Token exchange.
pub(super) async fn exchange(source: &Exchange, cx: &Fetching) -> Result<Fetched, Failed> {
    let subject = cx.ask.token.as_ref();
    let subject =
        subject.ok_or_else(|| Failed("the caller has no token that could be exchanged".to_owned()))?;
    let scopes = source.scopes.join(" ");
    let form = [
        ("grant_type", EXCHANGE),
        ("subject_token", subject.expose()),
        ("subject_token_type", &source.subject_token_type),
        ("requested_token_type", source.requested_token_type.as_deref().unwrap_or_default()),
        ("scope", &scopes),
        ("audience", source.audience.as_deref().unwrap_or_default()),
        ("resource", source.resource.as_deref().unwrap_or_default()),
    ];
    let client = (source.client_id.as_deref().unwrap_or_default(), source.secret.as_ref());
    let mut answer = ask(cx, &source.token_url, &form, client, source.auth).await?;
    let issued = answer.maybe_text("issued_token_type")?;
    if let (Some(wanted), Some(issued)) = (&source.requested_token_type, issued)
        && *issued != *wanted
    {
        return Err(answer.wrong("it is another type of token than the one that was asked for"));
    }
    token(answer, cx)
}

async fn ask(
    cx: &Fetching,
    url: &str,
    form: &[(&str, &str)],
    (id, secret): (&str, Option<&CredentialName>),
    auth: ClientAuth,
) -> Result<Answer, Failed> {
    let held = match secret {
        Some(name) => Some(cx.needed(name).await?),
        None => None,
    };
    let held = held.as_ref().map(|value| value.secret().expose());
    let errand = match (held, auth) {
        (Some(secret), ClientAuth::Basic) => Errand::form(url, form).client(id, secret)?,
        (secret, _) => {
            let own = [("client_id", id), ("client_secret", secret.unwrap_or_default())];
            Errand::form(url, &[form, &own].concat())
        }
    };
    errand.send(&cx.run).await
}

/// An access token out of a token endpoint's answer (RFC 6749 §5.1).
pub(super) fn token(mut answer: Answer, cx: &Fetching) -> Result<Fetched, Failed> {
    // RFC 8693 §2.2.1 has `N_A` for what is no access token. Any other type takes more than to bear it.
    if let Some(kind) = answer.maybe_text("token_type")?
        && !["bearer", "n_a"].iter().any(|known| kind.eq_ignore_ascii_case(known))
    {
        return Err(answer.wrong("its token is none that is borne (token_type)"));
    }
    let expires = answer.lasts("expires_in")?;
    let text: Zeroizing<String> = answer.text("access_token")?;
    Ok(Fetched::ending(secret(&text, cx.credential.shape())?, expires))
}
