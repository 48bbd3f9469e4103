//! Forms: `application/x-www-form-urlencoded` (WHATWG URL §5.1), and the fields of `multipart/form-data` that are no files.

use http::HeaderMap;

use super::{View, lists, media_type, parts};

/// Fields of one form.
const FIELDS: usize = 10_000;

/// A form body as a map of lists; `None` where the request says that its body is something else.
///
/// # Errors
/// See [`pairs`].
pub fn form(headers: &HeaderMap, body: &[u8]) -> View {
    match media_type(headers)? {
        Some((kind, _)) if kind == "application/x-www-form-urlencoded" => {
            Ok(Some(lists(pairs(body)?.into_iter())))
        }
        // Servers give both to whoever asks for a form's fields.
        Some((kind, _)) if kind == "multipart/form-data" => {
            let parts = parts(headers, body)?.unwrap_or_default();
            let fields = parts.into_iter().filter(|part| part.file.is_none());
            Ok(Some(lists(
                fields.map(|part| (part.name, String::from_utf8_lossy(part.content).into_owned())),
            )))
        }
        _ => Ok(None),
    }
}

/// The pairs of a form.
///
/// # Errors
/// What servers read differently: a bare `;` (to some it separates like `&`), a zero, what decodes to no UTF-8, a `%`
/// without two hex digits; more than 10,000 fields.
fn pairs(form: &[u8]) -> Result<Vec<(String, String)>, String> {
    if form.is_empty() {
        return Ok(Vec::new());
    }
    if form.iter().any(|b| matches!(b, b';' | 0 | b'\r' | b'\n') || !b.is_ascii()) {
        return Err("its form has characters that servers read differently".to_owned());
    }
    let fields: Vec<_> = form.split(|b| *b == b'&').take(FIELDS + 1).collect();
    if fields.len() > FIELDS {
        return Err(format!("its form has more than {FIELDS} fields"));
    }
    let pair = |field: &[u8]| {
        let at = field.iter().position(|b| *b == b'=');
        let (name, value) = at.map_or((field, &[][..]), |at| (&field[..at], &field[at + 1..]));
        Some((decoded(name)?, decoded(value)?))
    };
    let pairs = fields.into_iter().filter(|field| !field.is_empty()).map(pair).collect::<Option<_>>();
    pairs.ok_or_else(|| "its form is not percent-encoded UTF-8".to_owned())
}

fn decoded(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16).and_then(|d| u8::try_from(d).ok());
                digit()? << 4 | digit()?
            }
            _ => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(kind: &'static str, body: &[u8]) -> View {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", http::HeaderValue::from_static(kind));
        form(&headers, body)
    }

    #[test]
    fn forms() {
        let kind = "Application/X-WWW-Form-Urlencoded; charset=utf-8";
        assert_eq!(
            read(kind, b"a=1&b=x+y%26&a=2&&c&d=%C3%A9=").expect("read"),
            Some(json!({"a": ["1", "2"], "b": ["x y&"], "c": [""], "d": ["\u{e9}="]}))
        );
        assert_eq!(read(kind, b"").expect("read"), Some(json!({})));
        assert_eq!(read("application/json", b"a=1").expect("read"), None);
        for bad in [&b"a=1;b=2"[..], b"a=%zz", b"a=%f", b"a=%ff", b"a=\xc3\xa9", b"a=1\r\n", b"a\0=1"] {
            assert!(read(kind, bad).is_err(), "{bad:?}");
        }
        let parts = b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--\r\n";
        assert_eq!(read("multipart/form-data; boundary=x", parts).expect("read"), Some(json!({"a": ["1"]})));
        assert!(read(kind, &b"a&".repeat(FIELDS + 1)).is_err());
    }
}
