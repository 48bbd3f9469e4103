//! Numbers that states in western and southern Europe give to people.

use super::sums::{digits, is_date, mod11_10, number, plain, weighted};
use super::{Detector, Edge, Shape};

const NINO: &[&str] = &["national insurance", "nino", "ni number", "insurance number"];
const NHS: &[&str] = &["nhs", "national health", "health number", "nhs number"];
const TAX: &[&str] = &[
    "steuer",
    "steuer id",
    "steueridentifikationsnummer",
    "steuernummer",
    "idnr",
    "tax id",
    "taxid",
    "tin",
    "steuerid",
];
const CARD: &[&str] = &["personalausweis", "ausweis", "ausweisnummer", "identity card", "id card", "perso"];
const BSN: &[&str] = &["bsn", "burgerservicenummer", "sofinummer", "sofi"];
const NIF: &[&str] = &["nif", "contribuinte", "número fiscal", "numero fiscal", "niss"];
const VAT: &[&str] = &["partita iva", "p iva", "piva", "vat"];
const PPS: &[&str] = &["pps", "ppsn", "pps number", "personal public service"];
const AFM: &[&str] = &["afm", "αφμ", "α φ μ"];

pub const ALL: &[Detector] = &[
    Detector {
        name: "uk-nino",
        grammar: "two letters (not D, F, I, Q, U, V; the second not O; not BG, GB, KN, NK, NT, TN, ZZ), six digits, A to D, together or in \
                  pairs with spaces; without the last letter behind a word",
        source: "HMRC National Insurance Manual NIM39110",
        examples: &["«AB123456C»", "NI «AB 12 34 56 C»"],
        shapes: &[
            Shape::digit(
                "[A-Za-z]{2} ?[0-9]{2} [0-9]{2} [0-9]{2} ?[A-Da-d]|[A-Za-z]{2} ?[0-9]{6} ?[A-Da-d]",
                is_nino,
            )
            .edge(Edge::Word),
            Shape::digit("[A-Z]{2} ?[0-9]{6}", is_nino).near(NINO).edge(Edge::Word),
        ],
    },
    Detector {
        name: "uk-nhs",
        grammar: "ten digits as 3 3 4 with spaces; with hyphens or together behind a word; check digit modulo 11",
        source: "NHS Data Dictionary, NHS NUMBER",
        examples: &["«943 476 5919»", "NHS number: «9434765919»"],
        shapes: &[
            Shape::digit("[0-9]{3} [0-9]{3} [0-9]{4}", is_nhs),
            Shape::digit("[0-9]{10}|[0-9]{3}-[0-9]{3}-[0-9]{4}", is_nhs).near(NHS),
        ],
    },
    Detector {
        name: "de-tax-id",
        grammar: "eleven digits, the first not 0, as 2 3 3 3 with spaces, or together behind a word; one digit two or three times among the \
                  first ten; ISO 7064 MOD 11,10",
        source: "BZSt, Identifikationsnummer; § 139b AO",
        examples: &["«86 095 742 719»", "Steuer-ID: «86095742719»"],
        shapes: &[
            Shape::digit("[1-9][0-9] [0-9]{3} [0-9]{3} [0-9]{3}", is_de_tax),
            Shape::digit("[1-9][0-9]{10}", is_de_tax).near(TAX),
        ],
    },
    Detector {
        name: "de-social-security",
        grammar: "two digits, a day of six, a letter, two digits and a check, perhaps with spaces",
        source: "VKVV § 2 (Versicherungsnummer)",
        examples: &["«15 070649 C 103»", "«15070649C103»"],
        shapes: &[Shape::digit("[0-9]{2} [0-9]{6} [A-Z] [0-9]{3}|[0-9]{8}[A-Z][0-9]{3}", is_de_social)
            .edge(Edge::Word)],
    },
    Detector {
        name: "de-id-card",
        grammar: "nine letters (of CFGHJKLMNPRTVWXYZ) and digits and a check digit, weights 7 3 1, behind a word",
        source: "ICAO Doc 9303 part 3 section 4.9; PAuswV",
        examples: &["Personalausweis «L01X00T471»"],
        shapes: &[Shape::digit("[CFGHJKLMNPRTVWXYZ][0-9CFGHJKLMNPRTVWXYZ]{8}[0-9]", is_de_card)
            .near(CARD)
            .edge(Edge::Word)],
    },
    Detector {
        name: "fr-nir",
        grammar: "1 or 2, a year, a month, a département (2A, 2B, too), six digits and a key of 97, together or with spaces",
        source: "INSEE, décret n° 82-103",
        examples: &["«2 55 08 14 168 025 38»", "«255081416802538»"],
        shapes: &[
            Shape::digit("[1-478][0-9]{4}(?:[0-9]{2}|2[AB])[0-9]{8}", is_nir).edge(Edge::Word),
            Shape::digit("[1-478] [0-9]{2} [0-9]{2} (?:[0-9]{2}|2[AB]) [0-9]{3} [0-9]{3} ?[0-9]{2}", is_nir)
                .edge(Edge::Word),
        ],
    },
    Detector {
        name: "es-dni",
        grammar: "eight digits, perhaps a hyphen or space, and a letter modulo 23",
        source: "Ministerio del Interior, cálculo del dígito de control del NIF/NIE",
        examples: &["«12345678Z»", "«12345678-Z»"],
        shapes: &[
            Shape::digit("[0-9]{8}[ -]?[A-HJ-NP-TV-Z]", is_es).edge(Edge::Word),
            Shape::digit("[0-9]{2}[.][0-9]{3}[.][0-9]{3}[ -]?[A-HJ-NP-TV-Z]", is_es),
        ],
    },
    Detector {
        name: "es-nie",
        grammar: "X, Y or Z, perhaps a hyphen, seven digits, perhaps a hyphen, and a letter modulo 23",
        source: "Ministerio del Interior, cálculo del dígito de control del NIF/NIE",
        examples: &["«X1234567L»"],
        shapes: &[Shape::digit("[XYZ]-?[0-9]{7}-?[A-HJ-NP-TV-Z]", is_es).edge(Edge::Word)],
    },
    Detector {
        name: "it-fiscal-code",
        grammar: "sixteen letters and digits of a name, a day, a place and a check letter, digits perhaps as LMNPQRSTUV",
        source: "D.M. 12 marzo 1974 n. 2227; Agenzia delle Entrate",
        examples: &["«RSSMRA85T10A562S»"],
        shapes: &[Shape::digit(
            "(?i)[A-Z]{6}[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]",
            is_it,
        )
        .edge(Edge::Word)],
    },
    Detector {
        name: "it-vat",
        grammar: "eleven digits behind a word, Luhn",
        source: "D.P.R. 633/1972 art. 35",
        examples: &["partita IVA «07643520567»"],
        shapes: &[Shape::digit("[0-9]{11}", |text| super::sums::luhn(&digits(text))).near(VAT)],
    },
    Detector {
        name: "nl-bsn",
        grammar: "nine digits (perhaps eight) behind a word; weights 9 to 2 and -1, remainder 0 by 11",
        source: "Rijksdienst voor Identiteitsgegevens, Logisch ontwerp BSN",
        examples: &["BSN «111222333»"],
        shapes: &[Shape::digit(
            "[0-9]{8,9}|[0-9]{4}[.][0-9]{2}[.][0-9]{3}|[0-9]{3} [0-9]{3} [0-9]{3}",
            is_bsn,
        )
        .near(BSN)],
    },
    Detector {
        name: "be-national-number",
        grammar: "eleven digits as 2.2.2-3.2 or together: a day, a serial and 97 less the remainder by 97, with a 2 before since 2000",
        source: "Arrêté royal du 3 avril 1984",
        examples: &["«85.07.30-033.28»", "«85073003328»"],
        shapes: &[Shape::digit("[0-9]{2}[.][0-9]{2}[.][0-9]{2}-[0-9]{3}[.-][0-9]{2}|[0-9]{11}", is_be)],
    },
    Detector {
        name: "pt-nif",
        grammar: "nine digits behind a word; weights 9 to 2, check modulo 11",
        source: "Autoridade Tributária, Decreto-Lei 14/2013",
        examples: &["NIF: «123456789»"],
        shapes: &[Shape::digit("[1-9][0-9]{8}|[1-9][0-9]{2} [0-9]{3} [0-9]{3}", is_nif).near(NIF)],
    },
    Detector {
        name: "ie-pps",
        grammar: "seven digits and one or two letters behind a word; check letter modulo 23",
        source: "Department of Social Protection of Ireland, PPS number",
        examples: &["PPS «1234567T»"],
        shapes: &[Shape::digit("[0-9]{7}[A-W][A-IW]?", is_pps).near(PPS).edge(Edge::Word)],
    },
    Detector {
        name: "gr-afm",
        grammar: "nine digits behind a word; powers of two, remainder by 11 by 10",
        source: "AADE of Greece, ΑΦΜ",
        examples: &["AFM: «094014201»"],
        shapes: &[Shape::digit("[0-9]{9}", is_afm).near(AFM)],
    },
];

