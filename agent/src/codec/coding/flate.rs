//! gzip (RFC 1952) and deflate (RFC 9110 §8.4.1.2: zlib, RFC 1950; and the raw stream of RFC 1951 that many send).

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::{Fault, Reading};

const GZIP: &str = "gzip";
const DEFLATE: &str = "deflate";

/// Where a reader of gzip is in a member; numbers are bytes of a part read so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before a member, or in the ten bytes that begin it.
    Fixed(u8),
    /// The length of the extra field, then how much of it is left.
    ExtraLength(u8),
    Extra(u16),
    Name,
    Comment,
    HeadSum(u8),
    Data,
    /// CRC-32 and length, four bytes each.
    Sums(u8),
}

const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;

/// See the module.
#[derive(Debug)]
pub struct Gzip {
    reading: Reading,
    at: At,
    flags: u8,
    /// Bytes of the part that is read: numbers of up to eight bytes.
    part: [u8; 8],
    head: Crc,
    data: Crc,
    inflate: Decompress,
    /// Members read to their end.
    members: u64,
}

impl Gzip {
    pub fn new(reading: Reading) -> Self {
        let inflate = Decompress::new(false);
        let (head, data) = (Crc::new(), Crc::new());
        Self { reading, at: At::Fixed(0), flags: 0, part: [0; 8], head, data, inflate, members: 0 }
    }

    pub fn ended(&self) -> bool {
        self.at == At::Fixed(0) && self.members > 0
    }

    /// As [`super::Codec::run`].
    pub fn run(&mut self, input: &mut &[u8], out: &mut [u8]) -> Result<usize, Fault> {
        loop {
            if self.at == At::Data {
                let (made, ended) = inflate(&mut self.inflate, input, out, GZIP)?;
                self.data.update(&out[..made]);
                if ended {
                    self.at = At::Sums(0);
                }
                if made > 0 {
                    return Ok(made);
                }
                if !ended {
                    return Ok(0);
                }
            }
            let Some((byte, rest)) = input.split_first() else { return Ok(0) };
            *input = rest;
            self.at = self.byte(*byte)?;
        }
    }

    /// Reads a byte of a member's head or end.
    fn byte(&mut self, byte: u8) -> Result<At, Fault> {
        if !matches!(self.at, At::Sums(_) | At::HeadSum(_) | At::Data) {
            if self.at == At::Fixed(0) {
                self.head.reset();
            }
            self.head.update(&[byte]);
        }
        Ok(match self.at {
            At::Fixed(at) => self.fixed(at, byte)?,
            At::ExtraLength(0) => {
                self.part[0] = byte;
                At::ExtraLength(1)
            }
            At::ExtraLength(_) => match u16::from_le_bytes([self.part[0], byte]) {
                0 => self.after(FEXTRA),
                length => At::Extra(length),
            },
            At::Extra(1) => self.after(FEXTRA),
            At::Extra(left) => At::Extra(left - 1),
            At::Name if byte == 0 => self.after(FNAME),
            At::Comment if byte == 0 => self.after(FCOMMENT),
            At::HeadSum(0) => {
                self.part[0] = byte;
                At::HeadSum(1)
            }
            At::HeadSum(_) => {
                if self.head.sum().to_le_bytes()[..2] != [self.part[0], byte] {
                    return Err(Fault::Checksum(GZIP));
                }
                self.after(FHCRC)
            }
            At::Sums(at) => self.sums(at, byte)?,
            At::Name | At::Comment | At::Data => self.at,
        })
    }

    fn fixed(&mut self, at: u8, byte: u8) -> Result<At, Fault> {
        match at {
            0 if self.members > 0 && self.reading == Reading::Strict => {
                return Err(if byte == 0x1f { Fault::Several(GZIP) } else { Fault::Trailing(GZIP) });
            }
            0 if self.members > 0 && byte != 0x1f => return Err(Fault::Trailing(GZIP)),
            // Flags that are reserved: what they mean is not known (RFC 1952 §2.3.1.2).
            0 if byte == 0x1f => {}
            1 if byte == 0x8b => {}
            2 if byte == 8 => {}
            3 if byte & 0xe0 == 0 => self.flags = byte,
            4..=8 => {}
            9 => return Ok(self.after(0)),
            _ => return Err(Fault::Broken(GZIP)),
        }
        Ok(At::Fixed(at + 1))
    }

