//! HTTP/1 requests, read so that they can have one meaning only (RFC 9112, without its leniencies).
//!
//! What a lenient reader repairs, two readers repair differently, and a request that the agent reads as one is two at
//! the server. So nothing is repaired: a message is as the grammar says, or it is a [`Violation`].
//!
//! [`Framer`] follows the bytes of one connection from message to message and says how many of them may be passed on.
//! It looks once at every byte of a head and at no byte of a body.

use memchr::{memchr, memmem};

use head::{Head, read_fields, read_head};
pub use violation::Violation;

mod head;
mod violation;

/// Octets of a request head, request line and blank line included; beyond it the request is refused with 431.
pub const HEAD_MAX: usize = 64 * 1024;
/// Fields of a head (a hundred is Apache's bound, HAProxy's is 101); beyond it the request is refused with 431.
pub const FIELDS_MAX: usize = 256;
/// Octets of a trailer section.
pub const TRAILERS_MAX: usize = 16 * 1024;
/// Octets of a chunk-size line: 16 hexadecimal digits and CRLF.
const CHUNK_LINE_MAX: usize = 18;

/// What [`Framer`] puts in place of `100-continue`, at the same length, so that the HTTP library below does not
/// answer it: whether the client may go on is the upstream's to say. No other expectation is let in.
pub const EXPECT_ALTERED: &str = "100_continue";

/// How long a message's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// So many octets.
    Length(u64),
    /// Chunked.
    Chunked,
}

/// Where in a connection the framer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    ChunkSize,
    /// So many octets of chunk data are left.
    Chunk(u64),
    /// The CRLF after chunk data.
    ChunkEnd,
    Trailers,
    /// A request asked to change the protocol: what follows has no meaning until the answer is known.
    Undecided,
    /// The protocol changed: not ours to read.
    Raw,
}

/// What can be passed on of the bytes shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// So many octets from the start are good. Show the rest again, with more behind it.
    pub cleared: usize,
    /// What is wrong with what follows them.
    pub refused: Option<Refused>,
}

/// Why and where a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong.
    pub violation: Violation,
    /// Whether the head of the message was passed on already: then it can only be cut off.
    pub begun: bool,
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Framer {
    state: State,
    /// Octets of the unfinished section that were searched for its end.
    scanned: usize,
    /// Whether the message being read asked for another protocol.
    asks: bool,
    heads: u64,
}

impl Default for Framer {
    fn default() -> Self {
        Self { state: State::Head, scanned: 0, asks: false, heads: 0 }
    }
}

impl Framer {
    /// Reads on. `bytes` starts where the last call's `cleared` ended. An `Expect: 100-continue` in it is altered to
    /// [`EXPECT_ALTERED`].
    pub fn advance(&mut self, bytes: &mut [u8]) -> Progress {
        let mut at = 0;
        // Where the head of the current message stands in `bytes`, when it is not passed on yet.
        let mut withheld = None;
        while at < bytes.len() {
            let step = match self.state {
                State::Undecided => break,
                State::Raw => Ok(Some(bytes.len() - at)),
                State::Head => self.head(&mut bytes[at..]).inspect(|step| {
                    if step.is_some() {
                        withheld = Some(at);
                    }
                }),
                State::Body(left) => Ok(Some(self.data(left, bytes.len() - at, State::Body))),
                State::Chunk(left) => Ok(Some(self.data(left, bytes.len() - at, State::Chunk))),
                State::ChunkSize => self.chunk_size(&bytes[at..]),
                State::ChunkEnd => self.chunk_end(&bytes[at..]),
                State::Trailers => self.trailers(&bytes[at..]),
            };
            match step {
                Ok(Some(n)) => at += n,
                Ok(None) => break,
                Err(violation) => return self.refuse(violation, at, withheld),
            }
        }
        Progress { cleared: at, refused: None }
    }

    /// How many request heads were cleared.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the connection is between two messages.
    pub fn between_messages(&self) -> bool {
        self.state == State::Head
    }

    /// Whether the framer waits for [`Framer::decide`].
    pub fn undecided(&self) -> bool {
        self.state == State::Undecided
    }

    /// The answer to a request for another protocol is known: `raw` when it was granted.
    pub fn decide(&mut self, raw: bool) {
        self.asks = false;
        if raw {
            self.state = State::Raw;
        } else if self.state == State::Undecided {
            self.state = State::Head;
        }
    }