fn is_nino(text: &[u8]) -> bool {
    let plain = plain(text);
    let first = &plain[..2];
    !first.iter().any(|b| b"DFIQUV".contains(b))
        && first[1] != b'O'
        && ![b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"].iter().any(|no| *no == first)
}

fn is_nhs(text: &[u8]) -> bool {
    let digits = digits(text);
    let check = 11 - weighted(&digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    check % 11 == u32::from(digits[9]) && check != 10 && digits.iter().any(|digit| *digit != digits[0])
}

fn is_de_tax(text: &[u8]) -> bool {
    let digits = digits(text);
    let mut counts = [0; 10];
    digits[..10].iter().for_each(|digit| counts[usize::from(*digit)] += 1);
    let repeated: Vec<_> = counts.iter().filter(|count| **count > 1).collect();
    matches!(repeated[..], [2 | 3]) && mod11_10(&digits)
}

fn is_de_social(text: &[u8]) -> bool {
    let plain = plain(text);
    let letter = plain[8] - b'A' + 1;
    let values: Vec<u8> = (plain[..8].iter().map(|b| b - b'0'))
        .chain([letter / 10, letter % 10])
        .chain(plain[9..11].iter().map(|b| b - b'0'))
        .collect();
    let sum: u32 = (values.iter().zip([2u32, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1]))
        .map(|(value, weight)| u32::from(*value) * weight)
        .map(|product| product / 10 + product % 10)
        .sum();
    let day = number(&values[2..8]);
    sum % 10 == u32::from(plain[11] - b'0') && is_date(2000, day / 100 % 100, day / 10000 % 50)
}

fn is_de_card(text: &[u8]) -> bool {
    let value = |b: &u8| u32::from(if b.is_ascii_digit() { b - b'0' } else { b - b'A' + 10 });
    let sum: u32 = text[..9].iter().zip([7, 3, 1].iter().cycle()).map(|(b, weight)| value(b) * weight).sum();
    sum % 10 == u32::from(text[9] - b'0')
}

fn is_nir(text: &[u8]) -> bool {
    let plain = plain(text);
    let (body, key) = plain.split_at(13);
    let (corsica, less) = match body[6] {
        b'A' => (true, 1_000_000),
        b'B' => (true, 2_000_000),
        _ => (false, 0),
    };
    // Corsica: 2A counts as 20 less a million, 2B as 20 less two millions, which is 19 and 18.
    let body: Vec<u8> = body.iter().map(|b| if b.is_ascii_digit() { b - b'0' } else { 0 }).collect();
    let month = number(&body[3..5]);
    let value = number(&body) - if corsica { less } else { 0 };
    matches!(month, 1..=12 | 20 | 30..=42 | 50..=99) && 97 - value % 97 == number(&digits(key))
}

fn is_es(text: &[u8]) -> bool {
    let plain = plain(text);
    let (body, letter) = plain.split_at(8);
    let body: Vec<u8> = body.iter().map(|b| if b.is_ascii_digit() { b - b'0' } else { b - b'X' }).collect();
    letter.len() == 1 && b"TRWAGMYFPDXBNJZSQVHLCKE"[number(&body) as usize % 23] == letter[0]
}

fn is_it(text: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let plain = plain(text);
    let place = |b: u8| usize::from(if b.is_ascii_digit() { b - b'0' } else { b - b'A' });
    let value = |(at, b): (usize, &u8)| if at % 2 == 0 { ODD[place(*b)] } else { place(*b) as u32 };
    let sum: u32 = plain[..15].iter().enumerate().map(value).sum();
    sum % 26 == u32::from(plain[15] - b'A')
}

fn is_bsn(text: &[u8]) -> bool {
    let mut digits = digits(text);
    if digits.len() == 8 {
        digits.insert(0, 0);
    }
    let sum = weighted(&digits, &[9, 8, 7, 6, 5, 4, 3, 2]);
    digits.len() == 9 && sum % 11 == u32::from(digits[8]) && digits.iter().any(|digit| *digit != 0)
}

fn is_be(text: &[u8]) -> bool {
    let digits = digits(text);
    let (day, body, key) = (number(&digits[..6]), number(&digits[..9]), number(&digits[9..]));
    let is_day = is_date(2000, day / 100 % 100, day % 100);
    is_day && [body, 2_000_000_000 + body].iter().any(|body| 97 - body % 97 == key)
}

fn is_nif(text: &[u8]) -> bool {
    let digits = digits(text);
    let rest = weighted(&digits, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    u32::from(digits[8]) == if rest < 2 { 0 } else { 11 - rest }
}

fn is_pps(text: &[u8]) -> bool {
    let second = text.get(8).map_or(0, |b| if *b == b'W' { 0 } else { u32::from(b - b'A' + 1) });
    let sum = weighted(&digits(text), &[8, 7, 6, 5, 4, 3, 2]) + second * 9;
    b"WABCDEFGHIJKLMNOPQRSTUV"[sum as usize % 23] == text[7]
}

fn is_afm(text: &[u8]) -> bool {
    let digits = digits(text);
    weighted(&digits, &[256, 128, 64, 32, 16, 8, 4, 2]) % 11 % 10 == u32::from(digits[8])
        && digits.iter().any(|digit| *digit != 0)
}
