//! A content coding that is undone before a body is read. What grows without measure is refused.

use http::HeaderMap;

use crate::codec::coding::{Decoder, Step};

/// Decoded at once.
const PIECE: usize = 64 << 10;
/// So much may come of anything; …
const FREE: u64 = 4 << 20;
/// … beyond that, so many times of what came in: text that repeats itself is coded to a hundredth, a bomb to a thousandth.
const GROWTH: u64 = 256;

/// The codings of one body.
pub(super) struct Coded {
    decoder: Decoder,
    took: u64,
    made: u64,
}

impl Coded {
    /// Of a body with this head; `None` where it has none.
    ///
    /// # Errors
    /// Why it cannot be undone.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, String> {
        let decoder = Decoder::of(headers).map_err(|unsupported| unsupported.to_string())?;
        Ok(decoder.map(|decoder| Self { decoder, took: 0, made: 0 }))
    }

    /// Decodes a piece into `out`, which is emptied first. Whether there may be more without anything coming in.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) fn step(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        out.clear();
        let before = input.len();
        let step = self.decoder.step(input, out, PIECE).map_err(|fault| fault.to_string())?;
        self.took += (before - input.len()) as u64;
        self.made += out.len() as u64;
        if self.made > FREE && self.made / GROWTH > self.took {
            return Err(format!("its content coding grows more than {GROWTH} times"));
        }
        Ok(step == Step::Full)
    }

    /// Nothing more comes in.
    ///
    /// # Errors
    /// It is not whole.
    pub(super) fn end(&self) -> Result<(), String> {
        self.decoder.finish().map_err(|fault| fault.to_string())
    }
}
