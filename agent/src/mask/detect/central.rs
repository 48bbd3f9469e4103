//! Numbers that states in central and eastern Europe give to people.

use super::sums::{digits, is_date, mod11_10, number, weighted};
use super::{Detector, Shape};

const PESEL: &[&str] = &["pesel"];
const SVNR: &[&str] =
    &["svnr", "sozialversicherungsnummer", "sv nummer", "versicherungsnummer", "sv nr", "insurance number"];
const CNP: &[&str] = &["cnp", "cod numeric personal"];
const EGN: &[&str] = &["egn", "егн"];
const OIB: &[&str] = &["oib"];
const TCKN: &[&str] = &["tckn", "tc kimlik", "t c kimlik", "kimlik", "tc no"];
const RC: &[&str] = &["rodné číslo", "rodne cislo", "rodné č", "birth number"];

pub const ALL: &[Detector] = &[
    Detector {
        name: "pl-pesel",
        grammar: "eleven digits behind a word: a day (the month 20, 40, 60 or 80 more for other centuries), a check of weights 1 3 7 9",
        source: "Polish act on population records, 24 September 2010, art. 15",
        examples: &["PESEL: «44051401359»"],
        shapes: &[Shape::digit("[0-9]{11}", is_pesel).near(PESEL)],
    },
    Detector {
        name: "at-social-security",
        grammar: "four digits, the first not 0, a space and a day of six; together behind a word; check modulo 11 at the fourth digit",
        source: "Dachverband der Sozialversicherungsträger, Aufbau der Versicherungsnummer",
        examples: &["«1237 010180»", "SVNR «1237010180»"],
        shapes: &[
            Shape::digit("[1-9][0-9]{3} [0-9]{6}", is_at),
            Shape::digit("[1-9][0-9]{9}|[1-9][0-9]{3}-[0-9]{6}", is_at).near(SVNR),
        ],
    },
    Detector {
        name: "ch-ahv",
        grammar: "756, nine digits and the check of an EAN-13, together or as 3.4.4.2",
        source: "Bundesamt für Sozialversicherungen, AHVN13",
        examples: &["«756.9217.0769.85»"],
        shapes: &[Shape::digit("756[.][0-9]{4}[.][0-9]{4}[.][0-9]{2}|756[0-9]{10}", is_ahv)],
    },
    Detector {
        name: "cz-sk-birth-number",
        grammar: "a day of six digits (the month 50 more for women, 20 or 70 more since 2004), a slash and four digits, remainder 0 by 11; \
                  together behind a word",
        source: "Czech act 133/2000, § 13",
        examples: &["«736028/5163»", "rodné číslo «7360285163»"],
        shapes: &[
            Shape::digit("[0-9]{6}/[0-9]{4}", is_cz),
            Shape::digit("[0-9]{10}", is_cz).near(RC),
            // Until 1953 there was no check.
            Shape::digit("[0-9]{6}/?[0-9]{3}", |_| true).near(RC),
        ],
    },
    Detector {
        name: "ro-cnp",
        grammar: "thirteen digits behind a word: 1 to 9, a day, a county, a serial, a check of 279146358279",
        source: "Romanian law 105/1996",
        examples: &["CNP «1800101221144»"],
        shapes: &[Shape::digit("[1-9][0-9]{12}", is_cnp).near(CNP)],
    },
    Detector {
        name: "bg-egn",
        grammar: "ten digits behind a word: a day (the month 20 or 40 more), a check modulo 11",
        source: "Bulgarian civil registration act, art. 11",
        examples: &["EGN «7523169263»"],
        shapes: &[Shape::digit("[0-9]{10}", is_egn).near(EGN)],
    },
    Detector {
        name: "hr-oib",
        grammar: "eleven digits behind a word, ISO 7064 MOD 11,10",
        source: "Croatian act on the personal identification number",
        examples: &["OIB: «33392005961»"],
        shapes: &[Shape::digit("[0-9]{11}", |text| mod11_10(&digits(text))).near(OIB)],
    },
    Detector {
        name: "tr-tckn",
        grammar: "eleven digits behind a word, the first not 0, two checks modulo 10",
        source: "Nüfus ve Vatandaşlık İşleri, T.C. Kimlik No",
        examples: &["TC Kimlik: «17291716060»"],
        shapes: &[Shape::digit("[1-9][0-9]{10}", is_tckn).near(TCKN)],
    },
];

fn is_pesel(text: &[u8]) -> bool {
    let digits = digits(text);
    let day = number(&digits[..6]);
    let sum = weighted(&digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    sum.is_multiple_of(10) && is_date(2000, day / 100 % 20, day % 100)
}

fn is_at(text: &[u8]) -> bool {
    let digits = digits(text);
    let day = number(&digits[4..]);
    // Months 13 to 15 are for days that nobody knows.
    let is_day = is_date(2000, (day / 100 % 100).min(12), day / 10000);
    is_day
        && day / 100 % 100 < 16
        && weighted(&digits, &[3, 7, 9, 0, 5, 8, 4, 2, 1, 6]) % 11 == u32::from(digits[3])
}

fn is_ahv(text: &[u8]) -> bool {
    let digits = digits(text);
    weighted(&digits, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]).is_multiple_of(10)
}

fn is_cz(text: &[u8]) -> bool {
    let digits = digits(text);
    let day = number(&digits[..6]);
    let month = day / 100 % 50;
    number(&digits).is_multiple_of(11)
        && is_date(2000, if month > 20 { month - 20 } else { month }, day % 100)
}

fn is_cnp(text: &[u8]) -> bool {
    let digits = digits(text);
    let day = number(&digits[1..7]);
    let rest = weighted(&digits, &[2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9]) % 11;
    is_date(2000, day / 100 % 100, day % 100) && u32::from(digits[12]) == if rest == 10 { 1 } else { rest }
}

fn is_egn(text: &[u8]) -> bool {
    let digits = digits(text);
    let day = number(&digits[..6]);
    weighted(&digits, &[2, 4, 8, 5, 10, 9, 7, 3, 6]) % 11 % 10 == u32::from(digits[9])
        && is_date(2000, day / 100 % 20, day % 100)
}

fn is_tckn(text: &[u8]) -> bool {
    let digits = digits(text);
    let odd = weighted(&digits, &[1, 0, 1, 0, 1, 0, 1, 0, 1]);
    let even = weighted(&digits, &[0, 1, 0, 1, 0, 1, 0, 1]);
    let sum = weighted(&digits, &[1; 10]);
    (odd * 7 + 80 - even) % 10 == u32::from(digits[9]) && sum % 10 == u32::from(digits[10])
}
