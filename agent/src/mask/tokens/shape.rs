//! What tokens look like.

use regex::bytes::Regex;

use crate::mask::detect::sums::{luhn, mod97};
use crate::mask::detect::{self, Begin};
use crate::mask::replace::Key;

/// Numbers that the value and the scope's key decide.
pub struct Dice<'a> {
    key: &'a Key,
    of: &'a [u8],
    draw: u32,
    block: u32,
    left: Vec<u8>,
}

impl<'a> Dice<'a> {
    /// `of`: the HMAC of detector and value; `draw`: which try it is.
    pub fn new(key: &'a Key, of: &'a [u8], draw: u32) -> Self {
        Self { key, of, draw, block: 0, left: Vec::new() }
    }

    /// A number below `sides`, of at most 256.
    fn roll(&mut self, sides: u16) -> u8 {
        loop {
            if self.left.is_empty() {
                self.left = self
                    .key
                    .hmac(&[b"token", self.of, &self.draw.to_be_bytes(), &self.block.to_be_bytes()])
                    .to_vec();
                self.block += 1;
            }
            let byte = u16::from(self.left.pop().unwrap_or_default());
            // Without the last, incomplete round of sides: every side is as likely.
            if byte < 256 - 256 % sides {
                return (byte % sides) as u8;
            }
        }
    }

    fn digit(&mut self) -> u8 {
        b'0' + self.roll(10)
    }

    /// Without k, p, s and t: `key`, `pass`, `pw`, `secret` and `token` announce secrets.
    fn letters(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(b"abcdefghijlmnoqruvwxyz0123456789"[usize::from(self.roll(32))]))
            .collect()
    }
}

/// Kinds whose digits alone are drawn: letters in them name nobody.
pub const NUMBERS: &[&str] = &[
    "us-itin",
    "ca-sin",
    "br-cpf",
    "br-cnpj",
    "uk-nino",
    "uk-nhs",
    "de-tax-id",
    "de-id-card",
    "fr-nir",
    "es-dni",
    "es-nie",
    "it-vat",
    "nl-bsn",
    "be-national-number",
    "pt-nif",
    "ie-pps",
    "gr-afm",
    "se-personnummer",
    "fi-hetu",
    "no-fodselsnummer",
    "dk-cpr",
    "baltic-personal-code",
    "pl-pesel",
    "at-social-security",
    "ch-ahv",
    "cz-sk-birth-number",
    "ro-cnp",
    "bg-egn",
    "hr-oib",
    "tr-tckn",
    "in-aadhaar",
    "au-tfn",
    "au-medicare",
    "au-abn",
    "sg-nric",
    "cn-id",
    "kr-rrn",
    "jp-my-number",
    "za-id",
    "passport",
];

/// The kind of what stands as a number in JSON and has a token that is none.
pub const NUMBER: &str = "number";

/// A token of a value's shape.
pub fn shaped(detector: &str, value: &[u8], dice: &mut Dice<'_>) -> String {
    match detector {
        // RFC 2606: nobody has this domain.
        "email" => format!("tok{}@masked.example", dice.letters(13)),
        "card" => card(value, dice),
        "iban" => iban(value, dice),
        // NANPA keeps 555-0100 to 555-0199 of every area for fiction.
        "phone" => format!(
            "+1-{}{}{}-555-01{}{}",
            2 + dice.roll(8),
            2 + dice.roll(7),
            dice.roll(10),
            dice.roll(10),
            dice.roll(10)
        ),
        // RFC 2544 keeps 198.18.0.0/15 for measurements, RFC 3849 keeps 2001:db8::/32 for documentation.
        "ip" if value.contains(&b':') => format!(
            "2001:db8:{:x}{:02x}:{:x}{:02x}::1",
            1 + dice.roll(255),
            dice.roll(256),
            1 + dice.roll(255),
            dice.roll(256)
        ),
        "ip" => format!("198.{}.{}.{}", 18 + dice.roll(2), dice.roll(256), dice.roll(256)),
        "mac" => mac(value, dice),
        // Of a number where a number must stand: 15 digits fit a double, and few numbers are as long.
        NUMBER => format!("9{}", (0..14).map(|_| char::from(dice.digit())).collect::<String>()),
        // All begin with the country's number.
        "ch-ahv" => digits(value, b"756", dice),
        // A century and a region: few draws would hit one.
        "se-personnummer" if value.len() > 11 => digits(value, b"19", dice),
        "cn-id" => digits(value, b"11010119", dice),
        // Area 666 is given to nobody.
        "us-ssn" => digits(value, b"666", dice),
        _ if NUMBERS.contains(&detector) => digits(value, b"", dice),
        _ => format!("tok_{}_{}", detector.replace('-', "_"), dice.letters(16)),
    }
}

