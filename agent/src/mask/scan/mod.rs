//! Finds values in a text that comes in pieces. What is found is a function of the whole text, never of its cuts: every place
//! where a value may begin is judged by what follows it, and a place that what has come cannot settle is held back, with all
//! behind it, until more has come.
//!
//! Of values that overlap, the one that begins first counts, and what the others leave behind its end is found as its
//! continuation: no half of a value stays. Of those that begin together, the longest counts; then the order of the set (own
//! detectors, then [`detect::all`](super::detect::all)'s).
//!
//! A detector says where its values may begin (`Begin`). Each such sign has a pass of its own over the text: digits by SWAR,
//! `@`, `:` and `=` by memchr, literals by Teddy. What stands there is judged by one table of all patterns that begin with digits
//! (a dense DFA, anchored), or by the detector's own function.

mod custom;
mod digit;
mod literal;
mod near;
mod set;
mod stream;
mod tail;
mod words;

pub use custom::{Custom, CustomError};
pub use set::{Set, SetError};
pub use stream::{BEHIND, Found, Stream};

use super::detect::Tail;

/// What one pass over what has come has to say.
#[derive(Default)]
struct Seen {
    hits: Vec<Hit>,
    /// Places that only more text can settle.
    open: Vec<usize>,
}

/// A value, checked.
#[derive(Clone, Copy, Debug)]
struct Hit {
    from: usize,
    end: usize,
    /// Its place in the set's order.
    rank: u16,
    runs: Option<Tail>,
}

impl Seen {
    fn sort(&mut self) {
        self.hits.sort_unstable_by_key(|hit| (hit.from, usize::MAX - hit.end, hit.rank));
        self.open.sort_unstable();
    }

    /// Whether a place in a range, its end included, is open.
    fn opens_in(&self, from: usize, to: usize) -> bool {
        let first = self.open.partition_point(|open| *open < from);
        self.open.get(first).is_some_and(|open| *open <= to)
    }

    fn hit(&mut self, from: usize, end: usize, rank: u16) {
        self.hits.push(Hit { from, end, rank, runs: None });
    }

    /// What a matcher said of a place.
    fn note(&mut self, from: usize, step: super::detect::Step, rank: u16) {
        use super::detect::Step;
        match step {
            Step::No => {}
            Step::More => self.open.push(from),
            Step::Found(end) => self.hit(from, end, rank),
            Step::Runs(end, tail) => self.hits.push(Hit { from, end, rank, runs: Some(tail) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::detect;

    type Values = Vec<(String, String)>;

    /// What is found where the text comes in pieces of these lengths, over and over; pieces of one value joined.
    fn found(set: &Set, text: &[u8], cuts: &[usize]) -> Values {
        let (mut stream, mut all, mut at, mut cut) =
            (Stream::default(), Vec::<(u64, u64, String)>::new(), 0, 0);
        let mut note = |found: Found<'_>| {
            assert_eq!(&text[found.from as usize..found.end as usize], found.value);
            match all.last_mut() {
                Some(last) if found.continues => {
                    assert_eq!(last.1, found.from);
                    last.1 = found.end;
                }
                last => {
                    assert!(last.is_none_or(|last| last.1 <= found.from) && !found.continues);
                    all.push((found.from, found.end, found.detector.to_owned()));
                }
            }
        };
        while at < text.len() {
            let end = text.len().min(at + cuts[cut % cuts.len()]);
            let settled = stream.push(set, &text[at..end], &mut note);
            (at, cut) = (end, cut + 1);
            assert!(
                settled as usize + stream.held() == end && stream.held() <= set.most_held(),
                "{}",
                stream.held()
            );
            assert!(stream.memory() < 64 * 1024);
        }
        stream.end(set, &mut note);
        let value =
            |from: u64, end: u64| String::from_utf8_lossy(&text[from as usize..end as usize]).into_owned();
        all.into_iter().map(|(from, end, detector)| (detector, value(from, end))).collect()
    }

    fn plain(example: &str) -> (String, Values) {
        let text = example.replace(['«', '»'], "");
        let values = example.split('«').skip(1).filter_map(|rest| rest.split('»').next()).map(str::to_owned);
        (text, values.map(|value| (String::new(), value)).collect())
    }

    fn examples() -> Vec<(&'static str, String, Values)> {
        let named = |detector: &'static detect::Detector| {
            detector.examples.iter().map(|example| {
                let (text, mut values) = plain(example);
                values.iter_mut().for_each(|(name, _)| *name = detector.name.to_owned());
                (detector.name, text, values)
            })
        };
        let mut all: Vec<_> = detect::all().flat_map(named).collect();
        for key in detect::Key::all() {
            all.push((
                "api-key",
                format!("key {};", key.example),
                vec![("api-key".to_owned(), key.example.clone())],
            ));
        }
        all
    }

    #[test]
    fn every_example_is_found_whole_by_its_detector_alone() {
        for (name, text, want) in examples() {
            let set = Set::compile(detect::named(name), []).expect(name);
            assert_eq!(found(&set, text.as_bytes(), &[usize::MAX >> 1]), want, "{name}: {text}");
        }
    }

    #[test]
    fn every_example_is_found_by_the_whole_set() {
        let set = Set::compile(detect::all(), []).expect("the default set");
        let mut others = Vec::new();
        for (name, text, want) in examples() {
            let got = found(&set, text.as_bytes(), &[usize::MAX >> 1]);
            let values = |all: &Values| all.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
            assert_eq!(values(&got), values(&want), "{name}: {text}: {got:?}");
            others.extend(got.into_iter().filter(|(other, _)| *other != name).map(|other| (name, other)));
        }
        // What several detectors know goes to the first of them.
        eprintln!("{others:?}");
        assert!(others.len() < 12, "{others:?}");
    }

    /// Numbers that anybody can draw again (xorshift64*).
    struct Dice(u64);
    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
        }
    }

