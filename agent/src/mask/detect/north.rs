//! Numbers that states in northern Europe and the Baltics give to people.

use super::sums::{digits, is_date, luhn, number, weighted};
use super::{Detector, Edge, Shape};

const SE: &[&str] = &["personnummer", "personnr", "personal number", "samordningsnummer"];
const DK: &[&str] = &["cpr", "cpr nummer", "personnummer"];
const BALTIC: &[&str] = &["isikukood", "asmens kodas", "personal code", "personas kods"];

pub const ALL: &[Detector] = &[
    Detector {
        name: "se-personnummer",
        grammar: "a day of six or eight digits, - or +, four digits, or all together behind a word; Luhn over the last ten; days of a \
                  samordningsnummer 60 more",
        source: "Skatteverket SKV 704 and 707",
        examples: &["«811218-9876»", "«19811218-9876»", "personnummer «8112189876»"],
        shapes: &[
            Shape::digit("(?:19|20)?[0-9]{6}[-+][0-9]{4}", is_se),
            Shape::digit("(?:19|20)?[0-9]{10}", is_se).near(SE),
        ],
    },
    Detector {
        name: "fi-hetu",
        grammar: "a day of six digits, one of + - A to F U to Y, three digits and a check letter modulo 31",
        source: "Digital and Population Data Services Agency of Finland, personal identity code (2023)",
        examples: &["«131052-308T»"],
        shapes: &[Shape::digit("[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]", is_fi).edge(Edge::Word)],
    },
    Detector {
        name: "no-fodselsnummer",
        grammar: "eleven digits, perhaps with a space behind six: a day (D-numbers 40 more), two check digits modulo 11",
        source: "Skatteetaten, fødselsnummer and D-nummer",
        examples: &["«01010750160»"],
        shapes: &[Shape::digit("[0-7][0-9]{5} ?[0-9]{5}", is_no)],
    },
    Detector {
        name: "dk-cpr",
        grammar: "a day of six digits, a hyphen and four digits; together behind a word (no check since 2007)",
        source: "CPR-kontoret, Personnummeret i CPR",
        examples: &["CPR «070761-4285»"],
        shapes: &[Shape::digit("[0-3][0-9][01][0-9]{3}[- ]?[0-9]{4}", is_dk).near(DK)],
    },
    Detector {
        name: "baltic-personal-code",
        grammar: "eleven digits behind a word: 1 to 8, a day, a serial, a check modulo 11 (Estonia, Lithuania); 6-5 digits (Latvia)",
        source: "EVS 585:2007; Lithuanian law on the population register",
        examples: &["isikukood «37605030299»", "personas kods «161175-19997»"],
        shapes: &[
            Shape::digit("[1-8][0-9]{10}", is_baltic).near(BALTIC),
            Shape::digit("[0-3][0-9][01][0-9]{3}-[0-9]{5}", |_| true).near(BALTIC),
        ],
    },
];

fn is_se(text: &[u8]) -> bool {
    let digits = digits(text);
    let ten = &digits[digits.len() - 10..];
    let day = number(&ten[..6]);
    luhn(ten)
        && (is_date(2000, day / 100 % 100, day % 100)
            || is_date(2000, day / 100 % 100, (day % 100).saturating_sub(60)))
}

fn is_fi(text: &[u8]) -> bool {
    let digits = digits(&text[..10]);
    let day = number(&digits[..6]);
    let is_day = is_date(2000, day / 100 % 100, day / 10000);
    is_day && b"0123456789ABCDEFHJKLMNPRSTUVWXY"[number(&digits[..9]) as usize % 31] == text[10]
}

fn is_no(text: &[u8]) -> bool {
    let digits = digits(text);
    let day = number(&digits[..6]);
    let first = weighted(&digits, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]);
    let second = weighted(&digits, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]);
    let (of_month, month) = (day / 10000, day / 100 % 100);
    first.is_multiple_of(11)
        && second.is_multiple_of(11)
        && is_date(2000, month % 40, if of_month > 40 { of_month - 40 } else { of_month })
}

fn is_dk(text: &[u8]) -> bool {
    let day = number(&digits(text)[..6]);
    is_date(2000, day / 100 % 100, day / 10000)
}

fn is_baltic(text: &[u8]) -> bool {
    let digits = digits(text);
    let day = number(&digits[1..7]);
    let rest = match weighted(&digits, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 1]) % 11 {
        10 => weighted(&digits, &[3, 4, 5, 6, 7, 8, 9, 1, 2, 3]) % 11 % 10,
        rest => rest,
    };
    rest == u32::from(digits[10]) && is_date(2000, day / 100 % 100, day % 100)
}
