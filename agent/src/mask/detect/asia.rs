//! Numbers that states in Asia, Africa and Oceania give to people.

use super::sums::{digits, is_date, luhn, number, verhoeff, weighted};
use super::{Detector, Edge, Shape};

const AADHAAR: &[&str] = &["aadhaar", "aadhar", "adhaar", "uidai", "uid", "आधार"];
const TFN: &[&str] = &["tfn", "tax file", "tax file number"];
const MEDICARE: &[&str] = &["medicare"];
const ABN: &[&str] = &["abn", "australian business"];
const MY_NUMBER: &[&str] = &["my number", "mynumber", "individual number", "マイナンバー", "個人番号"];
const SA: &[&str] = &["id number", "south african id", "rsa id", "identity number", "sa id"];
const NRIC: &[&str] = &["nric", "fin", "singapore"];

pub const ALL: &[Detector] = &[
    Detector {
        name: "in-aadhaar",
        grammar: "twelve digits in fours with spaces or hyphens, or together behind a word; the first 2 to 9, Verhoeff, no palindrome",
        source: "UIDAI, UID numbering scheme",
        examples: &["«2345 6789 0124»", "Aadhaar: «234567890124»"],
        shapes: &[
            Shape::digit("[2-9][0-9]{3} [0-9]{4} [0-9]{4}|[2-9][0-9]{3}-[0-9]{4}-[0-9]{4}", is_aadhaar),
            Shape::digit("[2-9][0-9]{11}", is_aadhaar).near(AADHAAR),
        ],
    },
    Detector {
        name: "in-pan",
        grammar: "five letters, four digits and a letter; the fourth letter one of ABCFGHJLPT, digits not 0000",
        source: "Income Tax Department of India, rule 114",
        examples: &["PAN «ABCPE1234F»"],
        shapes: &[Shape::digit("[A-Z]{3}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z]", |text| text[5..9] != *b"0000")
            .edge(Edge::Word)],
    },
    Detector {
        name: "au-tfn",
        grammar: "nine digits, together or in threes, behind a word; weights 1 4 3 7 5 8 6 9 10, remainder 0 by 11",
        source: "Australian Taxation Office, TFN algorithm",
        examples: &["TFN: «123 456 782»"],
        shapes: &[Shape::digit("[0-9]{3} ?[0-9]{3} ?[0-9]{3}|[0-9]{3}-[0-9]{3}-[0-9]{3}", is_tfn).near(TFN)],
    },
    Detector {
        name: "au-medicare",
        grammar: "ten digits, perhaps 4 5 1 with spaces, behind a word; the first 2 to 6, the ninth a check",
        source: "Services Australia, Medicare card number",
        examples: &["Medicare «2123 45670 1»"],
        shapes: &[Shape::digit("[2-6][0-9]{3}[ -]?[0-9]{5}[ -]?[0-9]", is_medicare).near(MEDICARE)],
    },
    Detector {
        name: "au-abn",
        grammar: "eleven digits as 2 3 3 3 with spaces, or together behind a word; remainder 0 by 89",
        source: "Australian Business Register, format of the ABN",
        examples: &["«51 824 753 556»", "ABN «51824753556»"],
        shapes: &[
            Shape::digit("[1-9][0-9] [0-9]{3} [0-9]{3} [0-9]{3}", is_abn),
            Shape::digit("[1-9][0-9]{10}", is_abn).near(ABN),
        ],
    },
    Detector {
        name: "sg-nric",
        grammar: "S, T, F, G or M, seven digits and a check letter; without the check behind a word",
        source: "Singapore Immigration & Checkpoints Authority; the check letter as widely published",
        examples: &["«S1234567D»"],
        shapes: &[
            Shape::digit("[STFGM][0-9]{7}[A-Z]", is_nric).edge(Edge::Word),
            Shape::digit("[STFGM][0-9]{7}[A-Z]", |_| true).edge(Edge::Word).near(NRIC),
        ],
    },
    Detector {
        name: "cn-id",
        grammar: "17 digits, the 7th to 14th a day since 1900, and a check digit or X modulo 11",
        source: "GB 11643-1999, ISO 7064 MOD 11-2",
        examples: &["«11010519491231002X»"],
        shapes: &[Shape::digit("[1-9][0-9]{16}[0-9Xx]", is_cn).edge(Edge::Word)],
    },
    Detector {
        name: "kr-rrn",
        grammar: "six digits of a day, a hyphen, 1 to 8 and six digits",
        source: "Korea, Resident Registration Act, enforcement rules",
        examples: &["«900101-1234568»"],
        shapes: &[Shape::digit("[0-9]{6}-[1-8][0-9]{6}", is_rrn)],
    },
    Detector {
        name: "jp-my-number",
        grammar: "twelve digits, perhaps in fours, behind a word; check modulo 11",
        source: "Ministerial ordinance of Japan on the individual number, article 5",
        examples: &["My Number: «123456789018»"],
        shapes: &[Shape::digit("[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}", is_my_number).near(MY_NUMBER)],
    },
    Detector {
        name: "za-id",
        grammar: "thirteen digits behind a word: a day, four digits, 0 or 1, a digit, Luhn",
        source: "Republic of South Africa, Identification Act 68 of 1997",
        examples: &["ID number «8001015009087»"],
        shapes: &[Shape::digit("[0-9]{6} ?[0-9]{4} ?[01][0-9]{2}", is_za).near(SA)],
    },
];

