//! The Merkle tree of RFC 6962 §2.1 (RFC 9162 §2.1): hashes, roots, proofs that a leaf is in a tree and that a tree grew
//! from another. SHA-256 throughout.
//!
//! A *perfect subtree* `(level, index)` is the hash over the 2^level leaves from index · 2^level on. Proofs are made from a
//! function that gives these; it is asked for O(log n) of them.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest proof: a tree of 2^64 leaves. A longer one is not looked at.
pub const LONGEST: usize = 64;

/// A hash of the tree: of a leaf, or of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// SHA-256 of these bytes, as they are.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(hash)
    }

    /// The root of the tree without leaves: SHA-256 of nothing.
    pub fn empty() -> Self {
        Self::of(&[])
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no hash: 32 bytes in padded base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no SHA-256 hash in base64")]
pub struct NoHash;

impl FromStr for Hash {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Self, NoHash> {
        let bytes = STANDARD.decode(text).map_err(|_| NoHash)?;
        bytes.try_into().map(Self).map_err(|_| NoHash)
    }
}

/// The hash of a leaf with this data.
pub fn leaf(data: &[u8]) -> Hash {
    let mut bytes = Vec::with_capacity(1 + data.len());
    bytes.push(0);
    bytes.extend_from_slice(data);
    Hash::of(&bytes)
}

/// The hash of a record as a leaf: its data is the byte of its kind, then its payload.
pub fn record(kind: u8, payload: &[u8]) -> Hash {
    let mut bytes = Vec::with_capacity(2 + payload.len());
    bytes.extend_from_slice(&[0, kind]);
    bytes.extend_from_slice(payload);
    Hash::of(&bytes)
}

/// As [`record`], without a copy: the payload begins at `at` in `bytes`, and the two bytes before it are overwritten. That
/// is where a frame has the end of its checksum.
pub fn record_at(kind: u8, bytes: &mut [u8], at: usize, length: usize) -> Hash {
    bytes[at - 2] = 0;
    bytes[at - 1] = kind;
    Hash::of(&bytes[at - 2..at + length])
}

/// The hash of the node above these two.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Hash::of(&bytes)
}

/// A tree, named: how many leaves, and the root over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// Leaves.
    pub size: u64,
    /// Root.
    pub root: Hash,
}

impl Head {
    /// The tree without leaves.
    pub fn empty() -> Self {
        Self { size: 0, root: Hash::empty() }
    }
}

/// That one tree begins with another.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Growth {
    /// The smaller.
    pub old: Head,
    /// The larger.
    pub new: Head,
    /// Why, see [`consistency`].
    pub proof: Vec<Hash>,
}

impl Growth {
    /// Checks the proof.
    ///
    /// # Errors
    /// [`Unproven`].
    pub fn verify(&self) -> Result<(), Unproven> {
        verify_consistency(&self.old, &self.new, &self.proof)
    }
}

/// A tree that only grows, of which no more is kept than its right edge: at most 64 hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The perfect subtrees that make up the tree, the largest first: one for each bit set in `size`.
    edge: Vec<Hash>,
}

impl Frontier {
    /// The tree of `size` leaves over these subtrees, the largest first; `None` when they are not as many as it has.
    pub fn of(size: u64, edge: Vec<Hash>) -> Option<Self> {
        (edge.len() == size.count_ones() as usize).then_some(Self { size, edge })
    }

    /// Leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(leaf, |_, _, _| {});
    }

    /// Adds a leaf, and tells of each perfect subtree that is whole with it, the lowest (the leaf itself, level 0) first:
    /// level, index, hash.
    pub fn push_with(&mut self, leaf: Hash, mut whole: impl FnMut(u8, u64, Hash)) {
        let (mut hash, mut level, mut index) = (leaf, 0, self.size);
        whole(level, index, hash);
        while index & 1 == 1
            && let Some(left) = self.edge.pop()
        {
            hash = node(&left, &hash);
            (level, index) = (level + 1, index >> 1);
            whole(level, index, hash);
        }
        self.edge.push(hash);
        self.size += 1;
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        let mut edge = self.edge.iter().rev();
        let Some(last) = edge.next() else { return Hash::empty() };
        edge.fold(*last, |right, left| node(left, &right))
    }

    /// Size and root.
    pub fn head(&self) -> Head {
        Head { size: self.size, root: self.root() }
    }
}

/// The root over the first `size` leaves; `None` when `subtree` does not have what is needed.
pub fn root(size: u64, mut subtree: impl FnMut(u8, u64) -> Option<Hash>) -> Option<Hash> {
    if size == 0 { Some(Hash::empty()) } else { range(0, size, &mut subtree) }
}

