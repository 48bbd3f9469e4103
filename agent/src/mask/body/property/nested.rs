//! Strings that hold JSON, values in percent signs, and markup.

use super::make::{Dice, Document, json_escape, plain, reference};
use crate::mask::Kind;
use crate::mask::body::spell::{Spell, spell};

/// A string of JSON in which JSON stands, in which JSON may stand.
pub fn nested(dice: &mut Dice, doc: &mut Document, depth: usize) {
    let mut inner = Document::default();
    inner.fixed(dice.one(&["{\"a\": ", "[", " {\"a\":[1, ", "[null,{\"b\\\\c\" : "]));
    for at in 0..dice.roll(3) + 1 {
        inner.fixed(if at > 0 { "," } else { "" });
        if depth < 2 && dice.roll(4) == 0 {
            nested(dice, &mut inner, depth + 1);
            continue;
        }
        inner.fixed("\"");
        inner.fixed(dice.one(&["", "\\n", "C:\\\\", "\\\"", "\\t\\/", "\\u003e"]));
        inner.signed(dice, Spell::Json, false, &json_escape, &json_signs);
        inner.fixed("\"");
    }
    inner.fixed(dice.one(&["}", "]", ""]));
    doc.fixed("\"");
    spell(&inner.raw, Spell::Json, false, &mut doc.raw);
    spell(&inner.want, Spell::Json, false, &mut doc.want);
    spell(&inner.back, Spell::Json, false, &mut doc.back);
    doc.values.extend(inner.values);
    doc.fixed("\"");
}

/// A letter of a value, now and then behind a percent sign, as in a URL that stands in a text.
fn signs(dice: &mut Dice, letter: char, out: &mut Vec<u8>) -> bool {
    let is = letter.is_ascii_graphic() && dice.roll(12) == 0;
    if is {
        let sign = dice.one(&["%", "%", "%25", "%2525"]);
        out.extend_from_slice(format!("{sign}{:02x}", u32::from(letter)).as_bytes());
    }
    is
}

pub fn plain_signs(dice: &mut Dice, letter: char, out: &mut Vec<u8>) {
    if !signs(dice, letter, out) {
        plain(dice, letter, out);
    }
}

pub fn json_signs(dice: &mut Dice, letter: char, out: &mut Vec<u8>) {
    if !signs(dice, letter, out) {
        json_escape(dice, letter, out);
    }
}

pub fn markup(dice: &mut Dice, doc: &mut Document) -> Kind {
    for _ in 0..dice.roll(4) {
        doc.fixed("<p q=\"");
        doc.text(dice, Spell::Xml, false, &reference);
        doc.fixed("\">");
        doc.text(dice, Spell::Xml, false, &reference);
        doc.fixed("</p><!-- ");
        doc.signed(dice, Spell::Verbatim, false, &plain, &plain_signs);
        doc.fixed(" -->");
    }
    if dice.roll(2) == 0 { Kind::Xml } else { Kind::Html }
}
