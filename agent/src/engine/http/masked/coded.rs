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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http::HeaderValue;
    use http::header::CONTENT_ENCODING;

    use super::*;

    /// How much comes out of gzip of so many pieces, or why none.
    fn decoded(piece: &[u8], times: usize) -> Result<usize, String> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        (0..times).for_each(|_| gzip.write_all(piece).expect("written"));
        let bytes = gzip.finish().expect("coded");
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
        let mut coded = Coded::of(&headers)?.expect("a coding");
        let (mut input, mut out, mut all) = (&bytes[..], Vec::new(), 0);
        while coded.step(&mut input, &mut out)? {
            all += out.len();
            assert!(out.len() <= PIECE, "a piece at once");
        }
        coded.end()?;
        Ok(all + out.len())
    }

    #[test]
    fn what_grows_without_measure_is_refused_and_what_repeats_itself_is_not() {
        let line = b"{\"level\":\"info\",\"message\":\"the same line again\",\"number\":17}\n";
        assert_eq!(decoded(line, 60_000), Ok(60_000 * line.len()));
        assert_eq!(decoded(&[b' '; 1 << 16], 32), Ok(2 << 20), "little is free");
        let refused = decoded(&[b' '; 1 << 20], 64).expect_err("a bomb");
        assert!(refused.contains("grows more than 256 times"), "{refused}");
    }
}
