//! What values and tokens have in common within a session, or a tag: the key of hashes, and the map of tokens.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::replace::Key;
use super::tokens::Tokens;

/// Tokens and the key of hashes of one scope. Shared by the bodies of a session or tag; dies with the last of them, its values
/// overwritten. No Debug: it would show values.
pub struct Scope {
    pub(super) key: Key,
    tokens: Mutex<Tokens>,
}

impl Scope {
    /// An empty map. `secret`: 32 bytes that nobody else knows; another scope has others, and so other tokens.
    pub fn new(secret: [u8; 32]) -> Self {
        let key = Key::new(secret);
        Self { tokens: Mutex::new(Tokens::new(key.clone())), key }
    }

    /// How many values have a token.
    pub fn len(&self) -> usize {
        self.tokens().len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The map, for as long as the guard lives. A panic elsewhere leaves no entry half made: the map stays good.
    pub(super) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
