//! Reads one side's frames so that whole messages can be judged (RFC 6455 §5): a message's frames are held back as they
//! came until the caller lets them pass or drops all. Control frames pass at once, between its fragments too.
//!
//! Extensions are not known here: whoever uses this takes them out of the handshake. What neither may send, and what
//! could be read in two ways, is a [`Violation`]. Clients mask their frames, servers never do (§5.1).

#[cfg(test)]
mod tests;

use bytes::BytesMut;

use crate::types::action::Speaker;

/// Payload of a control frame (§5.5).
const CONTROL_MAX: u64 = 125;
/// Beyond twice a message's bound: heads of fragments.
const HEADS: usize = 64 << 10;
/// More memory than this is given back after a message.
const KEPT: usize = 64 << 10;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// Why a side's bytes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RSV1 to RSV3 without an extension.
    #[error("a frame has reserved bits set")]
    Reserved,
    /// An opcode that means nothing.
    #[error("a frame has an unknown opcode")]
    Opcode,
    /// A client's frame without a mask (§5.1).
    #[error("a frame is not masked")]
    Unmasked,
    /// A server's frame with one (§5.1).
    #[error("a server's frame is masked")]
    Masked,
    /// A length that is not the shortest way to say it, or over 2^63 (§5.2).
    #[error("a frame's length is written wrongly")]
    Length,
    /// A control frame that is long or in pieces (§5.5), or a close frame of one byte.
    #[error("a control frame is too long, or in pieces")]
    Control,
    /// A fragment without a begin, or a begin within a message (§5.4).
    #[error("fragments of messages are out of order")]
    Order,
    /// Text that is no UTF-8 (§8.1).
    #[error("a text message is no UTF-8")]
    Text,
    /// Data behind a close frame (§5.5.1).
    #[error("a message stands behind the close frame")]
    Closed,
}

impl Violation {
    /// The status of the close frame that answers it (§7.4.1).
    pub fn status(self) -> u16 {
        match self {
            Self::Text => 1007,
            _ => 1002,
        }
    }
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// All bytes are read.
    Hungry,
    /// A message is whole: [`Messages::message`].
    Message,
    /// One is longer than the bound.
    TooLong,
}

/// What becomes of the bytes of a message under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    /// Held until it is whole.
    #[default]
    Held,
    /// Whole or too long: the caller decides.
    Asked,
    /// Let pass before it was whole.
    Passes,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Messages {
    from: Speaker,
    header: [u8; 14],
    have: usize,
    /// The frame whose payload is read: bytes left, mask, how far that is used, whether it is its message's last.
    left: u64,
    mask: [u8; 4],
    at: usize,
    last: bool,
    /// Set while the frame is a control frame: that whole.
    control: Option<Vec<u8>>,
    /// The opcode of the message under way.
    opcode: Option<u8>,
    fate: Fate,
    /// Its frames as they came, and their payloads.
    held: Vec<u8>,
    data: Vec<u8>,
    closed: bool,
}

impl Messages {
    /// Of this side.
    pub fn of(from: Speaker) -> Self {
        Self { from, ..Self::default() }
    }

