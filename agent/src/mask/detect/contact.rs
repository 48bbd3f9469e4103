//! E-mail addresses and dates of birth.

use super::sums::{digits, is_date, number};
use super::{Begin, Detector, Shape, Step, Text, step};

const BORN: &[&str] = &[
    "born",
    "dob",
    "d o b",
    "date of birth",
    "birth date",
    "birthday",
    "birth day",
    "bday",
    "geboren",
    "geb",
    "geburtsdatum",
    "geburtstag",
    "né le",
    "née le",
    "naissance",
    "nacimiento",
    "nacido",
    "nacida",
    "nascita",
    "nato",
    "nata",
    "nascimento",
    "geboortedatum",
    "urodzenia",
    "urodzony",
    "fødselsdato",
    "födelsedatum",
];

pub const ALL: &[Detector] = &[
    Detector {
        name: "email",
        grammar: "up to 64 bytes of letters, digits and ._%+'&-, the first a letter, digit or _; `@`; two or more labels of up to 63 \
                  letters, digits, hyphens and bytes above 127; the last of 2 to 24 letters and no file ending, or punycode",
        source: "RFC 5321 section 4.1.2 without quoted parts, RFC 6531 section 3.3, RFC 1035 section 2.3.1, RFC 5890",
        examples: &[
            "mail <«jane.doe+x@mail.example.co.uk»>",
            "\"«o'neil_1@example.com»\".",
            "«a@xn--bcher-kva.example»。",
        ],
        shapes: &[Shape::by(Begin::At(email))],
    },
    Detector {
        name: "date-of-birth",
        grammar: "a day that can be, as 1985-03-12, 12/03/1985, 12.3.85, 12-03-1985, 19850312, 12 March 1985 or March 12, \
                  1985; behind a word such as born, dob or Geburtsdatum",
        source: "ISO 8601; the customs of the countries",
        examples: &[
            "Date of birth: «12/03/1985»",
            "\"dob\":\"«1985-03-12»\"",
            "born on «March 12, 1985»",
            "geb. «12.3.85»",
        ],
        shapes: &[
            Shape::digit(
                "[12][0-9]{3}(?:-[0-9]{2}-[0-9]{2}|/[0-9]{1,2}/[0-9]{1,2}|[.][0-9]{2}[.][0-9]{2}|[0-9]{4})",
                is_day,
            )
            .near(BORN),
            Shape::digit(
                "[0-9]{1,2}(?:[.] ?[0-9]{1,2}[.] ?|/[0-9]{1,2}/|-[0-9]{1,2}-)(?:[0-9]{2}){1,2}",
                is_day,
            )
            .near(BORN),
            Shape::digit(
                "[0-9]{1,2}(?:st|nd|rd|th|[.])?[ -](?:of )?[A-Z][a-z]{2,8}[.]?,?[ -][12][0-9]{3}",
                is_day,
            )
            .near(BORN),
            Shape::digit("[A-Z][a-z]{2,8}[.]? [0-9]{1,2}(?:st|nd|rd|th)?,? [12][0-9]{3}", is_day).near(BORN),
        ],
    },
];

/// Endings of files that no top level domain has.
const ENDINGS: &[&str] = &[
    "png",
    "jpg",
    "jpeg",
    "gif",
    "webp",
    "svg",
    "bmp",
    "ico",
    "js",
    "mjs",
    "jsx",
    "tsx",
    "css",
    "scss",
    "less",
    "html",
    "htm",
    "json",
    "jsonl",
    "xml",
    "yaml",
    "yml",
    "toml",
    "txt",
    "pdf",
    "exe",
    "dll",
    "csv",
    "tsv",
    "sql",
    "java",
    "class",
    "jar",
    "tar",
    "gz",
    "tgz",
    "woff",
    "ttf",
    "mp3",
    "mp4",
    "wav",
    "log",
    "lock",
    "conf",
    "cfg",
    "ini",
    "tmp",
    "bak",
    "doc",
    "docx",
    "xls",
    "xlsx",
    "ppt",
    "pptx",
    "service",
    "timer",
    "socket",
    "mount",
    "slice",
    "internal_error",
];

/// Bytes of a local part.
pub fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._%+'&-".contains(&byte)
}

