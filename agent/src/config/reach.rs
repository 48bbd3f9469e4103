//! What is wrong with rules together: names that are taken, rules that none before them leaves anything to, tests that
//! name no rule.

use std::collections::{HashMap, HashSet};

use super::case::Case;
use super::rule::Read;
use super::section::{Problems, nearest};

/// More rules than these are a mistake, or a table that belongs elsewhere.
const MAX_RULES: usize = 10_000;

/// Reports names that are taken, and rules that can never decide because one before them matches all that they match.
pub(super) fn check(rules: &[Read], problems: &mut Problems<'_>) {
    if let Some(beyond) = rules.get(MAX_RULES) {
        let remedy = "name several hosts or paths in one rule";
        return problems.add(&beyond.rule.place, format!("more than {MAX_RULES} [[rule]]"), remedy);
    }
    let mut taken = HashMap::new();
    for (at, Read { rule, sound, .. }) in rules.iter().enumerate() {
        let name = &rule.value.name;
        if let Some(earlier) = taken.insert(name, &rule.place) {
            let what = format!("[[rule]] {name}: its name is taken already at {earlier}");
            problems.add(&rule.place, what, "give each rule its own name");
        }
        let covers = |earlier: &&Read| earlier.sound && earlier.rule.value.covers(&rule.value);
        let Some(earlier) = rules[..at].iter().filter(|_| *sound).find(covers) else { continue };
        let (by, place) = (&earlier.rule.value, &earlier.rule.place);
        let all = if by.asks() { "all that it matches" } else { "everything" };
        problems.add(
            &rule.place,
            format!(
                "[[rule]] {name} is never reached: {} at {place} matches {all} and says {}",
                by.name, by.verdict
            ),
            "put the narrower rule first, or take one of the two away",
        );
    }
}

/// Reports tests that expect a rule which is not there.
pub(super) fn check_cases(cases: &[Case], rules: &[Read], problems: &mut Problems<'_>) {
    let names: HashSet<&str> = rules.iter().map(|read| read.rule.value.name.as_str()).collect();
    let list: Vec<&str> = names.iter().copied().collect();
    for case in cases {
        let Some(rule) = case.rule.as_deref() else { continue };
        if names.contains(rule) || matches!(rule, crate::policy::NONE | crate::policy::OBSERVE) {
            continue;
        }
        let remedy = match nearest(rule, &list) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "name a rule of this configuration, or \"(none)\"".to_owned(),
        };
        problems.add(&case.place, format!("[[test]] {}: there is no rule {rule:?}", case.name), remedy);
    }
}
