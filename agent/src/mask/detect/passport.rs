//! Passports and driving licences: shapes that say little, behind a word that says much.

use super::{Detector, Edge, Shape};

const PASSPORT: &[&str] = &[
    "passport",
    "passports",
    "passport no",
    "passeport",
    "pasaporte",
    "passaporto",
    "passaporte",
    "reisepass",
    "pass nr",
    "paspoort",
    "paszport",
    "travel document",
    "passport number",
];
const LICENCE: &[&str] = &[
    "driver license",
    "drivers license",
    "driver s license",
    "driving licence",
    "driving license",
    "driver licence",
    "drivers licence",
    "driver s licence",
    "license number",
    "licence number",
    "führerschein",
    "permis de conduire",
    "dl number",
];

pub const ALL: &[Detector] = &[
    Detector {
        name: "passport",
        grammar: "eight or nine letters (capitals) and digits as states number their passports: up to two letters and six to nine digits, \
                  ten of Germany's letters and digits, two digits, two letters and five digits (France); behind a word such as passport",
        source: "ICAO Doc 9303 part 4 (nine characters); national forms as the states publish them",
        examples: &["passport no. «X12345678»", "Reisepass «C01X00T47»", "\"passport\":\"«533401234»\""],
        shapes: &[
            Shape::digit("[A-Z]{0,2}[0-9]{6,9}", |_| true).near(PASSPORT).edge(Edge::Word),
            Shape::digit("[CFGHJK][0-9CFGHJKLMNPRTVWXYZ]{8}[0-9]?", has_digit)
                .near(PASSPORT)
                .edge(Edge::Word),
            Shape::digit("[0-9]{2}[A-Z]{2}[0-9]{5}", |_| true).near(PASSPORT).edge(Edge::Word),
            Shape::digit("[A-Z]{3}[0-9]{6}[A-Z]?", |_| true).near(PASSPORT).edge(Edge::Word),
        ],
    },
    Detector {
        name: "driver-license",
        grammar: "6 to 16 capitals and digits, or a small letter and 5 to 14 digits, at least four digits among them; behind words such as driver's license",
        source: "AAMVA DL/ID card design standard; DVLA driver numbers",
        examples: &["Driver's license: «D1234567»", "driving licence «MORGA657054SM9IJ»"],
        shapes: &[Shape::digit(
            "[A-Z0-9]{6,16}|[a-z][0-9]{5,14}|[A-Z][0-9]{3}(?:-[0-9]{3,4}){2,4}",
            four_digits,
        )
        .near(LICENCE)
        .edge(Edge::Word)],
    },
];

fn has_digit(text: &[u8]) -> bool {
    text.iter().any(u8::is_ascii_digit)
}

fn four_digits(text: &[u8]) -> bool {
    text.iter().filter(|b| b.is_ascii_digit()).count() >= 4
}
