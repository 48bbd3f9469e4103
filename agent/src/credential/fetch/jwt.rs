//! JWTs that are signed here (RFC 7519): the credential itself, or what is given for an access token (RFC 7523 §2.1).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::provider::secret;
use super::{Errand, Failed, Fetched, Fetching, oauth2};
use crate::types::credential::{Algorithm, Jwt};

/// RFC 7523 §2.1.
const BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Shortest secret for HMAC with SHA-256 (RFC 7518 §3.2).
const HMAC_MIN: usize = 32;

pub(super) async fn fetch(source: &Jwt, cx: &Fetching) -> Result<Fetched, Failed> {
    let (now, scopes) = (SystemTime::now(), source.scopes.join(" "));
    let key = cx.needed(&source.key).await?;
    let mut claims = claims(&source.issuer, now, source.lifetime);
    claims.insert("sub".to_owned(), source.subject.as_deref().unwrap_or(&source.issuer).into());
    claims.insert("aud".to_owned(), source.audience.as_str().into());
    claims.insert("jti".to_owned(), ulid::Ulid::generate().to_string().into());
    if source.token_url.is_none() && !scopes.is_empty() {
        claims.insert("scope".to_owned(), scopes.as_str().into());
    }
    let signed = sign(source.algorithm, source.key_id.as_deref(), claims, key.secret().expose())?;
    match &source.token_url {
        None => {
            let expires = Some(now + source.lifetime);
            Ok(Fetched::ending(secret(&signed, cx.credential.shape())?, expires))
        }
        Some(url) => {
            let form = [("grant_type", BEARER), ("assertion", signed.as_str()), ("scope", &scopes)];
            oauth2::token(Errand::form(url, &form).send(&cx.run).await?, cx)
        }
    }
}

/// `iss`, `iat` and `exp`.
pub(super) fn claims(issuer: &str, from: SystemTime, lifetime: Duration) -> Map<String, Value> {
    let from = from.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = json!({ "iss": issuer, "iat": from, "exp": from + lifetime.as_secs() });
    claims.as_object().cloned().unwrap_or_default()
}

/// Signs claims with a key in PEM, or with a secret.
pub(super) fn sign(
    algorithm: Algorithm,
    key_id: Option<&str>,
    claims: Map<String, Value>,
    key: &str,
) -> Result<Zeroizing<String>, Failed> {
    use jsonwebtoken::Algorithm as Alg;
    let pem = key.as_bytes();
    let (alg, read, wanted) = match algorithm {
        Algorithm::Rs256 => (Alg::RS256, EncodingKey::from_rsa_pem(pem), "an RSA key in PEM"),
        Algorithm::Ps256 => (Alg::PS256, EncodingKey::from_rsa_pem(pem), "an RSA key in PEM"),
        Algorithm::Es256 => (Alg::ES256, EncodingKey::from_ec_pem(pem), "a P-256 key in PEM (PKCS #8)"),
        Algorithm::Es384 => (Alg::ES384, EncodingKey::from_ec_pem(pem), "a P-384 key in PEM (PKCS #8)"),
        Algorithm::EdDsa => (Alg::EdDSA, EncodingKey::from_ed_pem(pem), "an Ed25519 key in PEM (PKCS #8)"),
        Algorithm::Hs256 if key.len() < HMAC_MIN => {
            return Err(Failed(format!("its key is shorter than {HMAC_MIN} bytes, which HS256 needs")));
        }
        Algorithm::Hs256 => (Alg::HS256, Ok(EncodingKey::from_secret(pem)), "a secret"),
    };
    let unusable = || Failed(format!("its key is not {wanted}"));
    let key = read.map_err(|_| unusable())?;
    let header = Header { kid: key_id.map(str::to_owned), ..Header::new(alg) };
    jsonwebtoken::encode(&header, &claims, &key).map(Zeroizing::new).map_err(|_| unusable())
}