    /// The part behind `flag`'s that the head has.
    fn after(&mut self, flag: u8) -> At {
        let parts = [
            (FEXTRA, At::ExtraLength(0)),
            (FNAME, At::Name),
            (FCOMMENT, At::Comment),
            (FHCRC, At::HeadSum(0)),
        ];
        let begin = parts.iter().position(|(of, _)| *of == flag).map_or(0, |at| at + 1);
        if let Some((_, at)) = parts[begin..].iter().find(|(of, _)| self.flags & of != 0) {
            return *at;
        }
        self.inflate.reset(false);
        self.data.reset();
        At::Data
    }

    fn sums(&mut self, at: u8, byte: u8) -> Result<At, Fault> {
        self.part[usize::from(at)] = byte;
        if at < 7 {
            return Ok(At::Sums(at + 1));
        }
        let [sum @ .., _, _, _, _] = self.part;
        let [_, _, _, _, length @ ..] = self.part;
        if sum != self.data.sum().to_le_bytes() || length != self.data.amount().to_le_bytes() {
            return Err(Fault::Checksum(GZIP));
        }
        self.members += 1;
        Ok(At::Fixed(0))
    }
}

/// Bytes of the begin by which zlib and raw deflate are told apart.
const BEGIN: usize = 5;

/// See the module.
#[derive(Debug)]
pub struct Deflate {
    reading: Reading,
    begin: [u8; BEGIN],
    have: usize,
    /// Bytes of the begin that were taken in.
    given: usize,
    inflate: Option<Decompress>,
    ended: bool,
}

impl Deflate {
    pub fn new(reading: Reading) -> Self {
        Self { reading, begin: [0; BEGIN], have: 0, given: 0, inflate: None, ended: false }
    }

    pub fn ended(&self) -> bool {
        self.ended
    }

    /// As [`super::Codec::run`].
    pub fn run(&mut self, input: &mut &[u8], out: &mut [u8]) -> Result<usize, Fault> {
        while self.inflate.is_none() {
            let Some((byte, rest)) = input.split_first() else { return Ok(0) };
            *input = rest;
            self.begin[self.have] = *byte;
            self.have += 1;
            self.inflate = self.kind()?.map(|kind| Decompress::new(kind == Kind::Zlib));
        }
        let Some(stream) = &mut self.inflate else { return Ok(0) };
        while !self.ended {
            let first = self.given < self.have;
            let (made, ended) = if first {
                let mut begin = &self.begin[self.given..self.have];
                let done = inflate(stream, &mut begin, out, DEFLATE)?;
                self.given = self.have - begin.len();
                done
            } else {
                inflate(stream, input, out, DEFLATE)?
            };
            self.ended = ended;
            if made > 0 {
                return Ok(made);
            }
            if !first && !ended {
                return Ok(0);
            }
        }
        if self.given < self.have || !input.is_empty() {
            return Err(Fault::Trailing(DEFLATE));
        }
        Ok(0)
    }

    /// Which of the two it is; not known yet.
    fn kind(&self) -> Result<Option<Kind>, Fault> {
        let [method, flags, ..] = self.begin;
        if self.have < 2 {
            return Ok(None);
        }
        let zlib = method & 0x0f == 8 && (u16::from(method) << 8 | u16::from(flags)).is_multiple_of(31);
        match (zlib, self.reading) {
            (false, Reading::Strict) => Err(Fault::Broken(DEFLATE)),
            (false, Reading::Lenient) => Ok(Some(Kind::Raw)),
            (true, _) if self.have < BEGIN => Ok(None),
            // As raw deflate a head of zlib is a block that is stored, with its length and that inverted (RFC 1951
            // §3.2.4): where those fit, the same bytes are two streams.
            (true, _) if self.begin[1] ^ self.begin[3] == 0xff && self.begin[2] ^ self.begin[4] == 0xff => {
                Err(Fault::TwoWays)
            }
            (true, _) => Ok(Some(Kind::Zlib)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Zlib,
    Raw,
}

/// How much was made, and whether the stream is over; where nothing was made and it is not, all was taken.
fn inflate(
    stream: &mut Decompress,
    input: &mut &[u8],
    out: &mut [u8],
    name: &'static str,
) -> Result<(usize, bool), Fault> {
    loop {
        let (taken, made) = (stream.total_in(), stream.total_out());
        let status = stream.decompress(input, out, FlushDecompress::None).map_err(|_| Fault::Broken(name))?;
        let moved = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
        let (took, made) = (moved(stream.total_in(), taken), moved(stream.total_out(), made));
        *input = &input[took..];
        let ended = status == Status::StreamEnd;
        if made > 0 || ended || input.is_empty() {
            return Ok((made, ended));
        }
        if took == 0 {
            return Err(Fault::Broken(name));
        }
    }
}
