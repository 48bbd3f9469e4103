//! br (RFC 7932) and zstd (RFC 8878, RFC 9659).

use std::fmt;

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{Fault, Reading};

const BR: &str = "br";
const ZSTD: &str = "zstd";
/// 8 MiB: no more may be asked of who decodes this content coding (RFC 9659 §3).
const WINDOW_LOG: u32 = 23;

/// See the module.
pub struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    ended: bool,
}

impl fmt::Debug for Brotli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Brotli").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Brotli {
    pub fn new() -> Self {
        let alloc = StandardAlloc::default;
        // Strict: a large window is no part of the content coding.
        Self { state: BrotliState::new_strict(alloc(), alloc(), alloc()), ended: false }
    }

    pub fn ended(&self) -> bool {
        self.ended
    }

    /// As [`super::Codec::run`].
    pub fn run(&mut self, input: &mut &[u8], out: &mut [u8]) -> Result<usize, Fault> {
        if self.ended {
            return if input.is_empty() { Ok(0) } else { Err(Fault::Trailing(BR)) };
        }
        let (mut left, mut took, mut room, mut made) = (input.len(), 0, out.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut took,
            input,
            &mut room,
            &mut made,
            out,
            &mut 0,
            &mut self.state,
        );
        *input = &input[took..];
        match result {
            BrotliResult::ResultFailure => return Err(Fault::Broken(BR)),
            BrotliResult::ResultSuccess => self.ended = true,
            BrotliResult::NeedsMoreOutput | BrotliResult::NeedsMoreInput => {}
        }
        if made == 0 && !input.is_empty() {
            return Err(if self.ended { Fault::Trailing(BR) } else { Fault::Broken(BR) });
        }
        Ok(made)
    }
}

/// See the module.
pub struct Zstd {
    reading: Reading,
    decoder: Decoder<'static>,
    /// Frames begun; whether the last has ended.
    frames: u64,
    ended: bool,
    /// The last call had no room left: there may be more without anything coming in.
    full: bool,
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zstd").field("frames", &self.frames).finish_non_exhaustive()
    }
}

impl Zstd {
    /// `None` where there is no memory for one.
    pub fn new(reading: Reading) -> Option<Self> {
        let mut decoder = Decoder::new().ok()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).ok()?;
        Some(Self { reading, decoder, frames: 0, ended: true, full: false })
    }

    pub fn ended(&self) -> bool {
        self.ended && self.frames > 0
    }

    /// As [`super::Codec::run`].
    pub fn run(&mut self, input: &mut &[u8], out: &mut [u8]) -> Result<usize, Fault> {
        while !input.is_empty() || self.full {
            if self.ended && !input.is_empty() {
                if self.frames > 0 && self.reading == Reading::Strict {
                    return Err(Fault::Several(ZSTD));
                }
                self.frames += 1;
                self.ended = false;
            }
            let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(&mut *out));
            let wanted = self.decoder.run(&mut from, &mut to).map_err(|_| Fault::Broken(ZSTD))?;
            let (took, made) = (from.pos(), to.pos());
            *input = &input[took..];
            self.full = made == out.len();
            self.ended = wanted == 0;
            if made > 0 {
                return Ok(made);
            }
            if took == 0 && !input.is_empty() && !self.ended {
                return Err(Fault::Broken(ZSTD));
            }
        }
        Ok(0)
    }
}
