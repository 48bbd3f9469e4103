//! Escapes, and what they say.

use memchr::memchr2;

/// What an escape of JSON says, given whole: up to four bytes, and how many.
fn json_escape(raw: &[u8]) -> ([u8; 4], usize) {
    let mut says = [0; 4];
    let letter = match raw {
        [b'\\', b'u', ..] => unicode(raw),
        [b'\\', b'n'] => '\n',
        [b'\\', b't'] => '\t',
        [b'\\', b'r'] => '\r',
        [b'\\', b'b'] => '\u{8}',
        [b'\\', b'f'] => '\u{c}',
        [b'\\', other] => char::from(*other),
        _ => '\u{fffd}',
    };
    let length = letter.encode_utf8(&mut says).len();
    (says, length)
}

/// What an escape of JSON says, or one of JSON within JSON, whose backslashes are as many more as it is deep.
pub fn json_says(raw: &[u8]) -> ([u8; 4], usize) {
    let run = raw.iter().take_while(|b| **b == b'\\').count();
    if run > 0 && run == raw.len() {
        ([b'\\', 0, 0, 0], 1)
    } else {
        json_escape(&raw[run.saturating_sub(1)..])
    }
}

fn unicode(raw: &[u8]) -> char {
    let four = |at: usize| raw.get(at..at + 4).and_then(hex);
    let Some(first) = four(2) else { return '\u{fffd}' };
    match (first, four(8)) {
        (0xd800..0xdc00, Some(second @ 0xdc00..0xe000)) => {
            char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).unwrap_or('\u{fffd}')
        }
        _ => char::from_u32(first).unwrap_or('\u{fffd}'),
    }
}

pub(super) fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}

/// How long the escape of JSON is that begins there; `Ok(None)`: more must come.
///
/// # Errors
/// It is none.
pub fn json_escape_length(text: &[u8]) -> Result<Option<usize>, ()> {
    let Some(kind) = text.get(1) else { return Ok(None) };
    if *kind != b'u' {
        return if b"\"\\/bfnrt".contains(kind) { Ok(Some(2)) } else { Err(()) };
    }
    let digits = &text[2..text.len().min(6)];
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(());
    }
    if digits.len() < 4 {
        return Ok(None);
    }
    if !matches!(hex(digits), Some(0xd800..0xdc00)) {
        return Ok(Some(6));
    }
    // The first half of a pair: the second may follow.
    let second = &text[6..text.len().min(12)];
    let begins = second.iter().zip(b"\\u").all(|(byte, want)| byte == want)
        && second.iter().skip(2).all(u8::is_ascii_hexdigit);
    match (begins, second.len()) {
        (false, _) => Ok(Some(6)),
        (true, 6) => Ok(Some(if matches!(hex(&second[2..]), Some(0xdc00..0xe000)) { 12 } else { 6 })),
        _ => Ok(None),
    }
}

/// Whether a text is a number of JSON (RFC 8259 section 6).
pub fn json_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

/// The character that percent signs say, and how many bytes say it; `Ok(None)`: more must come.
///
/// # Errors
/// They say no character. A sign without digits is none, and says itself.
pub fn percent(text: &[u8], last: bool) -> Result<Option<(usize, [u8; 4], usize)>, ()> {
    let byte = |at: usize| -> Result<Option<u8>, ()> {
        match text.get(at..text.len().min(at + 3)).unwrap_or_default() {
            [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                Ok(hex(&[*high, *low]).map(|byte| byte as u8))
            }
            [] | [b'%'] if !last => Ok(None),
            [b'%', high] if !last && high.is_ascii_hexdigit() => Ok(None),
            _ => Err(()),
        }
    };
    let mut says = [0; 4];
    let first = match byte(0) {
        Ok(Some(first)) => first,
        Ok(None) => return Ok(None),
        Err(()) => return Ok(Some((1, [b'%', 0, 0, 0], 1))),
    };
    let length = match first {
        0..0x80 => 1,
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => return Err(()),
    };
    says[0] = first;
    for (at, says) in says.iter_mut().enumerate().take(length).skip(1) {
        match byte(at * 3)? {
            Some(next) => *says = next,
            None => return Ok(None),
        }
    }
    str::from_utf8(&says[..length]).map_err(drop)?;
    Ok(Some((length * 3, says, length)))
}

/// How many bytes of a string come before its end or an escape of JSON: most strings are short.
pub fn json_plain(rest: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let mut at = 0;
    for chunk in rest.chunks_exact(8).take(4) {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        let found = has_zero(word ^ (ONES * u64::from(b'"'))) | has_zero(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    memchr2(b'"', b'\\', &rest[at..]).map_or(rest.len(), |found| at + found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_json() {
        let says = |text: &str| {
            let length = json_escape_length(text.as_bytes())?;
            Ok(length.map(|length| {
                let (says, count) = json_escape(&text.as_bytes()[..length]);
                (length, String::from_utf8_lossy(&says[..count]).into_owned())
            }))
        };
        assert_eq!(says("\\u0040x"), Ok(Some((6, "@".into()))));
        assert_eq!(says("\\ud83d\\ude00x"), Ok(Some((12, "😀".into()))));
        assert_eq!(says("\\ud83d\\n"), Ok(Some((6, "\u{fffd}".into()))));
        assert_eq!(says("\\ud83d\\u0041"), Ok(Some((6, "\u{fffd}".into()))));
        assert_eq!(says("\\/"), Ok(Some((2, "/".into()))));
        for open in ["\\", "\\u00", "\\ud83d", "\\ud83d\\", "\\ud83d\\ude0"] {
            assert_eq!(says(open), Ok(None), "{open}");
        }
        assert_eq!((says("\\x"), says("\\u00g")), (Err(()), Err(())));
    }

    #[test]
    fn numbers_of_json() {
        for number in ["0", "-0", "12", "1.5", "1e9", "-1.25E-3", "9007199254740993"] {
            assert!(json_number(number.as_bytes()), "{number}");
        }
        for other in ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "1 ", "0x1", "1-2"] {
            assert!(!json_number(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn percent_signs() {
        let says = |text: &str, last| {
            percent(text.as_bytes(), last)
                .map(|found| found.map(|(raw, says, count)| (raw, says[..count].to_vec())))
        };
        assert_eq!(says("%40x", false), Ok(Some((3, b"@".to_vec()))));
        assert_eq!(says("%C3%a9", false), Ok(Some((6, "é".into()))));
        assert_eq!(says("%zz", false), Ok(Some((1, b"%".to_vec()))));
        assert_eq!((says("%C3", false), says("%4", false)), (Ok(None), Ok(None)));
        assert_eq!(says("%4", true), Ok(Some((1, b"%".to_vec()))));
        // '@' overlong, half a character, no character.
        assert_eq!(
            (says("%C1%80", true), says("%C3", true), says("%ed%a0%80", true)),
            (Err(()), Err(()), Err(()))
        );
    }
}
