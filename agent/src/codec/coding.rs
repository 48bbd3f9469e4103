//! Undoes content codings (RFC 9110 §8.4): gzip, deflate, br and zstd, also several after one another. A push decoder:
//! coded bytes in as they come, decoded bytes out, never more at once than the caller has room for.
//!
//! Memory is bounded whatever comes in: 32 KiB of window for gzip and deflate, 16 MiB for br (large windows are
//! refused), 8 MiB for zstd (RFC 9659 §3), 8 KiB between two codings. What is coded twice may grow by the factor
//! [`GROWTH`] at most between the codings, so that the work is bounded by what comes in and what is let out.
//!
//! Two ways to read: [`Decoder::of`] for answers takes what clients take (raw deflate, several gzip members);
//! [`Decoder::of_request`] takes only what every server that undoes the coding reads alike, because what is judged must
//! be what the server reads.

mod flate;
mod frames;
#[cfg(test)]
mod tests;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use flate::{Deflate, Gzip};
use frames::{Brotli, Zstd};

/// Codings after one another.
const CODINGS: usize = 3;
/// What is decoded at once, and kept between two codings.
const PIECE: usize = 8 << 10;
/// How much an inner coding may be longer than the outer one that holds it: what was coded once hardly shrinks again.
const GROWTH: u64 = 8;

/// A field that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A coding that is not known here.
    #[error("its content coding is {0:?}")]
    Unknown(String),
    /// More of them than anybody needs.
    #[error("it has more than {CODINGS} content codings")]
    TooMany,
    /// A request whose fields servers read differently.
    #[error("servers differ over its content codings {0:?}")]
    Differ(String),
}

