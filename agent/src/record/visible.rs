//! Text that others wrote, made safe for a terminal and for a log line: what would move a cursor, hide or reorder text is
//! shown as an escape.

use std::borrow::Cow;
use std::fmt::Write;

/// What may stay besides printable characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: for one line.
    Nothing,
    /// Line feeds and tabs, and CR before LF is dropped: for text of many lines.
    Lines,
}

/// `text` with control characters, line separators, bidirectional overrides and invisible characters as `\x1b` or `\u{202e}`.
pub fn visible(text: &str, keep: Keep) -> Cow<'_, str> {
    if text.bytes().all(|b| (0x20..0x7f).contains(&b) || (keep == Keep::Lines && (b == b'\n' || b == b'\t')))
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' if keep == Keep::Lines => out.push(c),
            '\r' if keep == Keep::Lines && chars.peek() == Some(&'\n') => {}
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if (c as u32) < 0x20 || c == '\x7f' => {
                write!(out, "\\x{:02x}", c as u32).expect("a String takes all")
            }
            _ if hidden(c) => write!(out, "\\u{{{:x}}}", c as u32).expect("a String takes all"),
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// C1 controls (8-bit escape sequences), separators, marks of direction, zero-width and tag characters.
fn hidden(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_not_driven() {
        assert_eq!(visible("GET /a b", Keep::Nothing), "GET /a b");
        assert_eq!(visible("a\x1b[2Jb\nc", Keep::Nothing), "a\\x1b[2Jb\\nc");
        assert_eq!(visible("a\r\nb\tc\rd\x07", Keep::Lines), "a\nb\tc\\rd\\x07");
        assert_eq!(
            visible("bücher \u{202e}gpj\u{9b}31m\u{7f}", Keep::Nothing),
            "bücher \\u{202e}gpj\\u{9b}31m\\x7f"
        );
    }
}
