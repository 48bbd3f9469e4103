//! Values of conditions. They borrow from the request and from the condition's text; nothing is copied to be looked at.

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::Value as Json;
use time::{Duration, OffsetDateTime};

use crate::policy::known::Fault;

/// One value.
#[derive(Clone, Debug)]
pub enum Val<'f> {
    /// What the request has not, in a rule that refuses.
    Missing,
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(&'f str),
    /// A text that was made.
    Made(Arc<str>),
    Time(OffsetDateTime),
    Span(Duration),
    /// A list or an object.
    Json(&'f Json),
    Texts(&'f [String]),
    List(Arc<[Val<'f>]>),
    Map(Arc<[(Arc<str>, Val<'f>)]>),
}

impl<'f> From<&'f Json> for Val<'f> {
    fn from(json: &'f Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(holds) => Self::Bool(*holds),
            Json::Number(number) => number.as_i64().map_or_else(
                // Every number that is read is a double.
                || Self::Double(number.as_f64().unwrap_or(f64::NAN)),
                Self::Int,
            ),
            Json::String(text) => Self::Text(text),
            Json::Array(_) | Json::Object(_) => Self::Json(json),
        }
    }
}

impl<'f> Val<'f> {
    /// The value for as long as its owner stays.
    pub fn borrowed(&'f self) -> Self {
        match self {
            Self::Made(text) => Self::Text(text),
            other => other.clone(),
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Made(text) => Some(text),
            _ => None,
        }
    }

    /// Its kind, in words for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Double(_) => "a number",
            Self::Text(_) | Self::Made(_) => "a text",
            Self::Time(_) => "a time",
            Self::Span(_) => "a duration",
            Self::Json(Json::Array(_)) | Self::Texts(_) | Self::List(_) => "a list",
            Self::Json(_) | Self::Map(_) => "a map",
        }
    }

    /// Whether it is nothing: missing, or null.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Missing | Self::Null)
    }

    /// A member of a map by its name.
    pub fn member(&self, name: &str) -> Result<Val<'f>, Fault> {
        let found = match self {
            Self::Json(Json::Object(map)) => map.get(name).map(Val::from),
            Self::Map(map) => map.iter().find(|(key, _)| **key == *name).map(|(_, value)| value.clone()),
            Self::Missing | Self::Null => None,
            other => return Err(Fault::Cannot(format!("{} has no member {name:?}", other.kind()))),
        };
        found.ok_or(Fault::Missing)
    }

    /// An entry of a list by its number.
    pub fn entry(&self, at: i64) -> Result<Val<'f>, Fault> {
        let Ok(at) = usize::try_from(at) else { return Err(Fault::Missing) };
        let found = match self {
            Self::Json(Json::Array(list)) => list.get(at).map(Val::from),
            Self::Texts(list) => list.get(at).map(|text| Val::Text(text)),
            Self::List(list) => list.get(at).cloned(),
            Self::Missing | Self::Null => None,
            other => return Err(Fault::Cannot(format!("{} has no entry {at}", other.kind()))),
        };
        found.ok_or(Fault::Missing)
    }

    /// How many entries a list or a map has, characters a text.
    pub fn size(&self) -> Option<usize> {
        Some(match self {
            Self::Text(text) => text.chars().count(),
            Self::Made(text) => text.chars().count(),
            Self::Json(Json::Array(list)) => list.len(),
            Self::Json(Json::Object(map)) => map.len(),
            Self::Texts(list) => list.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            _ => return None,
        })
    }

    /// The entries of a list, the names of a map; `None` of what has neither.
    pub fn entries(&self) -> Option<Entries<'f>> {
        Some(match self {
            Self::Json(Json::Array(list)) => Entries::Json(list.iter()),
            Self::Json(Json::Object(map)) => Entries::Names(map.keys()),
            Self::Texts(list) => Entries::Texts(list.iter()),
            Self::List(list) => Entries::Made(Arc::clone(list), 0),
            Self::Map(map) => {
                let names: Vec<Val<'f>> = map.iter().map(|(name, _)| Val::Made(Arc::clone(name))).collect();
                Entries::Made(names.into(), 0)
            }
            Self::Missing | Self::Null => Entries::Made(Arc::new([]), 0),
            _ => return None,
        })
    }

    /// Which is larger; `None` where they cannot be ordered.
    pub fn order(&self, other: &Val<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Val::Int(b)) => Some(a.cmp(b)),
            (Self::Double(a), Val::Double(b)) => a.partial_cmp(b),
            (Self::Int(a), Val::Double(b)) => numbers(*a, *b),
            (Self::Double(a), Val::Int(b)) => numbers(*b, *a).map(Ordering::reverse),
            (Self::Time(a), Val::Time(b)) => Some(a.cmp(b)),
            (Self::Span(a), Val::Span(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
            _ => Some(self.text()?.cmp(other.text()?)),
        }
    }
}

/// A whole number beside a double, exactly.
fn numbers(a: i64, b: f64) -> Option<Ordering> {
    #[expect(clippy::cast_possible_truncation, reason = "within the range of i64, as is checked")]
    if b.is_nan() {
        None
    } else if b >= 9_223_372_036_854_775_808.0 {
        Some(Ordering::Less)
    } else if b < -9_223_372_036_854_775_808.0 {
        Some(Ordering::Greater)
    } else {
        let whole = b.trunc();
        Some(a.cmp(&(whole as i64)).then_with(|| whole.partial_cmp(&b).unwrap_or(Ordering::Equal)))
    }
}

/// See [`Val::entries`].
pub enum Entries<'f> {
    Json(std::slice::Iter<'f, Json>),
    Names(serde_json::map::Keys<'f>),
    Texts(std::slice::Iter<'f, String>),
    Made(Arc<[Val<'f>]>, usize),
}

impl<'f> Iterator for Entries<'f> {
    type Item = Val<'f>;
    fn next(&mut self) -> Option<Val<'f>> {
        match self {
            Self::Json(list) => list.next().map(Val::from),
            Self::Names(names) => names.next().map(|name| Val::Text(name)),
            Self::Texts(list) => list.next().map(|text| Val::Text(text)),
            Self::Made(list, at) => {
                *at += 1;
                list.get(*at - 1).cloned()
            }
        }
    }
}