/// Why coded bytes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// They are not what they say.
    #[error("its {0} coding is broken")]
    Broken(&'static str),
    /// Their check does not fit.
    #[error("the checksum of its {0} coding is wrong")]
    Checksum(&'static str),
    /// They end too early.
    #[error("its {0} coding breaks off")]
    Truncated(&'static str),
    /// Something stands behind the end.
    #[error("bytes stand behind the end of its {0} coding")]
    Trailing(&'static str),
    /// A body of several members or frames, where servers differ.
    #[error("its {0} coding has several parts, which servers read differently")]
    Several(&'static str),
    /// A stream that can be read in two ways.
    #[error("its deflate coding can be read in two ways")]
    TwoWays,
    /// Longer than the caller's bound, in bytes.
    #[error("decoded, it is longer than {0} bytes")]
    TooLong(usize),
    /// See [`GROWTH`].
    #[error("it is coded several times over and grows more than {GROWTH} times between")]
    Growth,
}

/// Where a step of decoding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All that came in is decoded and let out.
    Hungry,
    /// There is no more room; there may be more to let out.
    Full,
}

/// How strictly bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// As clients read answers.
    Lenient,
    /// Only what all read alike.
    Strict,
}

/// See the module.
#[derive(Debug)]
pub struct Decoder {
    /// In the order in which they are undone.
    stages: Vec<Stage>,
    /// Whether a byte came in.
    begun: bool,
}

#[derive(Debug)]
struct Stage {
    codec: Codec,
    /// Decoded by the stage before, not taken yet: `kept[at..]`.
    kept: Vec<u8>,
    at: usize,
    taken: u64,
    made: u64,
}

#[derive(Debug)]
enum Codec {
    Gzip(Box<Gzip>),
    Deflate(Box<Deflate>),
    Brotli(Box<Brotli>),
    Zstd(Box<Zstd>),
}

impl Decoder {
    /// For the content coding of an answer; `None` where it has none.
    ///
    /// # Errors
    /// [`Unsupported`].
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Unsupported> {
        Self::reading(headers, Reading::Lenient)
    }

    /// For the content coding of a request that is judged. A coding that servers read differently is a fault here: raw
    /// deflate, several members or frames, several fields.
    ///
    /// # Errors
    /// [`Unsupported`].
    pub fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Unsupported> {
        Self::reading(headers, Reading::Strict)
    }

    fn reading(headers: &HeaderMap, reading: Reading) -> Result<Option<Self>, Unsupported> {
        let fields: Vec<_> = headers.get_all(CONTENT_ENCODING).iter().collect();
        let shown = || {
            let texts: Vec<_> =
                fields.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            texts.join(", ").chars().take(100).collect()
        };
        let words = fields.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let words: Vec<_> = words.map(<[u8]>::trim_ascii).filter(|word| !word.is_empty()).collect();
        let codings: Vec<_> = words.iter().filter(|word| !word.eq_ignore_ascii_case(b"identity")).collect();
        if codings.is_empty() {
            return Ok(None);
        }
        if reading == Reading::Strict && (fields.len() > 1 || codings.len() != words.len()) {
            return Err(Unsupported::Differ(shown()));
        }
        if codings.len() > CODINGS {
            return Err(Unsupported::TooMany);
        }
        // The last that was applied is the first to be undone.
        let stages = codings.iter().rev().map(|word| {
            let codec = Codec::of(word, reading).ok_or_else(|| Unsupported::Unknown(shown()))?;
            Ok(Stage { codec, kept: Vec::new(), at: 0, taken: 0, made: 0 })
        });
        Ok(Some(Self { stages: stages.collect::<Result<_, _>>()?, begun: false }))
    }

    /// Decodes until `input` is used up or `out` holds `max` bytes. Call it again with what is left of `input` after
    /// [`Step::Full`], also where nothing is left.
    ///
    /// # Errors
    /// [`Fault`]; what `out` has got is good up to there.
    pub fn step(&mut self, input: &mut &[u8], out: &mut Vec<u8>, max: usize) -> Result<Step, Fault> {
        self.begun |= !input.is_empty();
        while out.len() < max {
            let (begin, room) = (out.len(), PIECE.min(max - out.len()));
            out.resize(begin + room, 0);
            let made = pull(&mut self.stages, input, &mut out[begin..]);
            out.truncate(begin + made.as_ref().unwrap_or(&0));
            if made? == 0 {
                return Ok(Step::Hungry);
            }
        }
        Ok(Step::Full)
    }

    /// Decodes all of `input`, behind what `out` holds.
    ///
    /// # Errors
    /// [`Fault`], [`Fault::TooLong`] where `out` would hold more than `max` bytes.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), Fault> {
        match self.step(&mut input, out, max.saturating_add(1))? {
            Step::Hungry => Ok(()),
            Step::Full => {
                out.truncate(max);
                Err(Fault::TooLong(max))
            }
        }
    }

    /// Nothing more comes in. A body of no bytes at all is empty, whatever its coding.
    ///
    /// # Errors
    /// [`Fault::Truncated`].
    pub fn finish(&self) -> Result<(), Fault> {
        if !self.begun {
            return Ok(());
        }
        let open = self.stages.iter().find(|stage| !stage.codec.ended() || stage.at < stage.kept.len());
        open.map_or(Ok(()), |stage| Err(Fault::Truncated(stage.codec.name())))
    }
}

/// Some bytes of the last stage's; none when the stages before it and `input` have no more. What a stage takes and makes
/// is bounded by the piece that it is asked for.
fn pull(stages: &mut [Stage], input: &mut &[u8], out: &mut [u8]) -> Result<usize, Fault> {
    let Some((stage, before)) = stages.split_last_mut() else { return Ok(0) };
    loop {
        let mut rest = if before.is_empty() { *input } else { &stage.kept[stage.at..] };
        let had = rest.len();
        let made = stage.codec.run(&mut rest, out)?;
        let took = had - rest.len();
        stage.taken += took as u64;
        stage.made += made as u64;
        if before.is_empty() {
            *input = &input[took..];
        } else {
            stage.at += took;
        }
        if made > 0 {
            return Ok(made);
        }
        if before.is_empty() {
            return Ok(0);
        }
        stage.kept.resize(PIECE, 0);
        let more = pull(before, input, &mut stage.kept);
        stage.kept.truncate(*more.as_ref().unwrap_or(&0));
        stage.at = 0;
        if more? == 0 {
            return Ok(0);
        }
        let outer = &before[before.len() - 1];
        if outer.made > (PIECE as u64).max(outer.taken.saturating_mul(GROWTH)) {
            return Err(Fault::Growth);
        }
    }
}

impl Codec {
    fn of(word: &[u8], reading: Reading) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => Self::Gzip(Box::new(Gzip::new(reading))),
            b"deflate" => Self::Deflate(Box::new(Deflate::new(reading))),
            b"br" => Self::Brotli(Box::new(Brotli::new())),
            b"zstd" => Self::Zstd(Box::new(Zstd::new(reading)?)),
            _ => return None,
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Gzip(_) => "gzip",
            Self::Deflate(_) => "deflate",
            Self::Brotli(_) => "br",
            Self::Zstd(_) => "zstd",
        }
    }

    /// Decodes some; where it makes nothing, it has taken all.
    fn run(&mut self, input: &mut &[u8], out: &mut [u8]) -> Result<usize, Fault> {
        match self {
            Self::Gzip(gzip) => gzip.run(input, out),
            Self::Deflate(deflate) => deflate.run(input, out),
            Self::Brotli(brotli) => brotli.run(input, out),
            Self::Zstd(zstd) => zstd.run(input, out),
        }
    }

    /// Whether what came in is whole.
    fn ended(&self) -> bool {
        match self {
            Self::Gzip(gzip) => gzip.ended(),
            Self::Deflate(deflate) => deflate.ended(),
            Self::Brotli(brotli) => brotli.ended(),
            Self::Zstd(zstd) => zstd.ended(),
        }
    }
}

/// The body of a request that is there whole, its content coding undone; `None` where it has none.
///
/// # Errors
/// Why it cannot be known what a server reads.
pub fn request_body(headers: &HeaderMap, coded: &[u8], max: usize) -> Result<Option<Vec<u8>>, String> {
    let Some(mut decoder) = Decoder::of_request(headers).map_err(|e| e.to_string())? else { return Ok(None) };
    let mut body = Vec::new();
    decoder.push(coded, &mut body, max).and_then(|()| decoder.finish()).map_err(|e| e.to_string())?;
    two_meanings(headers, coded).map_or(Ok(Some(body)), |why| Err(why.to_owned()))
}

/// Why a server that leaves the content coding as it is could read `coded` as something else than it stands for. Readers
/// of forms and of multipart skip what they do not understand, and some coded data is text.
pub fn two_meanings(headers: &HeaderMap, coded: &[u8]) -> Option<&'static str> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter().map(|value| value.as_bytes().to_ascii_lowercase());
    let lenient = |kind: Vec<u8>| {
        let kind = kind.trim_ascii_start();
        kind.starts_with(b"multipart/") || kind.starts_with(b"application/x-www-form-urlencoded")
    };
    if coded.is_empty() {
        None
    } else if kinds.any(lenient) {
        Some("it is a form with a content coding, which servers read differently")
    } else if std::str::from_utf8(coded).is_ok() {
        Some("its coded bytes are text as well, which servers read differently")
    } else {
        None
    }
}
