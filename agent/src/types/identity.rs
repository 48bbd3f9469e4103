//! Who stands behind a caller, as an issuer whom the host trusts says it. Never what the caller says of itself.

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
