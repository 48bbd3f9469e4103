//! One thing that the doctor found, in words for people and fields for scripts.

use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A tagged process can leave, today, without a helper.
    High,
    /// A way out stands open to somebody who looks for it.
    Medium,
    /// Something works less well than it could.
    Low,
    /// A fact to know; nothing is weakened by it.
    Note,
}

impl Severity {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Note => "note",
        }
    }
}

/// A finding: one JSON object a line with `sluice doctor --json`, under these names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of finding: stable. Those of a tag are the words of `weakened`.
    pub id: String,
    /// How much it matters.
    pub severity: Severity,
    /// The tag that it is about; `None`: the host.
    pub tag: Option<String>,
    /// The systemd unit of the tag, where it has one.
    pub unit: Option<String>,
    /// What was found.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    /// A finding about the host.
    pub fn host(
        id: &str,
        severity: Severity,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (what, why, remedy) = (what.into(), why.into(), remedy.into());
        Self { id: id.to_owned(), severity, tag: None, unit: None, what, why, remedy }
    }

    /// Whether it is more than a note.
    pub fn counts(&self) -> bool {
        self.severity != Severity::Note
    }
}
