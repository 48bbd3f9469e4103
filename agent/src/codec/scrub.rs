//! Finds texts that must not be seen in a stream of bytes, and masks them in place: what stands there afterwards is as long
//! as before, so no length, frame or offset changes. Nothing here knows what the texts are, or in how many forms one of
//! them may stand (`credential::scrub` does).

use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, BuildError, MatchKind};
use bytes::Bytes;

/// A text of fewer bytes is found where it means nothing, so none is looked for.
pub const SHORTEST: usize = 8;

/// Texts that are looked for. No Debug: it would show them.
pub struct Needles {
    automaton: AhoCorasick,
    /// What is written in place of each, cut or filled to its length.
    marks: Vec<Arc<str>>,
    /// Sorted: what begins like the end of what was read is found by halving.
    sorted: Vec<Vec<u8>>,
    /// The first two bytes of each: nearly every end of what is read is told by them to be none's beginning.
    begins: Vec<u64>,
    longest: usize,
}

impl Needles {
    /// Looks for each text, and puts its mark in its place. Texts shorter than [`SHORTEST`] are left out; `None` where none
    /// is left.
    ///
    /// # Errors
    /// More than the automaton has numbers for.
    pub fn new(texts: impl IntoIterator<Item = (Vec<u8>, Arc<str>)>) -> Result<Option<Self>, BuildError> {
        let mut texts: Vec<_> = texts.into_iter().filter(|(text, _)| text.len() >= SHORTEST).collect();
        if texts.is_empty() {
            return Ok(None);
        }
        texts.sort();
        texts.dedup_by(|a, b| a.0 == b.0);
        let (sorted, marks): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&sorted)?;
        let mut begins = vec![0; (1 << 16) / 64];
        for text in &sorted {
            let pair = pair(text[0], text[1]);
            begins[pair / 64] |= 1 << (pair % 64);
        }
        let longest = sorted.iter().map(Vec::len).max().unwrap_or(0);
        Ok(Some(Self { automaton, marks, sorted, begins, longest }))
    }

    /// The most that is ever held back, in bytes.
    pub fn most_held(&self) -> usize {
        self.longest - 1
    }

    /// Whether one of the texts stands there.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.automaton.is_match(bytes)
    }

    /// Masks every text that stands there whole; says whether there was one.
    pub fn mask(&self, bytes: &mut [u8]) -> bool {
        let found: Vec<_> = self.automaton.find_iter(&*bytes).map(|m| (m.range(), m.pattern())).collect();
        for (range, pattern) in &found {
            fill(&mut bytes[range.clone()], &self.marks[pattern.as_usize()]);
        }
        !found.is_empty()
    }

    /// As [`Needles::mask`]. Texts are cut between characters, so what is left is text.
    pub fn mask_text(&self, text: String) -> String {
        let mut bytes = text.into_bytes();
        self.mask(&mut bytes);
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// Masks what stands whole in the beginning of a stream, and says how many bytes of it are settled: behind that, one of
    /// the texts may have begun. What is not settled is as it was: hand it in again, with what follows.
    pub fn settle(&self, bytes: &mut [u8]) -> usize {
        let found: Vec<_> = self.automaton.find_iter(&*bytes).map(|m| (m.range(), m.pattern())).collect();
        let mut settled = self.open(bytes, 0);
        if let Some((over, _)) = found.iter().find(|(range, _)| range.start < settled && range.end > settled)
        {
            settled = self.open(bytes, over.end);
        }
        for (range, pattern) in found.iter().filter(|(range, _)| range.end <= settled) {
            fill(&mut bytes[range.clone()], &self.marks[pattern.as_usize()]);
        }
        settled
    }

    /// Masks what stands whole in the rest of a stream, and what one of the texts may have begun with at its very end: a
    /// body that breaks off may break off in it.
    pub fn settle_last(&self, bytes: &mut [u8]) {
        let open = self.open(bytes, 0);
        if bytes.len() - open >= SHORTEST && !self.is_in(&bytes[open..]) {
            fill(&mut bytes[open..], "");
        }
        self.mask(bytes);
    }

    /// Where in `bytes`, from `from` on, a text begins that is not whole: its length where none does.
    fn open(&self, bytes: &[u8], from: usize) -> usize {
        let from = from.max(bytes.len().saturating_sub(self.most_held()));
        (from..bytes.len()).find(|at| self.begins_with(&bytes[*at..])).unwrap_or(bytes.len())
    }

    /// Whether a text begins with `end`, and is longer.
    fn begins_with(&self, end: &[u8]) -> bool {
        if let [first, second, ..] = *end {
            let pair = pair(first, second);
            if self.begins[pair / 64] & (1 << (pair % 64)) == 0 {
                return false;
            }
        }
        let at = self.sorted.partition_point(|text| text.as_slice() <= end);
        self.sorted.get(at).is_some_and(|text| text.starts_with(end))
    }
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

fn fill(place: &mut [u8], mark: &str) {
    let mark = mark.bytes().chain(std::iter::repeat(b'*'));
    place.iter_mut().zip(mark).for_each(|(byte, mark)| *byte = mark);
}

/// A stream on its way through: what may be the beginning of a text is held back, [`Needles::most_held`] bytes at most.
#[derive(Default)]
pub struct Stream {
    held: Vec<u8>,
}

impl Stream {
    /// What can be passed on when `data` has come.
    pub fn push(&mut self, needles: &Needles, data: Bytes) -> Bytes {
        if self.held.is_empty() && !needles.is_in(&data) && needles.open(&data, 0) == data.len() {
            return data;
        }
        let mut whole = std::mem::take(&mut self.held);
        whole.extend_from_slice(&data);
        let settled = needles.settle(&mut whole);
        self.held = whole.split_off(settled);
        whole.into()
    }

    /// The rest.
    pub fn finish(&mut self, needles: &Needles) -> Bytes {
        let mut rest = std::mem::take(&mut self.held);
        needles.settle_last(&mut rest);
        rest.into()
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// Ranges of what is looked for within a text that is too long to be looked for as a whole: none longer than `most` or so,
/// each between two characters.
pub fn pieces(text: &str, most: usize) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut begin = 0;
    while begin < text.len() {
        let end = (begin + most..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        match pieces.last_mut() {
            Some(last) if end - begin < SHORTEST => last.end = end,
            _ => pieces.push(begin..end),
        }
        begin = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needles(texts: &[&str]) -> Needles {
        let texts = texts.iter().map(|text| (text.as_bytes().to_vec(), Arc::from("[credential a]")));
        Needles::new(texts).expect("few").expect("some")
    }

    fn through(needles: &Needles, text: &[u8], cut: usize) -> Vec<u8> {
        let (mut stream, mut out) = (Stream::default(), Vec::new());
        for chunk in text.chunks(cut) {
            out.extend_from_slice(&stream.push(needles, Bytes::copy_from_slice(chunk)));
            assert!(stream.held() <= needles.most_held());
        }
        out.extend_from_slice(&stream.finish(needles));
        out
    }

    #[test]
    fn every_cut_gives_the_same() {
        let needles = needles(&["sk-abcdefgh", "sk-abcdefghij0123456789", "aaaaaaaaab", "short"]);
        let text =
            b"x sk-abcdefgh y sk-abcdefghij0123456789 sk-abcdefghij01234 aaaaaaaaaaaab sk-abcdefg short end";
        let want =
            b"x [credential y [credential a]********* [credentialij01234 aaa[credentia sk-abcdefg short end";
        for cut in 1..=text.len() {
            let got = through(&needles, text, cut);
            assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(want), "cut {cut}");
        }
    }

    #[test]
    fn nothing_is_held_that_cannot_become_one() {
        let needles = needles(&["sk-abcdefgh"]);
        let mut stream = Stream::default();
        for event in ["data: {\"a\":1}\n\n", "data: sk-abcdefg?\n\n", "data: [DONE]\n\n"] {
            assert_eq!(stream.push(&needles, Bytes::from(event)), event);
        }
        assert_eq!(stream.push(&needles, Bytes::from("data: sk-abc")), "data: ");
        assert_eq!(stream.push(&needles, Bytes::from("!")), "sk-abc!");
    }

    #[test]
    fn an_end_within_a_text_is_masked() {
        let needles = needles(&["sk-abcdefgh-0123456789"]);
        assert_eq!(through(&needles, b"so: sk-abcdefgh-01", 3), b"so: **************");
        assert_eq!(
            through(&needles, b"so: sk-abc", 3),
            b"so: sk-abc",
            "shorter than anything that is looked for"
        );
    }

    #[test]
    fn texts_of_few_bytes_are_none() {
        assert!(Needles::new([(b"1234567".to_vec(), Arc::from("x"))]).expect("few").is_none());
    }

    #[test]
    fn pieces_cover_all() {
        let text = "0123456789".repeat(52) + "é12";
        let pieces = pieces(&text, 64);
        assert_eq!(pieces.iter().map(|p| &text[p.clone()]).collect::<String>(), text);
        assert!(pieces.iter().all(|p| (SHORTEST..=64 + SHORTEST).contains(&p.len())), "{pieces:?}");
    }
}
