//! The public keys of one issuer (RFC 7517), those of them that sign tokens. Pure.

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::{Map, Value};

use crate::codec::json;

/// Largest JWK set that is read. GitHub's has 4 keys in 6 KiB; Google's, Entra's and Okta's are smaller than 20 KiB.
pub const JWKS_MAX: usize = 256 * 1024;
/// Keys that a set may have.
const KEYS: usize = 64;
/// RSA keys: shorter ones are weak, longer ones cost too much.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a text is no usable set of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    /// Not a JWK set.
    #[error("it is no JWK set: {0}")]
    Shape(String),
    /// Nothing in it verifies a signature that is accepted.
    #[error("none of its keys signs with RSA (2048 bits or more), ECDSA (P-256, P-384) or Ed25519")]
    None,
}

/// The keys of one issuer.
#[derive(Debug, Default)]
pub struct Keys(Vec<Key>);

/// One of them.
pub(super) struct Key {
    pub kid: Option<String>,
    /// Only this one, if it says so.
    algorithm: Option<Algorithm>,
    curve: Option<String>,
    pub key: DecodingKey,
    /// The material, to compare with.
    parts: Vec<String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?})", self.kid)
    }
}

impl Keys {
    /// Reads a JWK set. Keys for other uses, of unknown kinds and shared secrets are passed over (RFC 7517 §5): a secret
    /// that is published is none.
    ///
    /// # Errors
    /// [`BadKeys`].
    pub fn parse(text: &[u8]) -> Result<Self, BadKeys> {
        let shape = |what: &str| BadKeys::Shape(what.to_owned());
        if text.len() > JWKS_MAX {
            return Err(shape("it is too long"));
        }
        let set = json::object(text).map_err(BadKeys::Shape)?;
        let Some(Value::Array(listed)) = set.get("keys") else { return Err(shape("it has no list `keys`")) };
        if listed.len() > KEYS {
            return Err(shape("it has too many keys"));
        }
        let keys: Vec<Key> = listed.iter().filter_map(|key| Key::read(key.as_object()?)).collect();
        let kids: Vec<&String> = keys.iter().filter_map(|key| key.kid.as_ref()).collect();
        let twice = |kid: &&String| kids.iter().filter(|other| *other == kid).count() > 1;
        if kids.iter().any(twice) {
            return Err(shape("two of its keys have the same kid"));
        }
        if keys.is_empty() { Err(BadKeys::None) } else { Ok(Self(keys)) }
    }

    /// The key with this `kid` that may verify `algorithm`; without a kid the only key that may.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        if let Some(kid) = kid {
            return match self.0.iter().find(|key| key.kid.as_deref() == Some(kid)) {
                None => Found::Unknown,
                Some(key) if key.may(algorithm) => Found::Key(&key.key),
                Some(_) => Found::Other,
            };
        }
        let mut able = self.0.iter().filter(|key| key.may(algorithm));
        match (able.next(), able.next()) {
            (Some(key), None) => Found::Key(&key.key),
            (None, _) => Found::Other,
            (Some(_), Some(_)) => Found::Ambiguous,
        }
    }

    /// Whether every key of `earlier` is still here: one that is not was taken back by its owner.
    pub fn keeps_all_of(&self, earlier: &Self) -> bool {
        earlier.0.iter().all(|old| self.0.iter().any(|key| (&key.kid, &key.parts) == (&old.kid, &old.parts)))
    }
}

/// What a search for a key finds.
pub(super) enum Found<'a> {
    Key(&'a DecodingKey),
    /// No key has this kid.
    Unknown,
    /// It is there, for another algorithm or use.
    Other,
    /// No kid, and several keys that could be meant.
    Ambiguous,
}

impl Key {
    fn read(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        // Present but no text: not understood, so not used.
        let optional = |name: &str| match jwk.get(name) {
            None => Some(None),
            Some(value) => value.as_str().map(|text| Some(text.to_owned())),
        };
        if optional("use")?.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops")
            && !operations.as_array()?.iter().any(|operation| operation == "verify")
        {
            return None;
        }
        let curve = optional("crv")?;
        let (key, parts) = match (text("kty")?, curve.as_deref()) {
            ("RSA", None) => {
                let (n, e) = (text("n")?, text("e")?);
                // Six bits a letter; the first octet of a modulus is not zero.
                if !RSA_BITS.contains(&(n.len() * 6 / 8 * 8)) {
                    return None;
                }
                (DecodingKey::from_rsa_components(n, e).ok()?, vec![n, e])
            }
            ("EC", Some("P-256" | "P-384")) => {
                let (x, y) = (text("x")?, text("y")?);
                (DecodingKey::from_ec_components(x, y).ok()?, vec![x, y])
            }
            ("OKP", Some("Ed25519")) => {
                let x = text("x")?;
                (DecodingKey::from_ed_components(x).ok()?, vec![x])
            }
            _ => return None,
        };
        let algorithm = match optional("alg")? {
            Some(name) => Some(super::token::algorithm(&name)?),
            None => None,
        };
        let parts = parts.into_iter().map(str::to_owned).collect();
        Some(Self { kid: optional("kid")?, algorithm, curve, key, parts })
    }

    fn may(&self, algorithm: Algorithm) -> bool {
        let curve = match algorithm {
            Algorithm::ES256 => Some("P-256"),
            Algorithm::ES384 => Some("P-384"),
            Algorithm::EdDSA => Some("Ed25519"),
            _ => None,
        };
        self.key.family() == algorithm.family()
            && self.key.family() != AlgorithmFamily::Hmac
            && self.curve.as_deref() == curve
            && self.algorithm.is_none_or(|only| only == algorithm)
    }
}
