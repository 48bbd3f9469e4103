//! What stands of a body in a segment: where its bytes lie, or in stores of older versions the bytes themselves.

use super::{u32_at, u64_at};

/// Bytes before the data in a body frame's payload: session (16), exchange (u32 LE), direction (u8), 3 zero, offset (u64 LE).
pub const BODY_PREFIX: usize = 32;

/// Length of a [`BodyRef`]: its payload has no other, but for the last eight bytes, which older stores lack.
pub const BODY_REF: usize = 96;

/// Where its time stands.
const TIME: usize = 88;

/// The time that is not known.
const UNKNOWN: u64 = u64::MAX;

/// What of a [`BodyRef`] is authenticated with the bytes that it stands for: all before their hash.
pub const BODY_REF_AAD: usize = 56;

/// Bytes before the sealed bytes in a frame of [`Kind::Diverted`](super::Kind::Diverted): number of the bodies file and
/// place in it (u64 LE each).
pub const DIVERTED_PREFIX: usize = 16;

/// Whose bytes a body frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyAt {
    /// The session's ULID as a number.
    pub session: u128,
    /// The exchange's number in it.
    pub exchange: u32,
    /// Towards the client; else towards the upstream.
    pub down: bool,
    /// Where in the body the bytes begin.
    pub offset: u64,
}

impl BodyAt {
    /// Splits a body frame's payload; `None` when it is too short to be one.
    pub fn read(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (prefix, data) = payload.split_at_checked(BODY_PREFIX)?;
        let at = Self {
            session: u128::from_be_bytes(prefix[..16].try_into().ok()?),
            exchange: u32_at(prefix, 16),
            down: prefix[20] == 1,
            offset: u64_at(prefix, 24),
        };
        Some((at, data))
    }

    /// As it stands before a body's bytes.
    pub(super) fn prefix(&self) -> [u8; BODY_PREFIX] {
        let mut prefix = [0; BODY_PREFIX];
        prefix[..16].copy_from_slice(&self.session.to_be_bytes());
        prefix[16..20].copy_from_slice(&self.exchange.to_le_bytes());
        prefix[20] = u8::from(self.down);
        prefix[24..].copy_from_slice(&self.offset.to_le_bytes());
        prefix
    }
}

/// How the bytes of a piece were written down before they were sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Coding {
    /// As they are.
    Plain = 0,
    /// A frame of Zstandard (RFC 8878).
    Zstd = 2,
}

/// A piece of a body that lies in a bodies file, sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRef {
    /// Of which body, and where in it.
    pub at: BodyAt,
    /// How it was written down.
    pub coding: Coding,
    /// Its length.
    pub plain: u32,
    /// Length of what is stored.
    pub stored: u32,
    /// Number of the bodies file, and of its key.
    pub file: u64,
    /// Where in that file it begins. No two pieces begin at the same place, so it is the nonce as well.
    pub place: u64,
    /// SHA-256 of what is stored.
    pub sha256: [u8; 32],
    /// When its first byte came, in microseconds since the exchange began; `None` where that is not known.
    pub time: Option<u64>,
}

impl BodyRef {
    /// Reads a payload; `None` when it is none, or of a coding that a later version added.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (bytes, time) = match payload.len() {
            TIME => (payload, UNKNOWN),
            BODY_REF => (payload, u64_at(payload, TIME)),
            _ => return None,
        };
        let (at, _) = BodyAt::read(bytes)?;
        let coding = [Coding::Plain, Coding::Zstd].into_iter().find(|coding| *coding as u8 == bytes[21])?;
        Some(Self {
            at,
            coding,
            plain: u32_at(bytes, 32),
            stored: u32_at(bytes, 36),
            file: u64_at(bytes, 40),
            place: u64_at(bytes, 48),
            sha256: bytes[BODY_REF_AAD..TIME].try_into().ok()?,
            time: (time != UNKNOWN).then_some(time),
        })
    }

    /// The payload.
    pub fn bytes(&self) -> [u8; BODY_REF] {
        let mut bytes = [0; BODY_REF];
        bytes[..BODY_PREFIX].copy_from_slice(&self.at.prefix());
        bytes[21] = self.coding as u8;
        bytes[32..36].copy_from_slice(&self.plain.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.stored.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.file.to_le_bytes());
        bytes[48..BODY_REF_AAD].copy_from_slice(&self.place.to_le_bytes());
        bytes[BODY_REF_AAD..TIME].copy_from_slice(&self.sha256);
        bytes[TIME..].copy_from_slice(&self.time.unwrap_or(UNKNOWN).to_le_bytes());
        bytes
    }

    /// The nonce under which it is sealed: four zero bytes, then the place (big-endian).
    pub fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.place.to_be_bytes());
        nonce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_comes_back() {
        let at = BodyAt { session: 7, exchange: 9, down: true, offset: 11 };
        let one = BodyRef {
            at,
            coding: Coding::Zstd,
            plain: 5000,
            stored: 300,
            file: 3,
            place: 77,
            sha256: [9; 32],
            time: Some(1_234_567),
        };
        let bytes = one.bytes();
        assert_eq!(BodyRef::read(&bytes), Some(one));
        assert_eq!(BodyRef::read(&bytes[1..]), None);
        let untimed = BodyRef { time: None, ..one };
        assert_eq!(BodyRef::read(&untimed.bytes()), Some(untimed));
        assert_eq!(BodyRef::read(&bytes[..TIME]), Some(untimed), "of an older store");
        assert_eq!(BodyAt::read(&bytes).map(|(at, _)| at), Some(at), "the first 32 bytes are a body frame's");
    }
}
