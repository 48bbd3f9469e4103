//! Who stands behind a caller, as an issuer whom the host trusts says it. Never what the caller says of itself.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A verified identity. Made by the verifier alone; it ends with its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The issuer's URL (`iss`), as configured.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// Groups, from the claim that the configuration names.
    pub groups: Vec<String>,
    /// Every verified claim: the token's payload, an object.
    pub claims: Value,
    /// Unix seconds from which on it is nobody's: `exp`, and what clocks may differ by.
    pub expires: i64,
}

/// Bytes of claims that a record bears of one identity.
const SOME: usize = 4 * 1024;

/// Some claims of an identity, as a record bears them: those by these names are known, and no others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SomeClaims {
    /// What the token said.
    pub said: Map<String, Value>,
    /// What it did not say.
    #[serde(default)]
    pub absent: Vec<String>,
}

impl SomeClaims {
    /// Whether it is known what the token said of it, if anything.
    pub fn knows(&self, name: &str) -> bool {
        self.said.contains_key(name) || self.absent.iter().any(|absent| absent == name)
    }
}

/// An identity, as a record is to bear it. Never its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// Who.
    pub identity: Arc<Identity>,
    /// The claims that rules may ask for; `None` where they ask for none.
    pub claims: Option<Box<SomeClaims>>,
}

impl Recognised {
    /// With the claims by these names, as far as they fit.
    pub fn new(identity: Arc<Identity>, names: &[String]) -> Self {
        let claims = (!names.is_empty()).then(|| Box::new(identity.some(names)));
        Self { identity, claims }
    }
}

impl Identity {
    /// The claims by these names, as far as 4 KiB of them go: what is beyond is in neither list.
    pub fn some(&self, names: &[String]) -> SomeClaims {
        let (mut some, mut room) = (SomeClaims::default(), SOME);
        for name in names {
            let value = self.claims.get(name);
            let length = name.len() + value.map_or(0, |value| value.to_string().len());
            if length > room {
                continue;
            }
            room -= length;
            match value {
                Some(value) => drop(some.said.insert(name.clone(), value.clone())),
                None => some.absent.push(name.clone()),
            }
        }
        some
    }
}

/// The names of claims by which a path with dots may begin, as [`claim_at`] tries them.
pub fn names_of(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('.').map(|(dot, _)| &path[..dot]).chain([path])
}

/// The claim at a path with dots. A claim's own name may have dots (`kubernetes.io`, `https://corp.example/groups`), so the
/// longest name that is there counts first.
pub fn claim_at<'v>(claims: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let dots = path.rmatch_indices('.').map(|(dot, _)| dot);
    let mut below = dots.filter_map(|dot| claim_at(claims.get(&path[..dot])?.as_object()?, &path[dot + 1..]));
    below.next()
}
