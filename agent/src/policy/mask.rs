//! Masks: what a `[[mask]]` says, as written, and what a rule's masks come to for an exchange. How a body is read and what is
//! found in it is [`crate::mask`]'s; bytes are not seen here.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::analyser::Analyser;
use super::rule::{Rule, Source};
use super::when::Mistake;
use super::{BadCondition, Policy};
use crate::mask::{self, Binary, Custom, Plan, PlanError, Replacement};

/// One `[[mask]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// What rules call it.
    pub name: String,
    /// Names of detectors, or `default` for all.
    pub detect: Vec<String>,
    /// Regular expressions, each with its name.
    pub regex: Vec<(String, String)>,
    /// Lists of words.
    pub words: Vec<Words>,
    /// Fields of JSON.
    pub fields: Vec<String>,
    /// Header fields.
    pub headers: Vec<String>,
    /// Parameters of the query.
    pub query: Vec<String>,
    /// Fields of forms.
    pub form: Vec<String>,
    /// Parts of multipart bodies.
    pub multipart: Vec<String>,
    /// Attributes and elements of XML and HTML.
    pub attributes: Vec<String>,
    /// What stands in place of a value.
    pub with: With,
    /// How long a token stands for its value.
    pub scope: Within,
    /// Which way.
    pub directions: Directions,
    /// Whether bodies that are no text are refused.
    pub binary_refused: bool,
    /// Who finds what takes a model, in requests.
    pub analyser: Option<Analyser>,
}

/// A list of words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// What counts call it.
    pub name: String,
    /// The words.
    pub words: Vec<String>,
    /// Whether letter case does not count.
    pub any_case: bool,
}

/// What stands in place of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum With {
    /// A token that is followed by the value again in the answer.
    #[default]
    Token,
    /// The detector's name.
    Redact,
    /// A keyed hash.
    Hash,
    /// Its last four letters.
    Partial,
}

/// How long a token stands for its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Within {
    /// One connection.
    #[default]
    Session,
    /// All connections of a tag.
    Tag,
}

/// Which way a mask holds on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Directions {
    /// Both.
    #[default]
    Both,
    /// What goes upstream.
    Request,
    /// What comes back.
    Response,
}

impl Mask {
    /// The same in the words of [`crate::mask`].
    pub fn plain(&self) -> mask::Mask {
        let regex = self
            .regex
            .iter()
            .map(|(name, pattern)| Custom::Regex { name: name.clone(), pattern: pattern.clone() });
        let words = self.words.iter().map(|list| Custom::Words {
            name: list.name.clone(),
            words: list.words.clone(),
            any_case: list.any_case,
        });
        mask::Mask {
            name: self.name.clone(),
            detect: self.detect.clone(),
            custom: regex.chain(words).collect(),
            json: self.fields.clone(),
            headers: self.headers.clone(),
            query: self.query.clone(),
            form: self.form.clone(),
            multipart: self.multipart.clone(),
            attributes: self.attributes.clone(),
            with: match self.with {
                With::Token => Replacement::Token,
                With::Redact => Replacement::Redact,
                With::Hash => Replacement::Hash,
                With::Partial => Replacement::Partial,
            },
            binary: if self.binary_refused { Binary::Refuse } else { Binary::Pass },
        }
    }

    /// Whether all but its detectors can be made ready: those are known to be good, and take long.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn check(&self) -> Result<(), PlanError> {
        Plan::compile(&[mask::Mask { detect: Vec::new(), ..self.plain() }]).map(drop)
    }
}

/// Whether a word names detectors, as [`Plan::compile`] knows them.
pub fn is_detector(name: &str) -> bool {
    let name = name.replace('_', "-");
    matches!(name.as_str(), "default" | "credit-card") || mask::detect::named(&name).is_some()
}

