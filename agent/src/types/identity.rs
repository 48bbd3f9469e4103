//! Who stands behind a caller, as an issuer whom the host trusts says it. Never what the caller says of itself.

use serde::{Deserialize, Serialize};

/// A verified identity. Made by the verifier alone; it ends with its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The issuer's URL (`iss`), as configured.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// Groups, from the claim that the configuration names.
    pub groups: Vec<String>,
    /// Every verified claim: the token's payload as JSON text, an object.
    pub claims: String,
    /// Unix seconds (`exp`) after which it is nobody's.
    pub expires: i64,
}
