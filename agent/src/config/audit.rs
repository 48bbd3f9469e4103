//! `[audit]`: who may read what was recorded.

use std::path::PathBuf;

use super::section::{Place, Problems, Section, Sited};
use crate::types::Recipient;

/// Recipients that may be listed: the key of each file of bodies is sealed for every one.
const RECIPIENTS: usize = 16;

/// `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Who may read bodies besides the host, each once. Not empty where the host may not.
    pub recipients: Vec<Recipient>,
    /// Whether the host itself may.
    pub host_can_read: bool,
    /// Where signed checkpoints go besides the journal.
    pub checkpoints_to: Vec<Sink>,
}

/// A place for checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Each is added to it by the warden.
    File(PathBuf),
    /// Each is posted there by the gate.
    Https(String),
}

impl Default for Audit {
    fn default() -> Self {
        Self { recipients: Vec::new(), host_can_read: true, checkpoints_to: Vec::new() }
    }
}

/// What one file's `[audit]` sets, each with the place of its mention.
pub(super) struct Keys {
    pub recipients: Option<(Place, Vec<Recipient>)>,
    pub host_can_read: Option<(Place, bool)>,
    pub checkpoints_to: Option<(Place, Vec<Sink>)>,
}

/// Reads one `[audit]`.
pub(super) fn read(mut section: Section<'_>, problems: &mut Problems<'_>) -> Keys {
    let place = section.place().clone();
    let recipients = section.texts("recipients", problems);
    let recipients = recipients.map(|texts| (place.clone(), listed(&place, texts, problems)));
    let host_can_read = section.flag("host_can_read", problems).map(|flag| (flag.place, flag.value));
    let sinks = section.texts("checkpoints_to", problems);
    let checkpoints_to = sinks
        .map(|texts| (place.clone(), texts.into_iter().filter_map(|text| sink(text, problems)).collect()));
    section.finish(problems);
    let nobody = recipients.as_ref().is_none_or(|(_, listed)| listed.is_empty());
    if let Some((place, false)) = &host_can_read
        && nobody
    {
        let what =
            "audit.host_can_read is false and audit.recipients names nobody: bodies could not be read at all";
        problems.add(place, what, "write recipients = [\"age1…\"] beside it, as age-keygen -y prints them");
    }
    Keys { recipients, host_can_read, checkpoints_to }
}

fn sink(text: Sited<String>, problems: &mut Problems<'_>) -> Option<Sink> {
    let url = text.value.parse::<http::Uri>().ok().filter(|url| url.scheme_str() == Some("https"));
    if url.is_some_and(|url| url.host().is_some()) {
        return Some(Sink::Https(text.value));
    }
    let path = PathBuf::from(&text.value);
    if path.is_absolute() {
        return Some(Sink::File(path));
    }
    let what = format!("audit.checkpoints_to has {:?}", text.value);
    problems.add(&text.place, what, "write an https:// URL, or the absolute path of a file");
    None
}

fn listed(place: &Place, texts: Vec<Sited<String>>, problems: &mut Problems<'_>) -> Vec<Recipient> {
    if texts.len() > RECIPIENTS {
        let what = format!("audit.recipients lists {}", texts.len());
        problems.add(place, what, format!("write up to {RECIPIENTS}"));
        return Vec::new();
    }
    let mut found = Vec::new();
    for text in texts {
        match text.value.parse() {
            Ok(recipient) if !found.contains(&recipient) => found.push(recipient),
            Ok(_) => {}
            Err(error) => {
                problems.add(
                    &text.place,
                    format!("audit.recipients has {:?}", text.value),
                    format!("that is {error}"),
                );
            }
        }
    }
    found
}
