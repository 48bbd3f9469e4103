//! Puts values back where their tokens stand in a stream. Tokens are found in other spellings, too: letter case does not count, nor
//! do spaces and signs between letters and digits, one or two at a time (`4000 0012 …` for `40000012…`). Nothing is found in a
//! stream that the scope has not given out.

use super::tokens::{Known, Tokens};

/// One text in which tokens are looked for. Holds back what may be the beginning of a token: [`MOST_HELD`] bytes at most.
#[derive(Default)]
pub struct Restore {
    /// The last byte that was passed on, if any, and what waits.
    text: Vec<u8>,
    settled: usize,
    /// How far the first byte is from the beginning of the text.
    base: u64,
}

/// Longest spelling of a token, in bytes.
pub const MOST_HELD: usize = 192;

/// A token that was found. No Debug: it would show the value.
#[derive(Clone, Copy)]
pub struct Restored<'a> {
    /// Where it begins, in bytes from the beginning of the text.
    pub from: u64,
    /// Where it ends.
    pub end: u64,
    /// What it stands for.
    pub value: &'a [u8],
}

enum Place {
    Nothing,
    Open,
    Token(usize, usize),
}

impl Restore {
    /// Searches what has come; tokens are handed on in order. Returns how far the text is settled, in bytes from its beginning.
    pub fn push(&mut self, tokens: &Tokens, text: &[u8], found: &mut dyn FnMut(Restored<'_>)) -> u64 {
        self.add(text);
        self.search(tokens, found)
    }

    /// Takes what has come, and leaves it unsearched until [`Restore::search`].
    pub fn add(&mut self, text: &[u8]) {
        if self.text.capacity() < self.text.len() + text.len() {
            self.text.reserve_exact(text.len().max(256));
        }
        self.text.extend_from_slice(text);
    }

    /// As [`Restore::push`], of what was added.
    pub fn search(&mut self, tokens: &Tokens, found: &mut dyn FnMut(Restored<'_>)) -> u64 {
        self.settle(tokens, false, found);
        self.base + self.settled as u64
    }

    /// Gives back memory that a long piece has taken.
    pub fn shrink(&mut self) {
        if self.text.capacity() > 2 * self.text.len().max(512) {
            self.text.shrink_to(self.text.len() + 64);
        }
    }

    /// Bytes of memory that it has taken.
    pub fn memory(&self) -> usize {
        self.text.capacity() + size_of::<Self>()
    }

    /// The text has ended. The stream is as new.
    pub fn end(&mut self, tokens: &Tokens, found: &mut dyn FnMut(Restored<'_>)) {
        self.settle(tokens, true, found);
        *self = Self::default();
    }

    /// How many bytes wait.
    pub fn held(&self) -> usize {
        self.text.len() - self.settled
    }

    fn settle(&mut self, tokens: &Tokens, last: bool, found: &mut dyn FnMut(Restored<'_>)) {
        let mut at = if tokens.is_empty() { self.text.len() } else { self.settled };
        while at < self.text.len() {
            let begins = at == 0 || !self.text[at - 1].is_ascii_alphanumeric();
            let rest = &self.text[at..];
            if begins && (rest[0].is_ascii_alphanumeric() || rest[0] == b'+') {
                if !may_begin(tokens, rest) {
                    at += 1;
                    continue;
                }
            } else {
                // On to where the next word begins.
                let inside =
                    rest.iter().take_while(|b| begins != b.is_ascii_alphanumeric() && **b != b'+').count();
                at += inside.max(1);
                continue;
            }
            match at_place(tokens, &self.text[at..], last) {
                Place::Nothing => at += 1,
                Place::Open => break,
                Place::Token(length, value_of) => {
                    let plain = plain(&self.text[at..at + value_of]);
                    if let Known::Begins(Some((_, value))) = tokens.known(&plain) {
                        let from = self.base + at as u64;
                        found(Restored { from, end: from + length as u64, value });
                    }
                    at += length;
                }
            }
        }
        self.settled = at;
        let gone = self.settled.saturating_sub(1);
        self.text.drain(..gone);
        (self.settled, self.base) = (self.settled - gone, self.base + gone as u64);
    }
}

/// Whether a token may begin with the three letters or digits that are next: most words are none's beginning.
fn may_begin(tokens: &Tokens, text: &[u8]) -> bool {
    let (mut plain, mut count) = ([0; 3], 0);
    for byte in text.iter().take(7).filter(|b| b.is_ascii_alphanumeric()) {
        plain[count] = byte.to_ascii_lowercase();
        count += 1;
        if count == plain.len() {
            break;
        }
    }
    tokens.may_begin(&plain[..count])
}

fn plain(text: &[u8]) -> Vec<u8> {
    text.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect()
}

/// The longest token that begins with the text.
fn at_place(tokens: &Tokens, text: &[u8], last: bool) -> Place {
    let (mut plain, mut signs, mut longest) = (Vec::new(), 0, Place::Nothing);
    for (at, byte) in text.iter().enumerate() {
        if !byte.is_ascii_alphanumeric() {
            signs += 1;
            if signs > 2 || !b" -.()@_+/:".contains(byte) {
                return longest;
            }
            continue;
        }
        signs = 0;
        plain.push(byte.to_ascii_lowercase());
        match tokens.known(&plain) {
            Known::No => return longest,
            _ if at >= MOST_HELD => return longest,
            Known::Begins(Some((token, _))) => match text.get(at + 1) {
                Some(next) if next.is_ascii_alphanumeric() => {}
                None if !last => return Place::Open,
                // A sign before belongs to a token that has it.
                _ if text[0] == b'+' && !token.starts_with('+') => {}
                _ => longest = Place::Token(at + 1, at + 1),
            },
            Known::Begins(None) => {}
        }
    }
    if last { longest } else { Place::Open }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::replace::Key;

    fn restored(tokens: &Tokens, text: &str, cut: usize) -> String {
        let (mut stream, mut all, mut out, mut at) = (Restore::default(), Vec::new(), Vec::new(), 0);
        let mut note =
            |found: Restored<'_>| all.push((found.from as usize, found.end as usize, found.value.to_vec()));
        let mut come = 0;
        for piece in text.as_bytes().chunks(cut) {
            come += piece.len();
            let settled = stream.push(tokens, piece, &mut note);
            assert!(settled as usize + stream.held() == come && stream.held() <= MOST_HELD + 4);
        }
        stream.end(tokens, &mut note);
        for (from, end, value) in all {
            out.extend_from_slice(&text.as_bytes()[at..from]);
            out.extend_from_slice(&value);
            at = end;
        }
        out.extend_from_slice(&text.as_bytes()[at..]);
        String::from_utf8(out).expect("text stays text")
    }

    #[test]
    fn every_cut_and_spelling_comes_back() {
        let mut tokens = Tokens::new(Key::new([9; 32]));
        let mut token =
            |name: &str, value: &str| tokens.token(name, value.as_bytes()).expect("room").to_owned();
        let (mail, card, phone) = (
            token("email", "jane@corp.test"),
            token("card", "4111111111111111"),
            token("phone", "+49 30 901820"),
        );
        let (other, key) = (token("email", "jo@corp.test"), token("api-key", "sk-live-1"));
        let spaced: Vec<&str> =
            card.as_bytes().chunks(4).map(|four| str::from_utf8(four).expect("digits")).collect();
        let text = format!(
            "To {mail}, {} or {other}; pay {card} = {} call {phone}. `{key}` {}x {}",
            mail.to_uppercase(),
            spaced.join(" "),
            mail,
            &mail[..9]
        );
        let want = format!(
            "To jane@corp.test, jane@corp.test or jo@corp.test; pay 4111111111111111 = 4111111111111111 call +49 30 901820. `sk-live-1` {mail}x {}",
            &mail[..9]
        );
        for cut in 1..=text.len() {
            assert_eq!(restored(&tokens, &text, cut), want, "cut {cut}");
        }
    }

    #[test]
    fn an_empty_map_holds_nothing_back_but_the_sign() {
        let (tokens, mut stream) = (Tokens::new(Key::new([9; 32])), Restore::default());
        let settled = stream.push(&tokens, b"some words, then more", &mut |_| panic!("nothing to be found"));
        assert_eq!((settled, stream.held()), (21, 0));
    }
}
