//! Spaces, dashes and digits above 127 that people and programs write into numbers, and letters that show nothing: a text is searched
//! as though it had what a keyboard has. What stays is written as it came.

use super::latin1::char_of;
use super::spell::Spell;
use crate::mask::text::{is_first, json_says, sign_says};

/// So many letters may say nothing at once, and one more for each byte that says something. What comes behind them says itself: what
/// says nothing would wait without bound.
const SILENT: u8 = 16;

/// What has come last of a text.
pub struct Before {
    /// The last byte that was said.
    byte: u8,
    /// How many letters may say nothing.
    silent: u8,
}

impl Default for Before {
    fn default() -> Self {
        Self { byte: 0, silent: SILENT }
    }
}

impl Before {
    /// More was said.
    pub fn note(&mut self, says: &[u8]) {
        if let Some(last) = says.last() {
            self.byte = *last;
            self.silent = self.silent.saturating_add(u8::try_from(says.len()).unwrap_or(u8::MAX)).min(SILENT);
        }
    }

    /// Whether what shows nothing may say nothing here.
    pub fn silence(&mut self) -> bool {
        let is = self.silent > 0;
        self.silent -= u8::from(is);
        is
    }

    /// What a letter says here, where that is something else than itself.
    pub fn says(&mut self, letter: &[u8]) -> Option<&'static [u8]> {
        let says = plainer(letter)?;
        let is = match says {
            b"" => self.byte < 128 && self.silent > 0,
            b" " => self.byte < 128,
            b"-" => self.byte.is_ascii_digit() || self.byte == b')',
            _ => true,
        };
        self.silent -= u8::from(is && says.is_empty());
        is.then_some(says)
    }
}

/// What the escape of a colour says where it cannot say nothing.
pub const ESC: &[u8] = b"\x1b";

/// Whether letters and signs of a spelling are read so, where they stand as they are: they come whole. Forms, queries and paths have
/// percent signs of their own.
pub fn is_read(spell: Spell) -> bool {
    !matches!(spell, Spell::Bytes | Spell::Stars | Spell::Form | Spell::Path)
}

/// Where the next letter or sign is that may say something else than itself.
pub fn next_odd(text: &[u8]) -> Option<usize> {
    let mut chunks = text.chunks_exact(8);
    for (at, chunk) in (&mut chunks).enumerate() {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        if may_be_odd(word)
            && let Some(found) = chunk.iter().position(|b| is_odd(*b))
        {
            return Some(8 * at + found);
        }
    }
    let rest = chunks.remainder();
    let mut last = [b'a'; 8];
    last[..rest.len()].copy_from_slice(rest);
    if !may_be_odd(u64::from_le_bytes(last)) {
        return None;
    }
    rest.iter().position(|b| is_odd(*b)).map(|found| text.len() - rest.len() + found)
}

/// Whether one of eight bytes is above 127, or begins a sign.
fn may_be_odd(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let is = |byte: u8| zero(word ^ (ONES * u64::from(byte)));
    (word | is(b'%') | is(b'\\') | is(0x1b)) & (ONES << 7) != 0
}

fn is_odd(byte: u8) -> bool {
    is_first(byte) || matches!(byte, 0xc2 | 0xe2 | 0xef)
}

/// The letter that a text begins with, if it may be one of these: its length.
pub fn letter(text: &[u8]) -> usize {
    match text {
        [0xc2, _, ..] => 2,
        [0xe2 | 0xef, _, _, ..] => 3,
        _ => 0,
    }
}

/// What a letter may say.
fn plainer(letter: &[u8]) -> Option<&'static [u8]> {
    const DIGITS: &[u8; 10] = b"0123456789";
    Some(match letter {
        // Soft hyphen, zero-width space and joiners, word joiner, zero-width no-break space.
        [0xc2, 0xad] | [0xe2, 0x80, 0x8b..=0x8d] | [0xe2, 0x81, 0xa0] | [0xef, 0xbb, 0xbf] => b"",
        // No-break spaces, and spaces of every width.
        [0xc2, 0xa0] | [0xe2, 0x80, 0x80..=0x8a | 0xaf] | [0xe2, 0x81, 0x9f] => b" ",
        // Hyphens and dashes, the minus sign, the full-width hyphen.
        [0xe2, 0x80, 0x90..=0x95] | [0xe2, 0x88, 0x92] | [0xef, 0xbc, 0x8d] => b"-",
        [0xef, 0xbc, digit @ 0x90..=0x99] => {
            let at = usize::from(digit - 0x90);
            &DIGITS[at..=at]
        }
        _ => return None,
    })
}

/// What a unit of a text of events has said, `length` bytes, once more.
pub fn said(raw: &[u8], length: usize) -> Vec<u8> {
    let own = match raw {
        [b'\\', ..] => {
            let (says, count) = json_says(raw);
            says[..count].to_vec()
        }
        [b'%', ..] => {
            let (says, count) = sign_says(raw);
            says[..count].to_vec()
        }
        [0x1b, ..] => ESC.to_vec(),
        [byte] if *byte > 127 => char_of(*byte).encode_utf8(&mut [0; 4]).as_bytes().to_vec(),
        _ => raw.to_vec(),
    };
    if own.len() == length { own } else { plainer(&own).unwrap_or_default().to_vec() }
}

/// What the rest of an escape has said whose backslash another event has.
pub fn said_behind(raw: &[u8]) -> Vec<u8> {
    let (says, count) = json_says(&[b"\\", raw].concat());
    says[..count].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_letters_say() {
        let mut before = Before::default();
        let mut says = |prior: &str, letter: &str| {
            before.note(prior.as_bytes());
            before.says(letter.as_bytes()).map(|says| String::from_utf8_lossy(says).into_owned())
        };
        assert_eq!(says("4", "\u{a0}").as_deref(), Some(" "));
        assert_eq!((says("é", "\u{a0}"), says("Ł", "\u{200d}")), (None, None));
        assert_eq!((says("a", "–"), says("7", "–").as_deref()), (None, Some("-")));
        assert_eq!((says("a", "\u{200b}").as_deref(), says("x", "４").as_deref()), (Some(""), Some("4")));
        assert_eq!((0..99).filter(|_| says("", "\u{200b}").is_some()).count(), usize::from(SILENT));
        assert_eq!((said(b"\\u00a0", 1), said(b"\\u00a0", 2)), (b" ".to_vec(), "\u{a0}".as_bytes().to_vec()));
        assert_eq!((said(&[0xa0], 1), said("\u{200b}".as_bytes(), 0)), (b" ".to_vec(), Vec::new()));
    }
}
