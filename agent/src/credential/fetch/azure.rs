//! Azure Key Vault: a token for the vault by client credentials, and with it the secret.

use std::time::{Duration, UNIX_EPOCH};

use super::provider::{end, secret, segment};
use super::{Errand, Failed, Fetched, Fetching};
use crate::types::credential::AzureSecret;

const LOGIN: &str = "https://login.microsoftonline.com";
/// Vaults of Azure's public cloud, and of the others.
const VAULTS: [&str; 4] =
    ["vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net", "vault.microsoftazure.de"];

pub(super) async fn fetch(source: &AzureSecret, cx: &Fetching) -> Result<Fetched, Failed> {
    let vault = source.vault_url.trim_end_matches('/');
    let below = |suffix: &&&str| vault.strip_suffix(**suffix).is_some_and(|rest| rest.ends_with('.'));
    let scope = format!("https://{}/.default", VAULTS.iter().find(below).unwrap_or(&VAULTS[0]));
    let client = cx.needed(&source.secret).await?;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &source.client_id),
        ("client_secret", client.secret().expose()),
        ("scope", &scope),
    ];
    let login = source.login_url.as_deref().unwrap_or(LOGIN).trim_end_matches('/');
    let url = format!("{login}/{}/oauth2/v2.0/token", segment(&source.tenant));
    let token = Errand::form(url, &form).send(&cx.run).await?.text("access_token")?;
    let version =
        source.version.as_deref().map(|version| format!("/{}", segment(version))).unwrap_or_default();
    let url = format!("{vault}/secrets/{}{version}?api-version=7.4", segment(&source.name));
    let mut answer = Errand::get(url).bearer(&token)?.send(&cx.run).await?;
    let mut expires = None;
    if answer.has("attributes") {
        let attributes = answer.object("attributes")?;
        if attributes.is("enabled", false) {
            return Err(Failed("it is disabled in the vault".to_owned()));
        }
        if let Some(exp) = attributes.number("exp")? {
            let moment = UNIX_EPOCH.checked_add(Duration::from_secs(exp)).and_then(end);
            expires = Some(moment.ok_or_else(|| Failed("it has ended, as the vault says".to_owned()))?);
        }
    }
    Ok(Fetched::ending(secret(&answer.text("value")?, cx.credential.shape())?, expires))
}
