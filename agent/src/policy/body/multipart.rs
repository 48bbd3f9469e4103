//! `multipart/form-data` (RFC 7578): the names of its fields and files, and the parts' contents.

use http::HeaderMap;
use memchr::memmem;
use serde_json::json;

use super::{View, media_type};

/// Parts of one body.
const PARTS: usize = 1_000;
/// Octets of a part's header.
const HEADER: usize = 8 * 1024;

/// One part.
pub struct Part<'b> {
    pub name: String,
    /// The file's name, where it is a file.
    pub file: Option<String>,
    pub content: &'b [u8],
}

/// `names` of all fields and `files`, the files' names; `None` where the request says that its body is something else.
///
/// # Errors
/// See [`parts`].
pub fn multipart(headers: &HeaderMap, body: &[u8]) -> View {
    let Some(parts) = parts(headers, body)? else { return Ok(None) };
    let names: Vec<_> = parts.iter().map(|part| &part.name).collect();
    let files: Vec<_> = parts.iter().filter_map(|part| part.file.as_ref()).collect();
    Ok(Some(json!({"names": names, "files": files})))
}

/// Its parts.
///
/// # Errors
/// What servers read differently: no or several boundaries, a boundary that does not stand alone on its line, anything
/// before the first or after the last part, a part whose header is not one plain `form-data` disposition (and perhaps
/// other fields), names with escapes; more than 1,000 parts.
pub fn parts<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<Option<Vec<Part<'b>>>, String> {
    let Some((kind, parameters)) = media_type(headers)? else { return Ok(None) };
    if kind != "multipart/form-data" {
        return Ok(None);
    }
    let boundary = boundary(parameters).ok_or("its boundary is not plain")?;
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    // Where the present part begins: behind its delimiter's line.
    let mut begin = None;
    let mut ended = false;
    for at in memmem::find_iter(body, delimiter.as_bytes()) {
        let after = at + delimiter.len();
        let alone = (at == 0 || body[..at].ends_with(b"\r\n")) && !ended;
        let last = matches!(&body[after..], b"--" | b"--\r\n");
        if !alone || !(last || body[after..].starts_with(b"\r\n")) {
            return Err("a boundary does not stand alone on its line".to_owned());
        }
        match begin {
            None if at > 0 => return Err("there is something before its first part".to_owned()),
            None => {}
            // Two boundaries in a row, and no part between them.
            Some(begin) if begin + 2 > at => return Err("a part has no header".to_owned()),
            Some(begin) => parts.push(part(&body[begin..at - 2])?),
        }
        if parts.len() > PARTS {
            return Err(format!("it has more than {PARTS} parts"));
        }
        begin = Some(after + 2);
        ended = last;
    }
    if ended { Ok(Some(parts)) } else { Err("its last part has no end".to_owned()) }
}

fn boundary(parameters: &str) -> Option<&str> {
    let mut found = None;
    for parameter in parameters.split(';') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name.trim().to_ascii_lowercase().starts_with("boundary") {
            let value = value.trim();
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            let plain = |c: char| c.is_ascii_alphanumeric() || "'()+_,-./:=?".contains(c);
            if found.is_some()
                || !name.trim().eq_ignore_ascii_case("boundary")
                || !(1..=70).contains(&value.len())
                || !value.chars().all(plain)
            {
                return None;
            }
            found = Some(value);
        }
    }
    found
}

fn part(part: &[u8]) -> Result<Part<'_>, String> {
    let no = |why: &str| Err(format!("a part's header {why}"));
    let Some(end) = memmem::find(&part[..part.len().min(HEADER)], b"\r\n\r\n") else {
        return no("has no end");
    };
    let Ok(header) = std::str::from_utf8(&part[..end]) else { return no("is no UTF-8") };
    if header.contains('\0')
        || header.split("\r\n").any(|line| line.contains(['\r', '\n']) || line.starts_with([' ', '\t']))
    {
        return no("is folded");
    }
    let mut disposition = None;
    for line in header.split("\r\n") {
        let Some((field, value)) = line.split_once(':') else { return no("has a line without a colon") };
        match field.to_ascii_lowercase().as_str() {
            "content-disposition" if disposition.is_some() => return no("has two dispositions"),
            "content-disposition" => disposition = Some(value.trim()),
            "content-transfer-encoding" => return no("has a transfer encoding"),
            _ => {}
        }
    }
    let Some((name, file)) = disposition.and_then(names) else { return no("has no plain disposition") };
    Ok(Part { name, file, content: &part[end + 4..] })
}

