//! A long-lived key that a caller sent: which it is, without saying it.

use serde::{Deserialize, Serialize};

/// What is recorded of such a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerKey {
    /// Whose keys look so: `openai`, `github` …
    pub kind: String,
    /// HMAC-SHA-256 of the key under the host's salt, its first 16 hex digits: the same for the same key on this host.
    pub fingerprint: String,
    /// Its last four characters, as providers' consoles show them.
    pub last4: String,
}