fn is_aadhaar(text: &[u8]) -> bool {
    let digits = digits(text);
    verhoeff(&digits) && !digits.iter().eq(digits.iter().rev())
}

fn is_tfn(text: &[u8]) -> bool {
    weighted(&digits(text), &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11)
}

fn is_medicare(text: &[u8]) -> bool {
    let digits = digits(text);
    weighted(&digits, &[1, 3, 7, 9, 1, 3, 7, 9]) % 10 == u32::from(digits[8])
}

fn is_abn(text: &[u8]) -> bool {
    let mut digits = digits(text);
    digits[0] = digits[0].saturating_sub(1);
    weighted(&digits, &[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]).is_multiple_of(89)
}

fn is_nric(text: &[u8]) -> bool {
    let sum = weighted(&digits(text), &[2, 7, 6, 5, 4, 3, 2]);
    let letters: (u32, &[u8; 11]) = match text[0] {
        b'S' => (0, b"JZIHGFEDCBA"),
        b'T' => (4, b"JZIHGFEDCBA"),
        b'F' => (0, b"XWUTRQPNMLK"),
        b'G' => (4, b"XWUTRQPNMLK"),
        _ => (3, b"XWUTRQPNJLK"),
    };
    let at = (sum + letters.0) as usize % 11;
    letters.1[if text[0] == b'M' { 10 - at } else { at }] == text[8]
}

fn is_cn(text: &[u8]) -> bool {
    let digits = digits(&text[..17]);
    let day = number(&digits[6..14]);
    let sum = weighted(&digits, &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]);
    b"10X98765432"[sum as usize % 11] == text[17].to_ascii_uppercase()
        && (1900..2100).contains(&(day / 10000))
        && is_date(day / 10000, day / 100 % 100, day % 100)
}

fn is_rrn(text: &[u8]) -> bool {
    let day = number(&digits(&text[..6]));
    // Since October 2020 the rest is drawn by lot: the old check would miss numbers.
    is_date(2000, day / 100 % 100, day % 100)
}

fn is_my_number(text: &[u8]) -> bool {
    let digits = digits(text);
    let rest = weighted(&digits, &[6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
    u32::from(digits[11]) == if rest < 2 { 0 } else { 11 - rest }
}

fn is_za(text: &[u8]) -> bool {
    let digits = digits(text);
    let day = number(&digits[..6]);
    is_date(2000, day / 100 % 100, day % 100) && luhn(&digits)
}
