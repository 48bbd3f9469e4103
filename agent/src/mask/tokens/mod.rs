//! Tokens that stand for values, and the way back. A token has the shape of its value, so that formats still validate: an e-mail
//! address stays one, a card passes Luhn. Within a scope the same value has the same token. The map is in memory and dies with
//! its scope: values are overwritten.

mod shape;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use regex::bytes::Regex;
use zeroize::Zeroizing;

use super::replace::Key;
use super::restore::MOST_HELD;
pub(super) use shape::NUMBER;
use shape::{Check, Dice, checks, shaped};

/// What cannot have a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// The map is full: [`MOST`] values, or as many of a kind as have a token of their shape.
    #[error("the map of tokens is full")]
    Full,
    /// The value is longer than [`LONGEST`] bytes.
    #[error("a value too long for a token")]
    Long,
}

/// Most values of a scope.
pub const MOST: usize = 10_000;
/// Longest value, in bytes.
pub const LONGEST: usize = 2048;
/// So often a token is drawn again that is taken, or breaks its value's check.
const DRAWS: u32 = 1 << 16;

/// The tokens of one scope: a session's, or a tag's. No Debug: it would show values.
pub struct Tokens {
    key: Key,
    most: usize,
    /// By HMAC of detector and value.
    tokens: HashMap<[u8; 32], String>,
    /// By the letters and digits of the token, small.
    values: BTreeMap<Vec<u8>, Entry>,
    /// By the first two letters or digits of tokens: a bit for each pair.
    begins: Box<[u64; 1024]>,
    /// The same by the first three, where they are so many: by a hash of them.
    threes: Box<[u64; 512]>,
    /// Whether one has no more than two.
    is_short: bool,
}

struct Entry {
    token: String,
    value: Zeroizing<Vec<u8>>,
}

/// What is known of a beginning of a token.
pub(super) enum Known<'a> {
    /// No token begins so.
    No,
    /// Tokens begin so; one may be just that.
    Begins(Option<(&'a str, &'a [u8])>),
}

impl Tokens {
    /// An empty map under a key of its own.
    pub fn new(key: Key) -> Self {
        Self::with_most(key, MOST)
    }

    /// As [`Tokens::new`], for fewer values.
    pub fn with_most(key: Key, most: usize) -> Self {
        Self {
            key,
            most: most.min(MOST),
            tokens: HashMap::new(),
            values: BTreeMap::new(),
            begins: Box::new([0; 1024]),
            threes: Box::new([0; 512]),
            is_short: false,
        }
    }

    /// The token of a value that a detector has found.
    ///
    /// # Errors
    /// [`NoToken`]: the value stays without; nothing is forgotten for it.
    pub fn token(&mut self, detector: &str, value: &[u8]) -> Result<&str, NoToken> {
        let of = self.key.hmac(&[detector.as_bytes(), &[0], value]);
        if !self.tokens.contains_key(&of) {
            let token = self.draw(detector, value, &of)?;
            let plain = plain(token.as_bytes());
            let pair = pair(plain[0], plain[1]);
            self.begins[pair / 64] |= 1 << (pair % 64);
            match three(&plain) {
                Some(three) => self.threes[three / 64] |= 1 << (three % 64),
                None => self.is_short = true,
            }
            self.values.insert(plain, Entry { token: token.clone(), value: Zeroizing::new(value.to_vec()) });
            self.tokens.insert(of, token);
        }
        Ok(&self.tokens[&of])
    }

    fn draw(&self, detector: &str, value: &[u8], of: &[u8]) -> Result<String, NoToken> {
        if value.len() > LONGEST {
            return Err(NoToken::Long);
        }
        if self.tokens.len() >= self.most {
            return Err(NoToken::Full);
        }
        let checks = checks(detector, value);
        for draw in 0..DRAWS {
            let mut dice = Dice::new(&self.key, of, draw);
            let token = shaped(detector, value, &mut dice);
            let plain = plain(token.as_bytes());
            let holds =
                |(whole, check): &(Regex, Check)| whole.is_match(token.as_bytes()) && check(token.as_bytes());
            let fits = (checks.is_empty() || checks.iter().any(holds)) && token.as_bytes() != value;
            if fits && plain.len() > 1 && !self.values.contains_key(&plain) {
                return Ok(token);
            }
        }
        Err(NoToken::Full)
    }

