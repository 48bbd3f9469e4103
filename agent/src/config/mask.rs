//! `[[mask]]`: what is hidden, and behind what. Detectors, expressions and lists are tried when they are read, so that nothing
//! is found to be wrong when traffic comes.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use super::section::{Place, Problems, Section, Sited, nearest};
use super::{analyser, rule};
use crate::mask::detect;
use crate::policy::mask::{Directions, Mask, With, Within, Words, is_detector};
use crate::policy::rule::Effect;
use crate::report::Chain;

/// Masks that may be listed.
const MASKS: usize = 100;
/// Bytes of a file of words.
const WORDS_FILE: u64 = 8 << 20;

/// Reads one `[[mask]]`; whatever is wrong is reported. Without a name there is none.
pub(super) fn resolve(
    mut section: Section<'_>,
    dir: &Path,
    problems: &mut Problems<'_>,
) -> Option<Sited<Mask>> {
    let before = problems.0.len();
    let place = section.place().clone();
    let name = section.text("name", problems);
    let mut mask = keys(&mut section, dir, problems);
    section.finish(problems);

    let name = name.or_else(|| {
        problems.add(&place, "[[mask]] has no name", "add name = \"…\"");
        None
    })?;
    if let Err(remedy) = rule::good_name(&name.value) {
        problems.add(&name.place, format!("mask.name is {:?}", name.value), remedy);
    }
    mask.name = name.value;
    let empty = mask
        == Mask {
            name: mask.name.clone(),
            with: mask.with,
            scope: mask.scope,
            directions: mask.directions,
            binary_refused: mask.binary_refused,
            ..Mask::default()
        };
    if problems.0.len() == before {
        if empty {
            let remedy = "add detect = [\"default\"], or fields, regex, words, headers, query, form, multipart, attributes or analyser";
            problems.add(&place, format!("[[mask]] {} looks for nothing", mask.name), remedy);
        } else if let Err(error) = mask.check() {
            problems.add(&place, format!("[[mask]] {}: {}", mask.name, Chain(&error)), "mend the entry");
        }
    }
    Some(Sited { value: mask, place })
}

/// All of its keys but the name.
fn keys(section: &mut Section<'_>, dir: &Path, problems: &mut Problems<'_>) -> Mask {
    let mut list = |key: &'static str, problems: &mut Problems<'_>| {
        let texts = section.list([key, key], problems).unwrap_or_default();
        texts.into_iter().filter(|text| named(key, text, problems)).collect::<Vec<_>>()
    };
    let detect = list("detect", problems);
    let plain = |texts: Vec<Sited<String>>| texts.into_iter().map(|text| text.value).collect::<Vec<_>>();
    let mut mask = Mask {
        detect: plain(detect.into_iter().filter(|text| detector(text, problems)).collect()),
        fields: plain(list("fields", problems)),
        headers: plain(list("headers", problems)),
        query: plain(list("query", problems)),
        form: plain(list("form", problems)),
        multipart: plain(list("multipart", problems)),
        attributes: plain(list("attributes", problems)),
        ..Mask::default()
    };
    mask.regex =
        section.table_or_tables("regex", problems).into_iter().filter_map(|t| regex(t, problems)).collect();
    mask.words = section
        .table_or_tables("words", problems)
        .into_iter()
        .filter_map(|t| words(t, dir, problems))
        .collect();
    let with =
        [("token", With::Token), ("redact", With::Redact), ("hash", With::Hash), ("partial", With::Partial)];
    mask.with = word(section, "with", &with, problems).unwrap_or_default();
    let scope = [("session", Within::Session), ("tag", Within::Tag)];
    mask.scope = word(section, "scope", &scope, problems).unwrap_or_default();
    let ways =
        [("both", Directions::Both), ("request", Directions::Request), ("response", Directions::Response)];
    mask.directions = word(section, "directions", &ways, problems).unwrap_or_default();
    let binary = [("pass", false), ("refuse", true)];
    mask.binary_refused = word(section, "binary", &binary, problems).unwrap_or_default();
    let place = section.place().clone();
    let asked = section.table("analyser", problems);
    mask.analyser = asked.and_then(|section| analyser::resolve(section, problems));
    if mask.analyser.is_some() && mask.directions != Directions::Request {
        let what = "mask.analyser: only requests are given to an analyser";
        problems.add(&place, what, "write directions = \"request\", and another mask for answers");
    }
    mask
}

/// One of some words.
pub(super) fn word<T: Copy>(
    section: &mut Section<'_>,
    key: &'static str,
    words: &[(&str, T)],
    problems: &mut Problems<'_>,
) -> Option<T> {
    let text = section.text(key, problems)?;
    let found = words.iter().find(|(word, _)| *word == text.value);
    if found.is_none() {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        problems.add(
            &text.place,
            format!("mask.{key} is {:?}", text.value),
            rule::one_of(&text.value, &names),
        );
    }
    found.map(|(_, value)| *value)
}

/// Whether a text can name something.
fn named(key: &str, text: &Sited<String>, problems: &mut Problems<'_>) -> bool {
    let good = match key {
        "headers" => http::HeaderName::from_bytes(text.value.as_bytes()).is_ok(),
        _ => !text.value.is_empty() && text.value.len() <= 256 && !text.value.contains(char::is_control),
    };
    if !good {
        problems.add(&text.place, format!("mask.{key} has {:?}", text.value), "write a name");
    }
    good
}

