//! Long-lived keys by their shapes. The shapes are data: `keys.toml` beside this, which is part of the binary.

use std::ops::Range;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use regex::bytes::{Regex, RegexSet};
use serde::Deserialize;

const TABLE: &str = include_str!("keys.toml");
/// What clients are given for a key where there is none.
const PLACEHOLDER: &str = "sluice-placeholder";
/// A JWT that ends later than so many seconds from now is long-lived.
const WEEK: u64 = 7 * 24 * 3600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    key: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: String,
    pattern: String,
    checksum: Option<Checksum>,
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests look for it"))]
    example: String,
    #[serde(rename = "source")]
    _source: String,
}

#[derive(Clone, Copy, Deserialize)]
enum Checksum {
    #[serde(rename = "crc32-base62")]
    Crc32Base62,
}

struct Shapes {
    any: RegexSet,
    each: Vec<(Written, Regex)>,
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let table: Table = toml::from_str(TABLE).expect("a test reads it");
    let bare = |pattern: &str| format!("(?-u:{pattern})");
    let any = RegexSet::new(table.key.iter().map(|key| bare(&key.pattern))).expect("a test reads it");
    let compiled = |key: Written| {
        let regex = Regex::new(&bare(&key.pattern)).expect("a test reads it");
        (key, regex)
    };
    Shapes { any, each: table.key.into_iter().map(compiled).collect() }
});

/// The long-lived keys in a text, and what kind each is. `now`: seconds since 1970.
pub fn find(text: &[u8], now: u64) -> Vec<(&'static str, Range<usize>)> {
    let mut found: Vec<(&str, Range<usize>)> = Vec::new();
    for (written, regex) in SHAPES.any.matches(text).into_iter().map(|at| &SHAPES.each[at]) {
        for at in regex.find_iter(text).map(|found| found.range()) {
            let taken = found.iter().any(|(_, other)| at.start < other.end && other.start < at.end);
            if !taken && stands_alone(text, &at) && written.holds(&text[at.clone()], now) {
                found.push((&written.kind, at));
            }
        }
    }
    found.retain(|(kind, _)| *kind != PLACEHOLDER);
    found
}

fn stands_alone(text: &[u8], at: &Range<usize>) -> bool {
    let goes_on = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || b"-_".contains(b));
    let before = at.start.checked_sub(1).and_then(|before| text.get(before));
    !goes_on(before) && !goes_on(text.get(at.end))
}

impl Written {
    /// What a pattern cannot say.
    fn holds(&self, key: &[u8], now: u64) -> bool {
        match self.checksum {
            Some(Checksum::Crc32Base62) => has_checksum(key),
            None if self.kind == "jwt" => lives_long(key, now),
            None => true,
        }
    }
}

fn has_checksum(key: &[u8]) -> bool {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let Some((_, token)) = key.split_at_checked(key.len().saturating_sub(36)) else { return false };
    let (random, sum) = token.split_at(token.len().saturating_sub(6));
    let mut left = crc32(random);
    sum.iter().rev().all(|digit| {
        let is = *digit == DIGITS[left as usize % 62];
        left /= 62;
        is
    }) && left == 0
}

/// CRC-32 of ISO 3309, as in zlib.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 },
        )
    })
}

/// Whether a JWT (RFC 7519) has no end, or a far one.
fn lives_long(token: &[u8], now: u64) -> bool {
    #[derive(Deserialize)]
    struct Claims {
        exp: Option<f64>,
    }
    let claims = token.split(|b| *b == b'.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|claims| serde_json::from_slice::<Claims>(&claims).ok());
    claims.is_some_and(|claims| claims.exp.is_none_or(|exp| exp > (now + WEEK) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn kinds(text: &str) -> Vec<&'static str> {
        find(text.as_bytes(), NOW).into_iter().map(|(kind, _)| kind).collect()
    }

    #[test]
    fn every_example_is_found_as_its_kind_and_whole() {
        for (written, _) in &SHAPES.each {
            let text = format!("Bearer {}", written.example);
            let found = find(text.as_bytes(), NOW);
            if written.kind == PLACEHOLDER {
                assert_eq!(found, [], "{text}");
            } else {
                assert_eq!(found, [(written.kind.as_str(), 7..text.len())], "{text}");
            }
        }
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        for text in [
            "sk-sluice-proj-EXAMPLEexampleEXAMPLEexample0123456789",
            "ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18",
            "xAKIAIOSFODNN7EXAMPLE",
            "AKIAIOSFODNN7EXAMPLE0",
            "sk_test_EXAMPLEexampleEXAM",
            "ASIAIOSFODNN7EXAMPLE",
            "sk-short",
            "",
        ] {
            assert_eq!(kinds(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn of_jwts_only_long_lived_ones_count() {
        let token = |claims: &str| {
            let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
            format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(claims), "s".repeat(43))
        };
        assert_eq!(kinds(&token(&format!(r#"{{"exp":{}}}"#, NOW + 3600))), [""; 0]);
        assert_eq!(kinds(&token(&format!(r#"{{"exp":{}}}"#, NOW + 2 * WEEK))), ["jwt"]);
        assert_eq!(kinds(&token(r#"{"sub":"x"}"#)), ["jwt"]);
    }

    #[test]
    fn several_are_told_apart() {
        let text = "a=sk-ant-api03-EXAMPLEexampleEXAMPLEexample0; b=AKIAIOSFODNN7EXAMPLE/20260101";
        let mut found = kinds(text);
        found.sort_unstable();
        assert_eq!(found, ["anthropic", "aws"]);
    }
}
