//! JSON bodies, read as strictly as [`crate::codec::json`] can.

use serde_json::Value;

use crate::codec::json::Strict;

/// Lists and objects inside one another.
const DEPTH: usize = 64;
/// Values in all.
const NODES: usize = 100_000;

/// Reads a body.
///
/// # Errors
/// Why it is not read.
pub fn json(body: &[u8]) -> Result<Value, String> {
    let strict = Strict { depth: DEPTH, values: NODES, fold: true };
    strict.read(body).map_err(|error| format!("it is not strict JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parsers_read_differently_is_not_read() {
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"A":2}"#,
            r#"{"A":1,"a":2}"#,
            r#"{"model":1,"\u006dodel":2}"#,
            r#"{"messages":1,"meſsages":2}"#,
            "{\"key\":1,\"\u{212a}ey\":2}",
            r#"{"x":{"b":1,"b":1}}"#,
            r#"{"a\u0000b":1}"#,
            r#"{"a":1} x"#,
            r#"{"a":1}{"a":2}"#,
            "\u{feff}{}",
            r#"{"a":NaN}"#,
            r#"{"a":Infinity}"#,
            r#"{"a":1e400}"#,
            r#"{"a":01}"#,
            r#"{"a":1,}"#,
            r#"{'a':1}"#,
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\n\"}",
            "{/**/}",
            "",
            " ",
        ] {
            assert!(json(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(json(b"{\"a\":\"\xff\"}").is_err());
        assert!(json(b"{\"\xff\":1}").is_err());
        assert_eq!(json(br#" {"a":[1,-2.5,"x",null,true],"Ab":{"B":0}} "#).expect("JSON")["a"][1], -2.5);
    }

    #[test]
    fn bounds() {
        let deep = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
        assert!(json(&deep(DEPTH)).is_ok());
        assert!(json(&deep(DEPTH + 1)).is_err());
        assert!(json(&vec![b'['; 5_000_000]).is_err());
        let wide = |n: usize| format!("[{}1]", "1,".repeat(n - 2));
        assert!(json(wide(NODES).as_bytes()).is_ok());
        assert!(json(wide(NODES + 1).as_bytes()).is_err());
    }

    /// Random texts out of JSON's own alphabet: whatever is read strictly reads the same with serde_json.
    #[test]
    fn strict_reading_is_the_usual_reading() {
        let words = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"a\"",
            "\"b\"",
            "\"A\"",
            "\"\\u0061\"",
            "1",
            "-0",
            "1.50",
            "1e3",
            "true",
            "null",
            " ",
            "\"\u{e9}\"",
            "18446744073709551615",
            "\"\\ud83d\\ude00\"",
        ];
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |n: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((seed >> 33) % n as u64).expect("small")
        };
        let (mut read, mut usual_only) = (0, 0);
        for _ in 0..20_000 {
            let mut text = String::new();
            grow(&mut next, &words, 0, &mut text);
            let usual = serde_json::from_str::<Value>(&text);
            match json(text.as_bytes()) {
                Ok(value) => {
                    read += 1;
                    assert_eq!(value, usual.expect("serde_json reads it too"), "{text}");
                }
                Err(_) => usual_only += usize::from(usual.is_ok()),
            }
        }
        assert!(read > 5_000 && usual_only > 100, "{read} {usual_only}");
    }

    /// Mostly well-formed; now and then a stray word.
    fn grow(next: &mut impl FnMut(usize) -> usize, words: &[&str], depth: usize, text: &mut String) {
        match next(if depth > 4 { 12 } else { 20 }) {
            0..6 => text.push_str(["1", "-0", "1.50", "true", "null", "18446744073709551615"][next(6)]),
            6..11 => {
                text.push_str(["\"a\"", "\"\\u0061\"", "\"\u{e9}\"", "\"\\ud83d\\ude00\"", "\"\""][next(5)])
            }
            11 => (0..next(2)).for_each(|_| text.push_str(words[next(words.len())])),
            12..15 => {
                text.push('[');
                for at in 0..next(4) {
                    text.push_str(if at > 0 { "," } else { "" });
                    grow(next, words, depth + 1, text);
                }
                text.push(']');
            }
            _ => {
                text.push('{');
                for at in 0..next(4) {
                    text.push_str(if at > 0 { ", " } else { "" });
                    text.push_str(
                        ["\"a\":", "\"A\":", "\"b\":", "\"\\u0061\" :", "\"c\":", "\"d\":"][next(6)],
                    );
                    grow(next, words, depth + 1, text);
                }
                text.push('}');
            }
        }
    }
}
