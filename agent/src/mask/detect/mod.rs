//! What sensitive values look like. Each detector is data: where a value may begin, which shape it has, what a check must
//! say of it, and which words must stand before it where the shape alone says little. How a text is searched is `scan`'s;
//! names of people, places and companies need a model and are not found here.

mod americas;
mod asia;
mod bank;
mod central;
mod contact;
mod europe;
mod keys;
mod net;
mod north;
mod passport;
mod phone;
mod private;
mod secret;
mod street;
pub(crate) mod sums;
mod wallet;

pub use contact::may_begin as email_may_begin;
pub use keys::Key;

/// A sensitive kind of value.
#[derive(Debug)]
pub struct Detector {
    /// What rules, labels and counts call it.
    pub name: &'static str,
    /// What is found, in words.
    pub grammar: &'static str,
    /// Who says that it looks so.
    pub source: &'static str,
    /// Texts with a made-up or published value between « and ».
    pub examples: &'static [&'static str],
    /// The spellings, the likeliest first.
    pub shapes: &'static [Shape],
}

/// One spelling of a kind.
#[derive(Debug)]
pub struct Shape {
    /// Where it may begin, and what its letters are.
    pub begin: Begin,
    /// What may not stand around it.
    pub edge: Edge,
    /// What a pattern cannot say.
    pub check: fn(&[u8]) -> bool,
    /// One of these words must stand in the [`NEAR`] bytes before; none: no word is asked for. In small letters. A space
    /// is met by any one byte that is no letter and no digit, or by none.
    pub near: &'static [&'static str],
}

/// How far before a value its word may begin, in bytes.
pub const NEAR: usize = 48;

/// Where a value may begin. Patterns are bounded regular expressions over bytes, anchored at both ends of the value.
#[derive(Debug)]
pub enum Begin {
    /// At a word of letters and digits that has a digit within its first [`LEAD`] bytes; at a `+` or `(` before it; at the
    /// word of letters, or the run of hexadecimal groups, right before it.
    Digit(&'static str),
    /// As [`Begin::Digit`]: what every value begins with, and a function that is asked there.
    DigitBy(&'static str, Matcher),
    /// At one of some texts, or up to [`REACH`] bytes behind its beginning: the function is handed the place of it.
    Literal(&'static [&'static str], Around),
    /// Around an `@`: the function is handed the place of it.
    At(Around),
    /// As the table of keys has it.
    Keys,
}

/// Most bytes from what announces a value to the value.
pub const REACH: usize = 64;

/// Most letters before the first digit of a value that is found by its digits.
pub const LEAD: usize = 24;

/// Where the value ends that begins at a place.
pub type Matcher = fn(Text<'_>, usize) -> Step;
/// Where the value that a sign announces begins, and how it ends.
pub type Around = fn(Text<'_>, usize) -> Option<(usize, Step)>;

/// What stands around a value tells whether it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// No letter and no digit on either side.
    Word,
    /// Nor `.`, `-` or `/` with a digit behind it: it would be a part of a longer number.
    Number,
    /// Anything: the matcher knows.
    None,
}

/// A text of which more may come.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// What is there. A place is an index into this.
    pub bytes: &'a [u8],
    /// Whether nothing will follow.
    pub last: bool,
}

/// What a matcher says of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing begins here, whatever follows.
    No,
    /// What follows decides.
    More,
    /// A value, up to this place.
    Found(usize),
    /// A value up to this place at least; whatever bytes of this class follow belong to it.
    Runs(usize, Tail),
}

/// Which bytes go on with a value that has no longest length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Those of tokens: letters, digits and `-_.~+/=`.
    Token,
    /// Those between the lines that begin and end a PEM file, up to the end line.
    Pem,
}

impl<'a> Text<'a> {
    /// The byte at a place: `Ok(None)` behind the end of the whole text.
    ///
    /// # Errors
    /// [`Step::More`]: it has not come yet.
    pub fn at(self, place: usize) -> Result<Option<u8>, Step> {
        match self.bytes.get(place) {
            Some(byte) => Ok(Some(*byte)),
            None if self.last => Ok(None),
            None => Err(Step::More),
        }
    }

    /// The byte before a place.
    pub fn before(self, place: usize) -> Option<u8> {
        self.bytes.get(place.checked_sub(1)?).copied()
    }

    /// Where the run of bytes of a class ends that begins at `from`: `most` bytes behind it at most.
    ///
    /// # Errors
    /// [`Step::More`]: it reaches the end of what has come.
    pub fn run(self, from: usize, most: usize, class: impl Fn(u8) -> bool) -> Result<usize, Step> {
        let rest = self.bytes.get(from..).unwrap_or_default();
        let rest = &rest[..rest.len().min(most)];
        match rest.iter().position(|b| !class(*b)) {
            Some(length) => Ok(from + length),
            None if rest.len() == most || self.last => Ok(from + rest.len()),
            None => Err(Step::More),
        }
    }

    /// Where the run of bytes of a class begins that ends before `end`: `most` bytes before it at most.
    pub fn run_before(self, end: usize, most: usize, class: impl Fn(u8) -> bool) -> usize {
        let before = &self.bytes[end.saturating_sub(most)..end];
        end - before.iter().rev().take_while(|b| class(**b)).count()
    }

    /// What stands in a range, cut to what is there.
    pub fn slice(self, from: usize, to: usize) -> &'a [u8] {
        let to = to.min(self.bytes.len());
        self.bytes.get(from..to).unwrap_or_default()
    }
}

/// A matcher's body with `?`.
pub(crate) fn step(found: Result<Step, Step>) -> Step {
    found.unwrap_or_else(|step| step)
}

impl Shape {
    const fn digit(pattern: &'static str, check: fn(&[u8]) -> bool) -> Self {
        Self { begin: Begin::Digit(pattern), edge: Edge::Number, check, near: &[] }
    }

    const fn by(begin: Begin) -> Self {
        Self { begin, edge: Edge::None, check: |_| true, near: &[] }
    }

    const fn near(self, near: &'static [&'static str]) -> Self {
        Self { near, ..self }
    }

    const fn edge(self, edge: Edge) -> Self {
        Self { edge, ..self }
    }
}

/// Every detector, in the order in which they win where two find the same bytes.
pub fn all() -> impl Iterator<Item = &'static Detector> {
    let families: [&'static [Detector]; 13] = [
        private::ALL,
        keys::ALL,
        secret::ALL,
        contact::ALL,
        bank::ALL,
        wallet::ALL,
        americas::ALL,
        europe::ALL,
        central::ALL,
        north::ALL,
        asia::ALL,
        net::ALL,
        passport::ALL,
    ];
    families.into_iter().flatten().chain(phone::ALL).chain(street::ALL)
}

/// The detector of a name.
pub fn named(name: &str) -> Option<&'static Detector> {
    all().find(|detector| detector.name == name)
}
