//! Judgement: an action and its caller in, a verdict out. Pure; the only maker of [`Permit`]s.

use serde::{Deserialize, Serialize};

use crate::types::{Action, Caller};

pub mod lookup;

/// Whether verdicts are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything is taken and recorded, nothing is refused: the package's default.
    #[default]
    Observe,
}

/// What is in force.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Whether verdicts are applied.
    pub mode: Mode,
    /// Whether an exchange waits until its head is synced to disk before a byte goes upstream.
    pub durable: bool,
    /// Bounds of name lookups.
    pub lookups: lookup::Lookups,
}

/// The right to send one exchange upstream. Cannot be copied or made elsewhere: it is spent by sending.
#[derive(Debug)]
pub struct Permit {
    rule: &'static str,
    durable: bool,
}

impl Permit {
    /// The rule that granted it.
    pub fn rule(&self) -> &str {
        self.rule
    }

    /// Whether the record of the exchange must be on disk before the exchange is sent.
    pub fn durable(&self) -> bool {
        self.durable
    }
}

/// What policy says.
#[derive(Debug)]
pub enum Verdict {
    /// Go ahead.
    Allow(Permit),
}

/// Decides. In observe mode everything is permitted under the rule name `observe`.
pub fn decide(policy: &Policy, _caller: &Caller, _action: Action<'_>) -> Verdict {
    match policy.mode {
        Mode::Observe => Verdict::Allow(Permit { rule: "observe", durable: policy.durable }),
    }
}
