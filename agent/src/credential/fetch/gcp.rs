//! Google Secret Manager. A service account's key signs a token for that one service, which takes it as it is: no other
//! endpoint is asked (Google's "self-signed JWT").

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::provider::{Answer, segment};
use super::{Errand, Failed, Fetched, Fetching, jwt};
use crate::types::credential::{Algorithm, GcpSecret, Secret};

const API: &str = "https://secretmanager.googleapis.com";
const GOOD: Duration = Duration::from_secs(600);

pub(super) async fn fetch(source: &GcpSecret, cx: &Fetching) -> Result<Fetched, Failed> {
    let key = cx.needed(&source.key).await?;
    let token = token(key.secret())?;
    let api = source.endpoint.as_deref().unwrap_or(API).trim_end_matches('/');
    let [project, secret, version] =
        [&source.project, &source.secret, &source.version].map(|part| segment(part));
    let url = format!("{api}/v1/projects/{project}/secrets/{secret}/versions/{version}:access");
    let mut answer = Errand::get(url).bearer(&token)?.send(&cx.run).await?;
    let mut payload = answer.object("payload")?;
    let data = payload.text("data")?;
    let told = payload.number("dataCrc32c")?;
    let data = BASE64_STANDARD.decode(data.as_bytes()).map(Zeroizing::new);
    let mut data = data.map_err(|_| payload.wrong("its data is not base64"))?;
    if told != Some(u64::from(crc32c::crc32c(&data))) {
        return Err(payload.wrong("its data is not what its checksum says, or it has none"));
    }
    let secret = Secret::clean(std::mem::take(&mut *data), cx.credential.shape());
    let secret = secret.map_err(|why| Failed(format!("what the provider gave: {why}")))?;
    Ok(Fetched::lasting(secret))
}

/// A token of the service account for this service alone.
fn token(key: &Secret) -> Result<Zeroizing<String>, Failed> {
    let of = |Failed(why): Failed| Failed(format!("its key is no service account's: {why}"));
    let mut file = Answer::read("the key file".to_owned(), key.expose().as_bytes()).map_err(of)?;
    let account = file.text("client_email").map_err(of)?;
    let (id, pem) = (file.text("private_key_id").map_err(of)?, file.text("private_key").map_err(of)?);
    let mut claims = jwt::claims(&account, SystemTime::now(), GOOD);
    claims.insert("sub".to_owned(), account.as_str().into());
    claims.insert("aud".to_owned(), format!("{API}/").into());
    jwt::sign(Algorithm::Rs256, Some(&id), claims, &pem)
}
