//! age files (<https://age-encryption.org/v1>) for X25519 recipients, as far as the store needs them: a few bytes sealed
//! for several recipients, opened by one identity. What is written here any age tool opens. Written by hand over the
//! primitives that are here already: the crate `age` would bring two hundred others.

use std::fmt;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use aws_lc_rs::{hkdf, hmac, rand};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use zeroize::{Zeroize as _, Zeroizing};

use crate::types::Recipient;
use crate::types::recipient::bech32;

const VERSION: &str = "age-encryption.org/v1";
const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
/// Prefix of an identity's text, in lower case for the checksum; it is written in upper case.
const IDENTITY: &str = "age-secret-key-";
/// Longest header that is read: a thousand recipients.
const HEADER_MAX: usize = 256 * 1024;
/// Longest plaintext: one chunk of the format.
const PLAIN_MAX: usize = 64 * 1024;

/// Why an age file cannot be made or opened. Never says what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody to seal for.
    #[error("there is no recipient")]
    Nobody,
    /// More than one chunk.
    #[error("more than {PLAIN_MAX} bytes")]
    TooLong,
    /// A recipient that is a point of low order: no secret can be agreed on with it.
    #[error("a recipient's key is no proper one")]
    Recipient,
    /// Not the format.
    #[error("this is no age file")]
    Format,
    /// No stanza is for this identity.
    #[error("it is not sealed for this identity")]
    NotForUs,
    /// The header or the content was changed.
    #[error("it was changed")]
    Changed,
    /// A text that is no identity.
    #[error("no X25519 identity of age: a line that begins with AGE-SECRET-KEY-1, as `age-keygen` prints it")]
    Identity,
}

/// A secret key: who has it reads what is sealed for its recipient. Wiped when dropped; `Debug` says that there is one.
pub struct Identity(Zeroizing<[u8; 32]>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl Identity {
    /// A new one.
    pub fn generate() -> Self {
        Self(random())
    }

    /// The first identity in the text of a file as `age-keygen` writes it: comments, then a line.
    ///
    /// # Errors
    /// [`Error::Identity`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let line =
            line.filter(|line| line.bytes().all(|b| !b.is_ascii_lowercase())).ok_or(Error::Identity)?;
        let lower = Zeroizing::new(line.to_ascii_lowercase());
        bech32::decode(IDENTITY, &lower).map(Self).ok_or(Error::Identity)
    }

    /// The line of a file.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(bech32::encode(IDENTITY, &self.0).to_ascii_uppercase())
    }

    /// Who to seal for, so that this opens it.
    pub fn recipient(&self) -> Recipient {
        let public = self.key().compute_public_key().expect("every 32 bytes are a key of X25519");
        Recipient(public.as_ref().try_into().expect("a public key of X25519 has 32 bytes"))
    }

    /// What is in an age file.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(&self, file: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (header, mac, payload) = split(file)?;
        let ours = self.recipient();
        let mut stanzas = stanzas(header)?.into_iter();
        let file_key = stanzas.find_map(|(share, body)| self.unwrap(&ours, share, body));
        let file_key = file_key.ok_or(Error::NotForUs)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*derived(&*file_key, b"", b"header"));
        hmac::verify(&key, header, &mac).map_err(|_| Error::Changed)?;
        let (salt, sealed) = payload.split_at_checked(16).ok_or(Error::Format)?;
        let mut content = Zeroizing::new(sealed.to_vec());
        let key = aead(&derived(&*file_key, salt, b"payload"));
        let length =
            key.open_in_place(nonce(LAST), Aad::empty(), &mut content).map_err(|_| Error::Changed)?.len();
        content.truncate(length);
        Ok(content)
    }

    fn key(&self) -> agreement::PrivateKey {
        agreement::PrivateKey::from_private_key(&X25519, &*self.0)
            .expect("every 32 bytes are a key of X25519")
    }

    fn unwrap(&self, ours: &Recipient, share: [u8; 32], body: [u8; 32]) -> Option<Zeroizing<[u8; 16]>> {
        let wrap = agree(&self.key(), &share, (&share, ours)).ok()?;
        let mut body = Zeroizing::new(body);
        let file_key = aead(&wrap).open_in_place(nonce([0; NONCE_LEN]), Aad::empty(), &mut *body).ok()?;
        Some(Zeroizing::new((&*file_key).try_into().ok()?))
    }
}

/// An age file with `plain` in it, for each of `recipients`.
///
/// # Errors
/// [`Error::Nobody`], [`Error::TooLong`], [`Error::Recipient`].
pub fn seal(recipients: &[Recipient], plain: &[u8]) -> Result<Vec<u8>, Error> {
    if recipients.is_empty() {
        return Err(Error::Nobody);
    }
    if plain.len() > PLAIN_MAX {
        return Err(Error::TooLong);
    }
    let file_key: Zeroizing<[u8; 16]> = random();
    let mut file = format!("{VERSION}\n");
    for recipient in recipients {
        let once = Identity::generate();
        let share = once.recipient();
        let wrap = agree(&once.key(), &recipient.0, (&share.0, recipient))?;
        let mut body = file_key.to_vec();
        sealed(&wrap, [0; NONCE_LEN], &mut body);
        file.push_str(&format!("-> X25519 {}\n{}\n", BASE64.encode(share.0), BASE64.encode(body)));
    }
    file.push_str("---");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &*derived(&*file_key, b"", b"header"));
    let mac = BASE64.encode(hmac::sign(&key, file.as_bytes()));
    let mut file = format!("{file} {mac}\n").into_bytes();
    let salt: Zeroizing<[u8; 16]> = random();
    file.extend_from_slice(&*salt);
    let mut content = plain.to_vec();
    sealed(&derived(&*file_key, &*salt, b"payload"), LAST, &mut content);
    file.append(&mut content);
    Ok(file)
}

