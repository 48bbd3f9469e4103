//! What of an exchange's bodies is held back before it is written: both ways, `[up, down]`.

use std::time::Instant;

use super::Unrecordable;
use super::bodies::{Effort, Sealer};
use super::frame::{Batch, BodyAt};
use super::payload::Kept;
use super::session::micros;
use crate::codec::scrub::Needles;

/// Largest piece: a longer one is sealed as several.
const CHUNK: usize = 1 << 20;

#[derive(Default)]
pub struct Body {
    pub held: Vec<u8>,
    pub written: u64,
    /// When the first byte came of what is held and was not held back before: microseconds since the exchange began.
    since: Option<u64>,
    effort: Effort,
}

impl Body {
    /// Holds more, which comes now.
    pub fn push(&mut self, bytes: &[u8], begun: Instant) {
        self.since.get_or_insert_with(|| micros(begun.elapsed()));
        self.held.extend_from_slice(bytes);
    }

    /// Holds what came before and cannot be settled: what comes next has a time of its own.
    pub fn put_back(&mut self, rest: Vec<u8>) {
        (self.held, self.since) = (rest, None);
    }

    /// What was held is in the store (`written`), or never will be. An idle exchange holds no buffer.
    pub fn settled(self, written: bool) -> Self {
        let length = if written { self.held.len() as u64 } else { 0 };
        Self { written: self.written + length, effort: self.effort, ..Self::default() }
    }

    /// What is in the store of it, with what is held if that gets there too.
    pub fn kept(&self, held: bool, total: u64) -> Kept {
        Kept { kept: self.written + if held { self.held.len() as u64 } else { 0 }, total }
    }
}

/// Masks what must not be seen in what is held, and takes out of it what cannot be settled yet: the beginning of such a
/// text perhaps. `over` says whether a body has ended.
pub fn unseen(
    bodies: &mut [Body; 2],
    needles: Option<&Needles>,
    over: impl Fn(usize) -> bool,
) -> [Vec<u8>; 2] {
    let mut rests = <[Vec<u8>; 2]>::default();
    let Some(needles) = needles else { return rests };
    for (which, body) in bodies.iter_mut().enumerate() {
        if over(which) {
            needles.settle_last(&mut body.held);
        } else {
            let settled = needles.settle(&mut body.held);
            rests[which] = body.held.split_off(settled);
        }
    }
    rests
}

/// Seals what is held, for the exchange `number` of `session`.
pub fn seal(
    bodies: &[Body; 2],
    (session, number): (u128, u32),
    sealer: &Sealer,
    batch: &mut Batch,
) -> Result<(), Unrecordable> {
    for (which, body) in bodies.iter().enumerate() {
        let mut offset = body.written;
        for chunk in body.held.chunks(CHUNK) {
            let at = BodyAt { session, exchange: number, down: which == 1, offset };
            sealer.seal(batch, (at, body.since), chunk, &body.effort)?;
            offset += chunk.len() as u64;
        }
    }
    Ok(())
}
