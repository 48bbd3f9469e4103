//! Lists of words: up to a hundred thousand texts that stand alone, letter case of ASCII put aside where asked.

use crate::mask::detect::Text;

use super::Seen;

/// Words that are looked for.
pub struct Words {
    /// Sorted, without doubles; in small letters where case does not count.
    sorted: Vec<Box<[u8]>>,
    /// By a hash of the first [`SHORTEST`] bytes: most places are told by it to be no word's beginning.
    begins: Vec<u64>,
    /// Their first bytes, in either case where case does not count.
    firsts: Box<[bool; 256]>,
    longest: usize,
    fold: bool,
}

/// Shortest word.
pub const SHORTEST: usize = 3;
/// Longest word.
pub const LONGEST: usize = 256;
/// Most words of a list.
pub const MOST: usize = 100_000;

const BITS: u32 = 18;

fn hash(first: &[u8]) -> usize {
    let three = u32::from(first[0]) | u32::from(first[1]) << 8 | u32::from(first[2]) << 16;
    (three.wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
}

/// Which bytes are letters: those that a word cannot end between.
const LETTER: [bool; 256] = {
    let (mut letters, mut byte) = ([false; 256], 0);
    while byte < 256 {
        letters[byte] = byte > 127 || byte == b'_' as usize || (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    letters
};

fn is_letter(byte: u8) -> bool {
    LETTER[usize::from(byte)]
}

impl Words {
    /// The caller has seen to lengths and number.
    pub fn new(words: impl Iterator<Item = Vec<u8>>, fold: bool) -> Self {
        let folded = |word: Vec<u8>| if fold { word.to_ascii_lowercase() } else { word };
        let mut sorted: Vec<Box<[u8]>> = words.map(|word| folded(word).into()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut begins = vec![0; 1 << (BITS - 6)];
        let mut firsts = Box::new([false; 256]);
        for word in &sorted {
            let at = hash(word);
            begins[at / 64] |= 1 << (at % 64);
            firsts[usize::from(word[0])] = true;
            firsts[usize::from(if fold { word[0].to_ascii_uppercase() } else { word[0] })] = true;
        }
        let longest = sorted.iter().map(|word| word.len()).max().unwrap_or(0);
        Self { sorted, begins, firsts, longest, fold }
    }

    /// The most that is held back.
    pub fn most_held(&self) -> usize {
        self.longest + 1
    }

    pub fn find(&self, text: Text<'_>, from: usize, rank: u16, seen: &mut Seen) {
        let bytes = text.bytes;
        let mut at = from;
        if text.before(from).is_some_and(is_letter) {
            at = self.word_end(bytes, at);
        }
        while at < bytes.len() {
            if !self.rules_out(bytes, at) {
                match self.longest_at(text, at) {
                    Err(()) => seen.open.push(at),
                    Ok(0) => {}
                    Ok(length) => seen.hit(at, at + length, rank),
                }
            }
            // The next place that no letter stands before: behind a sign, or behind the word.
            at = if is_letter(bytes[at]) { self.word_end(bytes, at) } else { at + 1 };
        }
    }

    fn word_end(&self, bytes: &[u8], at: usize) -> usize {
        at + bytes[at..].iter().take_while(|b| LETTER[usize::from(**b)]).count()
    }

    fn byte(&self, byte: u8) -> u8 {
        if self.fold { byte.to_ascii_lowercase() } else { byte }
    }

    fn rules_out(&self, bytes: &[u8], at: usize) -> bool {
        if !self.firsts[usize::from(bytes[at])] {
            return true;
        }
        let Some([a, b, c]) = bytes.get(at..at + SHORTEST) else { return false };
        let hash = hash(&[self.byte(*a), self.byte(*b), self.byte(*c)]);
        self.begins[hash / 64] >> (hash % 64) & 1 == 0
    }

    /// How long the longest word is that stands there alone; `Err`: more must come.
    fn longest_at(&self, text: Text<'_>, at: usize) -> Result<usize, ()> {
        let (mut low, mut high, mut longest, mut depth) = (0, self.sorted.len(), 0, 0);
        loop {
            let next = text.bytes.get(at + depth).copied();
            let range = &self.sorted[low..high];
            let is_word = range.first().is_some_and(|word| word.len() == depth && depth > 0);
            let Some(byte) = next else {
                let open = !text.last && !range.is_empty();
                return if open { Err(()) } else { Ok(if is_word { depth } else { longest }) };
            };
            if is_word && !(is_letter(byte) && is_letter(text.bytes[at + depth - 1])) {
                longest = depth;
            }
            let byte = self.byte(byte);
            let key = |word: &[u8]| word.get(depth).map_or(-1, |b| i32::from(*b));
            let (first, behind) = (
                range.partition_point(|word| key(word) < i32::from(byte)),
                range.partition_point(|word| key(word) <= i32::from(byte)),
            );
            if first == behind {
                return Ok(longest);
            }
            (low, high, depth) = (low + first, low + behind, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_that_stands_alone() {
        let list = ["new york", "new", "york", "c++", "Müller"].iter().map(|word| word.as_bytes().to_vec());
        let words = Words::new(list, true);
        let find = |text: &str, last| {
            let mut seen = Seen::default();
            words.find(Text { bytes: text.as_bytes(), last }, 0, 0, &mut seen);
            (seen.hits.iter().map(|hit| text[hit.from..hit.end].to_owned()).collect::<Vec<_>>(), seen.open)
        };
        assert_eq!(find("in New Yorker", true).0, ["New"]);
        assert_eq!(find("in New York.", true).0, ["New York", "York"]);
        assert_eq!(find("anew newest C++11 C++ ", true).0, ["C++", "C++"]);
        assert_eq!(find("Müller", true).0, ["Müller"]);
        assert_eq!(find("a new yo", false).1, [2, 6]);
    }
}
