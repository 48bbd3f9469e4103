//! The messages of a WebSocket out of its recorded bytes (RFC 6455 §5), permessage-deflate undone (RFC 7692). Lenient: what is
//! no frame any more ends the list, and says so.

use flate2::{Decompress, FlushDecompress};

/// Bytes that the messages of a side are inflated to at most, all together.
const INFLATED: usize = 16 << 20;

/// One message or control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// 1 text, 2 binary, 8 close, 9 ping, 10 pong.
    pub opcode: u8,
    /// Its payload, without mask and compression.
    pub data: Vec<u8>,
    /// Where in the recorded bytes its last frame ended.
    pub end: u64,
    /// It would be too long, or could not be inflated.
    pub cut: bool,
}

impl Message {
    /// What its opcode is called.
    pub fn kind(&self) -> &'static str {
        match self.opcode {
            1 => "text",
            2 => "binary",
            8 => "close",
            9 => "ping",
            10 => "pong",
            _ => "unknown",
        }
    }
}

/// How one side's messages are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deflate {
    /// permessage-deflate was agreed on.
    pub on: bool,
    /// Each message stands for itself.
    pub no_takeover: bool,
}

impl Deflate {
    /// Of the side `client` or `server`, by the answer's Sec-WebSocket-Extensions.
    pub fn agreed(extensions: Option<&str>, side: &str) -> Self {
        let Some(offer) = extensions.into_iter().flat_map(|all| all.split(',')).find(|one| {
            one.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("permessage-deflate"))
        }) else {
            return Self::default();
        };
        let no = format!("{side}_no_context_takeover");
        let no_takeover = offer.split(';').any(|parameter| parameter.trim().eq_ignore_ascii_case(&no));
        Self { on: true, no_takeover }
    }
}

/// One side's messages, and how many bytes at the end are no whole frame.
pub fn messages(bytes: &[u8], deflate: Deflate) -> (Vec<Message>, usize) {
    let mut all = Vec::new();
    let mut inflater = Decompress::new(false);
    let mut room = INFLATED;
    let mut under_way: Option<(u8, bool, Vec<u8>)> = None;
    let mut at = 0;
    while let Some(frame) = Frame::read(&bytes[at..]) {
        at += frame.length;
        let end = at as u64;
        if frame.opcode & 8 != 0 {
            all.push(Message { opcode: frame.opcode, data: frame.payload, end, cut: false });
            continue;
        }
        let (opcode, compressed, mut data) = match under_way.take() {
            Some(message) if frame.opcode == 0 => message,
            _ => (frame.opcode, frame.compressed, Vec::new()),
        };
        data.extend_from_slice(&frame.payload);
        if !frame.last {
            under_way = Some((opcode, compressed, data));
            continue;
        }
        let mut cut = false;
        if compressed && deflate.on {
            if deflate.no_takeover {
                inflater.reset(false);
            }
            (data, cut) = inflate(&mut inflater, &data, room);
            room = room.saturating_sub(data.len());
        }
        all.push(Message { opcode, data, end, cut });
    }
    (all, bytes.len() - at)
}

/// One message (RFC 7692 §7.2.2), `max` bytes at most; whether it is not whole.
fn inflate(inflater: &mut Decompress, data: &[u8], max: usize) -> (Vec<u8>, bool) {
    let coded = [data, &[0, 0, 0xff, 0xff]].concat();
    let (mut out, mut at, mut piece) = (Vec::new(), 0, [0; 8 << 10]);
    loop {
        let (taken, made) = (inflater.total_in(), inflater.total_out());
        if inflater.decompress(&coded[at..], &mut piece, FlushDecompress::Sync).is_err() {
            return (out, true);
        }
        // invariant: both are at most the lengths of the slices.
        let (taken, made) = ((inflater.total_in() - taken) as usize, (inflater.total_out() - made) as usize);
        at += taken;
        if out.len() + made > max {
            return (out, true);
        }
        out.extend_from_slice(&piece[..made]);
        if made < piece.len() && (at == coded.len() || taken + made == 0) {
            return (out, false);
        }
    }
}

struct Frame {
    opcode: u8,
    last: bool,
    compressed: bool,
    payload: Vec<u8>,
    length: usize,
}

impl Frame {
    /// A whole frame; `None` when there is none at the beginning of `bytes`.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let (length, mut at) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
            short => (u64::from(short), 2),
        };
        let mask = if second & 0x80 == 0 {
            None
        } else {
            at += 4;
            Some(bytes.get(at - 4..at)?)
        };
        let end = at.checked_add(usize::try_from(length).ok()?)?;
        let mut payload = bytes.get(at..end)?.to_vec();
        if let Some(mask) = mask {
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
        let compressed = first & 0x40 != 0;
        Some(Self { opcode: first & 0x0f, last: first & 0x80 != 0, compressed, payload, length: end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_fragmented_and_compressed_messages_come_back() {
        let mut wire = vec![0x01, 0x83, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2, b'c' ^ 3];
        wire.extend([0x89, 0x80, 9, 9, 9, 9]); // ping between
        wire.extend([0x80, 0x01, b'd']);
        wire.extend([0x82, 126, 1, 0]);
        wire.extend([7; 256]);
        wire.extend([0x81, 5, b'x']); // not whole
        let (all, rest) = messages(&wire, Deflate::default());
        let kinds: Vec<_> = all.iter().map(|m| (m.kind(), m.data.len())).collect();
        assert_eq!(kinds, [("ping", 0), ("text", 4), ("binary", 256)]);
        assert_eq!((&all[1].data[..], rest), (&b"abcd"[..], 3));

        // RFC 7692 §7.2.3.1 and .2: Hello, and Hello again with the window of the first.
        let wire = [
            &[0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00],
        ]
        .concat();
        let deflate = Deflate::agreed(Some("permessage-deflate; client_no_context_takeover"), "server");
        assert_eq!(deflate, Deflate { on: true, no_takeover: false });
        let (all, rest) = messages(&wire, deflate);
        assert_eq!(rest, 0);
        assert!(all.iter().all(|m| m.data == b"Hello" && !m.cut) && all.len() == 2, "{all:?}");
    }

    #[test]
    fn a_bomb_stays_small() {
        use std::io::Write as _;
        let mut deflater = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        deflater.write_all(&vec![0; 64 << 20]).expect("memory");
        let coded = deflater.finish().expect("memory");
        let mut wire = vec![0xc2, 127];
        wire.extend((coded.len() as u64).to_be_bytes());
        wire.extend(&coded);
        let (all, _) = messages(&wire, Deflate { on: true, no_takeover: true });
        assert!(all[0].cut && all[0].data.len() <= INFLATED);
    }
}
