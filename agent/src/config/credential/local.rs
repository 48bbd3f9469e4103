//! The sources that the warden reads: a file, a systemd credential, a variable, a command.

use std::path::{Component, Path};

use crate::config::issuer;
use crate::config::section::{Problems, Section, Sited};
use crate::types::credential::Source;

/// Words of a command.
const WORDS: usize = 64;

/// Reads whichever of them are there.
pub(super) fn read(section: &mut Section<'_>, problems: &mut Problems<'_>) -> Vec<Source> {
    let say = |text: &Sited<String>, key: &str, remedy: &str, problems: &mut Problems<'_>| {
        problems.add(&text.place, format!("credential.source.{key} is {:?}", text.value), remedy);
    };
    let mut found = Vec::new();
    if let Some(text) = section.text("file", problems) {
        if !is_path(&text.value) {
            say(&text, "file", "write an absolute path without . and ..", problems);
        }
        found.push(Source::File(text.value));
    }
    if let Some(text) = section.text("systemd", problems) {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.:@".contains(&b);
        if text.value.is_empty() || text.value.starts_with('.') || !text.value.bytes().all(good) {
            say(&text, "systemd", "write the name that LoadCredential= gives it", problems);
        }
        found.push(Source::Systemd(text.value));
    }
    if let Some(text) = section.text("env", problems) {
        if !issuer::is_variable(&text.value) {
            say(&text, "env", "write the name of a variable", problems);
        }
        found.push(Source::Env(text.value));
    }
    let place = section.place().clone();
    if let Some(words) = section.texts("command", problems) {
        let place = words.first().map_or(place, |first| first.place.clone());
        let words: Vec<String> = words.into_iter().map(|word| word.value).collect();
        let good = words.first().is_some_and(|first| is_path(first));
        if !good || words.len() > WORDS || words.iter().any(|word| word.contains('\0')) {
            let remedy =
                "write the program's absolute path and its arguments, each a text: there is no shell";
            problems.add(&place, "credential.source.command is no command", remedy);
        }
        found.push(Source::Command(words));
    }
    found
}

fn is_path(text: &str) -> bool {
    let path = Path::new(text);
    let plain = |part| matches!(part, Component::Normal(_) | Component::RootDir);
    // `components` drops a dot in the middle; none is meant to be there.
    let dots = text.split('/').any(|part| part == "." || part == "..");
    path.is_absolute()
        && path.file_name().is_some()
        && path.components().all(plain)
        && !dots
        && !text.contains('\0')
}
