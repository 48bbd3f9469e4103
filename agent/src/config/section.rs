//! Walking a TOML table key by key, so that every mistake is found in one pass, each with its line. What a reader did
//! not ask for is an unknown key, and the keys that it asked for are the valid names: the list cannot go stale.

use std::fmt;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{Problem, Source};

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

/// A name of the writer's choice, and what stands behind it.
pub(super) struct Named {
    pub name: Sited<String>,
    pub values: Vec<Sited<String>>,
}

/// A text in a language of its own.
pub(super) struct Code<'s> {
    pub text: String,
    source: &'s Source,
    /// Where its quotes begin.
    begin: usize,
}

impl Code<'_> {
    /// Where a byte of the text stands in the file.
    pub fn place(&self, at: usize) -> Place {
        site(self.source, self.begin + quoted(&self.source.text[self.begin..], at))
    }
}

/// How many bytes before the `at`th byte of a TOML string's value stand in the file, quotes and escapes included.
fn quoted(raw: &str, at: usize) -> usize {
    let (quotes, basic) = match raw.as_bytes() {
        [b'"', b'"', b'"', ..] => (3, true),
        [b'\'', b'\'', b'\'', ..] => (3, false),
        [first, ..] => (1, *first == b'"'),
        [] => return 0,
    };
    let mut begin = quotes;
    if quotes == 3 {
        // The line's end right after the quotes is none of the text's.
        let rest = &raw[begin..];
        begin += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    }
    if !basic {
        return begin + at;
    }
    let mut bytes = 0;
    let mut rest = raw[begin..].char_indices();
    while let Some((offset, c)) = rest.next() {
        if bytes >= at {
            return begin + offset;
        }
        if c != '\\' {
            bytes += c.len_utf8();
            continue;
        }
        let digits = match rest.next().map(|(_, c)| c) {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            // A line that goes on: neither its end nor the blanks after it are the text's.
            Some('\n' | '\r' | ' ' | '\t') => {
                while rest.as_str().starts_with(char::is_whitespace) {
                    rest.next();
                }
                continue;
            }
            _ => 0,
        };
        let code: String = rest.by_ref().take(digits).map(|(_, c)| c).collect();
        let c = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
        bytes += c.map_or(1, char::len_utf8);
    }
    raw.len()
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

    /// Texts or numbers (as their texts), one or a list of them, under whichever of the names is there: the first is the one
    /// that messages know.
    pub fn list(
        &mut self,
        names: [&'static str; 2],
        problems: &mut Problems<'_>,
    ) -> Option<Vec<Sited<String>>> {
        let found = names.map(|name| self.take(name).map(|(place, value)| (name, place, value)));
        let (key, place, value) = match found {
            [Some(_), Some((one, place, _))] => {
                let what = format!("{}{one} and {}{} are the same key", self.prefix, self.prefix, names[0]);
                problems.add(&place, what, "keep one of the two");
                return None;
            }
            [many, one] => many.or(one)?,
        };
        let items = match value {
            DeValue::Array(items) => with_places(self.source, items),
            one => vec![(one, place.clone())],
        };
        if items.is_empty() {
            let what = format!("{}{key} is an empty list", self.prefix);
            problems.add(&place, what, "leave the key out to ask nothing, or name what is meant");
        }
        let mut texts = Vec::new();
        for (item, place) in items {
            match item {
                DeValue::String(text) => texts.push(Sited { value: text.into_owned(), place }),
                DeValue::Integer(n) if n.radix() == 10 => {
                    texts.push(Sited { value: n.as_str().replace('_', ""), place });
                }
                other => self.wrong(key, &place, "a text or a list of texts", &other, problems),
            }
        }
        Some(texts)
    }

    /// A table of names of the writer's choice, each with a text or a list of texts.
    pub fn lists(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Vec<Named> {
        let Some(section) = self.table(key, problems) else { return Vec::new() };
        let Section { source, prefix, table, .. } = section;
        let mut found = Vec::new();
        for (name, value) in table {
            let (place, at) = (site(source, name.span().start), site(source, value.span().start));
            let items = match value.into_inner() {
                DeValue::Array(items) => with_places(source, items),
                one => vec![(one, at)],
            };
            if items.is_empty() {
                let what = format!("{prefix}{} names no value", name.get_ref());
                problems.add(&place, what, "write \"**\" for any");
            }
            let mut values = Vec::new();
            for (item, place) in items {
                match item {
                    DeValue::String(text) => values.push(Sited { value: text.into_owned(), place }),
                    DeValue::Integer(n) if n.radix() == 10 => {
                        values.push(Sited { value: n.as_str().replace('_', ""), place });
                    }
                    DeValue::Boolean(value) => values.push(Sited { value: value.to_string(), place }),
                    other => {
                        let what = format!("{prefix}{} is {}", name.get_ref(), kind(&other));
                        problems.add(&place, what, "write a text or a list of texts");
                    }
                }
            }
            let name = Sited { value: name.into_inner().into_owned(), place };
            found.push(Named { name, values });
        }
        found
    }

    /// Whatever stands there, for a key that has no shape of its own; as JSON.
    pub fn json(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<Sited<serde_json::Value>> {
        let (place, value) = self.take(key)?;
        match json(value) {
            Some(value) => Some(Sited { value, place }),
            None => {
                let what =
                    format!("{}{key} holds what JSON cannot (a date, or no finite number)", self.prefix);
                problems.add(&place, what, "write texts, numbers, true, false, lists and tables");
                None
            }
        }
    }

    /// Takes a key that is none yet out, and says where it stood.
    pub fn not_yet(&mut self, key: &str) -> Option<Place> {
        let (name, _) = self.table.remove_entry(key)?;
        Some(site(self.source, name.span().start))
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

fn json(value: DeValue<'_>) -> Option<serde_json::Value> {
    use serde_json::Value;
    Some(match value {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(n) => i64::from_str_radix(&n.as_str().replace('_', ""), n.radix()).ok()?.into(),
        DeValue::Float(n) => {
            n.as_str().replace('_', "").parse::<f64>().ok().filter(|n| n.is_finite())?.into()
        }
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(_) => return None,
        DeValue::Array(items) => {
            Value::Array(items.into_iter().map(|item| json(item.into_inner())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let entry = |(name, value): (Spanned<std::borrow::Cow<'_, str>>, Spanned<DeValue<'_>>)| {
                Some((name.into_inner().into_owned(), json(value.into_inner())?))
            };
            Value::Object(table.into_iter().map(entry).collect::<Option<_>>()?)
        }
    })
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

/// The nearest of `names`, if one is near enough to be a slip of the pen: a third of the letters or fewer differ.
pub(super) fn nearest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    let bound = (name.chars().count() / 3).max(1);
    let near = names.iter().map(|n| (distance(name, n), *n)).min()?;
    (near.0 <= bound).then_some(near.1)
}

/// Optimal string alignment: insertions, deletions, changes and swaps of neighbours. Both texts are cut at 64 letters.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_of_a_text_is_found_in_its_quotes() {
        for (raw, at, want) in [
            ("'a + b'", 4, 5),
            ("\"a + b\"", 4, 5),
            ("'\''\na\nb'\''", 2, 6),
            (r#""a\"b""#, 1, 2),
            (r#""a\"b""#, 2, 4),
            (r#""\u00e9x""#, 2, 7),
            ("\"é x\"", 3, 4),
            ("\"\"\"\\\n   a\"\"\"", 0, 3),
        ] {
            let raw = raw.replace("'\''", "\'\'\'");
            assert_eq!(quoted(&raw, at), want, "{raw} {at}");
        }
    }

    #[test]
    fn near_names() {
        let names = ["unit", "slice", "cgroup", "user", "name", "loopback"];
        assert_eq!(nearest("slcie", &names), Some("slice"));
        assert_eq!(nearest("lopback", &names), Some("loopback"));
        assert_eq!(nearest("units", &names), Some("unit"));
        assert_eq!(nearest("namespace", &names), None);
    }
}