fn detector(text: &Sited<String>, problems: &mut Problems<'_>) -> bool {
    let known = is_detector(&text.value);
    if !known {
        let names: Vec<&str> = detect::all().map(|detector| detector.name).chain(["default"]).collect();
        let remedy = match nearest(&text.value.replace('_', "-"), &names) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "`sluice mask test --list` names them; \"default\" is all".to_owned(),
        };
        problems.add(&text.place, format!("mask.detect: there is no detector {:?}", text.value), remedy);
    }
    known
}

/// A detector's name, as counts bear it.
fn own_name(section: &mut Section<'_>, of: &str, problems: &mut Problems<'_>) -> Option<String> {
    let place = section.place().clone();
    let Some(name) = section.text("name", problems) else {
        problems.add(&place, format!("mask.{of} has no name"), "add name = \"…\": counts and labels bear it");
        return None;
    };
    if let Err(remedy) = rule::good_name(&name.value) {
        problems.add(&name.place, format!("mask.{of}.name is {:?}", name.value), remedy);
        return None;
    }
    if is_detector(&name.value) {
        let what = format!("mask.{of}.name is {:?}, which is a detector of its own", name.value);
        problems.add(&name.place, what, "call it something else");
        return None;
    }
    Some(name.value)
}

fn regex(mut section: Section<'_>, problems: &mut Problems<'_>) -> Option<(String, String)> {
    let place = section.place().clone();
    let name = own_name(&mut section, "regex", problems);
    let pattern = section.text("pattern", problems);
    section.finish(problems);
    let Some(pattern) = pattern else {
        problems.add(&place, "mask.regex has no pattern", "add pattern = '…'");
        return None;
    };
    let name = name?;
    let one = Mask { regex: vec![(name.clone(), pattern.value.clone())], ..Mask::default() };
    match one.check() {
        Ok(()) => Some((name, pattern.value)),
        Err(error) => {
            problems.add(&pattern.place, format!("mask.regex: {}", Chain(&error)), "mend the expression");
            None
        }
    }
}

fn words(mut section: Section<'_>, dir: &Path, problems: &mut Problems<'_>) -> Option<Words> {
    let place = section.place().clone();
    let name = own_name(&mut section, "words", problems);
    let file = section.text("file", problems);
    let list = section.list(["list", "list"], problems);
    let any_case = section.flag("any_case", problems).is_some_and(|flag| flag.value);
    section.finish(problems);
    let words = match (file, list) {
        (Some(file), None) => from_file(&file, dir, problems)?,
        (None, Some(list)) => list.into_iter().map(|text| text.value).collect(),
        _ => {
            problems.add(
                &place,
                "mask.words has no words, or two lists",
                "write file = \"…\" or list = [\"…\"]",
            );
            return None;
        }
    };
    let words = Words { name: name?, words, any_case };
    let one = Mask { words: vec![words.clone()], ..Mask::default() };
    match one.check() {
        Ok(()) => Some(words),
        Err(error) => {
            problems.add(&place, format!("mask.words: {}", Chain(&error)), "mend the list");
            None
        }
    }
}

/// One word a line; empty lines and those that begin with # are none.
fn from_file(file: &Sited<String>, dir: &Path, problems: &mut Problems<'_>) -> Option<Vec<String>> {
    let path = dir.join(&file.value);
    let mut text = String::new();
    let read =
        std::fs::File::open(&path).and_then(|open| open.take(WORDS_FILE + 1).read_to_string(&mut text));
    let why = match read {
        Ok(_) if text.len() as u64 > WORDS_FILE => format!("it is larger than {WORDS_FILE} bytes"),
        Ok(_) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            return Some(lines.map(str::to_owned).collect());
        }
        Err(error) => error.to_string(),
    };
    let what = format!("{} cannot be read: {why}", path.display());
    problems.add(
        &file.place,
        what,
        "name a file of text, one word a line, absolute or beside the configuration",
    );
    None
}

/// Reports names that are taken or unknown, and rules that mask where nothing can be.
pub(super) fn check(
    masks: &[Sited<Mask>],
    rules: &[rule::Read],
    record: &[Sited<String>],
    problems: &mut Problems<'_>,
) {
    if let Some(beyond) = masks.get(MASKS) {
        return problems.add(&beyond.place, format!("more than {MASKS} [[mask]]"), "join some of them");
    }
    let mut known: HashMap<&str, &Place> = HashMap::new();
    for mask in masks {
        if let Some(earlier) = known.insert(&mask.value.name, &mask.place) {
            let what = format!("[[mask]] {}: its name is taken already at {earlier}", mask.value.name);
            problems.add(&mask.place, what, "give each mask its own name");
        }
    }
    let names: Vec<&str> = known.keys().copied().collect();
    let unknown = |name: &Sited<String>, of: &str, problems: &mut Problems<'_>| {
        if known.contains_key(name.value.as_str()) {
            return;
        }
        let remedy = match nearest(&name.value, &names) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "name a [[mask]] of this configuration".to_owned(),
        };
        problems.add(&name.place, format!("{of}: there is no mask {:?}", name.value), remedy);
    };
    record.iter().for_each(|name| unknown(name, "record_masked", problems));
    for read in rules {
        let rule = &read.rule.value;
        let of = format!("[[rule]] {}", rule.name);
        read.masks.iter().for_each(|name| unknown(name, &of, problems));
        let Some(first) = read.masks.first() else { continue };
        if rule.verdict != Effect::Allow {
            let remedy = "leave the mask out, or write verdict = \"allow\"";
            problems.add(&first.place, format!("{of}: it refuses, and names a mask"), remedy);
        }
        if !rule.to.protocols.is_empty() && rule.to.protocols.iter().all(|protocol| protocol == "tunnel") {
            let what = format!("{of}: nothing can be masked in a tunnel, which is not read");
            problems.add(&first.place, what, "leave the mask out, or let only what can be read through");
        }
    }
}
