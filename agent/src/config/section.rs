//! Walking a TOML table key by key, so that every mistake is found in one pass, each with its line. What a reader did
//! not ask for is an unknown key, and the keys that it asked for are the valid names: the list cannot go stale.

use std::fmt;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

pub(super) use crate::types::nearest;

use super::{Problem, Source};

mod code;
mod lists;

pub(super) use code::Code;
pub(super) use lists::Named;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub file: PathBuf,
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Sited<T> {
    pub value: T,
    pub place: Place,
}

/// Collects problems.
pub(super) struct Problems<'a>(pub &'a mut Vec<Problem>);

impl Problems<'_> {
    pub fn add(&mut self, place: &Place, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Problem {
            file: place.file.clone(),
            line: place.line,
            column: place.column,
            what: what.into(),
            remedy: remedy.into(),
        });
    }
}

/// One table of a file, consumed key by key; [`Section::finish`] reports what is left.
pub(super) struct Section<'s> {
    source: &'s Source,
    /// `record.` for `[record]`, empty at the top: for messages.
    prefix: String,
    place: Place,
    table: DeTable<'s>,
    asked: Vec<&'static str>,
}

impl<'s> Section<'s> {
    /// The whole file. Syntax errors are reported, and what could be read beside them is kept.
    pub fn of_file(source: &'s Source, problems: &mut Problems<'_>) -> Self {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        for error in errors {
            let place = site(source, error.span().map_or(0, |s| s.start));
            problems.add(&place, error.message(), "mend the TOML syntax (https://toml.io)");
        }
        let place = site(source, 0);
        Self { source, prefix: String::new(), place, table: table.into_inner(), asked: Vec::new() }
    }