fn email(text: Text<'_>, at: usize) -> Option<(usize, Step)> {
    let from = local_begin(text, at)?;
    let _ends_on_dot = text.before(at).filter(|b| *b != b'.')?;
    if is_userinfo(text, from) {
        return None;
    }
    let found = domain(text, at + 1);
    let is_remote = |end: usize| text.slice(from, at) == b"git" && text.bytes.get(end) == Some(&b':');
    Some((from, step(found.map(|end| end.filter(|end| !is_remote(*end)).map_or(Step::No, Step::Found)))))
}

/// Whether a place is in the password of `scheme://user:password@host`: what looks like an address there ends in the host.
fn is_userinfo(text: Text<'_>, place: usize) -> bool {
    let from = text.run_before(place, 64, |b| b > b' ' && !b"\"'<>`/\\".contains(&b));
    text.slice(from.saturating_sub(3), from) == b"://" && text.slice(from, place).contains(&b':')
}

/// Where the local part begins whose bytes end at `end`; none: there is none, or it is too long. Of a run that is too long because of
/// letters above 127, as of a language without spaces, the ASCII letters count.
pub fn local_begin(text: Text<'_>, end: usize) -> Option<usize> {
    begin(text, local_run(text, end), end)
}

fn begin(text: Text<'_>, run: usize, end: usize) -> Option<usize> {
    let run = if end - run <= LOCAL { run } else { text.run_before(end, LOCAL + 1, is_local) };
    let first = |at: &usize| {
        let byte = text.bytes[*at];
        byte.is_ascii_alphanumeric() || byte == b'_' || byte > 127
    };
    (end - run <= LOCAL).then(|| (run..end).find(first)).flatten()
}

/// Where an address may begin whose `@` has not come. The last letter may not have come whole.
pub fn may_begin(text: Text<'_>) -> Option<usize> {
    let end = text.bytes.len();
    let tail = text.run_before(end, 3, |b| b & 0xc0 == 0x80);
    let lead = text.before(tail).filter(|b| *b > 0xc1).map_or(tail, |_| tail - 1);
    let run = match local_run(text, end) {
        run if run == end => local_run(text, lead),
        run => run,
    };
    begin(text, run, end)
}

/// Longest local part, in bytes (RFC 5321 section 4.5.3.1.1).
const LOCAL: usize = 64;

/// Where the run of letters of a local part begins that ends at `end`; of a longer one than may be, a place in it.
fn local_run(text: Text<'_>, end: usize) -> usize {
    let mut at = end;
    while end - at <= LOCAL {
        let Some(byte) = text.before(at) else { break };
        at -= match byte {
            0..128 if is_local(byte) => 1,
            128.. => match letter_before(text, at) {
                Some(length) => length,
                None => break,
            },
            _ => break,
        };
    }
    at
}

/// The length of the letter above 127 that ends at a place, where addresses may have it (RFC 6531 section 3.3); spaces, quotes and
/// signs between words are none.
fn letter_before(text: Text<'_>, end: usize) -> Option<usize> {
    let from = end.saturating_sub(4);
    let lead = from + text.bytes[from..end].iter().rposition(|b| b & 0xc0 == 0xc0)?;
    let letter = str::from_utf8(&text.bytes[lead..end]).ok()?.chars().next()?;
    let is_sign = matches!(letter, '\u{80}'..='\u{bf}' | '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{3004}'
        | '\u{3008}'..='\u{3020}' | '\u{feff}' | '\u{ff00}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}')
        && !"ªµº".contains(letter);
    (!is_sign).then_some(end - lead)
}

fn domain(text: Text<'_>, from: usize) -> Result<Option<usize>, Step> {
    let mut end = text.run(from, 254, |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b > 127)?;
    // What follows a name without a space may look like a part of it: the longest beginning that is a name counts.
    while end > from {
        let name = text.slice(from, end);
        if is_domain(name) {
            return Ok(Some(end));
        }
        let cut = |b: &u8| *b == b'.' || *b == b'-' || *b > 127;
        end = from + name.iter().rposition(cut).unwrap_or(0);
    }
    Ok(None)
}

