//! Telephone numbers.

use super::sums::{digits, number};
use super::{Detector, Shape};

const WORDS: &[&str] = &[
    "phone",
    "phones",
    "telephone",
    "phone number",
    "tel",
    "mobile",
    "cell",
    "cellphone",
    "cellular",
    "call",
    "fax",
    "whatsapp",
    "sms",
    "text me",
    "contact",
    "hotline",
    "telefon",
    "handy",
    "mobil",
    "rufnummer",
    "tél",
    "téléphone",
    "portable",
    "teléfono",
    "móvil",
    "celular",
    "telefono",
    "cellulare",
    "telefone",
    "telefoon",
    "mobiel",
    "puhelin",
    "telefonnummer",
    "phonenumber",
    "msisdn",
    "dial",
    "reach me",
    "reached",
    "reach you",
    "answering",
    "office",
    "my number",
    "messages to",
];

pub const ALL: &[Detector] = &[Detector {
    name: "phone",
    grammar: "`+` or 00 and a country's code, 8 to 15 digits in all, parted by up to two of space ./()-; a North American \
              number in three groups; a number that begins with 0, in two or more groups, 9 to 12 digits; behind a word such \
              as phone, tel or mobile also 7 to 15 digits in any groups. Perhaps an extension (x12, ext. 12)",
    source: "ITU-T E.164 and its list of country codes, E.123; NANPA (no N11 area, exchange 2 to 9)",
    examples: &[
        "call «+49 (0)30 901820»",
        "\"«+14155550132»\"",
        "at «(415) 555-0132 x12»",
        "«001-415-555-0132»",
        "«020 7946 0958»,",
        "«01 23 45 67 89»",
        "Tel.: «5550132»",
    ],
    shapes: &[
        Shape::digit(
            "[+] ?[1-9](?:[ .()/-]{0,2}[0-9]){6,14}(?:,? ?(?:x|ext[.]?) ?[0-9]{1,5})?",
            is_international,
        ),
        Shape::digit(
            "00[1-9][0-9]{0,3}[ .-](?:[ .()/-]{0,2}[0-9]){6,13}(?:,? ?(?:x|ext[.]?) ?[0-9]{1,5})?",
            is_international,
        ),
        Shape::digit(
            "(?:1[ .-])?(?:[(][2-9][0-9]{2}[)] ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}(?:,? ?(?:x|ext[.]?) ?[0-9]{1,5})?",
            is_american,
        ),
        Shape::digit("[(]?0[1-9][0-9]{0,4}[)]?[ /-]{1,2}[0-9]{2,8}(?:[ -][0-9]{2,6}){0,3}", is_national),
        Shape::digit("0[1-9](?:[ .-][0-9]{2}){4}", |_| true),
        Shape::digit("[(]?[0-9](?:[ .()/-]{0,2}[0-9]){6,14}(?:,? ?(?:x|ext[.]?) ?[0-9]{1,5})?", is_any)
            .near(WORDS),
    ],
}];

/// Country codes of two digits; one-digit codes are 1 and 7, all others have three.
const TWO: &[u64] = &[
    20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57, 58,
    60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98,
];
/// The first two digits of codes of three.
const THREE: &[u64] =
    &[21, 22, 23, 24, 25, 26, 29, 35, 37, 38, 42, 50, 59, 67, 68, 69, 80, 85, 87, 88, 96, 97, 99];

/// Without an extension.
fn main_digits(text: &[u8]) -> Vec<u8> {
    digits(text.split(|b| *b == b'x' || *b == b'e').next().unwrap_or(text))
}

fn is_international(text: &[u8]) -> bool {
    let digits = main_digits(text);
    let digits = if text.starts_with(b"+") { &digits[..] } else { &digits[2..] };
    let first = number(&digits[..2]);
    match digits {
        [1, rest @ ..] => is_american_number(rest),
        [7, ..] => digits.len() == 11,
        _ => (TWO.contains(&first) || THREE.contains(&first)) && (8..=15).contains(&digits.len()),
    }
}

fn is_american_number(digits: &[u8]) -> bool {
    digits.len() == 10 && digits[0] > 1 && digits[3] > 1 && digits[1..3] != [1, 1]
}

fn is_american(text: &[u8]) -> bool {
    let digits = main_digits(text);
    is_american_number(&digits[digits.len() - 10..])
}

fn is_national(text: &[u8]) -> bool {
    let parts: Vec<usize> = text.split(|b| !b.is_ascii_digit()).map(<[u8]>::len).filter(|l| *l > 0).collect();
    let is_day = matches!(parts[..], [2, 2, 4, ..] | [2, 2, 2]);
    (9..=12).contains(&digits(text).len()) && !is_day
}

fn is_any(text: &[u8]) -> bool {
    let digits = main_digits(text);
    let groups: Vec<&[u8]> = text.split(|b| !b.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
    let is_day = matches!(groups[..], [y, m, d, ..] if y.len() == 4 && m.len() == 2 && d.len() == 2)
        || matches!(groups[..], [d, m, y] if d.len() <= 2 && m.len() <= 2 && y.len() == 4);
    let is_address =
        text.iter().filter(|b| **b == b'.').count() == 3 && groups.len() == 4 && !text.contains(&b'-');
    !is_day && !is_address && digits.iter().any(|digit| *digit != digits[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_nobody_has_are_none() {
        for text in ["+999", "+28 12345678", "+1 115 555 0132", "+0 123456789", "+1 415 155 0132"] {
            assert!(!is_international(text.as_bytes()), "{text}");
        }
        assert!(!is_national(b"01-02-2024 10") && !is_any(b"2024-01-02 10:11") && !is_any(b"0000000"));
        assert!(is_international(b"+358 9 1234567") && is_american(b"1-415-555-0132x77"));
    }
}
