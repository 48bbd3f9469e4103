//! The store's frame: how one record lies in a segment. Bytes in, bytes out, no I/O. `docs/store.md` is its description
//! for readers written by others.
//!
//! ```text
//! 0   u32 LE  length of the payload
//! 4   u8      kind
//! 5   3 bytes zero
//! 8   u64 LE  sequence number, from 1, one more with each frame of the store
//! 16  u32 LE  CRC32C over the payload, then over bytes 0 to 16
//! 20          payload
//! ```
//!
//! The checksum takes the payload first so that it is made outside the writer's lock; under the lock only the sixteen
//! bytes with the sequence number are added.

mod body;
mod kind;

use serde::Serialize;

pub use body::{BODY_REF_AAD, BodyAt, BodyRef, Coding, DIVERTED_PREFIX};
pub use kind::Kind;

use super::bodies::Sealed;
use crate::codec::scrub::Needles;
use crate::evidence::tree::{self, Hash};

/// First bytes of a segment; the digit is the format's version.
pub const MAGIC: &[u8; 8] = b"SLUICE1\n";
/// Bytes before a payload.
pub const HEADER: usize = 20;
/// Longest payload. Heads are bounded by [`super::headers::LIMIT`] and bodies are cut into chunks far below this.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// A payload that no frame can hold.
#[derive(Debug, thiserror::Error)]
pub enum Unframeable {
    /// Longer than [`MAX_PAYLOAD`].
    #[error("a record of {0} bytes is longer than a frame may be")]
    TooLong(usize),
    /// It has no JSON form.
    #[error("a record has no JSON form")]
    Json(#[source] serde_json::Error),
}

/// Frames that go into the store together, in one write.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    frames: u64,
    /// What the frames refer to: written before them.
    pub sealed: Sealed,
    /// Those of the first frames, see [`Batch::hash`], and where the next frame begins.
    leaves: Vec<Hash>,
    hashed: usize,
}

impl Batch {
    /// An empty batch with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), ..Self::default() }
    }

    /// Adds a frame with a JSON payload.
    ///
    /// # Errors
    /// [`Unframeable`]; the batch is as before.
    pub fn json(&mut self, kind: Kind, payload: &impl Serialize) -> Result<(), Unframeable> {
        let start = self.open(kind);
        if let Err(error) = serde_json::to_writer(&mut self.bytes, payload) {
            self.bytes.truncate(start);
            return Err(Unframeable::Json(error));
        }
        self.seal(start)
    }

    /// As [`Batch::json`], with whatever of `needles` stands in the payload masked. That stays JSON: where it would need an
    /// escape, a text is looked for with it.
    ///
    /// # Errors
    /// [`Unframeable`]; the batch is as before.
    pub fn masked(
        &mut self,
        kind: Kind,
        payload: &impl Serialize,
        needles: Option<&Needles>,
    ) -> Result<(), Unframeable> {
        let start = self.bytes.len();
        self.json(kind, payload)?;
        if let Some(needles) = needles {
            needles.mask(&mut self.bytes[start + HEADER..]);
        }
        Ok(())
    }

    /// As [`Batch::masked`], for an object that is put together: `payload`, and in it under `name` another of the fields
    /// `first` (JSON without braces) and those of `rest`.
    ///
    /// # Errors
    /// [`Unframeable`]; the batch is as before.
    pub fn joined(
        &mut self,
        kind: Kind,
        payload: &impl Serialize,
        (name, first, rest): (&str, &[u8], &impl Serialize),
        needles: Option<&Needles>,
    ) -> Result<(), Unframeable> {
        let start = self.open(kind);
        let written = self.join(payload, (name, first, rest));
        if let Err(error) = written {
            self.bytes.truncate(start);
            return Err(Unframeable::Json(error));
        }
        self.seal(start)?;
        if let Some(needles) = needles {
            needles.mask(&mut self.bytes[start + HEADER..]);
        }
        Ok(())
    }

    fn join(
        &mut self,
        payload: &impl Serialize,
        (name, first, rest): (&str, &[u8], &impl Serialize),
    ) -> serde_json::Result<()> {
        serde_json::to_writer(&mut self.bytes, payload)?;
        // In place of the brace that ends the object.
        self.bytes.pop();
        for part in [b",\"", name.as_bytes(), b"\":{", first] {
            self.bytes.extend_from_slice(part);
        }
        let brace = self.bytes.len();
        serde_json::to_writer(&mut self.bytes, rest)?;
        self.bytes[brace] = b',';
        self.bytes.push(b'}');
        Ok(())
    }

    /// Adds a frame with a payload of bytes: `prefix`, then `data`.
    ///
    /// # Errors
    /// [`Unframeable`]; the batch is as before.
    pub fn raw(&mut self, kind: Kind, prefix: &[u8], data: &[u8]) -> Result<(), Unframeable> {
        let start = self.open(kind);
        self.bytes.extend_from_slice(prefix);
        self.bytes.extend_from_slice(data);
        self.seal(start)
    }

    /// Moves the frames of `other` behind the own ones; `other` keeps its memory.
    pub fn append(&mut self, other: &mut Self) {
        self.hash();
        other.hash();
        self.bytes.append(&mut other.bytes);
        self.leaves.append(&mut other.leaves);
        self.frames += std::mem::take(&mut other.frames);
        self.sealed.append(&mut other.sealed);
        self.hashed = self.bytes.len();
        other.hashed = 0;
    }

    /// Puts pieces of bodies whose files have failed before the frames, as frames of their own.
    ///
    /// # Errors
    /// [`Unframeable`]: none of ours is.
    pub fn divert(&mut self) -> Result<(), Unframeable> {
        let mut diverted = self.sealed.divert()?;
        if diverted.frames > 0 {
            diverted.append(self);
            *self = diverted;
        }
        Ok(())
    }

    /// Makes the leaf of each frame that has none: once they are as they go to disk, before they get their numbers, and
    /// outside the writer's lock.
    pub fn hash(&mut self) {
        while self.hashed < self.bytes.len() {
            let (start, payload) = (self.hashed, self.hashed + HEADER);
            let length = u32_at(&self.bytes, start) as usize;
            self.leaves.push(tree::record_at(self.bytes[start + 4], &mut self.bytes, payload, length));
            self.hashed = payload + length;
        }
    }

    /// The leaves of all frames, in order, when they were made ([`Batch::hash`]).
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// Gives the frames their numbers, `first` the first. May be called again with other numbers.
    pub fn number(&mut self, first: u64) {
        let mut at = 0;
        let mut sequence = first;
        while at < self.bytes.len() {
            let (header, rest) = self.bytes[at..].split_at_mut(HEADER);
            let length = u32_at(header, 0) as usize;
            header[8..16].copy_from_slice(&sequence.to_le_bytes());
            let crc = crc32c::crc32c_append(crc32c::crc32c(&rest[..length]), &header[..16]);
            header[16..20].copy_from_slice(&crc.to_le_bytes());
            at += HEADER + length;
            sequence += 1;
        }
    }

    /// How many frames there are.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The frames as they go to disk.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that fit into the memory there is.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.sealed.capacity()
    }

    /// Forgets the frames and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.leaves.clear();
        self.frames = 0;
        self.sealed.clear();
        self.hashed = 0;
    }

    fn open(&mut self, kind: Kind) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER]);
        self.bytes[start + 4] = kind as u8;
        start
    }

    fn seal(&mut self, start: usize) -> Result<(), Unframeable> {
        let length = self.bytes.len() - start - HEADER;
        let Some(length) = u32::try_from(length).ok().filter(|_| length <= MAX_PAYLOAD) else {
            self.bytes.truncate(start);
            return Err(Unframeable::TooLong(length));
        };
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.frames += 1;
        Ok(())
    }
}