fn nonce(bytes: [u8; NONCE_LEN]) -> Nonce {
    Nonce::assume_unique_for_key(bytes)
}

/// Nonce of the first chunk when it is the last.
const LAST: [u8; NONCE_LEN] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// What a header has in base64: a share, a wrapped key, a code.
type Words = [u8; 32];

/// The header up to and with `---`, its code, and what follows.
fn split(file: &[u8]) -> Result<(&[u8], Words, &[u8]), Error> {
    let head = &file[..file.len().min(HEADER_MAX)];
    let at = head.windows(5).position(|w| w == b"\n--- ").ok_or(Error::Format)? + 1;
    let line = &file[at + 4..];
    let end = line.iter().position(|b| *b == b'\n').ok_or(Error::Format)?;
    Ok((&file[..at + 3], decoded(&line[..end])?, &line[end + 1..]))
}

/// Share and body of each stanza for X25519; others are passed over.
fn stanzas(header: &[u8]) -> Result<Vec<(Words, Words)>, Error> {
    let text = std::str::from_utf8(header).map_err(|_| Error::Format)?;
    let mut lines =
        text.strip_prefix(VERSION).ok_or(Error::Format)?.strip_prefix('\n').ok_or(Error::Format)?.lines();
    let mut found = Vec::new();
    let mut share: Option<&str> = None;
    for line in lines.by_ref().take_while(|line| *line != "---") {
        if let Some(arguments) = line.strip_prefix("-> ") {
            share = arguments.strip_prefix("X25519 ");
        } else if let Some(share) = share.take() {
            found.push((decoded(share.as_bytes())?, decoded(line.as_bytes())?));
        }
    }
    Ok(found)
}

fn decoded(text: &[u8]) -> Result<Words, Error> {
    BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(Error::Format)
}

/// The key that wraps the file's, of what both sides know of each other.
fn agree(
    mine: &agreement::PrivateKey,
    theirs: &[u8; 32],
    (share, recipient): (&[u8; 32], &Recipient),
) -> Result<Zeroizing<[u8; 32]>, Error> {
    let salt = [*share, recipient.0].concat();
    agreement::agree(mine, UnparsedPublicKey::new(&X25519, theirs), Error::Recipient, |secret| {
        Ok(derived(secret, &salt, X25519_INFO))
    })
}

fn derived(secret: &[u8], salt: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    derived
        .expand(&[info], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *key))
        .expect("one block of HKDF can always be had");
    key
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of ChaCha20 has 32 bytes"))
}

/// Seals in place, in memory that is not moved: the plaintext is gone when it returns.
fn sealed(key: &[u8; 32], once: [u8; NONCE_LEN], content: &mut Vec<u8>) {
    let tag = aead(key)
        .seal_in_place_separate_tag(nonce(once), Aad::empty(), content)
        .expect("a content of at most 64 KiB can be sealed");
    let mut whole = Vec::with_capacity(content.len() + tag.as_ref().len());
    whole.extend_from_slice(content);
    whole.extend_from_slice(tag.as_ref());
    content.zeroize();
    *content = whole;
}

/// Random bytes.
pub(super) fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    rand::fill(&mut *bytes).expect("the kernel's generator answers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_recipient_opens_it_and_nobody_else() {
        let (a, b, c) = (Identity::generate(), Identity::generate(), Identity::generate());
        let file = seal(&[a.recipient(), b.recipient()], b"thirty-two bytes").expect("sealed");
        for identity in [&a, &b] {
            assert_eq!(identity.open(&file).expect("opened").as_slice(), b"thirty-two bytes");
        }
        assert_eq!(c.open(&file).map(drop), Err(Error::NotForUs));
        assert_eq!(seal(&[], b"x"), Err(Error::Nobody));
        assert_eq!(seal(&[Recipient([0; 32])], b"x"), Err(Error::Recipient));
    }

    #[test]
    fn no_changed_byte_opens() {
        let identity = Identity::generate();
        let file = seal(&[Identity::generate().recipient(), identity.recipient()], &[7; 32]).expect("sealed");
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 1;
            assert!(identity.open(&bad).is_err(), "byte {at}");
        }
        for cut in 0..file.len() {
            assert!(identity.open(&file[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn identities_are_read_as_age_keygen_writes_them() {
        let identity = Identity::generate();
        let text = format!(
            "# created: 2026-01-02T03:04:05Z\n# public key: {}\n{}\n",
            identity.recipient(),
            *identity.to_text()
        );
        assert_eq!(Identity::parse(&text).expect("read").recipient(), identity.recipient());
        for bad in ["", "# x\n", "AGE-SECRET-KEY-1", &identity.to_text().to_lowercase()] {
            assert_eq!(Identity::parse(bad).map(drop), Err(Error::Identity), "{bad}");
        }
    }
}
