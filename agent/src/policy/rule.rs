//! Rules as they are written: plain data, what the configuration becomes and what the warden tells the gate. Nothing here
//! is compiled or judged.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Mode;
use super::credential::Credential;
use super::limit::Limit;
use super::lookup::NamePattern;
use super::mask::Mask;
use super::pattern::{Addresses, Glob, Ports, Window};
use crate::types::{CredentialName, TagName};

/// Everything that decides, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Whether verdicts are applied.
    pub mode: Mode,
    /// Where a tag has a mode of its own.
    pub tag_modes: BTreeMap<TagName, Mode>,
    /// In order: the first that matches decides.
    pub rules: Vec<Rule>,
    /// What rules may name under `credential`, and what those need. Names are unique.
    pub credentials: Vec<Credential>,
    /// What rules may name under `mask`. Names are unique.
    pub masks: Vec<Mask>,
    /// Masks that hold for whatever is recorded.
    pub record_masked: Vec<String>,
}

impl Source {
    /// Whether a rule asks for the content of programs.
    pub fn asks_programs(&self) -> bool {
        self.rules.iter().any(|rule| !rule.caller.exe_sha256.is_empty())
    }
}

/// What a rule says of what it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Send it.
    Allow,
    /// Refuse it.
    #[default]
    Deny,
}

/// What becomes of a long-lived key that a caller sends of its own. It is recorded, and told to the journal, in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerKeys {
    /// The rule's credential stands in its place; where it cannot be taken out, the request is refused.
    Replace,
    /// It goes where every credential of the caller's goes.
    #[default]
    Warn,
    /// The request is refused.
    Deny,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// One `[[rule]]`. An empty list asks nothing; a list matches when any of its entries does; a rule matches when all that it
/// asks matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique name.
    pub name: String,
    /// Observed only, or applied in a tag that is observed; else the tag's mode.
    pub mode: Option<Mode>,
    /// What happens.
    pub verdict: Effect,
    /// `durable`: the head is on disk before a byte goes upstream.
    pub durable: bool,
    /// Who.
    pub caller: CallerAsks,
    /// Where to.
    pub to: ToAsks,
    /// What, of an HTTP request.
    pub request: RequestAsks,
    /// When: any of them.
    pub windows: Vec<Window>,
    /// CEL over caller and request.
    pub when: Option<String>,
    /// Bytes of the body that are read at most for this rule.
    pub body_max: u64,
    /// The credential that what it allows is to bear.
    pub credential: Option<CredentialName>,
    /// What becomes of a long-lived key of the caller's own in what it allows.
    #[serde(default)]
    pub caller_key: CallerKeys,
    /// Names of the masks of what it allows.
    #[serde(default)]
    pub masks: Vec<String>,
    /// How much of what it allows goes through. Beyond it is refused, and not left to later rules.
    pub limits: Vec<Limit>,
}

/// What a rule asks of the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerAsks {
    /// Tags.
    pub tags: Vec<Glob>,
    /// systemd units.
    pub units: Vec<Glob>,
    /// User names, or numbers.
    pub users: Vec<String>,
    /// Paths of executables.
    pub exes: Vec<Glob>,
    /// SHA-256 of the executable, in hex.
    pub exe_sha256: Vec<String>,
    /// Container ids or images.
    pub containers: Vec<Glob>,
    /// Subjects of a verified identity.
    pub identities: Vec<Glob>,
    /// Groups of a verified identity.
    pub groups: Vec<String>,
    /// Issuers of a verified identity.
    pub issuers: Vec<String>,
    /// Verified claims (a path with dots) and what each may be.
    pub claims: BTreeMap<String, Vec<Glob>>,
}

/// What a rule asks of the other side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToAsks {
    /// `http/1.1`, `h2`, `websocket`, `grpc`, `tunnel`; `http` for all of HTTP.
    pub protocols: Vec<String>,
    /// Names, `*.suffix`.
    pub hosts: Vec<NamePattern>,
    /// Addresses and networks.
    pub addresses: Addresses,
    /// Ports.
    pub ports: Ports,
}

/// What a rule asks of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestAsks {
    /// Methods, in capitals.
    pub methods: Vec<String>,
    /// Paths.
    pub paths: Vec<Glob>,
    /// Query parameters and what each may be: every value of a parameter must match; in a rule that refuses, any.
    pub query: BTreeMap<String, Vec<Glob>>,
    /// Header fields (lower case) and what each may be: every value must match; in a rule that refuses, any.
    pub headers: BTreeMap<String, Vec<Glob>>,
    /// Texts of which one must stand in the prompt, or in the body's text where it is none to a model: anywhere in it, in
    /// any letter case. They ask for the body.
    pub prompt_words: Vec<String>,
    /// Regular expressions of which one must match there. They ask for the body.
    pub prompt_patterns: Vec<String>,
}

impl RequestAsks {
    /// Whether it asks anything.
    pub fn asks(&self) -> bool {
        !(self.methods.is_empty()
            && self.paths.is_empty()
            && self.query.is_empty()
            && self.headers.is_empty())
            || self.asks_body()
    }

    /// Whether it asks for the body.
    pub fn asks_body(&self) -> bool {
        !(self.prompt_words.is_empty() && self.prompt_patterns.is_empty())
    }
}

/// Unless a rule says otherwise, so much of a body is read for it.
pub const BODY_MAX: u64 = 1 << 20;
/// No rule may ask for more.
pub const BODY_LIMIT: u64 = 64 << 20;
