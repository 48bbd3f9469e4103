//! Sealed pieces on their way to their files, beside the frames that refer to them.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::super::frame::{Batch, DIVERTED_PREFIX, Kind, Unframeable};
use super::{Bodies, TAG};

/// Pieces that are not written yet.
#[derive(Debug, Default)]
pub struct Sealed {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    bodies: Arc<Bodies>,
    place: u64,
    range: Range<usize>,
}

impl Sealed {
    /// Adds a piece: `plain` as `seal` changes it in place, and the tag that it gives. Gives what will be stored.
    pub fn piece(
        &mut self,
        bodies: &Arc<Bodies>,
        place: u64,
        plain: &[u8],
        seal: impl FnOnce(&mut [u8]) -> [u8; TAG],
    ) -> &[u8] {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(plain);
        let tag = seal(&mut self.bytes[start..]);
        self.bytes.extend_from_slice(&tag);
        self.pieces.push(Piece { bodies: Arc::clone(bodies), place, range: start..self.bytes.len() });
        &self.bytes[start..]
    }

    /// Moves the pieces of `other` behind the own ones; `other` keeps its memory.
    pub fn append(&mut self, other: &mut Self) {
        let base = self.bytes.len();
        self.bytes.append(&mut other.bytes);
        let moved = other.pieces.drain(..);
        self.pieces.extend(
            moved.map(|piece| Piece { range: piece.range.start + base..piece.range.end + base, ..piece }),
        );
    }

    /// How many bytes there are.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that fit into the memory there is.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Forgets the pieces and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
    }

    /// Writes the pieces to their files, what lies side by side in one call, and forgets them. Files that were clean before
    /// are added to `touched`.
    ///
    /// # Errors
    /// What write says. The pieces stay; a file that failed takes nothing more.
    pub fn write(&mut self, touched: &mut Vec<Arc<Bodies>>) -> io::Result<()> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let key = |piece: &Piece| (piece.bodies.number(), piece.place);
        // Workers take places in one order and may come here in another.
        if !self.pieces.is_sorted_by_key(key) {
            self.pieces.sort_by_key(key);
            let mut bytes = Vec::with_capacity(self.bytes.len());
            for piece in &mut self.pieces {
                let start = bytes.len();
                bytes.extend_from_slice(&self.bytes[piece.range.clone()]);
                piece.range = start..bytes.len();
            }
            self.bytes = bytes;
        }
        let adjacent = |a: &Piece, b: &Piece| {
            Arc::ptr_eq(&a.bodies, &b.bodies) && a.place + a.range.len() as u64 == b.place
        };
        for run in self.pieces.chunk_by(adjacent) {
            let [first, .., last] = run else {
                write(&run[0], run[0].range.clone(), &self.bytes, touched)?;
                continue;
            };
            write(first, first.range.start..last.range.end, &self.bytes, touched)?;
        }
        self.clear();
        Ok(())
    }

    /// Takes out the pieces whose files have failed, as frames for a segment.
    ///
    /// # Errors
    /// [`Unframeable`]: one is longer than a piece may be.
    pub fn divert(&mut self) -> Result<Batch, Unframeable> {
        let mut frames = Batch::default();
        for piece in self.pieces.extract_if(.., |piece| piece.bodies.has_failed()) {
            let mut prefix = [0; DIVERTED_PREFIX];
            prefix[..8].copy_from_slice(&piece.bodies.number().to_le_bytes());
            prefix[8..].copy_from_slice(&piece.place.to_le_bytes());
            frames.raw(Kind::Diverted, &prefix, &self.bytes[piece.range])?;
        }
        Ok(frames)
    }
}

fn write(piece: &Piece, range: Range<usize>, bytes: &[u8], touched: &mut Vec<Arc<Bodies>>) -> io::Result<()> {
    if piece.bodies.write(&bytes[range], piece.place)? {
        touched.push(Arc::clone(&piece.bodies));
    }
    Ok(())
}
