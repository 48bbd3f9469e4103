//! How text is written so that it stands in its place: escapes of JSON, percent signs, entities.

use zeroize::Zeroizing;

/// What a text is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spell {
    /// Plain text: everything stands as it is.
    Plain,
    /// What need not be text: bytes stand as they are.
    Bytes,
    /// What is no text, and may have lengths before what it holds: what is hidden becomes as many stars.
    Stars,
    /// A string of JSON.
    Json,
    /// A string of JSON in a string of JSON, and so on, so many deep.
    Nested(u8),
    /// A form or query: percent signs, and `+` for a space.
    Form,
    /// A path: percent signs.
    Path,
    /// Text or an attribute of XML or HTML.
    Xml,
    /// A CDATA section, a comment, a script: `]]>`, `--` and `</` would end it.
    Verbatim,
    /// A field of CSV between quotes.
    Quoted,
    /// A field of CSV without quotes: commas, quotes and line ends become spaces.
    Bare,
    /// The data of an event: a line's end begins another line of data.
    Event,
    /// A header's value: control characters become spaces.
    Header,
}

/// Writes a text. `latin1`: in Windows-1252, where it can be said in it, with `?` else.
pub fn spell(text: &[u8], spell: Spell, latin1: bool, out: &mut Vec<u8>) {
    if let Spell::Nested(depth) = spell {
        let mut inner = Zeroizing::new(Vec::new());
        utf8_in(text, Spell::Json, &mut inner);
        let outer = if depth > 2 { Spell::Nested(depth - 1) } else { Spell::Json };
        return self::spell(&inner, outer, latin1, out);
    }
    if latin1 && !text.is_ascii() {
        for letter in String::from_utf8_lossy(text).chars() {
            let mut buffer = [0; 4];
            let utf8 = letter.encode_utf8(&mut buffer).as_bytes();
            match super::latin1::byte_of(letter) {
                Some(byte) if byte > 127 && !matches!(spell, Spell::Form | Spell::Path) => out.push(byte),
                Some(byte) => utf8_in(&[byte], spell, out),
                None if spell == Spell::Json => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                    }
                }
                None if spell == Spell::Xml => {
                    out.extend_from_slice(format!("&#{};", u32::from(letter)).as_bytes());
                }
                None if matches!(spell, Spell::Form | Spell::Path) => utf8_in(utf8, spell, out),
                None => out.push(b'?'),
            }
        }
    } else {
        utf8_in(text, spell, out);
    }
}

fn utf8_in(text: &[u8], spell: Spell, out: &mut Vec<u8>) {
    for (at, byte) in text.iter().enumerate() {
        match (spell, *byte) {
            (Spell::Json, b'"' | b'\\') => out.extend([b'\\', *byte]),
            (Spell::Json, b'\n') => out.extend(b"\\n"),
            (Spell::Json, 0..32) => out.extend(format!("\\u{byte:04x}").bytes()),
            (Spell::Form, b' ') => out.push(b'+'),
            (Spell::Form | Spell::Path, b) if !b.is_ascii_alphanumeric() && !b"-._~".contains(&b) => {
                out.extend([b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            }
            (Spell::Xml, b'&') => out.extend(b"&amp;"),
            (Spell::Xml, b'<') => out.extend(b"&lt;"),
            (Spell::Xml, b'>') => out.extend(b"&gt;"),
            (Spell::Xml, b'"') => out.extend(b"&quot;"),
            (Spell::Xml, b'\'') => out.extend(b"&#39;"),
            (Spell::Verbatim, b'<' | b'>') => out.push(b' '),
            (Spell::Verbatim, b'-') if text.get(at + 1) == Some(&b'-') => {}
            (Spell::Quoted, b'"') => out.extend(b"\"\""),
            (Spell::Bare, b'"' | b',' | b';' | b'\t' | b'\r' | b'\n') => out.push(b' '),
            (Spell::Event, b'\n') => out.extend(b"\ndata: "),
            (Spell::Event, b'\r') => {}
            (Spell::Header, 0..32 | 127) => out.push(b' '),
            (_, b) => out.push(b),
        }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_place() {
        let written = |text: &str, how, latin1| {
            let mut out = Vec::new();
            spell(text.as_bytes(), how, latin1, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(written("a\"\\\n\u{1}é", Spell::Json, false), "a\\\"\\\\\\n\\u0001é");
        assert_eq!(written("a\"\\\n", Spell::Nested(2), false), r#"a\\\"\\\\\\n"#);
        assert_eq!(written("\"ł", Spell::Nested(3), true), r#"\\\\\\\"\u0142"#);
        assert_eq!(written("a b@c+é", Spell::Form, false), "a+b%40c%2B%C3%A9");
        assert_eq!(written("é", Spell::Form, true), "%E9");
        assert_eq!(written("<a&'\">", Spell::Xml, false), "&lt;a&amp;&#39;&quot;&gt;");
        assert_eq!(written("-->]]></script>", Spell::Verbatim, false), "- ]]  /script ");
        assert_eq!(written("a\r\nx", Spell::Event, false), "a\ndata: x");
        assert_eq!(written("a\r\nx", Spell::Header, false), "a  x");
        assert_eq!(written("ł€", Spell::Json, true), "\\u0142\u{fffd}");
    }
}
