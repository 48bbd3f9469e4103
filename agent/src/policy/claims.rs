//! Verified claims of an identity that rules ask for.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::judge::Compiled;
use super::known::Known;
use super::pattern::Glob;
use crate::types::identity::names_of;

/// Whether every claim that is asked for is one of what it may be.
pub(super) fn hold(asks: &BTreeMap<String, Vec<Glob>>, facts: &Facts<'_>) -> Known {
    let mut known = Known::Yes;
    for (path, globs) in asks {
        let holds = |value: &serde_json::Value| globs.iter().any(|glob| claim(value, glob));
        match Known::from(facts.claim(path).map(|value| value.is_some_and(holds))) {
            Known::Yes => {}
            Known::No => return Known::No,
            other => known = other,
        }
    }
    known
}

/// A text, a number or a truth is compared as its text; a list when any entry of it is.
fn claim(value: &serde_json::Value, glob: &Glob) -> bool {
    use serde_json::Value;
    match value {
        Value::String(text) => glob.matches(text),
        Value::Number(_) | Value::Bool(_) => glob.matches(&value.to_string()),
        Value::Array(values) => values.iter().any(|value| !value.is_array() && claim(value, glob)),
        Value::Null | Value::Object(_) => false,
    }
}

/// Names of claims that rules ask for, each once: what a record bears of an identity's.
pub(super) fn names(rules: &[Compiled]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for Compiled { rule, when, .. } in rules {
        names.extend(rule.caller.claims.keys().flat_map(|path| names_of(path)).map(str::to_owned));
        names.extend(when.iter().flat_map(|when| when.claims().iter().cloned()));
    }
    names.into_iter().collect()
}
