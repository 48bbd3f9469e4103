//! How events are framed: server-sent events (WHATWG HTML §9.2.6) and Amazon's event stream
//! (https://smithy.io/2.0/aws/amazon-eventstream.html). Only what they carry is looked at.

use memchr::memchr2;

use super::scan::Scan;

/// Server-sent events.
#[derive(Debug, Default)]
pub struct Events {
    line: Line,
    /// The octet before ended a line with a carriage return.
    returned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// So many octets of the field's name.
    Begin(usize),
    Data,
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Self::Begin(0)
    }
}

const DATA: &[u8] = b"data:";

impl Events {
    pub fn push(&mut self, mut bytes: &[u8], scan: &mut Scan) {
        while let Some(first) = bytes.first() {
            let ended = std::mem::take(&mut self.returned) && *first == b'\n';
            let taken = match self.line {
                _ if ended => 1,
                _ if matches!(first, b'\n' | b'\r') => {
                    self.returned = *first == b'\r';
                    if self.line == Line::Begin(0) {
                        scan.reset();
                    }
                    self.line = Line::Begin(0);
                    1
                }
                Line::Begin(at) => {
                    self.line = match (*first == DATA[at], at + 1 == DATA.len()) {
                        (true, true) => Line::Data,
                        (true, false) => Line::Begin(at + 1),
                        (false, _) => Line::Other,
                    };
                    1
                }
                Line::Data | Line::Other => {
                    let end = memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
                    if self.line == Line::Data {
                        scan.push(&bytes[..end]);
                    }
                    end
                }
            };
            bytes = &bytes[taken..];
        }
    }
}

/// Amazon's event stream.
#[derive(Debug, Default)]
pub struct Messages {
    /// Its lengths, as far as they are there: of the whole, of the headers, and a checksum.
    prelude: Vec<u8>,
    headers: usize,
    payload: usize,
    rest: usize,
    lost: bool,
}

/// Octets before the headers, and after the payload.
const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;

impl Messages {
    pub fn push(&mut self, mut bytes: &[u8], scan: &mut Scan) {
        while !bytes.is_empty() && !self.lost {
            let taken = if self.prelude.len() < PRELUDE {
                let taken = bytes.len().min(PRELUDE - self.prelude.len());
                self.prelude.extend_from_slice(&bytes[..taken]);
                self.begin(scan);
                taken
            } else if self.headers > 0 {
                pass(&mut self.headers, bytes)
            } else if self.payload > 0 {
                let taken = pass(&mut self.payload, bytes);
                scan.push(&bytes[..taken]);
                if self.payload == 0
                    && let Some(message) = scan.take_blob()
                {
                    scan.reset();
                    scan.push(&message);
                }
                taken
            } else {
                let taken = pass(&mut self.rest, bytes);
                if self.rest == 0 {
                    self.prelude.clear();
                }
                taken
            };
            bytes = &bytes[taken..];
        }
    }

    fn begin(&mut self, scan: &mut Scan) {
        let number = |at: usize| {
            let octets = self.prelude.get(at..at + 4)?;
            octets.iter().try_fold(0_usize, |all, octet| Some(all << 8 | usize::from(*octet)))
        };
        if self.prelude.len() < PRELUDE {
            return;
        }
        let (Some(whole), Some(headers)) = (number(0), number(4)) else { return };
        match whole.checked_sub(PRELUDE + CHECKSUM).and_then(|inside| inside.checked_sub(headers)) {
            Some(payload) => (self.headers, self.payload, self.rest) = (headers, payload, CHECKSUM),
            None => self.lost = true,
        }
        scan.reset();
    }
}

fn pass(left: &mut usize, bytes: &[u8]) -> usize {
    let taken = bytes.len().min(*left);
    *left -= taken;
    taken
}
