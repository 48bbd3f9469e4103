//! Signed notes (C2SP signed-note v1): a text, an empty line, and lines with a signature each.
//!
//! ```text
//! text of one or more lines
//!
//! — name base64(4 bytes of key id || signature)
//! ```
//!
//! Only Ed25519 (algorithm 0x01) is made and checked. A signature by a key that nobody asks for is kept and ignored, so that
//! witnesses can add theirs. Any file of ours with notes has an empty line after each: [`split`] takes it apart.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The algorithm's number in keys and key ids.
const ALGORITHM: u8 = 0x01;
/// Longest note that is read.
pub const LONGEST: usize = 1 << 20;
/// Most signatures that a note may bear.
const SIGNATURES: usize = 100;
/// What a signature's line begins with: an em dash and a space.
const DASH: &str = "— ";

/// A text that is no signed note, or no key of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than [`LONGEST`].
    #[error("a note is longer than a note may be")]
    TooLong,
    /// The text is empty, ends without a newline or has control characters.
    #[error("the text of a note is not lines of plain text")]
    Text,
    /// No signatures, or too many.
    #[error("a note needs signatures after an empty line, 100 at most")]
    Signatures,
    /// A line after the text is no signature.
    #[error("a line after the text of a note is no signature")]
    Signature,
    /// A verifier key is not `name+id+key`.
    #[error("a verifier key must be NAME+ID+KEY, of an Ed25519 key")]
    Key,
    /// A verifier key's id is not that of its name and key.
    #[error("a verifier key's id does not go with its name and key: a letter of it is wrong")]
    KeyId,
}

/// Why a note is not signed by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// It bears no signature of this key.
    #[error("it bears no signature of the key")]
    Missing,
    /// It bears one that is wrong.
    #[error("its signature is wrong")]
    Wrong,
}

/// The id of a key: what a signature names it by, with its name.
fn id(name: &str, key: &[u8]) -> [u8; 4] {
    let text = [name.as_bytes(), b"\n", &[ALGORITHM], key].concat();
    let mut id = [0; 4];
    id.copy_from_slice(&digest(&SHA256, &text).as_ref()[..4]);
    id
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control())
}

/// A key to check signatures with: `name+id+key`, id 8 hex digits, key base64 of 0x01 and the 32 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: [u8; 32],
}

impl VerifierKey {
    /// The name in it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(id(&self.name, &self.key));
        write!(f, "{}+{id:08x}+{}", self.name, STANDARD.encode([&[ALGORITHM], &self.key[..]].concat()))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifierKey {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(of), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Malformed::Key);
        };
        let bytes = STANDARD.decode(key).map_err(|_| Malformed::Key)?;
        let Some((&ALGORITHM, key)) = bytes.split_first() else { return Err(Malformed::Key) };
        let key = key.try_into().map_err(|_| Malformed::Key)?;
        if !is_name(name) {
            return Err(Malformed::Key);
        }
        let made = Self { name: name.to_owned(), key };
        if format!("{:08x}", u32::from_be_bytes(id(name, &key))) != of {
            return Err(Malformed::KeyId);
        }
        Ok(made)
    }
}

/// A key to sign with. Whoever holds its seed erases that; the copy in here is erased when it is dropped (by AWS-LC).
pub struct Signer {
    verifier: VerifierKey,
    pair: Ed25519KeyPair,
}

impl Signer {
    /// The key of this name and seed (RFC 8032: 32 random bytes); `None` when the name has a space, a `+` or nothing.
    pub fn new(name: &str, seed: &[u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let key = pair.public_key().as_ref().try_into().ok()?;
        is_name(name).then(|| Self { verifier: VerifierKey { name: name.to_owned(), key }, pair })
    }

    /// What its signatures are checked with.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

/// A signature of a note, of whatever key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The key's name.
    pub name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// A signed note. That it is one says nothing: see [`Note::signed_by`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// Signs a text: lines without control characters, each ended by a newline.
    ///
    /// # Errors
    /// [`Malformed::Text`].
    pub fn sign(text: String, signer: &Signer) -> Result<Self, Malformed> {
        check(&text)?;
        let signature = Signature {
            name: signer.verifier.name.clone(),
            id: id(&signer.verifier.name, &signer.verifier.key),
            bytes: signer.pair.sign(text.as_bytes()).as_ref().to_vec(),
        };
        Ok(Self { text, signatures: vec![signature] })
    }

    /// Reads a note: exactly one, with nothing before and nothing after.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(note: &str) -> Result<Self, Malformed> {
        if note.len() > LONGEST {
            return Err(Malformed::TooLong);
        }
        let end = note.rfind("\n\n").ok_or(Malformed::Signatures)?;
        let (text, lines) = (&note[..=end], &note[end + 2..]);
        check(text)?;
        let lines = lines.strip_suffix('\n').ok_or(Malformed::Signature)?;
        let signatures: Vec<_> =
            lines.split('\n').map(Self::signature).collect::<Option<_>>().ok_or(Malformed::Signature)?;
        if signatures.len() > SIGNATURES {
            return Err(Malformed::Signatures);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    fn signature(line: &str) -> Option<Signature> {
        let (name, bytes) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = STANDARD.decode(bytes).ok()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        let good = is_name(name) && !bytes.is_empty();
        good.then(|| Signature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }

    /// The text, with the newline at its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its signatures, whoever made them.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Checks that this key signed the text.
    ///
    /// # Errors
    /// [`Unsigned`].
    pub fn signed_by(&self, key: &VerifierKey) -> Result<(), Unsigned> {
        let of = id(&key.name, &key.key);
        let mut own = self.signatures.iter().filter(|s| s.name == key.name && s.id == of).peekable();
        own.peek().ok_or(Unsigned::Missing)?;
        let public = UnparsedPublicKey::new(&ED25519, &key.key);
        let good = own.all(|s| public.verify(self.text.as_bytes(), &s.bytes).is_ok());
        if good { Ok(()) } else { Err(Unsigned::Wrong) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|s| {
            writeln!(f, "{DASH}{} {}", s.name, STANDARD.encode([&s.id[..], &s.bytes].concat()))
        })
    }
}

fn check(text: &str) -> Result<(), Malformed> {
    let plain = text.chars().all(|c| c == '\n' || !c.is_ascii_control());
    if text.len() > 1 && text.ends_with('\n') && plain { Ok(()) } else { Err(Malformed::Text) }
}

/// One piece of a file of notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// What may be a note: [`Note::parse`] it.
    Note(&'a str),
    /// Bytes that are none: damaged, or at the end of the file one that was being written.
    Torn(&'a [u8]),
}

/// Takes a file of notes apart, each followed by an empty line and without empty lines in its text. Gives where each piece
/// begins.
pub fn split(file: &[u8]) -> impl Iterator<Item = (usize, Piece<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = file.get(at..).filter(|rest| !rest.is_empty())?;
        let start = at;
        let two = |from: usize| Some(from + rest.get(from..)?.windows(2).position(|w| w == b"\n\n")? + 2);
        // Text, empty line, signatures, empty line. A text that no signature follows is damage by itself.
        let middle = two(0);
        let signed = middle.filter(|at| rest[*at..].starts_with(DASH.as_bytes()));
        let end = if signed.is_some() { signed.and_then(two) } else { middle };
        at = start + end.unwrap_or(rest.len());
        let piece = &rest[..end.unwrap_or(rest.len())];
        let note = end.filter(|_| signed.is_some()).and_then(|end| str::from_utf8(&piece[..end - 1]).ok());
        Some((start, note.map_or(Piece::Torn(piece), Piece::Note)))
    })
}

#[cfg(test)]
mod tests;
