//! How the bytes of a body are read, told from its media type and its first bytes; and why a body cannot be read.

/// How the bytes of a body are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One JSON text (RFC 8259).
    Json,
    /// JSON texts, one a line.
    Ndjson,
    /// Events (`text/event-stream`) whose data is JSON or text.
    Sse,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Parts between boundaries (RFC 2046), each read by its own type.
    Multipart {
        /// The boundary, without dashes before it.
        boundary: Vec<u8>,
    },
    /// XML.
    Xml,
    /// HTML.
    Html,
    /// Comma-separated values (RFC 4180).
    Csv,
    /// Plain text, and what is read as such: source code, YAML.
    Text,
    /// No text that is known: searched as it stands.
    Opaque,
    /// Messages of protocol buffers behind their lengths, as gRPC has them.
    Grpc,
    /// One message of protocol buffers.
    Protobuf,
    /// Text of a kind in Windows-1252, of which ISO 8859-1 is a part.
    Latin1(Box<Kind>),
}

/// Why a body cannot be masked. Shown to the client and recorded: no word of the body is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An encoding that is not read, or bytes that are none of it.
    #[error("text cannot be read: {0}")]
    Charset(String),
    /// What is no JSON, though its type says so.
    #[error("no valid JSON at byte {at}: {what}")]
    Json {
        /// Bytes from the beginning.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// What is not as its type says.
    #[error("no valid {kind} at byte {at}: {what}")]
    Form {
        /// The type.
        kind: &'static str,
        /// Bytes from the beginning.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Nested too deep.
    #[error("nested deeper than {0}")]
    TooDeep(usize),
    /// Something that must be held whole, and is too long for that.
    #[error("{what} of more than {most} bytes")]
    TooLong {
        /// What.
        what: &'static str,
        /// Most bytes.
        most: usize,
    },
    /// A type or coding that is not read.
    #[error("{0}")]
    Unread(String),
    /// Bytes that are no text, where the mask refuses such.
    #[error("a body that is no text, which the mask refuses")]
    Binary,
}

impl Kind {
    /// How a body is read. `content_type`: the header's value; `first`: the first bytes of the body (16 are enough; fewer where
    /// there are no more). What has no type, or one that says nothing, is told from its first bytes; what is called text or
    /// nothing and begins as JSON is read as such, as long as it is.
    ///
    /// # Errors
    /// [`Refused`]: an encoding that is not read; a type without what it needs.
    pub fn of(content_type: Option<&[u8]>, first: &[u8]) -> Result<Self, Refused> {
        let header = content_type.unwrap_or_default().to_ascii_lowercase();
        let end = header.iter().position(|b| *b == b';').unwrap_or(header.len());
        let kind = Self::named(header[..end].trim_ascii(), content_type.unwrap_or_default(), first)?;
        if matches!(kind, Self::Grpc | Self::Protobuf) {
            return Ok(kind);
        }
        let marked = first.starts_with(&[0xff, 0xfe]) || first.starts_with(&[0xfe, 0xff]);
        if marked || is_wide(first) {
            return Err(Refused::Charset("UTF-16 or UTF-32, by its first bytes; send UTF-8".into()));
        }
        if kind == Self::Opaque {
            return Ok(kind);
        }
        match parameter(&header, b"charset").as_deref() {
            None | Some(b"" | b"utf-8" | b"utf8" | b"us-ascii" | b"ascii") => Ok(kind),
            // A mark of UTF-8 is right whatever the header says.
            Some(_) if first.starts_with(&[0xef, 0xbb, 0xbf]) => Ok(kind),
            Some(b"iso-8859-1" | b"iso8859-1" | b"latin1" | b"windows-1252" | b"cp1252") => {
                Ok(Self::Latin1(Box::new(kind)))
            }
            Some(other) => {
                let name: String =
                    String::from_utf8_lossy(other).chars().filter(char::is_ascii_graphic).take(32).collect();
                Err(Refused::Charset(format!("the encoding {name}; send UTF-8")))
            }
        }
    }

    /// So many first bytes are enough for [`Kind::of`], where the header says this: more of them only where it says little.
    pub fn enough(content_type: Option<&[u8]>) -> usize {
        if Self::of(content_type, b"") == Ok(Self::Opaque) { FIRST } else { BOM }
    }

    fn named(media: &[u8], whole: &[u8], first: &[u8]) -> Result<Self, Refused> {
        Ok(match media {
            b"application/x-ndjson"
            | b"application/ndjson"
            | b"application/jsonl"
            | b"application/x-jsonlines"
            | b"application/jsonlines"
            | b"application/json-seq"
            | b"application/stream+json" => Self::Ndjson,
            b"text/event-stream" => Self::Sse,
            b"application/x-www-form-urlencoded" => Self::Form,
            b"text/html" | b"application/xhtml+xml" => Self::Html,
            b"text/csv" | b"application/csv" => Self::Csv,
            b"application/grpc" | b"application/grpc+proto" => Self::Grpc,
            b"application/protobuf" | b"application/x-protobuf" | b"application/vnd.google.protobuf" => {
                Self::Protobuf
            }
            _ if media.starts_with(b"application/grpc") => {
                return Err(Refused::Unread("gRPC in another coding than protocol buffers".into()));
            }
            _ if media.starts_with(b"multipart/") => match parameter(whole, b"boundary") {
                Some(boundary) if (1..=70).contains(&boundary.len()) => Self::Multipart { boundary },
                _ => {
                    return Err(Refused::Form {
                        kind: "multipart body",
                        at: 0,
                        what: "no boundary in its type",
                    });
                }
            },
            b"application/json" | b"text/json" | b"application/x-json" | b"application/csp-report" => {
                Self::Json
            }
            b"application/xml" | b"text/xml" | b"application/soap+xml" => Self::Xml,
            _ if media.ends_with(b"+json") => Self::Json,
            _ if media.ends_with(b"+xml") => Self::Xml,
            _ if media.starts_with(b"text/") || TEXTS.contains(&media) => Self::Text,
            _ if is_text(first) => Self::Text,
            _ => Self::Opaque,
        })
    }
}

/// So many first bytes tell whether what has no type is text, and so many which mark it has.
const FIRST: usize = 16;
const BOM: usize = 3;

/// Types that are text, though their names do not begin so.
const TEXTS: &[&[u8]] = &[
    b"application/javascript",
    b"application/x-javascript",
    b"application/ecmascript",
    b"application/graphql",
    b"application/sql",
    b"application/yaml",
    b"application/x-yaml",
    b"application/toml",
    b"application/x-sh",
    b"application/x-pem-file",
];

/// Whether a body of no known type begins as one of JSON or with spaces alone, behind a mark of UTF-8 or none: what begins otherwise is searched as it stands.
fn is_text(first: &[u8]) -> bool {
    let first = &first[..first.len().min(FIRST)];
    let marked = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
    let begins = marked.iter().find(|b| !b.is_ascii_whitespace());
    let is_text = matches!(begins, Some(b'{' | b'[')) || (begins.is_none() && !first.is_empty());
    is_text && !first.iter().any(|b| *b < 9 || (14..32).contains(b))
}

/// Whether a body begins as text does in UTF-16 or UTF-32: zeros between letters of ASCII. Searched byte by byte, nothing would be found.
fn is_wide(first: &[u8]) -> bool {
    let first = &first[..first.len().min(FIRST)];
    let wide = |width: usize, letter: usize| {
        let letters = first.chunks_exact(width);
        let is = |unit: &[u8]| {
            let (says, zeros) = (unit[letter], unit.iter().filter(|b| **b == 0).count());
            (says.is_ascii_graphic() || says.is_ascii_whitespace()) && zeros == width - 1
        };
        letters.len() >= 4 && letters.into_iter().all(is)
    };
    wide(2, 0) || wide(2, 1) || wide(4, 0) || wide(4, 3)
}

/// A parameter of a header's value (RFC 9110 section 5.6.6), without its quotes.
pub(super) fn parameter(header: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut rest = header;
    while let Some(at) = rest.iter().position(|b| *b == b';') {
        rest = rest[at + 1..].trim_ascii_start();
        let Some(sign) = rest.iter().position(|b| *b == b'=' || *b == b';') else { break };
        let (key, value) = (rest[..sign].trim_ascii(), &rest[sign..]);
        let Some(value) = value.strip_prefix(b"=") else { continue };
        let (value, behind) = match value.trim_ascii_start().strip_prefix(b"\"") {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
                (value[..end].trim_ascii().to_vec(), &value[end..])
            }
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = behind;
    }
    None
}

fn unquoted(quoted: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut value, mut at) = (Vec::new(), 0);
    while let Some(byte) = quoted.get(at) {
        match byte {
            b'"' => return (value, &quoted[at + 1..]),
            b'\\' => {
                value.extend(quoted.get(at + 1));
                at += 2;
            }
            _ => {
                value.push(*byte);
                at += 1;
            }
        }
    }
    (value, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_type_and_first_bytes() {
        let of =
            |header: &str, first: &[u8]| Kind::of((!header.is_empty()).then_some(header.as_bytes()), first);
        assert_eq!(of("application/json; charset=UTF-8", b"{"), Ok(Kind::Json));
        assert_eq!(of("application/problem+json", b"{"), Ok(Kind::Json));
        assert_eq!(of("Text/Event-Stream", b"data"), Ok(Kind::Sse));
        assert_eq!(of("text/html;charset=\"ISO-8859-1\"", b"<"), Ok(Kind::Latin1(Box::new(Kind::Html))));
        assert_eq!(of("text/plain; charset=latin1", b"\xef\xbb\xbfx"), Ok(Kind::Text));
        assert_eq!(of("", b"{\"a\":1}"), Ok(Kind::Text));
        assert_eq!(of("application/octet-stream", b" [1]"), Ok(Kind::Text));
        assert_eq!(of("", b"\xef\xbb\xbf {\"a\":1}"), Ok(Kind::Text));
        assert_eq!(of("application/octet-stream", &[b' '; 16]), Ok(Kind::Text));
        assert_eq!((of("", b""), of("", b"\xef\xbb\xbfa")), (Ok(Kind::Opaque), Ok(Kind::Opaque)));
        assert_eq!(of("application/octet-stream", b"\x89PNG"), Ok(Kind::Opaque));
        assert_eq!(of("image/png", b"\x89PNG"), Ok(Kind::Opaque));
        assert_eq!(of("", b"a\0b\0c\0\x01\0d\0"), Ok(Kind::Opaque));
        assert_eq!(
            of("multipart/form-data; boundary=\"a b\"; x=y", b"--a b"),
            Ok(Kind::Multipart { boundary: b"a b".to_vec() })
        );
        for (header, first) in [
            ("application/json; charset=utf-16", &b"{"[..]),
            ("text/plain; charset=utf-7", b"x"),
            ("text/plain; charset=shift_jis", b"x"),
            ("application/json", b"\xff\xfe{\0"),
            ("multipart/form-data", b"--x"),
            ("application/octet-stream", b"\xff\xfe{\0\"\0"),
            ("application/octet-stream", b"j\0a\0n\0e\0@\0c\0"),
            ("", b"\0j\0a\0n\0e\0@\0c\0o"),
            ("", b"j\0\0\0a\0\0\0n\0\0\0e\0\0\0"),
        ] {
            assert!(of(header, first).is_err(), "{header}");
        }
    }
}
