//! Finds texts that must not be seen in a stream of bytes, and masks them in place: what stands there afterwards is as long
//! as before, so no length, frame or offset changes. Nothing here knows what the texts are, or in how many forms one of
//! them may stand (`credential::scrub` does), nor in which streams they are looked for (`record::veil` does).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

mod set;

pub use set::Set;

/// A text of fewer bytes is found where it means nothing, so none is looked for.
pub const SHORTEST: usize = 8;

/// What one text costs beside its bytes: its allocation and its place in a set.
const BESIDE: usize = 64;

/// The texts of one secret: wiped with it. No Debug: it would show them.
pub struct Texts {
    /// What is written in place of each, cut or filled to its length.
    mark: Arc<str>,
    all: Vec<Zeroizing<Vec<u8>>>,
}

impl Texts {
    /// Those of [`SHORTEST`] bytes at least, each once.
    pub fn new(mark: &str, texts: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let texts = texts.into_iter().map(Zeroizing::new);
        let mut all: Vec<_> = texts.filter(|text| text.len() >= SHORTEST).collect();
        all.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
        all.dedup();
        all.shrink_to_fit();
        Self { mark: mark.into(), all }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// About what they take of memory, in bytes.
    pub fn cost(&self) -> usize {
        self.all.iter().map(|text| text.len() + BESIDE).sum()
    }
}

/// Texts that are looked for in one stream: those of a few sets.
pub struct Needles {
    sets: Vec<Arc<Set>>,
}

impl Needles {
    /// Of these sets; `None` where there is none.
    pub fn new(sets: impl IntoIterator<Item = Arc<Set>>) -> Option<Self> {
        let sets: Vec<_> = sets.into_iter().collect();
        (!sets.is_empty()).then_some(Self { sets })
    }

    /// The most that is ever held back, in bytes.
    pub fn most_held(&self) -> usize {
        self.sets.iter().map(|set| set.longest() - 1).max().unwrap_or(0)
    }

    /// Whether one of the texts stands there.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.sets.iter().any(|set| set.find(bytes, 0).is_some())
    }

    /// Masks every text that stands there whole; says whether there was one.
    pub fn mask(&self, bytes: &mut [u8]) -> bool {
        let found = self.found(bytes);
        for (range, mark) in &found {
            fill(&mut bytes[range.clone()], mark);
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
        let found = self.found(bytes);
        let mut settled = self.open(bytes, 0);
        // What is whole comes before what may begin in it. Each turn goes further.
        while let Some((over, _)) =
            found.iter().find(|(range, _)| range.start < settled && range.end > settled)
        {
            settled = self.open(bytes, over.end);
        }
        for (range, mark) in found.iter().filter(|(range, _)| range.end <= settled) {
            fill(&mut bytes[range.clone()], mark);
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

    /// Every place where a text of a set stands, as each set has it: texts of one may stand across those of another.
    fn found(&self, bytes: &[u8]) -> Vec<(Range<usize>, &Arc<str>)> {
        let mut found = Vec::new();
        for set in &self.sets {
            let mut at = 0;
            while let Some((begin, end, mark)) = set.find(bytes, at) {
                found.push((begin..end, mark));
                at = end;
            }
        }
        found
    }

    /// Where in `bytes`, from `from` on, a text begins that is not whole: its length where none does.
    fn open(&self, bytes: &[u8], from: usize) -> usize {
        self.sets.iter().map(|set| set.open(bytes, from)).min().unwrap_or(bytes.len())
    }
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
        if self.held.is_empty() && !needles.is_in(&data) {
            let settled = needles.open(&data, 0);
            self.held.extend_from_slice(&data[settled..]);
            return data.slice(..settled);
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
        let texts = Texts::new("[credential a]", texts.iter().map(|text| text.as_bytes().to_vec()));
        Needles::new(Set::new(vec![Arc::new(texts)]).map(Arc::new)).expect("some")
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
        let none = Texts::new("x", [b"1234567".to_vec()]);
        assert!(none.is_empty() && Set::new(vec![Arc::new(none)]).is_none());
    }

    #[test]
    fn pieces_cover_all() {
        let text = "0123456789".repeat(52) + "é12";
        let pieces = pieces(&text, 64);
        assert_eq!(pieces.iter().map(|p| &text[p.clone()]).collect::<String>(), text);
        assert!(pieces.iter().all(|p| (SHORTEST..=64 + SHORTEST).contains(&p.len())), "{pieces:?}");
    }
}