/// The masks of an exchange, made ready. Shared by all exchanges of a rule.
pub struct Masks {
    /// Their names, those of the record's last.
    pub names: Vec<String>,
    /// Those that the rule itself names, as configured.
    own: Vec<Mask>,
    /// Header fields that they name, in lower case.
    pub headers: Vec<String>,
    /// What is hidden from the upstream.
    pub request: Option<Arc<Plan>>,
    /// Who is asked what else is in the body of a request, and what stands in place of what is found.
    pub analysers: Vec<(Analyser, Replacement)>,
    /// What is hidden from the caller.
    pub answer: Option<Arc<Plan>>,
    /// What is hidden from the record, whatever the wire has.
    pub record: Arc<Plan>,
    /// Whether what goes upstream needs no more hiding for the record.
    pub request_is_record: bool,
    /// Whether values may stand for tokens in what comes back.
    pub restores: bool,
    /// Whose tokens they are.
    pub within: Within,
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masks").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Masks {
    /// Whether anything is hidden on the wire: then what cannot be read is refused.
    pub fn on_wire(&self) -> bool {
        self.request.is_some() || self.answer.is_some()
    }

    /// Whether it hides on the wire what something that was begun under `before` may not: a mask that is new to it, or
    /// is another under the same name.
    pub fn hides_more_than(&self, before: Option<&Self>) -> bool {
        let before = before.filter(|before| before.on_wire()).map_or(&[][..], |before| &before.own);
        self.on_wire() && self.own.iter().any(|mask| !before.contains(mask))
    }

    /// The same of the record alone: nothing is changed on the wire.
    fn unapplied(&self) -> Self {
        Self {
            names: self.names.clone(),
            own: self.own.clone(),
            headers: self.headers.clone(),
            request: None,
            analysers: Vec::new(),
            answer: None,
            record: Arc::clone(&self.record),
            request_is_record: false,
            restores: false,
            within: self.within,
        }
    }
}

/// The masks of every rule.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// By the rule's name: applied, and recorded only.
    rules: HashMap<String, (Arc<Masks>, Arc<Masks>)>,
    /// Of what no such rule lets through.
    record: Option<Arc<Masks>>,
}

/// Makes plans ready, each list of masks once.
struct Maker<'s> {
    source: &'s Source,
    made: HashMap<Vec<usize>, Arc<Plan>>,
}

impl Maker<'_> {
    fn plan(&mut self, masks: &[usize]) -> Result<Arc<Plan>, PlanError> {
        if let Some(plan) = self.made.get(masks) {
            return Ok(Arc::clone(plan));
        }
        let plain: Vec<_> = masks.iter().map(|at| self.source.masks[*at].plain()).collect();
        let plan = Arc::new(Plan::compile(&plain)?);
        self.made.insert(masks.to_vec(), Arc::clone(&plan));
        Ok(plan)
    }

    fn named(&self, names: &[String]) -> Result<Vec<usize>, String> {
        let place = |name: &String| {
            let found = self.source.masks.iter().position(|mask| mask.name == *name);
            found.ok_or_else(|| format!("there is no mask {name}"))
        };
        names.iter().map(place).collect()
    }

    fn masks(&mut self, names: &[String]) -> Result<Option<Masks>, String> {
        let own = self.named(names)?;
        let mut all = own.clone();
        let of_record = self.named(&self.source.record_masked)?;
        all.extend(of_record.into_iter().filter(|at| !own.contains(at)));
        if all.is_empty() {
            return Ok(None);
        }
        let masks = &self.source.masks;
        let way = |not: Directions| -> Vec<usize> {
            own.iter().copied().filter(|at| masks[*at].directions != not).collect()
        };
        let (up, down) = (way(Directions::Response), way(Directions::Request));
        let restores = up.iter().any(|at| masks[*at].with == With::Token);
        let within = own.iter().map(|at| masks[*at].scope).max().unwrap_or_default();
        let names = all.iter().map(|at| masks[*at].name.clone()).collect();
        let headers =
            all.iter().flat_map(|at| &masks[*at].headers).map(|name| name.to_ascii_lowercase()).collect();
        let analyser = |mask: &Mask| Some((mask.analyser.clone()?, mask.plain().with));
        let analysers = up.iter().filter_map(|at| analyser(&masks[*at])).collect();
        let mut plan =
            |list: &[usize]| self.plan(list).map_err(|error| crate::report::Chain(&error).to_string());
        let mut some = |list: &[usize]| (!list.is_empty()).then(|| plan(list)).transpose();
        let (request, answer) = (some(&up)?, some(&down)?);
        let record = self.plan(&all).map_err(|error| crate::report::Chain(&error).to_string())?;
        Ok(Some(Masks {
            names,
            own: own.iter().map(|at| masks[*at].clone()).collect(),
            headers,
            request,
            analysers,
            answer,
            record,
            request_is_record: up == all,
            restores,
            within,
        }))
    }
}

