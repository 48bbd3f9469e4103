//! Where a secret is found. Plain data; a source that needs a secret itself (a client's, a key to sign with) names another
//! credential, so every chain begins with a source that the warden reads.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CredentialName;

/// Where a secret is found. Paths and URLs are absolute, URLs `https`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A file of root's or the daemon's user's that nobody else can read or replace.
    File(String),
    /// systemd's `LoadCredential=` and kin: a file in `$CREDENTIALS_DIRECTORY`.
    Systemd(String),
    /// What a program prints: its path and arguments.
    Command(Vec<String>),
    /// A variable of the daemon's environment, read once at its start.
    Env(String),
    /// OAuth 2 client credentials (RFC 6749 §4.4).
    OAuth2(OAuth2),
    /// Token exchange (RFC 8693) of the caller's own verified token.
    Exchange(Exchange),
    /// A GitHub App's installation token.
    GithubApp(GithubApp),
    /// A JWT that is signed here, or what it is exchanged for (RFC 7523).
    Jwt(Jwt),
    /// HashiCorp Vault or OpenBao.
    Vault(Vault),
    /// AWS Secrets Manager.
    AwsSecret(AwsSecret),
    /// AWS Systems Manager Parameter Store.
    AwsSsm(AwsSsm),
    /// AWS STS AssumeRole, the caller as session name: keys for `inject.sigv4`.
    Sts(Sts),
    /// Google Secret Manager.
    GcpSecret(GcpSecret),
    /// Azure Key Vault.
    AzureSecret(AzureSecret),
}

/// For whom one value of a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For all callers.
    Everyone,
    /// For one verified identity: it is made of the caller's token.
    Identity,
    /// For one session: the provider is told which, and it ends with it.
    Session,
}

/// [`Source::OAuth2`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuth2 {
    /// The token endpoint.
    pub token_url: String,
    /// Client.
    pub client_id: String,
    /// The client's secret.
    pub secret: CredentialName,
    /// How the client proves itself.
    pub auth: ClientAuth,
    /// Scopes.
    pub scopes: Vec<String>,
    /// `audience`, where the provider wants one.
    pub audience: Option<String>,
}

/// How an OAuth 2 client proves itself (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuth {
    /// `Authorization: Basic`.
    #[default]
    Basic,
    /// In the form.
    Post,
}

/// [`Source::Exchange`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The token endpoint.
    pub token_url: String,
    /// Client, where the endpoint wants one.
    pub client_id: Option<String>,
    /// Its secret.
    pub secret: Option<CredentialName>,
    /// How the client proves itself.
    pub auth: ClientAuth,
    /// Scopes.
    pub scopes: Vec<String>,
    /// `audience`.
    pub audience: Option<String>,
    /// `resource`, a URI.
    pub resource: Option<String>,
    /// `subject_token_type`; a JWT's by default.
    pub subject_token_type: String,
    /// `requested_token_type`.
    pub requested_token_type: Option<String>,
}

/// [`Source::GithubApp`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GithubApp {
    /// The app's id or client id.
    pub app_id: String,
    /// The installation.
    pub installation_id: String,
    /// The app's private key, PEM.
    pub key: CredentialName,
    /// `https://api.github.com`, or an enterprise server's `https://HOST/api/v3`.
    pub api_url: String,
    /// Names of repositories that the token is narrowed to; empty: all of the installation.
    pub repositories: Vec<String>,
    /// Permissions that it is narrowed to, such as `contents = "read"`; empty: all of the installation.
    pub permissions: BTreeMap<String, String>,
}

/// How a JWT is signed (RFC 7518 §3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// RSA-PSS with SHA-256.
    Ps256,
    /// P-256.
    Es256,
    /// P-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// HMAC with SHA-256.
    Hs256,
}

/// [`Source::Jwt`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwt {
    /// PEM, or for HMAC the secret itself.
    pub key: CredentialName,
    /// How it is signed.
    pub algorithm: Algorithm,
    /// `kid`.
    pub key_id: Option<String>,
    /// `iss`.
    pub issuer: String,
    /// `sub`; the issuer where it is not given.
    pub subject: Option<String>,
    /// `aud`.
    pub audience: String,
    /// How long one is good.
    pub lifetime: Duration,
    /// Where it is exchanged for an access token (RFC 7523 §2.1); `None`: it is the credential itself.
    pub token_url: Option<String>,
    /// Scopes of the exchange; of the JWT itself as `scope` where there is none.
    pub scopes: Vec<String>,
}

/// [`Source::Vault`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    /// `https://HOST:8200`.
    pub url: String,
    /// Path of the API below `/v1/`: `secret/data/openai` (KV 2), `database/creds/readonly` (dynamic).
    pub path: String,
    /// Field of its data.
    pub field: String,
    /// Enterprise namespace.
    pub namespace: Option<String>,
    /// How Sluice logs in.
    pub login: VaultLogin,
}

