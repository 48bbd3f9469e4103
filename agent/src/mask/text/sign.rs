//! What says something else than itself in text of any kind, whatever holds it: percent signs of URLs (`%40`, also encoded again:
//! `%2540`), escapes of programs that stand as they were written (`\n`, `\u0040`, `\x40`), and the colours of terminals (`ESC [ 31 m`),
//! which show nothing. What a text is searched for is what a reader would see in the end.
//!
//! Percent signs that say no ASCII stay themselves, as do escapes of no letter, and what is encoded more than four times.

use super::unit::{hex, json_says};

/// The sign that a text begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sign {
    /// It says something else; its length, in bytes.
    Says(usize),
    /// It says itself.
    None,
    /// More must come before that can be told.
    Open,
}

/// Longest sign: a colour behind an escape of six bytes.
pub const LONGEST: usize = 6 + COLOUR;
/// Longest colour behind `ESC`, in bytes.
const COLOUR: usize = 18;
/// So often a percent sign may be encoded again.
const AGAIN: usize = 3;
const ESC: u8 = 0x1b;

/// Whether a byte may begin a sign.
pub fn is_first(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | ESC)
}

/// Tells what the sign is that a text begins with. `whole`: what there is of the text is all of it.
pub fn sign(text: &[u8], whole: bool) -> Sign {
    match begins(text, whole) {
        Sign::Open if whole => Sign::None,
        other => other,
    }
}

fn begins(text: &[u8], whole: bool) -> Sign {
    match text {
        [b'%', ..] => percent(text, whole),
        [b'\\', ..] => backslash(text),
        [ESC, behind @ ..] => behind_escape(1, behind),
        _ => Sign::None,
    }
}

/// What a sign says that is there whole: nothing, or a letter.
pub fn sign_says(raw: &[u8]) -> ([u8; 4], usize) {
    match raw {
        [b'%', .., high, low] => ([hex(&[*high, *low]).unwrap_or(u32::from(b'%')) as u8, 0, 0, 0], 1),
        [b'\\', b'x', high, low] => ([hex(&[*high, *low]).unwrap_or(0) as u8, 0, 0, 0], 1),
        [b'\\', ..] if !raw.contains(&b'[') => json_says(raw),
        _ => ([0; 4], 0),
    }
}

/// How many of a text's last bytes may begin a sign that goes on behind it.
pub fn tail(text: &[u8]) -> usize {
    let from = text.len().saturating_sub(LONGEST);
    let last = &text[from..];
    let open = |at: &usize| is_first(last[*at]) && sign(&last[*at..], false) == Sign::Open;
    (0..last.len()).find(open).map_or(0, |at| last.len() - at)
}

/// The colour, or another order to a terminal (ECMA-48 section 5.4), behind an escape of so many bytes.
pub fn behind_escape(length: usize, behind: &[u8]) -> Sign {
    let [b'[', order @ ..] = behind else {
        return if behind.is_empty() { Sign::Open } else { Sign::None };
    };
    let numbers = order.iter().take(COLOUR - 2).take_while(|b| (0x30..0x40).contains(*b)).count();
    match order.get(numbers) {
        Some(last) if last.is_ascii_alphabetic() => Sign::Says(length + numbers + 2),
        Some(_) => Sign::None,
        None => Sign::Open,
    }
}

fn percent(text: &[u8], whole: bool) -> Sign {
    let mut says = Sign::None;
    for again in 0..=AGAIN {
        let from = 1 + 2 * again;
        match text.get(from..text.len().min(from + 2)).unwrap_or_default() {
            [high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let letter = hex(&[*high, *low]).unwrap_or(0) as u8;
                if letter.is_ascii_graphic() || b" \t\r\n".contains(&letter) {
                    says = Sign::Says(from + 2);
                }
                if letter != b'%' {
                    return says;
                }
            }
            [] if !whole => return Sign::Open,
            [high] if !whole && high.is_ascii_hexdigit() => return Sign::Open,
            _ => return says,
        }
    }
    says
}

fn backslash(text: &[u8]) -> Sign {
    let digits = |from: usize, count: usize| {
        let there = &text[from..text.len().min(from + count)];
        match there.iter().all(u8::is_ascii_hexdigit) {
            false => Sign::None,
            true if there.len() < count => Sign::Open,
            true => Sign::Says(from + count),
        }
    };
    match text {
        [_] => Sign::Open,
        [_, b'n' | b'r' | b't', ..] => Sign::Says(2),
        [_, b'e', behind @ ..] => behind_escape(2, behind),
        [_, b'0'] | [_, b'0', b'3'] => Sign::Open,
        [_, b'0', b'3', b'3', behind @ ..] => behind_escape(4, behind),
        [_, b'u', ..] => match digits(2, 4) {
            Sign::Says(length) => escaped(text, length),
            other => other,
        },
        [_, b'x', ..] => match digits(2, 2) {
            Sign::Says(length) => escaped(text, length),
            other => other,
        },
        _ => Sign::None,
    }
}

/// An escape with digits: a letter of ASCII, or what a colour follows.
fn escaped(text: &[u8], length: usize) -> Sign {
    match hex(&text[2..length]) {
        Some(code) if code == u32::from(ESC) => behind_escape(length, &text[length..]),
        Some(0x20..0x7f | 9 | 10 | 13) => Sign::Says(length),
        Some(0xa0..) if !matches!(hex(&text[2..length]), Some(0xd800..0xe000)) => Sign::Says(length),
        _ => Sign::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_and_what_they_say() {
        let says = |text: &str, whole| match sign(text.as_bytes(), whole) {
            Sign::Says(length) => {
                let (says, count) = sign_says(&text.as_bytes()[..length]);
                Some((length, String::from_utf8_lossy(&says[..count]).into_owned()))
            }
            _ => None,
        };
        for (text, length, letter) in [
            ("%40x", 3, "@"),
            ("%2540x", 5, "@"),
            ("%25252540x", 9, "@"),
            ("%2525252540", 9, "%"),
            ("%25zz", 3, "%"),
            ("%0A4", 3, "\n"),
            ("\\n4", 2, "\n"),
            ("\\u0040x", 6, "@"),
            ("\\u00e9x", 6, "é"),
            ("\\x40x", 4, "@"),
            ("\x1b[31mx", 5, ""),
            ("\x1b[Kx", 3, ""),
            ("\\u001b[01;31mx", 13, ""),
            ("\\033[0mx", 7, ""),
            ("\\e[mx", 4, ""),
            ("\\x1b[mx", 6, ""),
        ] {
            assert_eq!(says(text, false), Some((length, letter.to_owned())), "{text}");
            for cut in 1..length {
                assert_eq!(sign(&text.as_bytes()[..cut], false), Sign::Open, "{text} {cut}");
            }
        }
        assert_eq!((says("%25", true), says("%254", true)), (Some((3, "%".into())), Some((3, "%".into()))));
        for text in ["%", "%4", "%254", "\\", "\\u00", "\x1b", "\x1b[3", "\\03", "\\u001b["] {
            assert_eq!(
                (sign(text.as_bytes(), false), tail(text.as_bytes())),
                (Sign::Open, text.len()),
                "{text}"
            );
        }
        for text in ["%zz", "%C3", "%ff", "\\d", "\\ud83d", "\\u0000", "\x1bx", "\x1b[1\n", "x"] {
            assert_eq!((sign(text.as_bytes(), false), tail(text.as_bytes())), (Sign::None, 0), "{text}");
        }
    }
}
