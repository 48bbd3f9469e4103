//! Counts WebSocket frames as they pass (RFC 6455 §5.2): headers are read, payloads skipped, nothing is altered or
//! kept, so extensions such as permessage-deflate do not matter.

mod messages;
mod protocols;

pub use messages::{Event, Messages, Violation, frame};
pub use protocols::protocols;

/// The frames of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// Headers seen.
    pub frames: u64,
    /// Whole messages: final frames that carry data (opcodes 0 to 2).
    pub messages: u64,
    /// Control frames: close, ping, pong.
    pub control: u64,
    /// A close frame was among them: this side has said its last word (§5.5.1).
    pub closed: bool,
    /// Set once the bytes were no frames any more; nothing is counted after it.
    pub broken: bool,
    header: [u8; 14],
    have: usize,
    skip: u64,
}

impl Frames {
    /// Reads on.
    pub fn count(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.broken {
            if self.skip > 0 {
                let n = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= n as u64;
                bytes = &bytes[n..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have >= 2 && self.have == self.header_len() {
                self.frame();
            }
        }
    }

    /// Bytes that are certain to belong to the frame under way; none between two frames.
    pub fn under_way(&self) -> u64 {
        match self.have {
            _ if self.skip > 0 => self.skip,
            0 => 0,
            1 => 1,
            have => (self.header_len() - have) as u64,
        }
    }

    fn header_len(&self) -> usize {
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn frame(&mut self) {
        let [first, second, extended @ ..] = self.header;
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([extended[0], extended[1]])),
            127 => {
                let mut length = [0; 8];
                length.copy_from_slice(&extended[..8]);
                u64::from_be_bytes(length)
            }
            n => u64::from(n),
        };
        let opcode = first & 0x0f;
        let control = opcode & 0x08 != 0;
        // The highest bit of a length is 0; control frames are short and whole (§5.2, §5.5).
        if length >> 63 != 0 || (control && (length > 125 || first & 0x80 == 0)) {
            self.broken = true;
            return;
        }
        self.frames += 1;
        if control {
            self.control += 1;
            self.closed |= opcode == 0x08;
        } else if first & 0x80 != 0 {
            self.messages += 1;
        }
        self.skip = length;
        self.have = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_however_the_bytes_are_cut() {
        let mut wire = Vec::new();
        wire.extend([0x81, 0x85, 1, 2, 3, 4]); // masked text, 5
        wire.extend([0; 5]);
        wire.extend([0x41, 0x03, b'a', b'b', b'c']); // compressed (RSV1), not final
        wire.extend([0x89, 0x00]); // ping
        wire.extend([0x80, 126, 1, 0]); // final, 256
        wire.extend([7; 256]);
        wire.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]); // 65536
        wire.extend(vec![9; 65536]);
        wire.extend([0x88, 0x02, 3, 232]); // close
        for size in [1, 2, 3, 7, 1000, wire.len()] {
            let mut frames = Frames::default();
            wire.chunks(size).for_each(|c| frames.count(c));
            assert_eq!((frames.frames, frames.messages, frames.control, frames.broken), (6, 3, 2, false));
            assert!(frames.closed);
        }
        let mut frames = Frames::default();
        let mut left: &[u8] = &wire;
        while !left.is_empty() {
            // By what is said to be under way, frame by frame, nothing is cut.
            frames.count(&left[..1]);
            left = &left[1..];
            while frames.under_way() > 0 {
                let n = usize::try_from(frames.under_way()).expect("short");
                frames.count(&left[..n]);
                left = &left[n..];
            }
        }
        assert_eq!(frames.frames, 6);
    }

    #[test]
    fn stops_at_what_is_no_frame() {
        let mut frames = Frames::default();
        frames.count(&[0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
        assert!(frames.broken);
        let mut frames = Frames::default();
        frames.count(&[0x09, 0x00]);
        assert!(frames.broken);
    }
}
