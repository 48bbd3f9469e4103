//! Messages of protocol buffers without their description: what is text in them is told by how it looks.
//!
//! A field with a length is a message, text, or bytes. It is taken for a message where it can be read as one to its end, unless it
//! is printable text and has other fields than such with lengths; for text where it is UTF-8; for bytes else. Bytes are searched
//! as they stand. Lengths are written anew around what has changed, and nothing else is.
//!
//! Printable text can be read as a message by chance: where a search of it as text finds more than one of its fields, it is text.

/// Deepest nesting that is followed: what is deeper is read as text or bytes.
const DEPTH: usize = 32;

/// What finds and replaces values in a text.
pub trait Hide {
    /// How many there are.
    fn finds(&mut self, text: &[u8]) -> usize;

    /// The text without them; `None`: there are none.
    fn hides(&mut self, text: &[u8]) -> Option<Vec<u8>>;
}

/// A message with its texts replaced. `None`: it is none, or nothing was found in it.
pub fn rewritten(message: &[u8], hide: &mut impl Hide) -> Result<Option<Vec<u8>>, NoMessage> {
    within(message, hide, 0)
}

/// Bytes that are no message.
#[derive(Debug, PartialEq, Eq)]
pub struct NoMessage;

fn within(message: &[u8], hide: &mut impl Hide, depth: usize) -> Result<Option<Vec<u8>>, NoMessage> {
    let (mut at, mut from, mut out) = (0, 0, Vec::new());
    while at < message.len() {
        let (field, head) = field(&message[at..]).ok_or(NoMessage)?;
        let body = at + head;
        if let Field::Long(length) = field {
            let end = body + length;
            let new = value(&message[body..end], hide, depth);
            if let Some(new) = new {
                let (_, tag) = varint(&message[at..]).ok_or(NoMessage)?;
                out.extend_from_slice(&message[from..at + tag]);
                write_varint(new.len() as u64, &mut out);
                out.extend_from_slice(&new);
                from = end;
            }
            at = end;
        } else {
            at = body;
        }
    }
    if from == 0 {
        return Ok(None);
    }
    out.extend_from_slice(&message[from..]);
    Ok(Some(out))
}

fn value(bytes: &[u8], hide: &mut impl Hide, depth: usize) -> Option<Vec<u8>> {
    if depth < DEPTH && is_message(bytes, depth) {
        let is_text = is_printable(bytes) && hide.finds(bytes) > finds_within(bytes, hide, depth + 1);
        if !is_text {
            return within(bytes, hide, depth + 1).unwrap_or_default();
        }
    }
    hide.hides(bytes)
}

/// How many values are found in a message's fields, each read as it looks.
fn finds_within(message: &[u8], hide: &mut impl Hide, depth: usize) -> usize {
    let (mut at, mut count) = (0, 0);
    while let Some((found, head)) = field(&message[at..]) {
        at += head;
        if let Field::Long(length) = found {
            let bytes = &message[at..at + length];
            let is_message = depth < DEPTH && is_message(bytes, depth);
            count += if is_message { finds_within(bytes, hide, depth + 1) } else { hide.finds(bytes) };
            at += length;
        }
    }
    count
}

/// Whether a field's bytes are a message rather than text.
fn is_message(bytes: &[u8], depth: usize) -> bool {
    let printable = is_printable(bytes);
    let (mut at, mut lengths_only) = (0, true);
    while at < bytes.len() {
        let Some((found, head)) = field(&bytes[at..]) else { return false };
        at += head;
        match found {
            Field::Long(length) => at += length,
            Field::Short => lengths_only = false,
        }
    }
    !bytes.is_empty() && depth < DEPTH && (!printable || lengths_only)
}

/// Text without control characters but those of lines.
fn is_printable(bytes: &[u8]) -> bool {
    let text = str::from_utf8(bytes);
    text.is_ok_and(|text| text.chars().all(|letter| !letter.is_control() || "\n\r\t".contains(letter)))
}

enum Field {
    /// A number: what its head says is all of it.
    Short,
    /// So many bytes follow its head.
    Long(usize),
}

/// The field that begins there, and how long it is without the bytes that its length counts.
fn field(bytes: &[u8]) -> Option<(Field, usize)> {
    let (tag, head) = varint(bytes)?;
    if tag >> 3 == 0 || tag >> 3 > 0x1fff_ffff {
        return None;
    }
    let rest = &bytes[head..];
    let short = |length: usize| (rest.len() >= length).then_some((Field::Short, head + length));
    match tag & 7 {
        0 => short(varint(rest)?.1),
        1 => short(8),
        5 => short(4),
        2 => {
            let (length, count) = varint(rest)?;
            let length = usize::try_from(length).ok().filter(|length| *length <= rest.len() - count)?;
            Some((Field::Long(length), head + count))
        }
        // Groups are long gone; nothing else is a kind.
        _ => None,
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        write_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn lengths_follow_what_is_replaced() {
        let message = |mail: &str| {
            let inner = [field_of(1, mail.as_bytes()), vec![0x10, 0x96, 0x01]].concat();
            let long = field_of(3, &[inner.as_slice(), &field_of(4, &[b'x'; 200])].concat());
            [vec![0x08, 0x05], field_of(2, b"hello there"), long, vec![0x2d, 1, 2, 3, 4]].concat()
        };
        let mut hide = One::default();
        assert_eq!(rewritten(&message("jane@corp.test"), &mut hide), Ok(Some(message("[email]"))));
        assert_eq!(rewritten(&message("other"), &mut hide), Ok(None));
        assert_eq!(rewritten(b"\x0a\x7fshort", &mut hide), Err(NoMessage));
        assert_eq!(rewritten(b"\x07", &mut hide), Err(NoMessage));
        assert_eq!(hide.seen[..2], ["hello there", "jane@corp.test"]);
    }

    /// Finds one address, wherever it stands.
    #[derive(Default)]
    struct One {
        seen: Vec<String>,
    }

    impl Hide for One {
        fn finds(&mut self, text: &[u8]) -> usize {
            String::from_utf8_lossy(text).matches("jane@corp.test").count()
        }

        fn hides(&mut self, text: &[u8]) -> Option<Vec<u8>> {
            let text = String::from_utf8_lossy(text).into_owned();
            self.seen.push(text.clone());
            text.contains("jane@corp.test").then(|| text.replace("jane@corp.test", "[email]").into_bytes())
        }
    }

    #[test]
    fn text_that_reads_as_a_message_by_chance() {
        // Fields 12 and 14, whose lengths are a space and `p`: the address spans both.
        let text = format!("b {} jane@corp.test{}", "x".repeat(24), " ".repeat(107));
        assert!(is_message(text.as_bytes(), 0) && is_printable(text.as_bytes()));
        let want = field_of(2, text.replace("jane@corp.test", "[email]").as_bytes());
        assert_eq!(rewritten(&field_of(2, text.as_bytes()), &mut One::default()), Ok(Some(want)));
        // Found in a field, too: a message, whose lengths stay right.
        let inner = |text: &str| [&[b'b', text.len() as u8][..], text.as_bytes()].concat();
        let (text, want) = ("jane@corp.test and so many others", "[email] and so many others");
        assert!(is_message(&inner(text), 0) && is_printable(&inner(text)));
        let got = rewritten(&field_of(2, &inner(text)), &mut One::default());
        assert_eq!(got, Ok(Some(field_of(2, &inner(want)))));
    }
}