    fn refuse(&mut self, violation: Violation, at: usize, withheld: Option<usize>) -> Progress {
        let begun = self.state != State::Head && withheld.is_none();
        if self.state != State::Head && withheld.is_some() {
            self.heads -= 1;
        }
        let cleared = if self.state == State::Head { at } else { withheld.unwrap_or(at) };
        Progress { cleared, refused: Some(Refused { violation, begun }) }
    }

    fn head(&mut self, bytes: &mut [u8]) -> Result<Option<usize>, Violation> {
        let Some(end) = section_end(bytes, &mut self.scanned, HEAD_MAX, Violation::HeadTooLong)? else {
            return Ok(None);
        };
        let Head { framing, asks, expect } = read_head(&bytes[..end])?;
        if let Some(at) = expect {
            bytes[at..at + EXPECT_ALTERED.len()].copy_from_slice(EXPECT_ALTERED.as_bytes());
        }
        self.scanned = 0;
        self.heads += 1;
        self.asks = asks;
        match framing {
            Framing::None | Framing::Length(0) => self.message_end(),
            Framing::Length(n) => self.state = State::Body(n),
            Framing::Chunked => self.state = State::ChunkSize,
        }
        Ok(Some(end))
    }

    fn message_end(&mut self) {
        self.state = if self.asks { State::Undecided } else { State::Head };
    }

    fn data(&mut self, left: u64, there: usize, state: fn(u64) -> State) -> usize {
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(there);
        let left = left - n as u64;
        if left > 0 {
            self.state = state(left);
        } else if matches!(state(0), State::Chunk(_)) {
            self.state = State::ChunkEnd;
        } else {
            self.message_end();
        }
        n
    }

    /// `1*HEXDIG CRLF`. Chunk extensions are refused: nobody uses them but to be read in two ways.
    fn chunk_size(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let line = &bytes[..bytes.len().min(CHUNK_LINE_MAX)];
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        match &line[digits..] {
            [] | [b'\r'] if digits < 17 && bytes.len() < CHUNK_LINE_MAX => Ok(None),
            [b'\r', b'\n', ..] if (1..=16).contains(&digits) => {
                let size = line[..digits].iter().fold(0_u64, |n, b| n << 4 | u64::from(hex(*b)));
                // hyper counts in u64 with two values taken; no body of half of that exists.
                if size > u64::MAX >> 1 {
                    return Err(Violation::ChunkSize);
                }
                self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                Ok(Some(digits + 2))
            }
            [b';' | b' ' | b'\t', ..] if digits > 0 => Err(Violation::ChunkExtension),
            [b'\n', ..] => Err(Violation::BareLf),
            _ => Err(Violation::ChunkSize),
        }
    }

    fn chunk_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.state = State::ChunkSize;
                Ok(Some(2))
            }
            [b'\r'] => Ok(None),
            _ => Err(Violation::ChunkEnd),
        }
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let end = match bytes {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] => return Ok(None),
            _ => match section_end(bytes, &mut self.scanned, TRAILERS_MAX, Violation::TrailersTooLong)? {
                Some(end) => {
                    read_fields(&bytes[..end], |_, name, _| {
                        match Violation::if_forbidden_in_trailers(name) {
                            Some(violation) => Err(violation),
                            None => Ok(()),
                        }
                    })?;
                    end
                }
                None => return Ok(None),
            },
        };
        self.scanned = 0;
        self.message_end();
        Ok(Some(end))
    }
}

/// The end of a section of lines, behind its blank line; `scanned` keeps what was searched, so that a head that comes
/// one octet at a time costs no more than one that comes whole.
fn section_end(
    bytes: &[u8],
    scanned: &mut usize,
    max: usize,
    too_long: Violation,
) -> Result<Option<usize>, Violation> {
    if bytes.starts_with(b"\r\n") || bytes.starts_with(b"\n") {
        return Err(Violation::EmptyLine);
    }
    let window = &bytes[..bytes.len().min(max)];
    let from = scanned.saturating_sub(3);
    // Almost always the whole section is there: one search for its end.
    let end = memmem::find(&window[from..], b"\r\n\r\n").map(|i| from + i + 4);
    let mut at = *scanned;
    while let Some(i) = memchr(b'\n', &window[at..end.unwrap_or(window.len())]) {
        if at + i == 0 || window[at + i - 1] != b'\r' {
            return Err(Violation::BareLf);
        }
        at += i + 1;
    }
    *scanned = window.len();
    match end {
        None if bytes.len() >= max => Err(too_long),
        end => Ok(end),
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests;