/// How Sluice logs in to a Vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VaultLogin {
    /// With a token.
    Token(CredentialName),
    /// AppRole.
    AppRole {
        /// Where it is mounted: `approle`.
        mount: String,
        /// Role id.
        role_id: String,
        /// Secret id.
        secret: CredentialName,
    },
    /// JWT.
    Jwt {
        /// Where it is mounted: `jwt`.
        mount: String,
        /// Role.
        role: String,
        /// The JWT; `None`: the caller's own verified token.
        secret: Option<CredentialName>,
    },
    /// A client certificate.
    Cert {
        /// Where it is mounted: `cert`.
        mount: String,
        /// Role.
        role: Option<String>,
        /// PEM, a key and its chain.
        secret: CredentialName,
    },
}

/// Where an AWS service is reached, and with which keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsEndpoint {
    /// Region.
    pub region: String,
    /// Another URL than the region's own.
    pub endpoint: Option<String>,
    /// A pair of keys, or those of [`Source::Sts`].
    pub keys: CredentialName,
}

/// [`Source::AwsSecret`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsSecret {
    /// Where.
    pub aws: AwsEndpoint,
    /// Name or ARN.
    pub id: String,
    /// Field of the secret's JSON; `None`: all of its text.
    pub field: Option<String>,
}

/// [`Source::AwsSsm`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsSsm {
    /// Where.
    pub aws: AwsEndpoint,
    /// Name or ARN.
    pub parameter: String,
}

/// [`Source::Sts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sts {
    /// Where.
    pub aws: AwsEndpoint,
    /// ARN of the role.
    pub role_arn: String,
    /// `ExternalId`.
    pub external_id: Option<String>,
    /// `DurationSeconds`.
    pub duration: Duration,
}

/// [`Source::GcpSecret`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcpSecret {
    /// Project.
    pub project: String,
    /// The secret's name.
    pub secret: String,
    /// Version: `latest`.
    pub version: String,
    /// A service account's key, JSON as Google gives it.
    pub key: CredentialName,
    /// Another URL than `https://secretmanager.googleapis.com`.
    pub endpoint: Option<String>,
}

/// [`Source::AzureSecret`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AzureSecret {
    /// `https://NAME.vault.azure.net`.
    pub vault_url: String,
    /// The secret's name.
    pub name: String,
    /// Version; `None`: the current one.
    pub version: Option<String>,
    /// Tenant.
    pub tenant: String,
    /// Client.
    pub client_id: String,
    /// Its secret.
    pub secret: CredentialName,
    /// Another URL than `https://login.microsoftonline.com`.
    pub login_url: Option<String>,
}

impl Source {
    /// The key of the configuration.
    pub fn key(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Systemd(_) => "systemd",
            Self::Command(_) => "command",
            Self::Env(_) => "env",
            Self::OAuth2(_) => "oauth2",
            Self::Exchange(_) => "exchange",
            Self::GithubApp(_) => "github_app",
            Self::Jwt(_) => "jwt",
            Self::Vault(_) => "vault",
            Self::AwsSecret(_) => "aws_secret",
            Self::AwsSsm(_) => "aws_ssm",
            Self::Sts(_) => "sts",
            Self::GcpSecret(_) => "gcp_secret",
            Self::AzureSecret(_) => "azure_secret",
        }
    }

    /// Whether the warden reads it; the gate fetches all others.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::File(_) | Self::Systemd(_) | Self::Command(_) | Self::Env(_))
    }

    /// For whom one value of it is.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Exchange(_) => Scope::Identity,
            Self::Vault(vault) if matches!(vault.login, VaultLogin::Jwt { secret: None, .. }) => {
                Scope::Identity
            }
            Self::Sts(_) => Scope::Session,
            _ => Scope::Everyone,
        }
    }

    /// The credentials that it needs itself.
    pub fn needs(&self) -> Vec<&CredentialName> {
        match self {
            Self::File(_) | Self::Systemd(_) | Self::Command(_) | Self::Env(_) => Vec::new(),
            Self::OAuth2(source) => vec![&source.secret],
            Self::Exchange(source) => source.secret.iter().collect(),
            Self::GithubApp(source) => vec![&source.key],
            Self::Jwt(source) => vec![&source.key],
            Self::Vault(source) => match &source.login {
                VaultLogin::Token(secret)
                | VaultLogin::AppRole { secret, .. }
                | VaultLogin::Cert { secret, .. } => vec![secret],
                VaultLogin::Jwt { secret, .. } => secret.iter().collect(),
            },
            Self::AwsSecret(source) => vec![&source.aws.keys],
            Self::AwsSsm(source) => vec![&source.aws.keys],
            Self::Sts(source) => vec![&source.aws.keys],
            Self::GcpSecret(source) => vec![&source.key],
            Self::AzureSecret(source) => vec![&source.secret],
        }
    }
}
