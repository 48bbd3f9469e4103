//! Credentials as `sluice credentials` shows them: where they come from, where they may go, how they do. Never a value.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::policy::credential::Credential;
use crate::policy::pattern::Glob;
use crate::types::CredentialName;
use crate::types::credential::{Inject, Source};

/// How a credential does. The words are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialState {
    /// Nobody has needed it yet.
    Unread,
    /// The last fetch gave a value.
    Good,
    /// The last fetch failed: see `error`.
    Failing,
}

impl CredentialState {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unread => "unread",
            Self::Good => "good",
            Self::Failing => "failing",
        }
    }
}

/// One credential, as `sluice credentials --json` prints it: field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialStatus {
    /// Name.
    pub name: CredentialName,
    /// The kind of its source: `file`, `vault` …
    pub source: String,
    /// Where that is, as far as that is no secret: a path, a URL, a variable's name.
    pub place: String,
    /// How it goes into a request; `null`: it serves other credentials only.
    pub inject: Option<String>,
    /// Hosts that it is bound to.
    pub hosts: Vec<String>,
    /// Paths, methods, tags, identities that it is bound to; empty: all.
    pub paths: Vec<String>,
    /// See `paths`.
    pub methods: Vec<String>,
    /// See `paths`.
    pub tags: Vec<String>,
    /// See `paths`.
    pub identities: Vec<String>,
    /// Whether it may go without TLS.
    pub insecure: bool,
    /// How it does.
    pub state: CredentialState,
    /// When it was last fetched with success.
    #[serde(with = "time::serde::rfc3339::option")]
    pub fetched: Option<OffsetDateTime>,
    /// When its value ends, where its source says so.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// Why the last fetch failed.
    pub error: Option<String>,
}

impl CredentialStatus {
    /// Of one credential.
    pub fn new(
        credential: &Credential,
        state: CredentialState,
        fetched: Option<OffsetDateTime>,
        expires: Option<OffsetDateTime>,
        error: Option<String>,
    ) -> Self {
        let globs = |globs: &[Glob]| globs.iter().map(|glob| glob.as_str().to_owned()).collect();
        let binding = &credential.binding;
        Self {
            name: credential.name.clone(),
            source: credential.source.key().to_owned(),
            place: place(&credential.source),
            inject: credential.inject.as_ref().map(|inject| Inject::key(inject).to_owned()),
            hosts: binding.hosts.iter().map(|host| host.as_str().to_owned()).collect(),
            paths: globs(&binding.paths),
            methods: binding.methods.clone(),
            tags: globs(&binding.tags),
            identities: globs(&binding.identities),
            insecure: binding.insecure,
            state,
            fetched,
            expires,
            error,
        }
    }
}

/// What the test of a credential found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// When it was fetched, Unix seconds.
    pub fetched: u64,
    /// When it ends, as its source says.
    pub expires: Option<u64>,
    /// Each host and port that it is bound to by name, and how a verified TLS handshake with it went: `None` is well.
    pub hosts: Vec<(String, Option<String>)>,
}

/// A command's arguments may hold what should not be shown: its program stands for it.
fn place(source: &Source) -> String {
    match source {
        Source::File(path) => path.clone(),
        Source::Systemd(name) | Source::Env(name) => name.clone(),
        Source::Command(words) => words.first().cloned().unwrap_or_default(),
        Source::OAuth2(source) => source.token_url.clone(),
        Source::Exchange(source) => source.token_url.clone(),
        Source::GithubApp(source) => source.api_url.clone(),
        Source::Jwt(source) => source.token_url.clone().unwrap_or_else(|| source.audience.clone()),
        Source::Vault(source) => format!("{}/v1/{}", source.url.trim_end_matches('/'), source.path),
        Source::AwsSecret(source) => source.id.clone(),
        Source::AwsSsm(source) => source.parameter.clone(),
        Source::Sts(source) => source.role_arn.clone(),
        Source::GcpSecret(source) => format!("{}/{}", source.project, source.secret),
        Source::AzureSecret(source) => format!("{}/{}", source.vault_url.trim_end_matches('/'), source.name),
    }
}
