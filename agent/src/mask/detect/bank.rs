//! Payment cards, IBAN and BIC.

use super::sums::{digits, luhn, mod97, number, plain};
use super::{Begin, Detector, Edge, Shape, Step, Text, step};

const BIC_WORDS: &[&str] = &["bic", "swift", "swiftcode", "bank code", "bankcode"];

pub const ALL: &[Detector] = &[
    Detector {
        name: "card",
        grammar: "12 to 19 digits, together or in groups parted by single spaces or hyphens (4-4-4-4, 4-6-5, 4-6-4, \
                  4-4-5, 4-4-4-4-3), a range and length that an issuer has, Luhn",
        source: "ISO/IEC 7812-1; ranges as published by the networks (Visa, Mastercard, American Express, Discover, Diners \
                 Club, JCB, UnionPay, Maestro)",
        examples: &[
            "pay with «4111 1111 1111 1111» now",
            "«378282246310005»",
            "\"«5555-5555-5555-4444»\" «5555555555554444»",
        ],
        shapes: &[
            Shape::digit("[0-9]{12,19}", is_card),
            Shape::digit("[0-9]{4}(?: [0-9]{4}){3}(?: [0-9]{1,3})?|[0-9]{4} [0-9]{6} [0-9]{4,5}", is_card),
            Shape::digit("[0-9]{4}(?:-[0-9]{4}){3}(?:-[0-9]{1,3})?|[0-9]{4}-[0-9]{6}-[0-9]{4,5}", is_card),
        ],
    },
    Detector {
        name: "iban",
        grammar: "two letters of a country, two check digits, the country's number of letters and digits, together or in \
                  groups of four; remainder 1 by 97",
        source: "ISO 13616, SWIFT IBAN registry; check ISO 7064 MOD 97-10",
        examples: &["IBAN «DE89 3704 0044 0532 0130 00».", "\"«GB82WEST12345698765432»\""],
        shapes: &[Shape {
            begin: Begin::DigitBy("[A-Za-z]{2}[0-9]{2}", iban),
            edge: Edge::Word,
            check: |_| true,
            near: &[],
        }],
    },
    Detector {
        name: "bic",
        grammar: "four letters, a country's two letters, two letters or digits, perhaps three more; behind a word such as \
                  BIC or SWIFT",
        source: "ISO 9362",
        examples: &["BIC: «DEUTDEFF500»", "swift code «NEDSZAJJXXX»"],
        shapes: &[
            Shape::by(Begin::Literal(&["BIC", "Bic", "bic", "SWIFT", "Swift", "swift"], bic)),
            Shape::digit("[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?", is_bic).edge(Edge::Word).near(BIC_WORDS),
        ],
    },
];

/// First digits, from and to, and lengths of numbers that issuers give out.
const ISSUERS: &[(u64, u64, &[usize])] = &[
    (340, 349, &[15]),
    (370, 379, &[15]),
    (300, 305, &[14, 16]),
    (3095, 3095, &[14, 16]),
    (36, 36, &[14, 16]),
    (38, 39, &[14, 16]),
    (1800, 1800, &[15]),
    (2131, 2131, &[15]),
    (35, 35, &[16, 19]),
    (4, 4, &[13, 16, 19]),
    (51, 55, &[16]),
    (2221, 2720, &[16]),
    (6011, 6011, &[16, 19]),
    (644, 659, &[16, 19]),
    (622126, 622925, &[16, 17, 18, 19]),
    (620, 629, &[16, 17, 18, 19]),
    (8171, 8171, &[16]),
    (50, 50, &[16]),
    (56, 58, &[16]),
    (5018, 5018, &[12, 13, 14, 15, 16, 17, 18, 19]),
    (5020, 5020, &[12, 13, 14, 15, 16, 17, 18, 19]),
    (5038, 5038, &[12, 13, 14, 15, 16, 17, 18, 19]),
    (5893, 5893, &[12, 13, 14, 15, 16, 17, 18, 19]),
    (6304, 6304, &[12, 13, 14, 15, 16, 17, 18, 19]),
    (6759, 6763, &[12, 13, 14, 15, 16, 17, 18, 19]),
    (2200, 2204, &[16]),
    (9792, 9792, &[16]),
    (60, 60, &[16]),
    (6521, 6522, &[16]),
];

/// Whether an issuer has numbers like this, and Luhn's check holds.
pub fn is_card(text: &[u8]) -> bool {
    let digits = digits(text);
    let issued = ISSUERS.iter().any(|(from, to, lengths)| {
        let first = digits.get(..from.ilog10() as usize + 1).map(number);
        first.is_some_and(|first| (from..=to).contains(&&first)) && lengths.contains(&digits.len())
    });
    issued && luhn(&digits) && digits.iter().any(|digit| *digit != digits[0])
}

