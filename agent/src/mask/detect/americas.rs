//! Numbers that states in the Americas give to people and companies.

use super::sums::{digits, is_date, luhn, number, plain, weighted};
use super::{Detector, Edge, Shape};

const SSN: &[&str] = &[
    "ssn",
    "ssns",
    "social security",
    "social security number",
    "socialsecurity",
    "soc sec",
    "ss number",
    "social",
];
const ITIN: &[&str] = &["itin", "taxpayer", "tax id", "taxid", "individual taxpayer", "tin"];
const SIN: &[&str] = &["sin", "social insurance", "social insurance number", "nas", "assurance sociale"];
const CPF: &[&str] = &["cpf", "cadastro"];
const CNPJ: &[&str] = &["cnpj"];

pub const ALL: &[Detector] = &[
    Detector {
        name: "us-ssn",
        grammar: "nine digits as 3-2-4 with hyphens or spaces, or together behind a word; no area 000, 666 or 900 to 999, no group 00, \
                  no serial 0000, not all equal",
        source: "SSA, Social Security Number Randomization (2011)",
        examples: &["«219-09-8765»", "SSN «219098765»"],
        shapes: &[
            Shape::digit("[0-9]{3}-[0-9]{2}-[0-9]{4}", is_ssn),
            Shape::digit("[0-9]{3} [0-9]{2} [0-9]{4}", is_ssn),
            Shape::digit(
                "[0-9]{9}|[0-9]{3}[.][0-9]{2}[.][0-9]{4}|[0-9]{5}-[0-9]{4}|[0-9]{3}-[0-9]{6}",
                is_ssn,
            )
            .near(SSN),
        ],
    },
    Detector {
        name: "us-itin",
        grammar: "nine digits as 3-2-4, the first a 9, the fourth and fifth 50 to 65, 70 to 88, 90 to 92 or 94 to 99; together behind a word",
        source: "IRS Publication 1915, IRM 3.21.263",
        examples: &["«912-70-1234»", "ITIN: «912701234»"],
        shapes: &[
            Shape::digit("9[0-9]{2}-[0-9]{2}-[0-9]{4}|9[0-9]{2} [0-9]{2} [0-9]{4}", is_itin),
            Shape::digit("9[0-9]{8}|9[0-9]{2}-[0-9]{6}|9[0-9]{4}-[0-9]{4}", is_itin).near(ITIN),
        ],
    },
    Detector {
        name: "ca-sin",
        grammar: "nine digits in threes with hyphens; with spaces or together behind a word; the first not 0 or 8, Luhn",
        source: "Government of Canada, Social Insurance Number: the digits and their check",
        examples: &["«130-692-544»", "SIN «130 692 544»"],
        shapes: &[
            Shape::digit("[0-9]{3}-[0-9]{3}-[0-9]{3}", is_sin),
            Shape::digit("[0-9]{3} ?[0-9]{3} ?[0-9]{3}", is_sin).near(SIN),
        ],
    },
    Detector {
        name: "br-cpf",
        grammar: "eleven digits as 3.3.3-2, or together behind a word; two check digits modulo 11; not all equal",
        source: "Receita Federal, Cadastro de Pessoas Físicas",
        examples: &["«529.982.247-25»", "cpf=«52998224725»"],
        shapes: &[
            Shape::digit("[0-9]{3}[.][0-9]{3}[.][0-9]{3}-[0-9]{2}", is_cpf),
            Shape::digit("[0-9]{11}|[0-9]{9}-[0-9]{2}", is_cpf).near(CPF),
        ],
    },
    Detector {
        name: "br-cnpj",
        grammar: "fourteen digits (from 2026 capitals, too) as 2.3.3/4-2, or together behind a word; two check digits modulo 11",
        source: "Receita Federal, Instrução Normativa 2.229/2024",
        examples: &["«11.222.333/0001-81»", "CNPJ «11222333000181»"],
        shapes: &[
            Shape::digit("[0-9A-Z]{2}[.][0-9A-Z]{3}[.][0-9A-Z]{3}/[0-9A-Z]{4}-[0-9]{2}", is_cnpj),
            Shape::digit("[0-9A-Z]{12}[0-9]{2}", is_cnpj).near(CNPJ),
        ],
    },
    Detector {
        name: "mx-curp",
        grammar: "four letters, a date of six digits, H, M or X, five letters, a letter or digit, a check digit modulo 10",
        source: "RENAPO, Instructivo normativo para la asignación de la CURP",
        examples: &["«HEGG560427MVZRRL04»"],
        shapes: &[Shape::digit("[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[0-9A-Z][0-9]", is_curp).edge(Edge::Word)],
    },
];

fn is_ssn(text: &[u8]) -> bool {
    let digits = digits(text);
    let (area, group, serial) = (number(&digits[..3]), number(&digits[3..5]), number(&digits[5..]));
    area > 0
        && area != 666
        && area < 900
        && group > 0
        && serial > 0
        && digits.iter().any(|digit| *digit != digits[0])
}

fn is_itin(text: &[u8]) -> bool {
    let digits = digits(text);
    digits[0] == 9 && matches!(number(&digits[3..5]), 50..=65 | 70..=88 | 90..=92 | 94..=99)
}

fn is_sin(text: &[u8]) -> bool {
    let digits = digits(text);
    !matches!(digits[0], 0 | 8) && luhn(&digits)
}

fn check11(digits: &[u8], weights: &[u32]) -> u8 {
    match weighted(digits, weights) % 11 {
        0 | 1 => 0,
        rest => (11 - rest) as u8,
    }
}

fn is_cpf(text: &[u8]) -> bool {
    let digits = digits(text);
    let first = check11(&digits[..9], &[10, 9, 8, 7, 6, 5, 4, 3, 2]);
    let second = check11(&digits[..10], &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
    digits[9..] == [first, second] && digits.iter().any(|digit| *digit != digits[0])
}

fn is_cnpj(text: &[u8]) -> bool {
    // A letter counts as its place in ASCII less that of 0.
    let values: Vec<u8> = plain(text).iter().map(|b| b - b'0').collect();
    const WEIGHTS: [u32; 13] = [6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2];
    let first = check11(&values[..12], &WEIGHTS[1..]);
    let second = check11(&values[..13], &WEIGHTS);
    values[12..] == [first, second] && values.iter().any(|digit| *digit != values[0])
}

fn is_curp(text: &[u8]) -> bool {
    let value = |b: &u8| match b {
        b'0'..=b'9' => b - b'0',
        b'A'..=b'N' => b - b'A' + 10,
        _ => b - b'A' + 11,
    };
    let sum: u32 =
        text[..17].iter().zip((2..=18).rev()).map(|(b, weight)| u32::from(value(b)) * weight).sum();
    let date = number(&digits(&text[4..10]));
    (10 - sum % 10) % 10 == u32::from(text[17] - b'0') && is_date(2000, date / 100 % 100, date % 100)
}