fn is_domain(name: &[u8]) -> bool {
    let fits = |label: &[u8]| {
        matches!(label, [first, .., last] | [first @ last] if *first != b'-' && *last != b'-')
            && label.len() < 64
    };
    let mut labels = name.split(|b| *b == b'.');
    let last = labels.next_back().unwrap_or_default();
    let letters = (2..=24).contains(&last.len()) && last.iter().all(u8::is_ascii_alphabetic);
    let coded = last.len() > 4 && last.is_ascii() && last.to_ascii_lowercase().starts_with(b"xn--");
    let ending = ENDINGS.iter().any(|ending| last.eq_ignore_ascii_case(ending.as_bytes()));
    let mut count = 0;
    (letters || coded) && !ending && labels.inspect(|_| count += 1).all(fits) && count > 0
}

/// Whether a text is a day since 1900, whichever of two numbers is the month.
fn is_day(text: &[u8]) -> bool {
    let numbers: Vec<(usize, u64)> = text
        .split(|b| !b.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .map(|part| (part.len(), number(&digits(part))))
        .collect();
    let month = text.split(|b| !b.is_ascii_alphabetic()).find_map(month);
    let year = |(length, year): (usize, u64)| match length {
        2 => Some(1900 + year),
        4 if (1900..2100).contains(&year) => Some(year),
        _ => None,
    };
    match (&numbers[..], month) {
        ([(_, day), last], Some(month)) => year(*last).is_some_and(|year| is_date(year, month, *day)),
        ([(8, all)], None) => {
            (1900..2100).contains(&(all / 10000)) && is_date(all / 10000, all / 100 % 100, all % 100)
        }
        ([(4, year), (_, month), (_, day)], None) => {
            (1900..2100).contains(year) && is_date(*year, *month, *day)
        }
        ([(_, a), (_, b), last], None) => {
            year(*last).is_some_and(|year| is_date(year, *b, *a) || is_date(year, *a, *b))
        }
        _ => false,
    }
}

/// Months by their first letters in English, German, French, Spanish, Italian, Portuguese and Dutch.
fn month(word: &[u8]) -> Option<u64> {
    const NAMES: [&str; 12] = [
        "jan jän ene gen",
        "feb fév fev",
        "mar mär maa mrz",
        "apr avr abr",
        "may mai mei mag",
        "jun jui giu",
        "jul jui lug",
        "aug aoû ago aou",
        "sep set",
        "oct okt ott out",
        "nov",
        "dec dez déc dic",
    ];
    let first = word.get(..3)?.to_ascii_lowercase();
    let is = |names: &&str| names.split(' ').any(|name| name.as_bytes() == first);
    Some(NAMES.iter().position(is)? as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        let bytes = text.as_bytes();
        let (from, step) = email(Text { bytes, last: true }, text.find('@')?)?;
        if let Step::Found(end) = step { Some(&text[from..end]) } else { None }
    }

    #[test]
    fn an_address_ends_where_its_name_does() {
        for (text, want) in [
            ("to a.b@example.com.", Some("a.b@example.com")),
            ("x@example.com.123", Some("x@example.com")),
            ("x@example.com-", Some("x@example.com")),
            ("jörg@bücher.example", Some("jörg@bücher.example")),
            ("an “müller@corp.test”, «ł@corp.test»", Some("müller@corp.test")),
            ("给邮箱jané@corp.test", Some("给邮箱jané@corp.test")),
            ("一二三四五六七八九十一二三四五六七八九十一二jane@corp.test", Some("jane@corp.test")),
            ("image@2x.png", None),
            ("react@18.2.0", None),
            ("user@localhost", None),
            ("@example.com", None),
            ("a.@example.com", None),
            ("git@github.com:a/b", None),
        ] {
            assert_eq!(found(text), want, "{text}");
        }
        let long = "a".repeat(64);
        assert!(
            found(&format!("{long}@example.com")).is_some()
                && found(&format!("{long}a@example.com")).is_none()
        );
    }

    #[test]
    fn days() {
        for (text, is) in [
            ("1985-03-12", true),
            ("31/12/1999", true),
            ("12/31/99", true),
            ("32/12/1999", false),
            ("1985-13-01", false),
            ("19850230", false),
            ("3rd of May 1990", true),
            ("Foo 3, 1990", false),
        ] {
            assert_eq!(is_day(text.as_bytes()), is, "{text}");
        }
    }
}