    /// Where the table's header stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    fn take(&mut self, key: &'static str) -> Option<(Place, DeValue<'s>)> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let (_, value) = self.table.remove_entry(key)?;
        Some((site(self.source, value.span().start), value.into_inner()))
    }

    fn wrong(&self, key: &str, place: &Place, wanted: &str, got: &DeValue<'_>, problems: &mut Problems<'_>) {
        let got = kind(got);
        problems.add(
            place,
            format!("{}{key} is {got}, not {wanted}", self.prefix),
            format!("write {wanted}"),
        );
    }

    /// A text.
    pub fn text(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Sited<String>> {
        match self.take(key)? {
            (place, DeValue::String(text)) => Some(Sited { value: text.into_owned(), place }),
            (place, other) => {
                self.wrong(key, &place, "a text in quotes", &other, problems);
                None
            }
        }
    }

    /// A text in a language of its own, whose mistakes are found later.
    pub fn code(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Code<'s>> {
        self.asked.push(key);
        let (_, value) = self.table.remove_entry(key)?;
        let span = value.span();
        match value.into_inner() {
            DeValue::String(text) => {
                Some(Code { text: text.into_owned(), source: self.source, begin: span.start })
            }
            other => {
                let place = site(self.source, span.start);
                self.wrong(key, &place, "a text in quotes", &other, problems);
                None
            }
        }
    }

    /// True or false.
    pub fn flag(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Sited<bool>> {
        match self.take(key)? {
            (place, DeValue::Boolean(value)) => Some(Sited { value, place }),
            (place, other) => {
                self.wrong(key, &place, "true or false", &other, problems);
                None
            }
        }
    }

    /// A text in quotes, or a whole number given as its text: for sizes, counts and durations.
    pub fn quantity(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Sited<String>> {
        match self.take(key)? {
            (place, DeValue::String(text)) => Some(Sited { value: text.into_owned(), place }),
            (place, DeValue::Integer(n)) if n.radix() == 10 => {
                Some(Sited { value: n.as_str().replace('_', ""), place })
            }
            (place, other) => {
                self.wrong(key, &place, "a number or a text in quotes", &other, problems);
                None
            }
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Vec<Sited<String>>> {
        let (place, value) = self.take(key)?;
        let DeValue::Array(items) = value else {
            self.wrong(key, &place, "a list of texts", &value, problems);
            return None;
        };
        let mut texts = Vec::new();
        for item in items {
            let place = site(self.source, item.span().start);
            match item.into_inner() {
                DeValue::String(text) => texts.push(Sited { value: text.into_owned(), place }),
                other => self.wrong(key, &place, "a list of texts", &other, problems),
            }
        }
        Some(texts)
    }

    /// A text, or a list of texts.
    pub fn text_or_texts(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<(Place, Vec<Sited<String>>)> {
        let is_text = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = name.get_ref();
            name == key && matches!(value.get_ref(), DeValue::String(_))
        };
        if (&self.table).into_iter().any(is_text) {
            let one = self.text(key, problems)?;
            return Some((one.place.clone(), vec![one]));
        }
        let place = self.place.clone();
        Some((place, self.texts(key, problems)?))
    }

    /// A table: `[key]`.
    pub fn table(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Section<'s>> {
        match self.take(key)? {
            (place, DeValue::Table(table)) => {
                Some(self.child(format!("{}{key}.", self.prefix), place, table))
            }
            (place, other) => {
                self.wrong(key, &place, &format!("a table [{}{key}]", self.prefix), &other, problems);
                None
            }
        }
    }

    /// A list of tables: `[[key]]`.
    pub fn tables(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Vec<Section<'s>> {
        let wanted = format!("a list of tables [[{}{key}]]", self.prefix);
        let Some((place, value)) = self.take(key) else { return Vec::new() };
        let DeValue::Array(items) = value else {
            self.wrong(key, &place, &wanted, &value, problems);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (item, place) in with_places(self.source, items) {
            match item {
                DeValue::Table(table) => {
                    sections.push(self.child(format!("{}{key}.", self.prefix), place, table));
                }
                other => self.wrong(key, &place, &wanted, &other, problems),
            }
        }
        sections
    }

    /// A table `{ … }`, or a list of them.
    pub fn table_or_tables(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Vec<Section<'s>> {
        match self.table.get(key).map(Spanned::get_ref) {
            Some(DeValue::Table(_)) => self.table(key, problems).into_iter().collect(),
            None | Some(DeValue::Array(_)) => self.tables(key, problems),
            Some(_) => {
                if let Some((place, other)) = self.take(key) {
                    self.wrong(key, &place, "a table { … } or a list of them", &other, problems);
                }
                Vec::new()
            }
        }
    }

    fn child(&self, prefix: String, place: Place, table: DeTable<'s>) -> Section<'s> {
        Section { source: self.source, prefix, place, table, asked: Vec::new() }
    }

    /// Reports every key that nobody asked for, with the nearest name that is one.
    pub fn finish(self, problems: &mut Problems<'_>) {
        for (key, _) in &self.table {
            let place = site(self.source, key.span().start);
            let name = key.get_ref();
            let remedy = match nearest(name, &self.asked) {
                Some(near) => format!("did you mean {}{near}?", self.prefix),
                None => format!("valid here: {}", self.asked.join(", ")),
            };
            problems.add(&place, format!("unknown key {}{name}", self.prefix), remedy);
        }
    }
}

fn with_places<'s>(source: &Source, items: DeArray<'s>) -> Vec<(DeValue<'s>, Place)> {
    let sited = |item: Spanned<DeValue<'s>>| {
        let place = site(source, item.span().start);
        (item.into_inner(), place)
    };
    items.into_iter().map(sited).collect()
}

fn site(source: &Source, offset: usize) -> Place {
    let upto = &source.text.as_bytes()[..offset.min(source.text.len())];
    let line = upto.iter().filter(|b| **b == b'\n').count() + 1;
    let begin = upto.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    // Bytes that begin a character.
    let column = upto[begin..].iter().filter(|b| **b & 0xc0 != 0x80).count() + 1;
    Place { file: source.path.clone(), line, column }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        let names = ["unit", "slice", "cgroup", "user", "name", "loopback"];
        assert_eq!(nearest("slcie", &names), Some("slice"));
        assert_eq!(nearest("lopback", &names), Some("loopback"));
        assert_eq!(nearest("units", &names), Some("unit"));
        assert_eq!(nearest("namespace", &names), None);
    }
}
