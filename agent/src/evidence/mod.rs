//! Evidence: how a store proves that nothing in it was changed, removed or reordered. Bytes in, bytes out, no I/O; what is
//! written where is `record`'s and `warden`'s, what is read back and judged is `audit`'s. Formats: `docs/store.md`.
//!
//! Every record is a leaf of a [`tree`] (RFC 6962). A [`checkpoint`] names the size and the root of a tree and is signed as a
//! [`note`] by the warden's current key. Keys replace one another in a [`chain`] of certificates, each of which also pins the
//! trees that the key before it signed last. [`tile`]s keep the hashes of a tree in files, so that a proof needs no record
//! but its own.

pub mod chain;
pub mod checkpoint;
pub mod note;
pub mod tile;
pub mod tree;
