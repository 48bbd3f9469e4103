//! A secret in memory. It has no `Debug`, no `Display` and no `Serialize`: whoever wants its bytes says so
//! ([`Secret::expose`]), and that word can be searched for. It is wiped when it is dropped.

use zeroize::Zeroizing;

/// Longest secret in bytes: with its envelope it fits into one message between warden and gate, and a header field of it
/// into a head that servers take. Keys are below 1 KiB, tokens below 16 KiB, a certificate with its chain below 24 KiB.
pub const SECRET_MAX: usize = 32 * 1024;

/// UTF-8 text of 1 to [`SECRET_MAX`] bytes without a NUL.
pub struct Secret(Zeroizing<String>);

/// What a secret must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One line, for a head: no control character at all (RFC 9110 §5.5 forbids CR, LF and NUL; no secret needs the rest).
    Line,
    /// PEM, JSON or INI: lines, and tabs.
    Text,
}

/// Why bytes are no secret. Never says what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASecret {
    /// Nothing, or nothing but a line's end.
    #[error("it is empty")]
    Empty,
    /// Too long.
    #[error("it is longer than {SECRET_MAX} bytes")]
    TooLong,
    /// Some other encoding, or binary.
    #[error("it is not UTF-8 text")]
    NotText,
    /// A line's end within, a NUL, an escape …
    #[error("it has a control character (byte {0:#04x}) within: such a value could end a header field early")]
    Control(u8),
    /// A blank before or behind would be lost on the way (RFC 9110 §5.5).
    #[error("it begins or ends with a blank")]
    Blank,
}

impl Secret {
    /// Takes what a source gave: a byte order mark and one line's end behind it (LF or CRLF) are cut off, the rest must have
    /// the shape. What was given is wiped in any case.
    ///
    /// # Errors
    /// [`NotASecret`].
    pub fn clean(bytes: Vec<u8>, shape: Shape) -> Result<Self, NotASecret> {
        let bytes = Zeroizing::new(bytes);
        let cut = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let cut = cut.strip_suffix(b"\n").map_or(cut, |cut| cut.strip_suffix(b"\r").unwrap_or(cut));
        if cut.len() > SECRET_MAX {
            return Err(NotASecret::TooLong);
        }
        let text = std::str::from_utf8(cut).map_err(|_| NotASecret::NotText)?;
        if text.trim_ascii().is_empty() {
            return Err(NotASecret::Empty);
        }
        let allowed = |b: u8| shape == Shape::Text && matches!(b, b'\n' | b'\r' | b'\t');
        // U+0080 to U+009F are control characters too; in UTF-8 their second byte says which.
        let control = text.chars().find(|c| c.is_control() && !u8::try_from(*c).is_ok_and(allowed));
        if let Some(control) = control {
            return Err(NotASecret::Control(u32::from(control).try_into().unwrap_or(b'?')));
        }
        if shape == Shape::Line && text.trim_ascii().len() != text.len() {
            return Err(NotASecret::Blank);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// A secret that was made here or came from a provider: it must be one line.
    ///
    /// # Errors
    /// [`NotASecret`].
    pub fn line(text: String) -> Result<Self, NotASecret> {
        Self::clean(text.into_bytes(), Shape::Line)
    }

    /// The text. Never into a log, a record, an error or a file.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is the same as another: takes as long whatever differs.
    pub fn same(&self, other: &Self) -> bool {
        let (a, b) = (self.0.as_bytes(), other.0.as_bytes());
        a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }

    /// Another holder of it, for where ownership cannot be shared: on its way between the processes.
    pub fn copied(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_gave_is_cleaned_or_refused() {
        use Shape::{Line, Text};
        let text = |bytes: &[u8], shape| Secret::clean(bytes.to_vec(), shape).map(|s| s.expose().to_owned());
        for (bytes, shape, wanted) in [
            (&b"sk-1"[..], Line, Ok("sk-1")),
            (b"sk-1\n", Line, Ok("sk-1")),
            (b"sk-1\r\n", Line, Ok("sk-1")),
            (b"\xef\xbb\xbfsk-1\r\n", Line, Ok("sk-1")),
            (b"pass word", Line, Ok("pass word")),
            ("p\u{e4}ss".as_bytes(), Line, Ok("p\u{e4}ss")),
            (b"a\nb\n", Text, Ok("a\nb")),
            (b"{\r\n\t}\r\n", Text, Ok("{\r\n\t}")),
            (b"", Line, Err(NotASecret::Empty)),
            (b"\n", Line, Err(NotASecret::Empty)),
            (b"\xef\xbb\xbf\r\n", Line, Err(NotASecret::Empty)),
            (b"  \n", Line, Err(NotASecret::Empty)),
            (b"\n\n", Text, Err(NotASecret::Empty)),
            (b"sk-1\n\n", Line, Err(NotASecret::Control(b'\n'))),
            (b"sk-1\r", Line, Err(NotASecret::Control(b'\r'))),
            (b"sk-1\r\nX-Evil: 1", Line, Err(NotASecret::Control(b'\r'))),
            (b"sk\t1", Line, Err(NotASecret::Control(b'\t'))),
            (b"sk\x00", Line, Err(NotASecret::Control(0))),
            (b"sk\x00", Text, Err(NotASecret::Control(0))),
            (b"sk\x7f", Line, Err(NotASecret::Control(0x7f))),
            ("sk\u{85}".as_bytes(), Line, Err(NotASecret::Control(0x85))),
            (b" sk-1", Line, Err(NotASecret::Blank)),
            (b"sk-1 \n", Line, Err(NotASecret::Blank)),
            (b"\xff\xfes\0k\0", Line, Err(NotASecret::NotText)),
        ] {
            assert_eq!(text(bytes, shape), wanted.map(str::to_owned), "{bytes:?} {shape:?}");
        }
        assert_eq!(text(&vec![b'a'; SECRET_MAX + 1], Text), Err(NotASecret::TooLong));
        assert!(text(&vec![b'a'; SECRET_MAX], Text).is_ok());
        let a = Secret::line("a".into()).expect("good");
        assert!(a.same(&a.copied()) && !a.same(&Secret::line("b".into()).expect("good")));
    }
}
