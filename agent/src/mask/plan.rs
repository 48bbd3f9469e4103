//! What is to be masked, and how: the masks of a rule, made ready. Which rule has which masks is the policy's.

use std::collections::HashMap;

use super::detect;
use super::replace::Replacement;
use super::scan::{Custom, Set, SetError};
use super::text::{Action, PathError, Paths, last_name};

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
    /// anywhere; one that begins with `$.` begins at the root. The first line of CSV names fields, too. Letter case does not count,
    /// here and below.
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
    /// A path that is none.
    #[error("mask {mask}: the field {path}")]
    Path {
        /// The mask.
        mask: String,
        /// The path.
        path: String,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// Detectors that cannot be made ready.
    #[error("masks cannot be made ready")]
    Set(#[from] SetError),
}

/// A field whose value goes as a whole.
pub(super) struct Field {
    /// What labels and counts call it.
    pub name: String,
    pub with: Replacement,
}

/// Fields by their names.
type Names = HashMap<String, Field>;

/// Masks, made ready. Made once, shared by all bodies.
pub struct Plan {
    pub(super) set: Set,
    with: HashMap<String, Replacement>,
    binary: Binary,
    /// Fields of JSON: their paths, and by number what they are.
    pub(super) paths: Paths,
    pub(super) fields: Vec<Field>,
    headers: Names,
    query: Names,
    form: Names,
    multipart: Names,
    attributes: Names,
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
        let (paths, fields) = json_fields(masks)?;
        let refuses = masks.iter().any(|mask| mask.binary == Binary::Refuse);
        Ok(Self {
            set,
            with,
            binary: if refuses { Binary::Refuse } else { Binary::Pass },
            paths,
            fields,
            headers: named_fields(masks, |mask| &mask.headers),
            query: named_fields(masks, |mask| &mask.query),
            form: named_fields(masks, |mask| &mask.form),
            multipart: named_fields(masks, |mask| &mask.multipart),
            attributes: named_fields(masks, |mask| &mask.attributes),
        })
    }

    /// The header of a name, in any letter case, if its value goes as a whole.
    pub(super) fn header_field(&self, name: &str) -> Option<&Field> {
        self.headers.get(&name.to_ascii_lowercase())
    }

    pub(super) fn query_field(&self, name: &str) -> Option<&Field> {
        of_form(&self.query, name)
    }

    pub(super) fn has_query_fields(&self) -> bool {
        !self.query.is_empty()
    }

    pub(super) fn form_field(&self, name: &str) -> Option<&Field> {
        of_form(&self.form, name)
    }

    pub(super) fn multipart_field(&self, name: &str) -> Option<&Field> {
        of_form(&self.multipart, name)
    }

    /// The attribute or element of a name in small letters.
    pub(super) fn attribute_field(&self, name: &str) -> Option<&Field> {
        self.attributes.get(name)
    }

    /// The column of CSV that the first line names: as a field of JSON at the root.
    pub(super) fn column_field(&self, name: &str) -> Option<&Field> {
        match self.paths.name_of(&self.paths.begin(), name.as_bytes()).0 {
            Some(Action::Field(at)) => self.fields.get(at),
            _ => None,
        }
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

fn json_fields(masks: &[Mask]) -> Result<(Paths, Vec<Field>), PlanError> {
    let (mut paths, mut fields) = (Paths::default(), Vec::new());
    for mask in masks {
        for path in &mask.json {
            let wrong = |source| PlanError::Path { mask: mask.name.clone(), path: path.clone(), source };
            paths.add(path, Action::Field(fields.len())).map_err(wrong)?;
            fields.push(Field { name: called(last_name(path), mask), with: mask.with });
        }
    }
    Ok((paths, fields))
}

/// The field of a form: by its name in any letter case, or by the last name where it is a path, as `user[email]`, `email[]` and
/// `messages[0].email` are.
fn of_form<'a>(fields: &'a Names, name: &str) -> Option<&'a Field> {
    if fields.is_empty() {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let is_name = |part: &&str| !part.is_empty() && !part.bytes().all(|b| b.is_ascii_digit());
    let last = || name.split(['[', ']', '.']).rfind(is_name);
    fields.get(&name).or_else(|| fields.get(last()?))
}

fn named_fields(masks: &[Mask], names: impl Fn(&Mask) -> &Vec<String>) -> Names {
    let mut all = Names::new();
    for mask in masks {
        for name in names(mask) {
            let field = || Field { name: called(Some(name), mask), with: mask.with };
            all.entry(name.to_ascii_lowercase()).or_insert_with(field);
        }
    }
    all
}

/// What labels call a field: its name in small letters, where that is one that a label can have.
fn called(name: Option<&str>, mask: &Mask) -> String {
    let is_plain = |name: &&str| {
        name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.filter(is_plain).unwrap_or(&mask.name).to_ascii_lowercase()
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
