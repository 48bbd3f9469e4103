//! Keys that take one text or several, tables of names of the writer's choice, and values of any shape.

use toml::Spanned;
use toml::de::DeValue;

use super::{Problems, Section, Sited, kind, site, with_places};

/// A name of the writer's choice, and what stands behind it.
pub(in crate::config) struct Named {
    pub name: Sited<String>,
    pub values: Vec<Sited<String>>,
}

impl Section<'_> {
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

    /// Whether true or false stands there, for a key that may be that or something else.
    pub fn is_flag(&self, key: &str) -> bool {
        let mut entries = (&self.table).into_iter();
        entries.any(|(name, value)| name.get_ref() == key && matches!(value.get_ref(), DeValue::Boolean(_)))
    }

    /// A key that says yes or is not there.
    pub fn is_true(&mut self, key: &'static str, problems: &mut Problems<'_>) -> bool {
        let flag = self.flag(key, problems);
        if let Some(flag) = flag.as_ref().filter(|flag| !flag.value) {
            let what = format!("{}{key} is false", self.prefix);
            problems.add(&flag.place, what, "write true, or leave the key out");
        }
        flag.is_some()
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
