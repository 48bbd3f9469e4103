//! Conditions in CEL (`when`).

use super::judge::Asked;
use super::known::Known;

/// A condition, compiled.
#[derive(Debug)]
pub struct When;

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Mistake {
    /// Where in the text, in bytes from its begin.
    pub at: usize,
    /// What is wrong, and with what in its place.
    pub what: String,
}

impl When {
    /// Reads a condition.
    ///
    /// # Errors
    /// Every [`Mistake`] in it.
    pub fn compile(_text: &str) -> Result<Self, Vec<Mistake>> {
        Err(vec![Mistake { at: 0, what: "conditions in CEL are not there yet".to_owned() }])
    }

    /// Whether it asks for the body.
    pub fn asks_body(&self) -> bool {
        false
    }

    /// Judges it.
    pub fn holds(&self, _asked: &Asked<'_>) -> Known {
        Known::No
    }
}
