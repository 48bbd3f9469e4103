//! Percent-encoding (RFC 3986 §2.1), read as servers do that let bad escapes stand. Forms are stricter and read a plus as a
//! space: `policy::body::form`.

use std::borrow::Cow;

/// Each percent sign with two hex digits behind it, once, as the octet that it stands for; what is no UTF-8 then is replaced.
pub fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let (text, mut at) = (text.as_bytes(), 0);
    let mut bytes = Vec::with_capacity(text.len());
    let digit = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16));
    while at < text.len() {
        let escaped = (text[at] == b'%').then(|| Some((digit(at + 1)? << 4) | digit(at + 2)?)).flatten();
        match escaped.and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => {
                bytes.push(byte);
                at += 3;
            }
            None => {
                bytes.push(text[at]);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_once_and_bad_ones_stand() {
        for (text, want) in [
            ("/a+b", "/a+b"),
            ("/%61%2Fb", "/a/b"),
            ("%2561", "%61"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%+1", "%+1"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(decoded(text), want, "{text}");
        }
    }
}