/// Digits drawn, the first of them given; all else as it is.
fn digits(value: &[u8], first: &[u8], dice: &mut Dice<'_>) -> String {
    let mut first = first.iter();
    let drawn = value.iter().map(|b| match b {
        b'0'..=b'9' => first.next().copied().unwrap_or_else(|| dice.digit()),
        _ => *b,
    });
    String::from_utf8_lossy(&drawn.collect::<Vec<u8>>()).into_owned()
}

/// A number of a range that the networks and payment services test with, with the value's length.
fn card(value: &[u8], dice: &mut Dice<'_>) -> String {
    let range: &[u8] = match value.iter().filter(|b| b.is_ascii_digit()).count() {
        13 | 16 | 19 => b"400000",
        15 => b"371449",
        14 => b"305693",
        _ => b"675964",
    };
    let mut token = digits(value, range, dice).into_bytes();
    let last = token.iter().rposition(u8::is_ascii_digit).unwrap_or_default();
    for check in b'0'..=b'9' {
        token[last] = check;
        if luhn(&detect::sums::digits(&token)) {
            break;
        }
    }
    String::from_utf8_lossy(&token).into_owned()
}

/// The country stays; of the bank four letters or digits are X or 0, which no bank has; the check digits hold.
fn iban(value: &[u8], dice: &mut Dice<'_>) -> String {
    let mut token = value.to_vec();
    for (place, byte) in token.iter_mut().filter(|b| b.is_ascii_alphanumeric()).enumerate() {
        *byte = match (place, *byte) {
            (0 | 1, b) => b,
            (2 | 3, _) => b'0',
            (4..8, b'0'..=b'9') => b'0',
            (4..8, _) => b'X',
            (_, b'0'..=b'9') => dice.digit(),
            _ => b'A' + dice.roll(26),
        };
    }
    let plain = detect::sums::plain(&token);
    let check = 98 - mod97(plain[4..].iter().chain(&plain[..4]).copied());
    let mut check = [b'0' + (check / 10) as u8, b'0' + (check % 10) as u8].into_iter();
    for byte in token.iter_mut().filter(|b| b.is_ascii_alphanumeric()).skip(2).take(2) {
        *byte = check.next().unwrap_or(*byte);
    }
    String::from_utf8_lossy(&token).into_owned()
}

/// A locally administered address: no maker has it.
fn mac(value: &[u8], dice: &mut Dice<'_>) -> String {
    let mut place = 0;
    let drawn = value.iter().map(|b| {
        if !b.is_ascii_hexdigit() {
            return *b;
        }
        place += 1;
        match place {
            1 => b'0',
            2 => b'2',
            _ => b"0123456789abcdef"[usize::from(dice.roll(16))],
        }
    });
    String::from_utf8_lossy(&drawn.collect::<Vec<u8>>()).into_owned()
}

/// What a pattern cannot say.
pub type Check = fn(&[u8]) -> bool;

/// The shapes that a value has, of those of its detector: what its token must have, too, where digits alone are drawn.
pub fn checks(detector: &str, value: &[u8]) -> Vec<(Regex, Check)> {
    let detector = detect::named(detector).filter(|detector| NUMBERS.contains(&detector.name));
    let shapes = detector.into_iter().flat_map(|detector| detector.shapes);
    let whole = shapes.filter_map(|shape| match shape.begin {
        Begin::Digit(pattern) => Some((Regex::new(&format!("^(?-u:{pattern})$")).ok()?, shape.check)),
        _ => None,
    });
    whole.filter(|(whole, _)| whole.is_match(value)).collect()
}