/// What stands at a place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A whole frame of this payload length.
    Frame {
        /// The kind's number.
        kind: u8,
        /// Sequence number.
        sequence: u64,
        /// Payload bytes, which follow the header.
        length: usize,
    },
    /// So many bytes are needed to tell.
    Need(usize),
    /// Zero bytes: nothing was written here yet.
    Blank,
    /// No frame, or one whose checksum is wrong.
    Bad,
}

/// Looks at the bytes at a frame's place.
pub fn see(bytes: &[u8]) -> Seen {
    let Some(header) = bytes.get(..HEADER) else { return Seen::Need(HEADER) };
    if header.iter().all(|b| *b == 0) {
        return Seen::Blank;
    }
    let length = u32_at(header, 0) as usize;
    if length > MAX_PAYLOAD || header[4] == 0 || header[5..8] != [0; 3] {
        return Seen::Bad;
    }
    let Some(payload) = bytes.get(HEADER..HEADER + length) else { return Seen::Need(HEADER + length) };
    if crc32c::crc32c_append(crc32c::crc32c(payload), &header[..16]) != u32_at(header, 16) {
        return Seen::Bad;
    }
    Seen::Frame { kind: header[4], sequence: u64_at(header, 8), length }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |n, b| n << 8 | u32::from(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let mut batch = Batch::default();
        batch.json(Kind::Start, &serde_json::json!({"a": 1})).expect("json");
        batch.raw(Kind::Body, &[7; 32], b"data").expect("body");
        batch
    }

    #[test]
    fn frames_come_back() {
        let mut batch = batch();
        batch.number(41);
        batch.number(5);
        assert_eq!(batch.frames(), 2);
        let Seen::Frame { kind, sequence, length } = see(batch.bytes()) else { panic!("no frame") };
        assert_eq!((kind, sequence), (Kind::Start as u8, 5));
        assert_eq!(&batch.bytes()[HEADER..HEADER + length], br#"{"a":1}"#);
        let second = &batch.bytes()[HEADER + length..];
        let Seen::Frame { kind, sequence, length } = see(second) else { panic!("no frame") };
        assert_eq!((kind, sequence), (Kind::Body as u8, 6));
        assert_eq!(&second[HEADER..HEADER + length], [&[7; 32][..], b"data"].concat());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let mut batch = batch();
        batch.number(1);
        let Seen::Frame { length, .. } = see(batch.bytes()) else { panic!("no frame") };
        let good = &batch.bytes()[..HEADER + length];
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(see(&bad), Seen::Frame { .. } | Seen::Blank), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(matches!(see(&good[..cut]), Seen::Need(_)), "cut {cut}");
        }
        assert_eq!(see(&[0; 64]), Seen::Blank);
    }

    #[test]
    fn too_long_leaves_the_batch_as_it_was() {
        let mut batch = batch();
        let before = batch.bytes().to_vec();
        assert!(matches!(batch.raw(Kind::Body, b"x", &vec![0; MAX_PAYLOAD]), Err(Unframeable::TooLong(_))));
        assert_eq!(batch.bytes(), before);
        assert_eq!(batch.frames(), 2);
    }
}
