//! Strings that hold JSON.

use super::make::{Dice, Document, json_escape, json_signs};
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
