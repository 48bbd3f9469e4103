//! Texts in a language of their own inside TOML's quotes: where a byte of one stands in the file.

use super::{Place, Source, site};

/// A text in a language of its own.
pub(in crate::config) struct Code<'s> {
    pub text: String,
    pub(super) source: &'s Source,
    /// Where its quotes begin.
    pub(super) begin: usize,
}

impl Code<'_> {
    /// Where a byte of the text stands in the file.
    pub fn place(&self, at: usize) -> Place {
        site(self.source, self.begin + quoted(&self.source.text[self.begin..], at))
    }
}

/// How many bytes before the `at`th byte of a TOML string's value stand in the file, quotes and escapes included.
fn quoted(raw: &str, at: usize) -> usize {
    let (quotes, basic) = match raw.as_bytes() {
        [b'"', b'"', b'"', ..] => (3, true),
        [b'\'', b'\'', b'\'', ..] => (3, false),
        [first, ..] => (1, *first == b'"'),
        [] => return 0,
    };
    let mut begin = quotes;
    if quotes == 3 {
        // The line's end right after the quotes is none of the text's.
        let rest = &raw[begin..];
        begin += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    }
    if !basic {
        return begin + at;
    }
    let mut bytes = 0;
    let mut rest = raw[begin..].char_indices();
    while let Some((offset, c)) = rest.next() {
        if bytes >= at {
            return begin + offset;
        }
        if c != '\\' {
            bytes += c.len_utf8();
            continue;
        }
        let digits = match rest.next().map(|(_, c)| c) {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            // A line that goes on: neither its end nor the blanks after it are the text's.
            Some('\n' | '\r' | ' ' | '\t') => {
                while rest.as_str().starts_with(char::is_whitespace) {
                    rest.next();
                }
                continue;
            }
            _ => 0,
        };
        let code: String = rest.by_ref().take(digits).map(|(_, c)| c).collect();
        let c = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
        bytes += c.map_or(1, char::len_utf8);
    }
    raw.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_of_a_text_is_found_in_its_quotes() {
        for (raw, at, want) in [
            ("'a + b'", 4, 5),
            ("\"a + b\"", 4, 5),
            ("'''\na\nb'''", 2, 6),
            (r#""a\"b""#, 1, 2),
            (r#""a\"b""#, 2, 4),
            (r#""\u00e9x""#, 2, 7),
            ("\"é x\"", 3, 4),
            ("\"\"\"\\\n   a\"\"\"", 0, 3),
        ] {
            assert_eq!(quoted(raw, at), want, "{raw} {at}");
        }
    }
}
