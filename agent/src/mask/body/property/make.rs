//! Documents made at random: as they come, as they should be hidden, and as they should come back.

use super::nested::{json_signs, markup, plain_signs};
use crate::mask::Kind;
use crate::mask::body::latin1;
use crate::mask::body::spell::{Spell, spell};

/// Numbers that anybody can draw again (xorshift64*).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    pub fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

/// A part of a text: a planted value and its label, or none.
#[derive(Clone)]
struct Part {
    text: String,
    label: Option<&'static str>,
}

const WORDS: &[&str] =
    &["the", "server", "because", "Köln's", "naïve", "x", "of", "€", "weeks", "😀", "shall", "q"];

fn value(dice: &mut Dice) -> Part {
    let digits =
        |dice: &mut Dice, count| (0..count).map(|_| dice.one(&["1", "3", "7", "9"])).collect::<String>();
    let (text, label) = match dice.roll(6) {
        0 => (format!("jo{}@corp{}.example.org", digits(dice, 3), digits(dice, 2)), "email"),
        1 => {
            (dice.one(&["4111111111111111", "4012 8888 8888 1881", "5555-5555-5555-4444"]).to_owned(), "card")
        }
        2 => (format!("EMP-{}", digits(dice, 6)), "staff"),
        3 => (dice.one(&["New York", "NEW YORK"]).to_owned(), "towns"),
        4 => ("DE89370400440532013000".to_owned(), "iban"),
        _ => (format!("ghp_{}aB3dE6gH9jK2mN5pQ8sT1vW4yZ7", digits(dice, 9)), "api-key"),
    };
    Part { text, label: Some(label) }
}

/// A text: words, and values among them.
fn text(dice: &mut Dice, latin: bool) -> Vec<Part> {
    let mut parts = Vec::new();
    for at in 0..dice.roll(4) + 1 {
        let mut words = if at > 0 { " ".to_owned() } else { String::new() };
        for _ in 0..dice.roll(4) {
            let word = dice.one(WORDS);
            // `Köln` is a word of the list, and so is never drawn alone; Windows-1252 has no smileys.
            words += if word.contains("Köln") || (latin && word.contains('😀')) { "and" } else { word };
            words += dice.one(&[" ", ", ", ". "]);
        }
        parts.push(Part { text: words, label: None });
        if dice.roll(4) > 0 {
            parts.push(value(dice));
        }
    }
    parts
}

/// A document: as it comes, as it should be hidden, and as it should come back.
#[derive(Default)]
pub struct Document {
    pub raw: Vec<u8>,
    pub want: Vec<u8>,
    pub back: Vec<u8>,
    pub values: Vec<String>,
}

pub type Escape<'a> = &'a dyn Fn(&mut Dice, char, &mut Vec<u8>);

impl Document {
    pub fn fixed(&mut self, text: &str) {
        for all in [&mut self.raw, &mut self.want, &mut self.back] {
            all.extend_from_slice(text.as_bytes());
        }
    }

    fn letters(&mut self, dice: &mut Dice, text: &str, escape: Escape<'_>) {
        for letter in text.chars() {
            let mut one = Vec::new();
            escape(dice, letter, &mut one);
            for all in [&mut self.raw, &mut self.want, &mut self.back] {
                all.extend_from_slice(&one);
            }
        }
    }

    fn value(&mut self, dice: &mut Dice, part: &Part, how: Spell, latin: bool, escape: Escape<'_>) {
        part.text.chars().for_each(|letter| escape(dice, letter, &mut self.raw));
        self.replaced(part, how, latin);
    }

    fn replaced(&mut self, part: &Part, how: Spell, latin: bool) {
        let label = format!("[{}]", part.label.expect("a value"));
        spell(label.as_bytes(), how, latin, &mut self.want);
        spell(part.text.as_bytes(), how, latin, &mut self.back);
        self.values.push(part.text.clone());
    }

    pub fn text(&mut self, dice: &mut Dice, how: Spell, latin: bool, escape: Escape<'_>) {
        self.signed(dice, how, latin, escape, escape);
    }

