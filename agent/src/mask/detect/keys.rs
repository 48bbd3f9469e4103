//! Keys of the well-known providers. Their shapes are data: `keys.toml` beside this, which is part of the binary.

use std::sync::LazyLock;

use serde::Deserialize;

use super::{Begin, Detector, Edge, Shape};

const TABLE: &str = include_str!("keys.toml");

pub const ALL: &[Detector] = &[
    Detector {
        name: "api-key",
        grammar: "the patterns of keys.toml. Checksums, where a provider has them, are not asked: what has the shape is a secret. \
                  Neither a letter or digit, nor `-` or `_` on either side",
        source: "each provider's, named in keys.toml",
        examples: &["x=«AKIAIOSFODNN7EXAMPLE»;"],
        shapes: &[Shape { begin: Begin::Keys, edge: Edge::None, check: |_| true, near: &[] }],
    },
    Detector {
        name: "api-key-unprefixed",
        grammar: "keys that begin with no text of three letters, by their digits: Twilio's (SK and 32 hexadecimal digits), \
                  Mailchimp's (32 hexadecimal digits, -us and a number), Azure AD's (three letters, a digit, Q~ and 31 to 34), \
                  Telegram's (8 to 10 digits, :AA and 32 or 33), Discord's (M, N or O in three parts), Facebook's of an app (15 or 16 \
                  digits, a bar and 27 to 40)",
        source: "the providers' documentation of their APIs",
        examples: &[
            "bot «123456789:AAEXAMPLEexampleEXAMPLEexampleEXAMP»",
            "«0a9f8e7d6c5b4a3928171605f4e3d2c1-us20»",
            "app «123456789012345|EXAMPLEexampleEXAMPLEexampleE»",
        ],
        shapes: &[
            // Two letters are met everywhere: found by its digits.
            Shape::digit("SK[0-9a-f]{32}", |_| true).edge(Edge::Word),
            Shape::digit("[0-9a-f]{32}-us[0-9]{1,2}", |_| true).edge(Edge::Word),
            // Azure's; those that begin with a sign are found by their names only.
            Shape::digit("[A-Za-z0-9]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}", |_| true).edge(Edge::Word),
            Shape::digit("[0-9]{8,10}:AA[A-Za-z0-9_-]{32,33}", |_| true).edge(Edge::Word),
            Shape::digit("[MNO][A-Za-z0-9_-]{23,25}[.][A-Za-z0-9_-]{6}[.][A-Za-z0-9_-]{27,38}", |_| true)
                .edge(Edge::Word),
            Shape::digit("[0-9]{15,16}[|][A-Za-z0-9_-]{27,40}", |_| true).edge(Edge::Word),
        ],
    },
];

/// One shape of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Whose.
    pub kind: String,
    /// A regular expression over ASCII that begins with one of a few texts.
    pub pattern: String,
    #[serde(rename = "checksum")]
    _checksum: Option<String>,
    /// One, made up.
    pub example: String,
    #[serde(rename = "source")]
    _source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    key: Vec<Key>,
}

static KEYS: LazyLock<Vec<Key>> =
    LazyLock::new(|| toml::from_str::<Table>(TABLE).expect("a test reads it").key);

impl Key {
    /// Every shape; the first that matches counts.
    pub fn all() -> &'static [Self] {
        &KEYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_and_examples_hold() {
        assert!(Key::all().len() > 60);
        for key in Key::all() {
            let regex = regex::bytes::Regex::new(&format!("^(?-u:{})$", key.pattern)).expect(&key.pattern);
            assert!(regex.is_match(key.example.as_bytes()), "{}", key.example);
        }
    }
}
