//! JSON that drives no terminal: what [`visible`](crate::record::visible) would show by its number (and JSON itself lets stand
//! as it is) becomes an escape. It is the same JSON to any reader.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use crate::record::visible::{Keep, visible};

struct Plain;

impl Formatter for Plain {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_hidden(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

fn is_hidden(c: char) -> bool {
    c >= '\x7f' && visible(c.encode_utf8(&mut [0; 4]), Keep::Nothing).len() > c.len_utf8()
}

/// Writes `value` in one line, without a line feed.
///
/// # Errors
/// Whatever writing says.
pub fn write(out: &mut (impl Write + ?Sized), value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Plain)).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_drives_a_terminal_and_nothing_is_lost() {
        let value = serde_json::json!({"a\u{9b}31m": "bü \u{202e}\u{e0041}\x1b[2J\x7f\n", "n": [1, null]});
        let mut out = Vec::new();
        write(&mut out, &value).expect("a Vec takes all");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "{\"a\\u009b31m\":\"bü \\u202e\\udb40\\udc41\\u001b[2J\\u007f\\n\",\"n\":[1,null]}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
    }
}