impl Ready {
    /// Makes the masks of all rules ready.
    ///
    /// # Errors
    /// Every rule whose masks cannot be.
    pub(super) fn of(source: &Source) -> Result<Self, Vec<BadCondition>> {
        let (mut maker, mut wrong) = (Maker { source, made: HashMap::new() }, Vec::new());
        let mut ready = Self::default();
        let mut note = |rule: &str, what: String| {
            wrong.push(BadCondition { rule: rule.to_owned(), key: "mask", mistake: Mistake { at: 0, what } });
        };
        match maker.masks(&[]) {
            Ok(masks) => ready.record = masks.map(Arc::new),
            Err(what) => note("record_masked", what),
        }
        for rule in source.rules.iter().filter(|rule| !rule.masks.is_empty()) {
            match maker.masks(&rule.masks) {
                Ok(Some(masks)) => {
                    let unapplied = Arc::new(masks.unapplied());
                    ready.rules.insert(rule.name.clone(), (Arc::new(masks), unapplied));
                }
                Ok(None) => {}
                Err(what) => note(&rule.name, what),
            }
        }
        if wrong.is_empty() { Ok(ready) } else { Err(wrong) }
    }
}

impl Policy {
    /// The masks of what a rule lets through. `enforced`: else they hold for the record alone.
    pub(super) fn masks(&self, rule: &Rule, enforced: bool) -> Option<Arc<Masks>> {
        match self.masks.rules.get(&rule.name) {
            Some((applied, unapplied)) => Some(Arc::clone(if enforced { applied } else { unapplied })),
            None => self.masks.record.clone(),
        }
    }

    /// What is hidden from the record of what no rule with masks lets through.
    pub fn record_masks(&self) -> Option<&Arc<Masks>> {
        self.masks.record.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::Effect;
    use super::*;

    fn mask(name: &str, detect: &str, directions: Directions) -> Mask {
        Mask { name: name.into(), detect: vec![detect.into()], directions, ..Mask::default() }
    }

    fn ready(rule: &[&str], record: &[&str]) -> Result<Ready, Vec<BadCondition>> {
        let rule = Rule {
            name: "r".into(),
            verdict: Effect::Allow,
            masks: rule.iter().map(|name| (*name).to_owned()).collect(),
            ..Rule::default()
        };
        Ready::of(&Source {
            rules: vec![rule],
            masks: vec![
                mask("a", "email", Directions::Both),
                mask("b", "card", Directions::Request),
                mask("c", "iban", Directions::Response),
            ],
            record_masked: record.iter().map(|name| (*name).to_owned()).collect(),
            ..Source::default()
        })
    }

    #[test]
    fn each_way_has_its_masks_and_the_record_all() {
        let both = ready(&["a"], &[]).expect("good");
        let (masks, unapplied) = &both.rules["r"];
        assert!(masks.on_wire() && masks.request_is_record && masks.restores);
        assert!(masks.hides_more_than(None) && masks.hides_more_than(Some(unapplied)));
        assert!(!masks.hides_more_than(Some(masks)) && !unapplied.hides_more_than(None));
        assert!(masks.request.as_ref().is_some_and(|plan| Arc::ptr_eq(plan, &masks.record)));
        assert!(!unapplied.on_wire() && both.record.is_none());
        let ways = ready(&["b", "c"], &["a"]).expect("good");
        let (masks, _) = &ways.rules["r"];
        assert!(!masks.request_is_record && masks.request.is_some() && masks.answer.is_some());
        assert_eq!(masks.names, ["b", "c", "a"]);
        assert!(ways.record.as_ref().is_some_and(|masks| !masks.on_wire()));
        assert!(ready(&[], &[]).expect("none").rules.is_empty());
        assert!(ready(&["d"], &[]).is_err() && ready(&[], &["d"]).is_err());
    }
}