/// Countries and lengths of the IBAN registry, release 98 and before.
const COUNTRIES: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 \
     EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 \
     LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 \
     RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30";

/// How long the IBANs of a country are, in letters and digits.
pub fn iban_length(country: &[u8]) -> Option<usize> {
    let country = [country.first()?.to_ascii_uppercase(), country.get(1)?.to_ascii_uppercase()];
    let entry = COUNTRIES.split_ascii_whitespace().find(|entry| entry.as_bytes()[..2] == country)?;
    entry[2..].parse().ok()
}

/// Whether the check digits hold.
pub fn is_iban(text: &[u8]) -> bool {
    let plain = plain(text);
    iban_length(&plain) == Some(plain.len())
        && plain[2..4].iter().all(u8::is_ascii_digit)
        && mod97(plain[4..].iter().chain(&plain[..4]).copied()) == 1
}

fn iban(text: Text<'_>, from: usize) -> Step {
    step((|| {
        // Two letters and two digits: all that is not is told at once.
        for (at, digit) in [(0, false), (1, false), (2, true), (3, true)] {
            let Some(byte) = text.at(from + at)? else { return Ok(Step::No) };
            if if digit { !byte.is_ascii_digit() } else { !byte.is_ascii_alphabetic() } {
                return Ok(Step::No);
            }
        }
        let Some(length) = iban_length(text.slice(from, from + 2)) else { return Ok(Step::No) };
        let parted = matches!(text.at(from + 4)?, Some(b' ' | b'-'));
        let (mut count, mut at) = (0, from);
        while count < length {
            match text.at(at)? {
                Some(byte) if byte.is_ascii_alphanumeric() => count += 1,
                Some(b' ' | b'-')
                    if parted && count % 4 == 0 && text.before(at).is_some_and(|b| b > b'-') => {}
                _ => return Ok(Step::No),
            }
            at += 1;
        }
        Ok(if is_iban(text.slice(from, at)) { Step::Found(at) } else { Step::No })
    })())
}

fn is_bic(text: &[u8]) -> bool {
    // A country has an IBAN, or is one of those without that trade most.
    const OTHERS: &[u8] = b"US CA AU NZ JP CN IN SG HK KR ZA MX TH MY ID PH VN TW KE NG MA AR CL CO PE";
    let country = &text[4..6];
    iban_length(country).is_some() || OTHERS.split(|b| *b == b' ').any(|other| other == country)
}

fn bic_at(text: Text<'_>, from: usize) -> Result<Step, Step> {
    let end = text.run(from, 12, |b| b.is_ascii_uppercase() || b.is_ascii_digit())?;
    let value = text.slice(from, end);
    let fits =
        matches!(value.len(), 8 | 11) && value[..6].iter().all(u8::is_ascii_uppercase) && is_bic(value);
    let alone = !text.at(end)?.is_some_and(|b| b.is_ascii_alphanumeric());
    Ok(if fits && alone { Step::Found(end) } else { Step::No })
}

/// Behind a word, a few signs, and perhaps `code`, `number` or `is`.
fn bic(text: Text<'_>, word: usize) -> Option<(usize, Step)> {
    if text.before(word).is_some_and(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    let signs = |from: usize| text.run(from, 6, |b| b" \"':=/_-.>(\t".contains(&b));
    let letters = |from: usize| text.run(from, 12, |b| b.is_ascii_alphanumeric());
    let found = (|| {
        let mut from = letters(word)?;
        for _ in 0..3 {
            let begin = signs(from)?;
            let end = letters(begin)?;
            let filler = ["code", "number", "is", "bic", "swift", "no"]
                .iter()
                .any(|f| text.slice(begin, end).eq_ignore_ascii_case(f.as_bytes()));
            if begin == from || !filler {
                return Ok((begin, if begin == from { Step::No } else { bic_at(text, begin)? }));
            }
            from = end;
        }
        Ok((from, Step::No))
    })();
    Some(found.unwrap_or_else(|more| (word, more)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_need_an_issuer_and_the_check() {
        for (card, is) in [
            ("4111111111111111", true),
            ("4111111111111112", false),
            ("0000000000000000", false),
            ("2223003122003222", true),
            ("6759649826438453", true),
            ("30569309025904", true),
            ("3566002020360505", true),
            ("1234567812345670", false),
        ] {
            assert_eq!(is_card(card.as_bytes()), is, "{card}");
        }
    }

    #[test]
    fn every_country_has_a_length() {
        for entry in COUNTRIES.split_ascii_whitespace() {
            let length = iban_length(entry.as_bytes()).expect(entry);
            assert!((15..=34).contains(&length), "{entry}");
        }
        assert_eq!(iban_length(b"XX"), None);
    }
}
