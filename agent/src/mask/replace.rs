//! What is written in place of a value. Where it is written, and in which spelling (JSON escapes, percent signs), is the caller's.

use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::scan::Found;
use super::tokens::Tokens;

/// How a value is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// `[email]`: the detector's name.
    Redact,
    /// `[email:0123456789abcdef]`: the first eight bytes of HMAC-SHA-256 over name, a zero byte and value. The same value has the same
    /// hash under the same key; of a value that goes on (`Found::continues`), its first piece counts.
    Hash,
    /// Stars for letters and digits but the last four, or the last quarter of a value of fewer than 16. Signs stay.
    Partial,
    /// A token that stands for the value and has its shape; where the scope's map is full, or the value too long or without a
    /// longest length (JWT, private keys), as `Redact`.
    Token,
}

/// The key of hashes: 32 bytes, gone from memory with it. No Debug: it would show it.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// Takes 32 bytes that nobody else knows.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// HMAC-SHA-256 (RFC 2104) over parts, one behind the other.
    pub fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let pad = |with: u8| {
            let mut block = Zeroizing::new([with; 64]);
            block.iter_mut().zip(self.0.iter()).for_each(|(b, key)| *b ^= key);
            block
        };
        let mut inner = Sha256::new();
        inner.update(*pad(0x36));
        parts.iter().for_each(|part| inner.update(part));
        let mut outer = Sha256::new();
        outer.update(*pad(0x5c));
        outer.update(inner.finalize());
        outer.finalize().into()
    }
}

/// Writes what replaces a value. `tokens`: the scope's map; without one, `Token` is `Redact`. A value that is a token of the scope
/// stays as it is.
pub fn write(found: &Found<'_>, how: Replacement, key: &Key, tokens: Option<&mut Tokens>, out: &mut Vec<u8>) {
    if found.continues {
        return;
    }
    match (how, tokens) {
        (_, Some(tokens)) if tokens.holds(found.value) => out.extend_from_slice(found.value),
        (Replacement::Redact, _) | (Replacement::Token, None) => label(found.detector, out),
        // The beginning of a value is no value: others begin so, too.
        (Replacement::Token, _) if found.runs => label(found.detector, out),
        (Replacement::Hash, _) => hash(found, key, out),
        (Replacement::Partial, _) => partial(found.value, out),
        (Replacement::Token, Some(tokens)) => match tokens.token(found.detector, found.value) {
            Ok(token) => out.extend_from_slice(token.as_bytes()),
            Err(_) => label(found.detector, out),
        },
    }
}

fn label(detector: &str, out: &mut Vec<u8>) {
    out.push(b'[');
    out.extend_from_slice(detector.as_bytes());
    out.push(b']');
}

fn hash(found: &Found<'_>, key: &Key, out: &mut Vec<u8>) {
    let mut sum = key.hmac(&[found.detector.as_bytes(), &[0], found.value]);
    out.push(b'[');
    out.extend_from_slice(found.detector.as_bytes());
    out.push(b':');
    for byte in &sum[..8] {
        out.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    out.push(b']');
    sum.zeroize();
}

fn partial(value: &[u8], out: &mut Vec<u8>) {
    let is_letter = |b: &u8| b.is_ascii_alphanumeric() || *b > 127;
    let letters = value.iter().filter(|b| is_letter(b)).count();
    // What is kept of bytes above 127 could be half a character: they are never kept.
    let (hidden, mut at) = (letters - 4.min(letters / 4), 0);
    for byte in value {
        let kept = !is_letter(byte) || (at >= hidden && *byte < 128);
        at += usize::from(is_letter(byte));
        out.push(if kept { *byte } else { b'*' });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(detector: &str, value: &str, how: Replacement) -> String {
        let (mut out, key) = (Vec::new(), Key::new([7; 32]));
        let found = Found {
            detector,
            from: 0,
            end: value.len() as u64,
            value: value.as_bytes(),
            continues: false,
            runs: false,
        };
        write(&found, how, &key, None, &mut out);
        String::from_utf8(out).expect("text stays text")
    }

    #[test]
    fn hmac_of_rfc_4231() {
        // Test case 2, whose key is shorter: zeros fill it.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let sum = Key::new(key).hmac(&[b"what do ya want ", b"for nothing?"]);
        assert_eq!(sum[..8], [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e]);
    }

    #[test]
    fn each_kind() {
        assert_eq!(written("email", "a@example.com", Replacement::Redact), "[email]");
        assert_eq!(written("card", "4111 1111 1111 1111", Replacement::Partial), "**** **** **** 1111");
        assert_eq!(written("us-ssn", "219-09-8765", Replacement::Partial), "***-**-**65");
        assert_eq!(written("x", "abc", Replacement::Partial), "***");
        let hash = written("email", "a@example.com", Replacement::Hash);
        assert!(
            hash.len() == "[email:]".len() + 16
                && hash != written("email", "b@example.com", Replacement::Hash)
        );
        assert_eq!(hash, written("email", "a@example.com", Replacement::Hash));
        assert_eq!(written("email", "a@example.com", Replacement::Token), "[email]", "no map, no token");
    }
}
