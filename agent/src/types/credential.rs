//! Credentials as they are configured, and a secret as it is held. What is configured says where a secret is found and how
//! it is put into a request, and never holds one; whom it is bound to is policy's ([`crate::policy::credential`]).

mod secret;
mod source;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use secret::{NotASecret, SECRET_MAX, Secret, Shape};
pub use source::{
    Algorithm, AwsEndpoint, AwsSecret, AwsSsm, AzureSecret, ClientAuth, Exchange, GcpSecret, GithubApp, Jwt,
    OAuth2, Scope, Source, Sts, Vault, VaultLogin,
};

/// A credential's name: 1 to 64 of `a-z A-Z 0-9 . _ -`, starting with a letter or digit. It stands in records, answers and
/// logs. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialName(Arc<str>);

/// A text that cannot name a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name a credential: 1 to 64 of a-z A-Z 0-9 . _ -, a letter or digit first")]
pub struct NotAName(pub String);

impl CredentialName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`NotAName`] outside the grammar above.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let good = (1..=64).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if good { Ok(Self(text.into())) } else { Err(NotAName(text.chars().take(100).collect())) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CredentialName {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, NotAName> {
        Self::parse(&text)
    }
}

impl From<CredentialName> for String {
    fn from(name: CredentialName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a secret is put into a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inject {
    /// `Authorization: Bearer SECRET` (RFC 6750 §2.1).
    Bearer,
    /// A header field of its own.
    Header {
        /// Name, in lower case.
        name: String,
        /// What stands before the secret in the value, such as `token `; perhaps nothing.
        prefix: String,
    },
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// The user; `None`: the secret itself is `user:password`.
        user: Option<String>,
    },
    /// A parameter of the query.
    Query {
        /// Name, as the upstream decodes it.
        name: String,
    },
    /// A cookie (RFC 6265).
    Cookie {
        /// Name.
        name: String,
    },
    /// AWS Signature Version 4: the secret is a pair of keys, and the request is signed anew.
    Sigv4 {
        /// `None`: as the client's own signature, or the host's name, says.
        region: Option<String>,
        /// `None`: the same.
        service: Option<String>,
    },
    /// A client certificate: the secret is PEM, a key and its chain.
    Tls,
}

impl Inject {
    /// The key of the configuration.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Header { .. } => "header",
            Self::Basic { .. } => "basic",
            Self::Query { .. } => "query",
            Self::Cookie { .. } => "cookie",
            Self::Sigv4 { .. } => "sigv4",
            Self::Tls => "tls",
        }
    }

    /// What a secret must look like for it.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Bearer
            | Self::Header { .. }
            | Self::Basic { .. }
            | Self::Query { .. }
            | Self::Cookie { .. } => Shape::Line,
            Self::Sigv4 { .. } | Self::Tls => Shape::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["openai", "a", "prod.db_1-x", &"x".repeat(64)] {
            assert_eq!(CredentialName::parse(good).expect(good).as_str(), good);
        }
        for bad in ["", "-x", "a b", "a/b", "é", "a\n", &"x".repeat(65)] {
            CredentialName::parse(bad).expect_err(bad);
        }
    }
}