/// The proof that the leaf `index` is in the tree of `size` leaves (RFC 6962 §2.1.1, PATH), from the leaf upwards.
///
/// `None` when there is no such leaf or `subtree` does not have what is needed.
pub fn inclusion(
    index: u64,
    size: u64,
    mut subtree: impl FnMut(u8, u64) -> Option<Hash>,
) -> Option<Vec<Hash>> {
    let (mut low, mut high, mut proof) = (0, size, Vec::new());
    if index >= size {
        return None;
    }
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(range(middle, high, &mut subtree)?);
            high = middle;
        } else {
            proof.push(range(low, middle, &mut subtree)?);
            low = middle;
        }
    }
    proof.reverse();
    Some(proof)
}

/// The proof that the tree of `new` leaves begins with the one of `old` (RFC 6962 §2.1.2, SUBPROOF). Empty when `old` is 0
/// or `new`.
///
/// `None` when `old` is larger or `subtree` does not have what is needed.
pub fn consistency(
    old: u64,
    new: u64,
    mut subtree: impl FnMut(u8, u64) -> Option<Hash>,
) -> Option<Vec<Hash>> {
    if old > new {
        return None;
    }
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Some(proof);
    }
    let (mut low, mut high) = (0, new);
    while high != old {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(range(middle, high, &mut subtree)?);
            high = middle;
        } else {
            proof.push(range(low, middle, &mut subtree)?);
            low = middle;
        }
    }
    // The old tree itself is what is left when it is a perfect subtree from the start: whoever verifies has its root.
    if low > 0 {
        proof.push(range(low, high, &mut subtree)?);
    }
    proof.reverse();
    Some(proof)
}

/// The largest power of two below `n`, which is at least 2.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The hash over the leaves from `low` to `high`, where `low` is a multiple of a power of two that is at least their count.
fn range(low: u64, high: u64, subtree: &mut impl FnMut(u8, u64) -> Option<Hash>) -> Option<Hash> {
    let count = high - low;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return subtree(level as u8, low >> level);
    }
    let middle = low + split(count);
    let left = range(low, middle, subtree)?;
    Some(node(&left, &range(middle, high, subtree)?))
}

/// A proof that proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// The numbers do not go together: no such leaf, or the old tree is the larger one.
    #[error("the proof is for a leaf or a tree that cannot be")]
    Impossible,
    /// It has more or fewer hashes than a proof between these sizes.
    #[error("the proof is of the wrong length")]
    Length,
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// Checks that the tree has this leaf at `index` (RFC 9162 §2.1.3.2).
///
/// # Errors
/// [`Unproven`].
pub fn verify_inclusion(index: u64, leaf: Hash, tree: &Head, proof: &[Hash]) -> Result<(), Unproven> {
    if index >= tree.size {
        return Err(Unproven::Impossible);
    }
    let (mut at, mut last, mut hash) = (index, tree.size - 1, leaf);
    for step in proof {
        if last == 0 {
            return Err(Unproven::Length);
        }
        if at & 1 == 1 || at == last {
            hash = node(step, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node(&hash, step);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last != 0 {
        return Err(Unproven::Length);
    }
    if hash == tree.root { Ok(()) } else { Err(Unproven::Root) }
}

/// Checks that the tree `new` begins with the tree `old` (RFC 9162 §2.1.4.2; from an empty tree everything grows, with an
/// empty proof, as C2SP tlog-witness has it).
///
/// # Errors
/// [`Unproven`].
pub fn verify_consistency(old: &Head, new: &Head, proof: &[Hash]) -> Result<(), Unproven> {
    let good = |good: bool| if good { Ok(()) } else { Err(Unproven::Root) };
    if old.size > new.size {
        return Err(Unproven::Impossible);
    }
    if old.size == 0 || old.size == new.size {
        return match proof {
            [] if old.size == new.size => good(old.root == new.root),
            [] => good(old.root == Hash::empty()),
            _ => Err(Unproven::Length),
        };
    }
    let (mut at, mut last) = (old.size - 1, new.size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let mut steps = proof.iter();
    let first = if old.size.is_power_of_two() { old.root } else { *steps.next().ok_or(Unproven::Length)? };
    let (mut before, mut after) = (first, first);
    for step in steps {
        if last == 0 {
            return Err(Unproven::Length);
        }
        if at & 1 == 1 || at == last {
            (before, after) = (node(step, &before), node(step, &after));
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            after = node(&after, step);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last != 0 {
        return Err(Unproven::Length);
    }
    good(before == old.root && after == new.root)
}

#[cfg(test)]
mod tests;
