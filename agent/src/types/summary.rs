//! One exchange in one line: what `sluice sessions --json` prints and what the journal bears.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CallerKey, Enforcement, HostName, Weakness};

/// How policy decided, in the contract's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Sent on.
    Allow,
    /// Refused.
    Deny,
}

impl Verdict {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Who says that `host` is the name of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostSource {
    /// TLS: the name that the upstream's certificate was verified for, or that the client asked for in a handshake that
    /// was refused.
    Tls,
    /// The request itself: HTTP's Host or `:authority`, the name that a DNS question asks for.
    Request,
    /// The job looked this name up, and the host's own name servers (or those of `[dns] upstream`) told it this address;
    /// nothing proves that the name's owner is there.
    Dns,
    /// The same, but told by the server that was asked from the caller's own network namespace. The job may have made
    /// both: it can give any address any name. No rule may trust it.
    #[serde(rename = "dns-caller")]
    DnsCaller,
    /// Nobody: it is the address.
    Address,
}

/// A name that an address was looked up by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedUp {
    /// The name.
    pub name: HostName,
    /// [`HostSource::Dns`] or [`HostSource::DnsCaller`].
    pub by: HostSource,
}

/// The fields of a listed exchange, under the names that scripts rely on: add, never change. Absent facts are `null`, never missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Session id (ULID).
    pub session: String,
    /// Place of the exchange in its session, from 1.
    pub exchange: u32,
    /// RFC 3339 in UTC, microseconds.
    pub time: String,
    /// From the first byte of the request to the last of the answer; `null` while it runs.
    pub duration_us: Option<u64>,
    /// Tag.
    pub tag: String,
    /// systemd unit.
    pub unit: Option<String>,
    /// cgroup path.
    pub cgroup: String,
    /// Process id.
    pub pid: u32,
    /// When the process began, in clock ticks since boot (field 22 of /proc/PID/stat): with `pid` it names one process.
    pub start_time: Option<u64>,
    /// Path of the executable.
    pub exe: Option<String>,
    /// User id.
    pub uid: u32,
    /// User name.
    pub user: Option<String>,
    /// Container id (64 hex digits), or the machine's name.
    #[serde(default)]
    pub container: Option<String>,
    /// `docker`, `podman`, …; ` (rootless)` behind it: a user named it.
    #[serde(default)]
    pub container_runtime: Option<String>,
    /// The container's image.
    #[serde(default)]
    pub image: Option<String>,
    /// Inode of the network namespace, where it is not the host's.
    #[serde(default)]
    pub netns: Option<u64>,
    /// Verified identity (OIDC subject).
    pub identity: Option<String>,
    /// Groups of the identity.
    pub groups: Vec<String>,
    /// Whether the caller could get past Sluice, as far as is known; `null` in records of versions that did not look.
    #[serde(default)]
    pub enforcement: Option<Enforcement>,
    /// Why it could.
    #[serde(default)]
    pub weakened: Vec<Weakness>,
    /// `http/1.1`, `h2`, `websocket`, `dns`, `tunnel`, `tls` (refused before a protocol was known) …
    pub protocol: String,
    /// The name that was asked for (SNI, Host, DNS), or that was looked up for the address, or the address.
    pub host: String,
    /// Who says that this is its name; `null` in records of versions before 0.2.
    #[serde(default)]
    pub host_source: Option<HostSource>,
    /// `IP:PORT` that the process dialled.
    pub address: String,
    /// HTTP method; type of a DNS question.
    pub method: Option<String>,
    /// Path and query.
    pub path: Option<String>,
    /// Status that the client saw: HTTP's; of DNS the response code.
    pub status: Option<u16>,
    /// Rule that decided.
    pub rule: Option<String>,
    /// Verdict.
    pub verdict: Verdict,
    /// Name of the credential that was put in.
    pub credential: Option<String>,
    /// Long-lived keys that the caller sent of its own.
    #[serde(default)]
    pub caller_keys: Vec<CallerKey>,
    /// What was masked: count by detector.
    pub masked: BTreeMap<String, u64>,
    /// Body (or tunnel) bytes towards the upstream.
    pub bytes_up: u64,
    /// Body (or tunnel) bytes towards the client.
    pub bytes_down: u64,
    /// What went wrong, with its cause.
    pub error: Option<String>,
}

impl Summary {
    /// The readable line of the journal: `POST api.openai.com/v1/responses 200 1.24s rule=openai-chat masked=3`.
    pub fn line(&self) -> String {
        let mut line = match (&self.method, &self.path) {
            (Some(method), Some(path)) => format!("{method} {}{path}", self.host),
            (Some(method), None) if self.protocol == "dns" => format!("dns {method} {}", self.host),
            _ => format!("{} {}", self.protocol, self.host),
        };
        if let Some(status) = self.status {
            line.push_str(&format!(" {status}"));
        }
        if self.verdict == Verdict::Deny {
            line.push_str(" denied");
        }
        if let Some(us) = self.duration_us {
            line.push_str(&format!(" {:.2}s", us as f64 / 1e6));
        }
        if let Some(rule) = &self.rule {
            line.push_str(&format!(" rule={rule}"));
        }
        let masked: u64 = self.masked.values().sum();
        if masked > 0 {
            line.push_str(&format!(" masked={masked}"));
        }
        if let Some(error) = &self.error {
            line.push_str(&format!(" error={error:?}"));
        }
        line
    }
}
