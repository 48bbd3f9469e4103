//! Bodies for people: JSON indented token by token (order, numbers and keys that stand twice stay as they were), forms as
//! one field a line. Nothing that comes out of here can drive a terminal but the colours that were asked for.

use std::borrow::Cow;

use crate::record::visible::{Keep, visible};

const KEY: &str = "\x1b[36m";
const TEXT: &str = "\x1b[32m";
const WORD: &str = "\x1b[33m";
const OFF: &str = "\x1b[0m";

/// JSON with two spaces a level; `None` where it is none.
pub fn json(text: &str, colour: bool) -> Option<String> {
    // Bounded in depth by serde_json, whose limit is 128.
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0;
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = token(rest);
        let (now, after) = rest.split_at(length);
        rest = after.trim_start();
        match first {
            '{' | '[' => {
                out.push(first);
                if rest.starts_with(['}', ']']) {
                    out.push_str(&rest[..1]);
                    rest = rest[1..].trim_start();
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                line(&mut out, depth);
                out.push(first);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                let tone = match first {
                    '"' if rest.starts_with(':') => KEY,
                    '"' => TEXT,
                    _ => WORD,
                };
                let (on, off) = if colour { (tone, OFF) } else { ("", "") };
                out.push_str(on);
                out.push_str(&visible(now, Keep::Nothing));
                out.push_str(off);
            }
        }
    }
    Some(out)
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Length of the token at the beginning: of valid JSON.
fn token(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes[0] {
        b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
        b'"' => {
            let mut at = 1;
            while at < bytes.len() && bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            (at + 1).min(bytes.len())
        }
        _ => text.find(|c: char| c.is_ascii_whitespace() || ",:]}".contains(c)).unwrap_or(text.len()),
    }
}

/// A form (application/x-www-form-urlencoded): one field a line.
pub fn form(text: &str) -> String {
    let fields = form_urlencoded::parse(text.as_bytes());
    let line = |(name, value): (Cow<'_, str>, Cow<'_, str>)| {
        format!("{} = {}\n", visible(&name, Keep::Nothing), visible(&value, Keep::Nothing))
    };
    fields.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_what_it_said() {
        let text = r#" {"b":[1.0e400, -0 ,{}, [ ]],"a":"x\"}:\\","a":null} "#;
        let want = "{\n  \"b\": [\n    1.0e400,\n    -0,\n    {},\n    []\n  ],\n  \"a\": \"x\\\"}:\\\\\",\n  \"a\": null\n}";
        assert_eq!(json(text, false).as_deref(), Some(want));
        let colours = json(r#"{"k":"v","n":1}"#, true).expect("json");
        assert_eq!(
            colours,
            "{\n  \x1b[36m\"k\"\x1b[0m: \x1b[32m\"v\"\x1b[0m,\n  \x1b[36m\"n\"\x1b[0m: \x1b[33m1\x1b[0m\n}"
        );
        assert_eq!(json("{\"a\":1", false), None);
        assert_eq!(json(&"[".repeat(500), false), None);
        assert_eq!(
            json("\"a\u{202e}\u{9b}31m\"", true).expect("json"),
            "\x1b[32m\"a\\u{202e}\\u{9b}31m\"\x1b[0m"
        );
    }

    #[test]
    fn forms_are_fields() {
        assert_eq!(form("a=1+2&b%1b=%0a"), "a = 1 2\nb\\x1b = \\n\n");
    }
}