    /// Values have letters of their own.
    pub fn signed(
        &mut self,
        dice: &mut Dice,
        how: Spell,
        latin: bool,
        escape: Escape<'_>,
        signs: Escape<'_>,
    ) {
        for part in text(dice, latin) {
            match part.label {
                None => self.letters(dice, &part.text, escape),
                Some(_) => self.value(dice, &part, how, latin, signs),
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.raw.extend(other.raw);
        self.want.extend(other.want);
        self.back.extend(other.back);
        self.values.extend(other.values);
    }
}

pub fn plain(dice: &mut Dice, letter: char, out: &mut Vec<u8>) {
    let _ = dice;
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

fn latin(_: &mut Dice, letter: char, out: &mut Vec<u8>) {
    out.push(latin1::byte_of(letter).expect("words that Windows-1252 has"));
}

pub fn json_escape(dice: &mut Dice, letter: char, out: &mut Vec<u8>) {
    if dice.roll(8) == 0 {
        for unit in letter.encode_utf16(&mut [0; 2]) {
            let unit = if dice.roll(2) == 0 { format!("\\u{unit:04x}") } else { format!("\\u{unit:04X}") };
            out.extend_from_slice(unit.as_bytes());
        }
    } else {
        plain(dice, letter, out);
    }
}

fn percent(dice: &mut Dice, letter: char, out: &mut Vec<u8>) {
    let must = !letter.is_ascii_alphanumeric();
    if letter == ' ' && dice.roll(2) == 0 {
        out.push(b'+');
    } else if must || dice.roll(8) == 0 {
        for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
            let sign = if dice.roll(2) == 0 { format!("%{byte:02x}") } else { format!("%{byte:02X}") };
            out.extend_from_slice(sign.as_bytes());
        }
    } else {
        plain(dice, letter, out);
    }
}

pub fn reference(dice: &mut Dice, letter: char, out: &mut Vec<u8>) {
    let code = u32::from(letter);
    let text = match dice.roll(10) {
        0 => format!("&#{code};"),
        1 => format!("&#x{code:x};"),
        2 if letter == '@' => "&commat;".to_owned(),
        _ => letter.to_string(),
    };
    out.extend_from_slice(text.as_bytes());
}

fn space(dice: &mut Dice, doc: &mut Document) {
    doc.fixed(dice.one(&["", "", "", " ", "\t"]));
}

fn json(dice: &mut Dice, doc: &mut Document, depth: usize) {
    space(dice, doc);
    match dice.roll(if depth > 3 { 5 } else { 9 }) {
        0 => doc.fixed(dice.one(&["null", "true", "false", "0", "-1.5e3", "12", "\"\"", "[]", "{}"])),
        1 => {
            let card = Part {
                text: dice.one(&["4111111111111111", "378282246310005"]).to_owned(),
                label: Some("card"),
            };
            doc.raw.extend_from_slice(card.text.as_bytes());
            doc.want.extend_from_slice(b"\"[card]\"");
            doc.back.extend_from_slice(card.text.as_bytes());
            doc.values.push(card.text);
        }
        2 => super::nested::nested(dice, doc, 0),
        3..5 => {
            doc.fixed("\"");
            doc.signed(dice, Spell::Json, false, &json_escape, &json_signs);
            doc.fixed("\"");
        }
        5..7 => {
            doc.fixed("[");
            for at in 0..dice.roll(4) {
                doc.fixed(if at > 0 { "," } else { "" });
                json(dice, doc, depth + 1);
            }
            space(dice, doc);
            doc.fixed("]");
        }
        _ => object(dice, doc, depth),
    }
    space(dice, doc);
}

fn object(dice: &mut Dice, doc: &mut Document, depth: usize) {
    doc.fixed("{");
    for at in 0..dice.roll(4) {
        doc.fixed(if at > 0 { "," } else { "" });
        space(dice, doc);
        doc.fixed("\"");
        let field = dice.roll(3) == 0;
        if field {
            doc.letters(dice, "nick", &json_escape);
        } else {
            doc.text(dice, Spell::Json, false, &json_escape);
        }
        doc.fixed("\"");
        space(dice, doc);
        doc.fixed(":");
        if field {
            whole(dice, doc);
        } else {
            json(dice, doc, depth + 1);
        }
    }
    space(dice, doc);
    doc.fixed("}");
}

/// The value of a field that goes as a whole.
fn whole(dice: &mut Dice, doc: &mut Document) {
    if dice.roll(3) == 0 {
        doc.raw.extend_from_slice(b"1234.5");
        doc.want.extend_from_slice(b"\"[nick]\"");
        doc.back.extend_from_slice(b"1234.5");
        return;
    }
    let part = Part { text: "Élise 😀 Smith".into(), label: Some("nick") };
    let escape: Escape<'_> = if dice.roll(2) == 0 { &plain } else { &json_escape };
    doc.fixed("\"");
    doc.value(dice, &part, Spell::Json, false, escape);
    doc.fixed("\"");
}

/// Events: of JSON, of text, and of texts that go on.
fn events(dice: &mut Dice, doc: &mut Document) {
    let end = dice.one(&["\n", "\r\n", "\r"]);
    for _ in 0..dice.roll(3) {
        doc.fixed(&format!("event: message{end}data: "));
        doc.fixed("[");
        json(dice, doc, 1);
        doc.fixed(&format!("]{end}{end}"));
    }
    let event = |index: usize| {
        [
            (format!("{{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\""), "\"}}]}".to_owned()),
            ("{\"choices\":[{\"delta\":{\"content\":\"".to_owned(), format!("\"}},\"index\":{index}}}]}}")),
            (
                "{\"type\":\"content_block_delta\",\"delta\":{\"text\":\"".to_owned(),
                format!("\"}},\"index\":{index}}}"),
            ),
            (
                format!("{{\"type\":\"response.output_text.delta\",\"item_id\":\"i{index}\",\"delta\":\""),
                "\"}".to_owned(),
            ),
        ]
    };
    let shape = dice.roll(4);
    let mut texts: Vec<Vec<(char, usize, Part)>> = Vec::new();
    for _ in 0..dice.roll(3) + 1 {
        let mut letters = Vec::new();
        for part in text(dice, false) {
            letters.extend(part.text.chars().enumerate().map(|(at, letter)| (letter, at, part.clone())));
        }
        letters.reverse();
        texts.push(letters);
    }
    for at in 0..16 {
        // The last events have what is left.
        let last = at + texts.len() >= 16;
        let which = if last { 15 - at } else { dice.roll(texts.len()) };
        let left = texts[which].len();
        let count = if last { left } else { dice.roll(12).min(left) };
        let (before, after) = event(which)[shape].clone();
        doc.fixed(&format!("data: {before}"));
        for _ in 0..count {
            let (letter, place, part) = texts[which].pop().expect("as many as there are");
            match part.label {
                None => doc.letters(dice, &letter.to_string(), &json_escape),
                Some(_) => {
                    json_signs(dice, letter, &mut doc.raw);
                    if place == 0 {
                        doc.replaced(&part, Spell::Json, false);
                    }
                }
            }
        }
        doc.fixed(&format!("{after}{end}{end}"));
    }
}

pub fn document(dice: &mut Dice) -> (Kind, Document) {
    let mut doc = Document::default();
    let kind = match dice.roll(11) {
        0 => {
            doc.signed(dice, Spell::Plain, false, &plain, &plain_signs);
            Kind::Text
        }
        1 => {
            doc.text(dice, Spell::Plain, true, &latin);
            Kind::Latin1(Box::new(Kind::Text))
        }
        2 | 3 => {
            json(dice, &mut doc, 0);
            Kind::Json
        }
        4 => {
            for _ in 0..dice.roll(4) {
                json(dice, &mut doc, 0);
                doc.fixed("\n");
            }
            Kind::Ndjson
        }
        5 | 6 => {
            events(dice, &mut doc);
            Kind::Sse
        }
        7 => {
            for at in 0..dice.roll(4) {
                doc.fixed(if at > 0 { "&a=" } else { "b=" });
                doc.text(dice, Spell::Form, false, &percent);
            }
            Kind::Form
        }
        8 => markup(dice, &mut doc),
        9 => columns(dice, &mut doc),
        _ => parts(dice, &mut doc),
    };
    (kind, doc)
}

fn columns(dice: &mut Dice, doc: &mut Document) -> Kind {
    doc.fixed("a,nick\n");
    for _ in 0..dice.roll(4) {
        doc.fixed("\"");
        doc.signed(dice, Spell::Quoted, false, &plain, &plain_signs);
        doc.fixed("\",\"");
        let part = Part { text: "Jo \"X\" Smith".into(), label: Some("nick") };
        doc.raw.extend_from_slice(b"Jo \"\"X\"\" Smith");
        doc.replaced(&part, Spell::Quoted, false);
        doc.fixed("\"\r\n");
    }
    Kind::Csv
}

fn parts(dice: &mut Dice, doc: &mut Document) -> Kind {
    for _ in 0..dice.roll(3) + 1 {
        let (kind, part) = loop {
            match document(dice) {
                (Kind::Json, part) => break ("application/json", part),
                (Kind::Text, part) => break ("text/plain", part),
                (Kind::Csv, part) => break ("text/csv", part),
                (Kind::Form, part) => break ("application/x-www-form-urlencoded", part),
                _ => {}
            }
        };
        doc.fixed(&format!("--b0\r\nContent-Type: {kind}\r\n\r\n"));
        doc.add(part);
        doc.fixed("\r\n");
    }
    doc.fixed("--b0--\r\n");
    Kind::Multipart { boundary: b"b0".to_vec() }
}
