//! Rules on their way to the gate: they may be more than one message holds, so they travel in pieces.

use serde::{Deserialize, Serialize};

use super::MAX;
use crate::policy::rule::Source;

/// More octets of rules than these are not sent, and not taken.
pub const RULES_MAX: usize = 16 << 20;

/// Octets of a piece: room is left for the envelope.
const PIECE: usize = MAX - 1024;

/// A part of rules, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    bytes: Vec<u8>,
    last: bool,
}

/// Why rules cannot travel, or were not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Too many.
    #[error("the rules take more than {RULES_MAX} bytes")]
    TooLarge,
    /// Not what the other side says rules are.
    #[error("the rules cannot be put into words, or read from them")]
    Coding(#[source] postcard::Error),
}

/// Rules in pieces, one at least.
///
/// # Errors
/// [`Unfit`].
pub fn pieces(rules: &Source) -> Result<Vec<Piece>, Unfit> {
    let bytes = postcard::to_allocvec(rules).map_err(Unfit::Coding)?;
    if bytes.len() > RULES_MAX {
        return Err(Unfit::TooLarge);
    }
    let mut pieces: Vec<Piece> =
        bytes.chunks(PIECE).map(|bytes| Piece { bytes: bytes.to_vec(), last: false }).collect();
    match pieces.last_mut() {
        Some(piece) => piece.last = true,
        None => pieces.push(Piece { bytes: Vec::new(), last: true }),
    }
    Ok(pieces)
}

/// Puts pieces together again.
#[derive(Debug, Default)]
pub struct Together(Vec<u8>);

impl Together {
    /// Takes the next piece; gives the rules when it was the last.
    ///
    /// # Errors
    /// [`Unfit`]; what came before is forgotten.
    pub fn take(&mut self, piece: &Piece) -> Result<Option<Source>, Unfit> {
        if self.0.len() + piece.bytes.len() > RULES_MAX {
            self.0 = Vec::new();
            return Err(Unfit::TooLarge);
        }
        self.0.extend_from_slice(&piece.bytes);
        if !piece.last {
            return Ok(None);
        }
        let bytes = std::mem::take(&mut self.0);
        postcard::from_bytes(&bytes).map(Some).map_err(Unfit::Coding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rule::{Effect, Rule};

    #[test]
    fn many_rules_come_through_in_messages_that_fit() {
        let rule = |number: usize| Rule {
            name: format!("rule-{number}"),
            verdict: Effect::Allow,
            when: Some("x".repeat(100)),
            ..Rule::default()
        };
        for count in [0, 1, 5_000] {
            let rules = Source { rules: (0..count).map(rule).collect(), ..Source::default() };
            let pieces = pieces(&rules).expect("they fit");
            assert_eq!(pieces.len() > 1, count == 5_000);
            let mut together = Together::default();
            for (at, piece) in pieces.iter().enumerate() {
                let message = super::super::ToGate::Policy(piece.clone());
                assert!(postcard::to_allocvec(&message).expect("coding").len() <= MAX);
                let came = together.take(piece).expect("understood");
                assert_eq!(came.as_ref(), (at + 1 == pieces.len()).then_some(&rules));
            }
        }
        let huge = Source { rules: (0..200_000).map(rule).collect(), ..Source::default() };
        assert_eq!(pieces(&huge), Err(Unfit::TooLarge));
    }
}
