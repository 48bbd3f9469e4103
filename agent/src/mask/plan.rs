//! What is to be masked, and how: the masks of a rule, made ready. Which rule has which masks is the policy's.

use std::collections::HashMap;

use super::detect;
use super::replace::Replacement;
use super::scan::{Custom, Set, SetError};

/// One `[[mask]]` as configured: the words only.
#[derive(Clone, Debug)]
pub struct Mask {
    /// What rules call it.
    pub name: String,
    /// Names of detectors; `default` is all of them. `_` is as good as `-`, and `credit_card` as `card`.
    pub detect: Vec<String>,
    /// Detectors of the user's own. Names must differ from others'.
    pub custom: Vec<Custom>,
    /// Fields of JSON objects whose whole value is masked: `email`, `*.password`, `messages[*].content`. A path may begin
    /// anywhere; one that begins with `$.` begins at the root. The first line of CSV names fields, too.
    pub json: Vec<String>,
    /// Names of headers whose value is masked.
    pub headers: Vec<String>,
    /// Names in the query whose value is masked.
    pub query: Vec<String>,
    /// Names in forms (urlencoded) whose value is masked.
    pub form: Vec<String>,
    /// Names of parts of multipart forms whose body is masked.
    pub multipart: Vec<String>,
    /// Names of XML and HTML attributes and elements whose value or text is masked.
    pub attributes: Vec<String>,
    /// What is written instead.
    pub with: Replacement,
    /// What to do with bytes that are no text.
    pub binary: Binary,
}

/// What to do with bodies, and parts of bodies, that are no text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binary {
    /// They are searched as they stand, and passed.
    #[default]
    Pass,
    /// They are refused.
    Refuse,
}

/// What makes no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A detector that is not known.
    #[error("mask {mask}: no detector is called {name}; `sluice mask test --list` names them")]
    Detector {
        /// The mask.
        mask: String,
        /// The name.
        name: String,
    },
    /// Two detectors with one name.
    #[error("mask {mask}: the name {name} is taken; call it something else")]
    Name {
        /// The mask.
        mask: String,
        /// The name.
        name: String,
    },
    /// Detectors that cannot be made ready.
    #[error("masks cannot be made ready")]
    Set(#[from] SetError),
}

/// Masks, made ready. Made once, shared by all bodies.
pub struct Plan {
    pub(super) set: Set,
    with: HashMap<String, Replacement>,
    binary: Binary,
}

impl Plan {
    /// Makes masks ready. Where several name the same detector or field, the first counts.
    ///
    /// # Errors
    /// [`PlanError`]: which mask is wrong, and what would mend it.
    pub fn compile(masks: &[Mask]) -> Result<Self, PlanError> {
        let mut with = HashMap::new();
        for mask in masks {
            for custom in &mask.custom {
                let taken = detect::named(custom.name()).is_some()
                    || with.insert(custom.name().to_owned(), mask.with).is_some();
                if taken {
                    return Err(PlanError::Name { mask: mask.name.clone(), name: custom.name().to_owned() });
                }
            }
            for name in &mask.detect {
                for detector in named(name)
                    .ok_or_else(|| PlanError::Detector { mask: mask.name.clone(), name: name.clone() })?
                {
                    with.entry(detector.to_owned()).or_insert(mask.with);
                }
            }
        }
        let set = Set::compile(
            detect::all().filter(|detector| with.contains_key(detector.name)),
            masks.iter().flat_map(|mask| &mask.custom),
        )?;
        let refuses = masks.iter().any(|mask| mask.binary == Binary::Refuse);
        Ok(Self { set, with, binary: if refuses { Binary::Refuse } else { Binary::Pass } })
    }

    /// What to do with bytes that are no text: refused, where one of the masks says so.
    pub fn binary(&self) -> Binary {
        self.binary
    }

    /// How a detector's values are replaced.
    pub(super) fn with(&self, detector: &str) -> Replacement {
        self.with.get(detector).copied().unwrap_or(Replacement::Redact)
    }
}

/// The detectors that a name in a rule means.
fn named(name: &str) -> Option<Vec<&'static str>> {
    let name = name.replace('_', "-");
    let name = if name == "credit-card" { "card" } else { &name };
    if name == "default" {
        return Some(detect::all().map(|detector| detector.name).collect());
    }
    detect::named(name).map(|detector| vec![detector.name])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(detect: &[&str]) -> Mask {
        Mask {
            name: "pii".into(),
            detect: detect.iter().map(|name| (*name).to_owned()).collect(),
            custom: Vec::new(),
            json: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            form: Vec::new(),
            multipart: Vec::new(),
            attributes: Vec::new(),
            with: Replacement::Token,
            binary: Binary::Pass,
        }
    }

    #[test]
    fn names_as_the_contract_has_them() {
        let plan = Plan::compile(&[mask(&["email", "credit_card", "iban", "us_ssn", "phone", "api_key"])])
            .expect("known names");
        assert_eq!(plan.with("card"), Replacement::Token);
        assert_eq!(plan.with("us-ssn"), Replacement::Token);
        let error = Plan::compile(&[mask(&["credit"])]).err().expect("unknown");
        assert_eq!(
            error.to_string(),
            "mask pii: no detector is called credit; `sluice mask test --list` names them"
        );
    }
}
