//! JSON with one meaning (RFC 8259 and I-JSON, RFC 7493): what any two parsers would read alike, or nothing. A key that
//! stands twice in an object is refused, since two readers could take another of the two each (RFC 8725 §2.4).

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Levels of a document.
const DEPTH: usize = 64;

/// How a text is read.
#[derive(Clone, Copy, Debug)]
pub struct Strict {
    /// Lists and objects inside one another; `serde_json` bounds them too (128).
    pub depth: usize,
    /// Values in all.
    pub values: usize,
    /// Whether names that differ in letter case only count as the same: some parsers read them so.
    pub fold: bool,
}

impl Strict {
    /// Reads a text whole.
    ///
    /// # Errors
    /// No JSON, something behind it, invalid UTF-8, lone surrogates, a number that no double holds, a member twice in an
    /// object, a zero in a member's name, or more than the bounds. Of the text, the error has the place alone.
    pub fn read(self, text: &[u8]) -> Result<Value, serde_json::Error> {
        let values = Cell::new(0);
        let mut reader = serde_json::Deserializer::from_slice(text);
        let value = Reader { how: self, depth: 0, values: &values }.deserialize(&mut reader)?;
        reader.end().map(|()| value)
    }
}

/// Reads one object, names apart by letter case: for documents whose length is bounded already.
///
/// # Errors
/// What is wrong; of the text only the place.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, String> {
    let strict = Strict { depth: DEPTH, values: usize::MAX, fold: false };
    match strict.read(text).map_err(|error| format!("it is not strict JSON: {error}"))? {
        Value::Object(object) => Ok(object),
        _ => Err("it is no JSON object".to_owned()),
    }
}

#[derive(Clone, Copy)]
struct Reader<'n> {
    how: Strict,
    depth: usize,
    values: &'n Cell<usize>,
}

impl Reader<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == self.how.depth {
            return Err(E::custom(format_args!("more than {} levels deep", self.how.depth)));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > self.how.values {
            return Err(D::Error::custom(format_args!("more than {} values", self.how.values)));
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(value) = from.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let (mut map, mut folded) = (Map::new(), HashSet::new());
        while let Some(key) = from.next_key::<String>()? {
            if key.contains('\0') {
                return Err(A::Error::custom("a member's name has a zero in it"));
            }
            let twice = if !self.how.fold {
                map.contains_key(&key)
            } else if key.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
                map.contains_key(&key) || folded.contains(&key)
            } else {
                let fold = fold(&key);
                (fold != key && map.contains_key(&fold)) || map.contains_key(&key) || !folded.insert(fold)
            };
            if twice {
                return Err(A::Error::custom("an object has a member twice, perhaps in another letter case"));
            }
            let value = from.next_value_seed(inner)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// A member's name as the parsers have it that ignore case (Go's `encoding/json` folds the long s and the Kelvin sign too).
pub fn fold(key: &str) -> String {
    key.chars().flat_map(|c| if c == 'ſ' { 's' } else { c }.to_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_meaning_or_none() {
        assert_eq!(object(br#"{"a":[1,{"b":null}],"c":"x","C":"y"}"#).expect("JSON").len(), 3);
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"\u0061":2}}"#,
            r#"{"a":1} {"b":2}"#,
            r#"{"a":1"#,
            "[]",
            "",
            "{\"a\":\"\u{0}\"}",
        ] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(object(deep.as_bytes()).is_err());
        for text in [r#"{"secret":"#, r#"{"secret":1,"secret":2}"#, r#"{"a":secret}"#] {
            assert!(!object(text.as_bytes()).expect_err("bad").contains("secret"));
        }
    }
}