    fn own() -> Vec<Custom> {
        vec![
            Custom::Regex { name: "staff".into(), pattern: r"\bEMP-[0-9]{4,9}(?:-[A-Z]{2})?\b".into() },
            Custom::Regex { name: "a".into(), pattern: "(?:a|ab){1,9}c?".into() },
            Custom::Words {
                name: "names".into(),
                words: vec!["New York".into(), "new".into(), "project x".into()],
                any_case: true,
            },
        ]
    }

    /// A text of values, halves of values, and what looks like them.
    fn document(dice: &mut Dice, examples: &[(&str, String, Values)]) -> Vec<u8> {
        const BETWEEN: [&str; 19] = [
            " ",
            ", ",
            "\"",
            "\":\"",
            "\n",
            "",
            "-",
            ".",
            "@",
            ": ",
            "=",
            "12",
            "new york ",
            "EMP-12345-AB",
            "ababac",
            "né ",
            "ü",
            "邮箱",
            "”",
        ];
        let mut text = Vec::new();
        for _ in 0..dice.roll(12) + 1 {
            let example = examples[dice.roll(examples.len())].1.as_bytes();
            let from = if dice.roll(4) == 0 { dice.roll(example.len()) } else { 0 };
            let end = if dice.roll(4) == 0 { from + dice.roll(example.len() - from) } else { example.len() };
            text.extend_from_slice(&example[from..end]);
            for _ in 0..dice.roll(3) {
                text.extend_from_slice(BETWEEN[dice.roll(BETWEEN.len())].as_bytes());
            }
        }
        text
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "how long a test takes is for its runner to say")]
    fn what_is_found_never_depends_on_the_cuts() {
        let set = Set::compile(detect::all(), &own()).expect("the default set and three");
        let (mut dice, examples) = (Dice(0x5eed), examples());
        let rounds = std::env::var("MASK_ROUNDS").map_or(300, |rounds| rounds.parse().expect("a number"));
        let mut values = 0;
        for round in 0..rounds {
            let text = document(&mut dice, &examples);
            let want = found(&set, &text, &[usize::MAX >> 1]);
            values += want.len();
            for cuts in [
                vec![1],
                vec![2, 1],
                (0..9).map(|_| dice.roll(40) + 1).collect(),
                vec![dice.roll(text.len().max(1)) + 1],
            ] {
                let got = found(&set, &text, &cuts);
                assert_eq!(got, want, "round {round}, cuts {cuts:?}: {}", String::from_utf8_lossy(&text));
            }
        }
        assert!(values > rounds, "few were found: {values}");
    }

    #[test]
    fn every_example_is_found_however_it_is_cut_in_two() {
        let set = Set::compile(detect::all(), &own()).expect("the default set and three");
        for (name, text, _) in examples() {
            let want = found(&set, text.as_bytes(), &[usize::MAX >> 1]);
            for cut in 1..text.len() {
                assert_eq!(
                    found(&set, text.as_bytes(), &[cut, usize::MAX >> 1]),
                    want,
                    "{name}: {text} at {cut}"
                );
            }
        }
    }

    #[test]
    fn no_half_of_a_value_stays_where_two_overlap() {
        let own = |pattern: &str| Custom::Regex { name: pattern.into(), pattern: pattern.into() };
        let set = Set::compile([], &[own("abcd"), own("cdef"), own("fgh?")]).expect("three");
        for cut in 1..9 {
            assert_eq!(
                found(&set, b"xabcdefghx", &[cut]),
                [("abcd".to_owned(), "abcdefgh".to_owned())],
                "cut {cut}"
            );
        }
    }

    #[test]
    fn values_without_end_pass_in_bounded_memory() {
        let set = Set::compile(detect::all(), []).expect("the default set");
        let key = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY----- jane@example.com",
            "QUJD\n".repeat(100_000)
        );
        let got = found(&set, key.as_bytes(), &[1000, 7]);
        assert_eq!(got.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["private-key", "email"]);
        let token =
            format!("x eyJhbGciOiJIUzI1NiJ9.{}. sk-proj-{}!", "e".repeat(300_000), "kq7Z".repeat(75_000));
        let got = found(&set, token.as_bytes(), &[1000, 7]);
        assert_eq!(
            got.iter().map(|(name, value)| (name.as_str(), value.len())).collect::<Vec<_>>(),
            [("jwt", 300_021), ("api-key", 300_008)]
        );
    }

    #[test]
    fn what_stands_before_is_context_and_not_searched() {
        let set = Set::compile(detect::all(), []).expect("the default set");
        let mut stream = Stream::default();
        let mut names = Vec::new();
        stream.begin(b"ssn jane@example.com ");
        assert_eq!(
            stream.push(&set, b"219098765.", &mut |found| names.push((
                found.detector.to_owned(),
                found.from,
                found.end
            ))),
            0
        );
        stream.end(&set, &mut |found| names.push((found.detector.to_owned(), found.from, found.end)));
        assert_eq!(names, [("us-ssn".to_owned(), 0, 9)]);
    }
}
