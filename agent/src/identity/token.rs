//! One token against one issuer: every check that there is, in one place. Pure; no clock, no network.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::keys::{Found, Keys};
use crate::codec::json;
use crate::types::identity::claim_at;
use crate::types::issuer::TOKEN_MAX;
use crate::types::{Identity, Issuer};

/// How far the issuer's clock and ours may differ, in seconds.
pub const SKEW: i64 = 60;
/// Longest subject and key id.
const NAME_MAX: usize = 1024;

/// Why a token proves nothing: which check failed. Never a part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Size.
    #[error("the token is longer than {TOKEN_MAX} bytes")]
    TooLong,
    /// Form.
    #[error("the token is not a signed JWT in compact form (three parts of base64url)")]
    Shape,
    /// JWE.
    #[error("the token is encrypted (JWE): only signed ones are read")]
    Encrypted,
    /// The first part.
    #[error("the token's header cannot be read as one JSON object without repeated keys")]
    Header,
    /// `alg`.
    #[error("the token's algorithm is not accepted: RS256-512, PS256-512, ES256, ES384 and EdDSA are")]
    Algorithm,
    /// `crit`, `b64`.
    #[error("the token's header asks for an extension (crit)")]
    Critical,
    /// `cty`, `typ`.
    #[error("the token is of another type than JWT, or holds another token")]
    Type,
    /// `kid`.
    #[error("the token names no key (kid), and the issuer has several that could be meant")]
    NoKeyId,
    /// `kid` is not in the set.
    #[error("the token is signed by a key (kid) that the issuer does not publish")]
    UnknownKey,
    /// The key is there, for something else.
    #[error("the key that the token names is not for its algorithm")]
    WrongKey,
    /// The third part.
    #[error("the token's signature is not valid")]
    Signature,
    /// The second part.
    #[error("the token's claims cannot be read as one JSON object without repeated keys")]
    Claims,
    /// `iss`.
    #[error("the token is from another issuer (iss)")]
    Issuer,
    /// `aud`.
    #[error("the token is meant for another audience (aud)")]
    Audience,
    /// `azp`.
    #[error("the token has several audiences, and azp does not say that it was issued to this one")]
    AuthorizedParty,
    /// `cnf`.
    #[error("the token is bound to a key of its holder (cnf), which cannot be checked here")]
    Bound,
    /// `sub`.
    #[error("the token names no subject (sub)")]
    Subject,
    /// `exp`, `nbf`, `iat`.
    #[error("the token has no expiry (exp), or a time in it is no number")]
    Times,
    /// `exp`.
    #[error("the token is expired (exp)")]
    Expired,
    /// `nbf`, `iat`.
    #[error("the token is not valid yet (nbf, iat)")]
    Early,
}

/// An algorithm that is accepted. Never `none`, never a shared secret.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        // RFC 9864 names the curve; the key's curve is checked either way.
        "EdDSA" | "Ed25519" => Algorithm::EdDSA,
        _ => return None,
    })
}

/// Verifies a token.
///
/// `now` is in seconds since 1970. Claims are read after the signature holds, so the answer tells a forger nothing.
///
/// # Errors
/// The first check that failed.
pub fn verify(token: &str, issuer: &Issuer, keys: &Keys, now: i64) -> Result<Identity, Invalid> {
    let parts = Parts::of(token)?;
    let header = Header::read(parts.header)?;
    let key = match keys.find(header.kid.as_deref(), header.algorithm) {
        Found::Key(key) => key,
        Found::Unknown => return Err(Invalid::UnknownKey),
        Found::Other => return Err(Invalid::WrongKey),
        Found::Ambiguous => return Err(Invalid::NoKeyId),
    };
    let good = jsonwebtoken::crypto::verify(parts.signature, parts.signed.as_bytes(), key, header.algorithm);
    if !good.unwrap_or(false) {
        return Err(Invalid::Signature);
    }
    let payload = decode(parts.payload).ok_or(Invalid::Claims)?;
    let claims = json::object(&payload).map_err(|_| Invalid::Claims)?;
    judge(&claims, issuer, now)
}

/// Whom a token says that it is from and for, unverified: only to find the issuer that it is verified by.
pub(super) struct Claimed {
    pub issuer: String,
    pub audiences: Vec<String>,
}

/// What a token claims of itself; `None` when it is not even readable.
pub(super) fn claimed(token: &str) -> Option<Claimed> {
    let parts = Parts::of(token).ok()?;
    let claims = json::object(&decode(parts.payload)?).ok()?;
    let issuer = claims.get("iss")?.as_str()?.to_owned();
    let audiences = audiences(&claims).unwrap_or_default().into_iter().map(str::to_owned).collect();
    Some(Claimed { issuer, audiences })
}

struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// Header, dot, payload.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Result<Self, Invalid> {
        if token.len() > TOKEN_MAX {
            return Err(Invalid::TooLong);
        }
        let parts: Vec<&str> = token.split('.').collect();
        match parts[..] {
            [header, payload, signature] if !header.is_empty() && !payload.is_empty() => {
                let signed = &token[..header.len() + 1 + payload.len()];
                Ok(Self { header, payload, signature, signed })
            }
            [_, _, _, _, _] => Err(Invalid::Encrypted),
            _ => Err(Invalid::Shape),
        }
    }
}

/// Strict: no padding, no white space, no bits left over.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

struct Header {
    algorithm: Algorithm,
    kid: Option<String>,
}

impl Header {
    fn read(part: &str) -> Result<Self, Invalid> {
        let bytes = decode(part).ok_or(Invalid::Header)?;
        let header = json::object(&bytes).map_err(|_| Invalid::Header)?;
        if header.contains_key("enc") {
            return Err(Invalid::Encrypted);
        }
        // RFC 7515 §4.1.11: nothing that it can name is understood here; `b64` (RFC 7797) only works with it.
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(Invalid::Critical);
        }
        if header.contains_key("cty") || !header.get("typ").is_none_or(is_jwt) {
            return Err(Invalid::Type);
        }
        let name = header.get("alg").and_then(Value::as_str).ok_or(Invalid::Algorithm)?;
        let algorithm = algorithm(name).ok_or(Invalid::Algorithm)?;
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= NAME_MAX => Some(kid.clone()),
            Some(_) => return Err(Invalid::Header),
        };
        // `jwk`, `jku`, `x5u`, `x5c`: where the token itself would have us look for its key. Never looked at.
        Ok(Self { algorithm, kid })
    }
}

/// JWTs of other types (logout tokens, DPoP proofs, security events) say nothing of who calls (RFC 8725 §3.11).
fn is_jwt(typ: &Value) -> bool {
    let Some(typ) = typ.as_str() else { return false };
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

fn judge(claims: &Map<String, Value>, issuer: &Issuer, now: i64) -> Result<Identity, Invalid> {
    if claims.get("iss").and_then(Value::as_str) != Some(issuer.url.as_str()) {
        return Err(Invalid::Issuer);
    }
    let audiences = audiences(claims).ok_or(Invalid::Audience)?;
    let ours = |audience: &str| issuer.audiences.iter().any(|own| own == audience);
    if !audiences.iter().any(|audience| ours(audience)) {
        return Err(Invalid::Audience);
    }
    // OpenID Connect Core §3.1.3.7: among several audiences, any could have passed it on.
    if audiences.len() > 1 && !claims.get("azp").and_then(Value::as_str).is_some_and(ours) {
        return Err(Invalid::AuthorizedParty);
    }
    if claims.contains_key("cnf") {
        return Err(Invalid::Bound);
    }
    let expires = time(claims, "exp")?.ok_or(Invalid::Times)?.saturating_add(SKEW);
    if now >= expires {
        return Err(Invalid::Expired);
    }
    for name in ["nbf", "iat"] {
        if time(claims, name)?.is_some_and(|from| from > now.saturating_add(SKEW)) {
            return Err(Invalid::Early);
        }
    }
    let subject = claims.get("sub").and_then(Value::as_str);
    let subject = subject.filter(|sub| !sub.is_empty() && sub.len() <= NAME_MAX).ok_or(Invalid::Subject)?;
    Ok(Identity {
        issuer: issuer.url.clone(),
        subject: subject.to_owned(),
        groups: groups(claims, &issuer.groups_claim),
        claims: Value::Object(claims.clone()),
        expires,
    })
}

/// `aud`: one text, or a list of texts (RFC 7519 §4.1.3).
fn audiences(claims: &Map<String, Value>) -> Option<Vec<&str>> {
    match claims.get("aud")? {
        Value::String(one) => Some(vec![one]),
        Value::Array(several) => several.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// A NumericDate (RFC 7519 §2): whole seconds, a fraction cut off.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, Invalid> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..=1e15).contains(seconds)).ok_or(Invalid::Times)?;
    #[expect(clippy::cast_possible_truncation, reason = "within 0 and 1e15")]
    Ok(Some(value.as_i64().unwrap_or(seconds as i64)))
}

/// The groups: a list of texts, or one text. What is neither is no group.
fn groups(claims: &Map<String, Value>, path: &str) -> Vec<String> {
    match claim_at(claims, path) {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
