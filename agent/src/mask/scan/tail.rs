//! What goes on with a value that has no longest length: bytes that belong to it, as long as they come.

use memchr::memmem;

use crate::mask::detect::{Tail, Text};

/// How far a value goes on from a place, and whether that is its end. Where it is not, the rest may belong to it, too: hand it in
/// again, with what follows.
pub fn goes_on(text: Text<'_>, from: usize, tail: Tail) -> (usize, bool) {
    let rest = text.slice(from, text.bytes.len());
    let (length, ends) = match tail {
        Tail::Token => token(rest, text.last),
        Tail::Pem => pem(rest, text.last),
    };
    (from + length, ends)
}

fn token(rest: &[u8], last: bool) -> (usize, bool) {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"-_~+/=".contains(b);
    let mut length = 0;
    loop {
        length += rest[length..].iter().take_while(|b| is_part(b)).count();
        // A full stop is a part where something follows it.
        match rest.get(length..) {
            Some([b'.', next, ..]) if is_part(next) => length += 1,
            Some([b'.'] | []) if !last => return (length, false),
            _ => return (length, true),
        }
    }
}

const END: &[u8] = b"-----END";
/// Longest line that ends a file, without its first word.
const LABEL: usize = 64;

fn pem(rest: &[u8], last: bool) -> (usize, bool) {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || b.is_ascii_whitespace() || b"+/=-\\:,()".contains(b);
    let stop = rest.iter().position(|b| !is_part(b)).unwrap_or(rest.len());
    let Some(end) = memmem::find(&rest[..stop], END) else {
        if stop < rest.len() || last {
            return (stop, true);
        }
        let begun = (1..END.len()).rev().find(|length| rest.ends_with(&END[..*length])).unwrap_or(0);
        return (stop - begun, false);
    };
    let label = end + END.len();
    let reach = rest.len().min(label + LABEL);
    match memmem::find(&rest[label..reach], b"-----") {
        Some(at) => (label + at + 5, true),
        None if reach < label + LABEL && !last && stop == rest.len() => (end, false),
        None => (label, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let text = |text: &'static str, last| Text { bytes: text.as_bytes(), last };
        assert_eq!(goes_on(text("abc.def. x", false), 0, Tail::Token), (7, true));
        assert_eq!(goes_on(text("abc.", false), 0, Tail::Token), (3, false));
        assert_eq!(goes_on(text("abc.", true), 0, Tail::Token), (3, true));
        assert_eq!(goes_on(text("MC4C\n-----END X-----\nmore", false), 0, Tail::Pem), (20, true));
        assert_eq!(goes_on(text("MC4C\n-----EN", false), 0, Tail::Pem), (5, false));
        assert_eq!(goes_on(text("MC4C\n-----END X---", false), 0, Tail::Pem), (5, false));
        assert_eq!(goes_on(text("MC4C\"", false), 0, Tail::Pem), (4, true));
    }
}
