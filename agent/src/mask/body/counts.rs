//! How much was replaced, by name.

use std::collections::BTreeMap;

/// How many values were replaced, by the name of the detector or field. Never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// One more.
    pub fn add(&mut self, detector: &str) {
        match self.0.get_mut(detector) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(detector.to_owned(), 1)),
        }
    }

    /// Those of another.
    pub fn merge(&mut self, other: &Self) {
        for (detector, count) in &other.0 {
            *self.0.entry(detector.clone()).or_default() += count;
        }
    }

    /// Names, and how many.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(detector, count)| (detector.as_str(), *count))
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}