    /// Reads on; what need not be judged stands in `out`. After an event other than [`Event::Hungry`] the caller calls
    /// [`Messages::pass`] before it reads on, or never again.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn read(&mut self, input: &mut &[u8], max: usize, out: &mut BytesMut) -> Result<Event, Violation> {
        loop {
            if self.have == 0 && self.left == 0 && self.fate == Fate::Asked {
                return Ok(Event::Message);
            }
            if self.left > 0 {
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
                if n == 0 {
                    return Ok(Event::Hungry);
                }
                let (now, rest) = input.split_at(n);
                *input = rest;
                self.payload(now, out);
                self.left -= n as u64;
                if self.left > 0 {
                    return Ok(Event::Hungry);
                }
                self.end(out)?;
                continue;
            }
            let Some((byte, rest)) = input.split_first() else { return Ok(Event::Hungry) };
            *input = rest;
            self.header[self.have] = *byte;
            self.have += 1;
            if self.have < 2 || self.have < self.header_len()? {
                continue;
            }
            if self.begin(max, out)? {
                return Ok(Event::TooLong);
            }
            if self.left == 0 {
                self.end(out)?;
            }
        }
    }

    /// The message that waits: whether it is binary, and its payload.
    pub fn message(&self) -> (bool, &[u8]) {
        (self.opcode == Some(BINARY), &self.data)
    }

    /// Octets that are held.
    pub fn holds(&self) -> usize {
        self.held.len() + self.data.len()
    }

    /// Lets the message that waits pass; where it was too long, or is not whole yet, the rest of it too.
    pub fn pass(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.held);
        for kept in [&mut self.held, &mut self.data] {
            kept.clear();
            kept.shrink_to(KEPT);
        }
        let over = self.left == 0 && self.last;
        self.fate = if over { Fate::Held } else { Fate::Passes };
        if over {
            self.opcode = None;
        }
    }

    /// Lets another message pass in place of the whole one that waits, in one frame. `mask`: a client's (§5.3).
    pub fn replace(&mut self, payload: &[u8], mask: Option<[u8; 4]>, out: &mut BytesMut) {
        out.extend_from_slice(&frame(self.opcode.unwrap_or(BINARY), payload, mask));
        self.held.clear();
        self.pass(out);
    }

    /// After a [`Violation`], where nothing is refused: what was held back, up to where reading stopped.
    pub fn give_up(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.held);
        out.extend_from_slice(&self.header[..self.have]);
        *self = Self::of(self.from);
    }

    fn header_len(&self) -> Result<usize, Violation> {
        let mask = match (self.from, self.header[1] & 0x80 != 0) {
            (Speaker::Client, true) => 4,
            (Speaker::Server, false) => 0,
            (Speaker::Client, false) => return Err(Violation::Unmasked),
            (Speaker::Server, true) => return Err(Violation::Masked),
        };
        Ok(mask
            + match self.header[1] & 0x7f {
                126 => 4,
                127 => 10,
                _ => 2,
            })
    }

    fn length(&self) -> Result<u64, Violation> {
        let long = |n: usize| self.header[2..2 + n].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        let (length, least) = match self.header[1] & 0x7f {
            126 => (long(2), 126),
            127 => (long(8), 1 << 16),
            n => (u64::from(n), 0),
        };
        if length < least || length >> 63 != 0 { Err(Violation::Length) } else { Ok(length) }
    }

    /// A frame begins whose head is there. Whether the message becomes too long by it.
    fn begin(&mut self, max: usize, out: &mut BytesMut) -> Result<bool, Violation> {
        let (first, length, head) = (self.header[0], self.length()?, self.have);
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(Violation::Reserved);
        }
        let whole = &self.header[..head];
        self.mask = match self.from {
            Speaker::Client => [whole[head - 4], whole[head - 3], whole[head - 2], whole[head - 1]],
            Speaker::Server => [0; 4],
        };
        if opcode & 0x08 != 0 {
            if !(8..=10).contains(&opcode) {
                return Err(Violation::Opcode);
            }
            if !last || length > CONTROL_MAX || (opcode == CLOSE && length == 1) {
                return Err(Violation::Control);
            }
            self.closed |= opcode == CLOSE;
            self.control = Some(whole.to_vec());
            (self.left, self.at, self.have) = (length, 0, 0);
            return Ok(false);
        }
        match (opcode, self.opcode) {
            _ if self.closed => return Err(Violation::Closed),
            (0, Some(_)) => {}
            (TEXT | BINARY, None) => self.opcode = Some(opcode),
            (0 | TEXT | BINARY, _) => return Err(Violation::Order),
            _ => return Err(Violation::Opcode),
        }
        self.last = last;
        (self.left, self.at, self.have) = (length, 0, 0);
        if self.fate == Fate::Passes {
            out.extend_from_slice(whole);
            return Ok(false);
        }
        self.held.extend_from_slice(whole);
        let whole = self.data.len() as u64 + length;
        let too_long = whole > max as u64 || self.held.len() > max.saturating_mul(2).saturating_add(HEADS);
        if too_long {
            self.fate = Fate::Asked;
        }
        Ok(too_long)
    }

    fn payload(&mut self, now: &[u8], out: &mut BytesMut) {
        match (&mut self.control, self.fate) {
            (Some(frame), _) => frame.extend_from_slice(now),
            (None, Fate::Passes) => out.extend_from_slice(now),
            (None, Fate::Held | Fate::Asked) => {
                self.held.extend_from_slice(now);
                let (mask, at) = (self.mask, self.at);
                self.data.extend(now.iter().enumerate().map(|(n, byte)| byte ^ mask[(at + n) % 4]));
                self.at = (at + now.len()) % 4;
            }
        }
    }

    /// A frame is whole.
    fn end(&mut self, out: &mut BytesMut) -> Result<(), Violation> {
        if let Some(frame) = self.control.take() {
            out.extend_from_slice(&frame);
            return Ok(());
        }
        if !self.last {
            return Ok(());
        }
        if self.fate == Fate::Passes {
            (self.fate, self.opcode) = (Fate::Held, None);
            return Ok(());
        }
        if self.opcode == Some(TEXT) && std::str::from_utf8(&self.data).is_err() {
            return Err(Violation::Text);
        }
        self.fate = Fate::Asked;
        Ok(())
    }
}

/// A whole message in one frame (§5.2).
pub fn frame(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        n @ 0..=125 => frame.push(masked | n as u8),
        n @ 126..=0xffff => {
            frame.push(masked | 126);
            frame.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            frame.push(masked | 127);
            frame.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(mask.as_ref().map_or(&[][..], |mask| mask));
    let mask = mask.unwrap_or_default();
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}