    /// Whether a text is a token of this scope, as it was given out.
    pub fn holds(&self, text: &[u8]) -> bool {
        self.value(text).is_some()
    }

    /// What a token of this scope stands for, as it was given out.
    pub fn value(&self, token: &[u8]) -> Option<&[u8]> {
        if token.len() > MOST_HELD {
            return None;
        }
        let entry = self.values.get(&plain(token))?;
        (entry.token.as_bytes() == token).then_some(&entry.value)
    }

    /// How many values have a token.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether a token may begin with these letters and digits, small: told by the first three.
    pub(super) fn may_begin(&self, plain: &[u8]) -> bool {
        let [first, second, ..] = *plain else { return true };
        let pair = pair(first, second);
        let goes_on = |three: usize| self.threes[three / 64] >> (three % 64) & 1 == 1;
        self.begins[pair / 64] >> (pair % 64) & 1 == 1 && (self.is_short || three(plain).is_none_or(goes_on))
    }

    /// What begins with these letters and digits.
    pub(super) fn known(&self, plain: &[u8]) -> Known<'_> {
        if !self.may_begin(plain) {
            return Known::No;
        }
        if plain.len() == 2 && !self.is_short {
            return Known::Begins(None);
        }
        let from = (Bound::Included(plain), Bound::Unbounded);
        match self.values.range::<[u8], _>(from).next() {
            Some((whole, entry)) if whole == plain => Known::Begins(Some((&entry.token, &entry.value))),
            Some((whole, _)) if whole.starts_with(plain) => Known::Begins(None),
            _ => Known::No,
        }
    }
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

/// A number below 32,768 of the first three letters and digits.
fn three(plain: &[u8]) -> Option<usize> {
    let [first, second, third, ..] = *plain else { return None };
    let three = u32::from(first) | u32::from(second) << 8 | u32::from(third) << 16;
    Some((three.wrapping_mul(0x9e37_79b1) >> 17) as usize)
}

/// Letters and digits, small.
fn plain(text: &[u8]) -> Vec<u8> {
    text.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::shape::NUMBERS;
    use super::*;
    use crate::mask::detect;
    use crate::mask::detect::sums::{luhn, mod97};

    #[test]
    fn tokens_have_the_shape_of_their_values() {
        let mut tokens = Tokens::new(Key::new([3; 32]));
        for detector in detect::all() {
            for example in detector.examples {
                let value =
                    example.split('«').nth(1).and_then(|rest| rest.split('»').next()).expect("marked");
                let token = tokens.token(detector.name, value.as_bytes()).expect(example).to_owned();
                assert_ne!(token, value);
                assert_eq!(
                    tokens.token(detector.name, value.as_bytes()),
                    Ok(token.as_str()),
                    "the same for the same"
                );
                assert!(tokens.holds(token.as_bytes()) && !tokens.holds(value.as_bytes()));
                assert!(!token.contains(value));
                let is = match detector.name {
                    "card" => luhn(&detect::sums::digits(token.as_bytes())) && token.len() == value.len(),
                    "iban" => {
                        let plain = detect::sums::plain(token.as_bytes());
                        mod97(plain[4..].iter().chain(&plain[..4]).copied()) == 1 && token[..2] == value[..2]
                    }
                    "email" => token.ends_with("@masked.example"),
                    name if NUMBERS.contains(&name) => token.len() == value.len(),
                    _ => true,
                };
                assert!(is, "{}: {value} {token}", detector.name);
            }
        }
    }

    #[test]
    fn a_full_map_gives_no_more_and_forgets_nothing() {
        let mut tokens = Tokens::with_most(Key::new([3; 32]), 2);
        let first = tokens.token("email", b"a@example.com").expect("room").to_owned();
        assert!(tokens.token("email", b"b@example.com").is_ok());
        assert_eq!(tokens.token("email", b"c@example.com"), Err(NoToken::Full));
        assert_eq!(tokens.token("email", b"a@example.com"), Ok(first.as_str()));
        assert_eq!(tokens.token("x", &[b'a'; LONGEST + 1]), Err(NoToken::Long));
        let mut other = Tokens::new(Key::new([4; 32]));
        assert_ne!(
            other.token("email", b"a@example.com"),
            Ok(first.as_str()),
            "another scope, another token"
        );
    }
}