/// The names of `form-data; name="…"; filename="…"`.
fn names(disposition: &str) -> Option<(String, Option<String>)> {
    let (kind, mut rest) = disposition.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let (mut name, mut file) = (None, None);
    loop {
        let (key, value) = rest.trim_start().split_once("=\"")?;
        let (value, after) = value.split_once('"')?;
        if value.contains('\\') {
            return None;
        }
        let slot = if key.eq_ignore_ascii_case("name") {
            &mut name
        } else if key.eq_ignore_ascii_case("filename") {
            &mut file
        } else {
            return None;
        };
        if slot.replace(value.to_owned()).is_some() {
            return None;
        }
        match after.trim_start().strip_prefix(';') {
            Some(more) => rest = more,
            None if after.trim().is_empty() => return Some((name?, file)),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &'static str, body: &str) -> View {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", http::HeaderValue::from_static(kind));
        multipart(&headers, body.as_bytes())
    }

    const KIND: &str = "multipart/form-data; boundary=----WebKitFormBoundaryx";

    #[test]
    fn fields_and_files() {
        let body = "------WebKitFormBoundaryx\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nfine-tune\r\n\
            ------WebKitFormBoundaryx\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a b.jsonl\"\r\n\
            Content-Type: application/jsonl\r\n\r\n{\"x\":1}\r\n--\r\n\r\n------WebKitFormBoundaryx--\r\n";
        let want = json!({"names": ["purpose", "file"], "files": ["a b.jsonl"]});
        assert_eq!(read(KIND, body).expect("read"), Some(want));
        assert_eq!(
            read(KIND, "------WebKitFormBoundaryx--").expect("read"),
            Some(json!({"names": [], "files": []}))
        );
        assert_eq!(read("text/plain; boundary=x", body).expect("read"), None);
    }

    #[test]
    fn what_servers_read_differently() {
        let disposed = |line: &str| format!("--x\r\n{line}\r\n\r\nv\r\n--x--\r\n");
        let good = "Content-Disposition: form-data; name=\"a\"";
        assert!(read("multipart/form-data; boundary=\"x\"", &disposed(good)).is_ok());
        for bad in [
            disposed("Content-Disposition: form-data"),
            disposed("Content-Disposition: form-data; name=a"),
            disposed("Content-Disposition: form-data; name=\"a\\\"b\""),
            disposed("Content-Disposition: form-data; name=\"a\"; name=\"b\""),
            disposed("Content-Disposition: form-data; name=\"a\"; filename*=UTF-8''x"),
            disposed(&format!("{good}\r\n{good}")),
            disposed(&format!("{good}\r\n folded")),
            disposed(&format!("{good}\r\nContent-Transfer-Encoding: base64")),
            format!("preamble\r\n{}", disposed(good)),
            format!("{}epilogue", disposed(good)),
            disposed(good).replace("v\r\n", "v\n--x\r\nv\r\n"),
            disposed(good).replace("v\r\n", "v\r\n--x \r\nv\r\n"),
            disposed(good).replace("--x--", "--x"),
            "--x\r\n--x--".to_owned(),
            String::new(),
        ] {
            assert!(read("multipart/form-data; boundary=x", &bad).is_err(), "{bad}");
        }
        for kind in [
            "multipart/form-data",
            "multipart/form-data; boundary=x; boundary=y",
            "multipart/form-data; boundary*=x",
            "multipart/form-data; boundary=\"x y\"",
        ] {
            assert!(read(kind, &disposed(good)).is_err(), "{kind}");
        }
    }
}
