//! PCAP-NG (draft-ietf-opsawg-pcapng) of the plaintext: one TCP stream a session, from the caller's address to the original
//! destination. The packets were never on a wire; HTTP/2 is written as HTTP/1.1 text. Both stand in packets' comments.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::packets::Stream;
use super::wire::{self, Written};
use super::{Exporter, Said};
use crate::look::item::{Item, nanos};
use crate::look::messages::both_ways;
use crate::look::pace::Pace;
use crate::record::payload::SessionBegin;
use crate::types::Caller;

/// Sessions whose streams are open at once: beyond it the oldest is closed, and would begin anew.
const OPEN: usize = 65_536;
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const COMMENT: u16 = 1;
/// Longest comment: an option's length is 16 bits.
const COMMENT_MAX: usize = 4096;

/// See the module.
#[derive(Default)]
pub struct Pcapng {
    begun: bool,
    /// By the session's id: the oldest first.
    streams: BTreeMap<String, Live>,
}

struct Live {
    stream: Stream,
    /// Nothing of the stream is older than this: nanoseconds since 1970.
    last: i128,
}

impl Exporter for Pcapng {
    fn add(&mut self, out: &mut dyn Write, item: &Item) -> io::Result<Said> {
        let Some(session) = item.session.as_deref() else {
            return Ok(Said::No("the session's begin, and with it its addresses, is no more in the store"));
        };
        let empty = item.exchange.up.is_empty() && item.exchange.down.is_empty();
        if !item.is_http() && empty {
            return Ok(Said::No(
                "packets hold HTTP and tunnels' bytes; of this (a name lookup, a refused connection) there are none",
            ));
        }
        self.begin(out)?;
        let id = &item.summary.session;
        if !self.streams.contains_key(id) {
            self.open(out, item, session)?;
        }
        if let Some(live) = self.streams.get_mut(id) {
            if item.is_http() { http(out, live, item)? } else { raw(out, live, item)? }
        }
        Ok(Said::Yes)
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.begin(out)?;
        for (_, live) in std::mem::take(&mut self.streams) {
            close(out, live)?;
        }
        Ok(())
    }
}

impl Pcapng {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        let mut section = Vec::new();
        section.extend(0x1a2b_3c4d_u32.to_le_bytes());
        section.extend([1, 0, 0, 0]);
        section.extend(u64::MAX.to_le_bytes());
        let made = "plaintext of recorded sessions; these packets were never on a wire";
        option(&mut section, COMMENT, made.as_bytes());
        option(&mut section, 4, concat!("Sluice ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(&mut section, 0, &[]);
        block(out, SECTION, &section)?;
        // Ethernet, no snap length, nanoseconds.
        let mut interface = vec![1, 0, 0, 0, 0, 0, 0, 0];
        option(&mut interface, 2, b"sluice");
        option(&mut interface, 9, &[9]);
        option(&mut interface, 0, &[]);
        block(out, INTERFACE, &interface)
    }

    fn open(&mut self, out: &mut dyn Write, item: &Item, session: &SessionBegin<Caller>) -> io::Result<()> {
        if self.streams.len() >= OPEN
            && let Some((_, oldest)) = self.streams.pop_first()
        {
            close(out, oldest)?;
        }
        let seed = session.session.parse::<ulid::Ulid>().map_or(0, |id| id.0 as u64);
        let stream = Stream::new(session.client, session.destination.socket(), seed);
        let mut live = Live { stream, last: nanos(&session.time).unwrap_or_else(|| item.began()) };
        let who = session.caller.exe.as_ref().map_or(session.caller.comm.as_str(), |exe| &exe.path);
        let comment = format!(
            "session {}: pid {} {who}, tag {}",
            session.session, session.caller.pid, session.caller.tag
        );
        for (at, packet) in live.stream.handshake().into_iter().enumerate() {
            packet_block(out, live.last, &packet, if at == 0 { &comment } else { "" })?;
        }
        self.streams.insert(session.session.clone(), live);
        Ok(())
    }
}

fn close(out: &mut dyn Write, mut live: Live) -> io::Result<()> {
    live.stream.close().iter().try_for_each(|packet| packet_block(out, live.last, packet, ""))
}

impl Live {
    /// Bytes one way at a time, or at the last time where that is later.
    fn say(
        &mut self,
        out: &mut dyn Write,
        (down, at): (bool, i128),
        bytes: &[u8],
        note: &str,
    ) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.last = self.last.max(at);
        let packets = self.stream.data(down, bytes);
        // Where a message ends a reader shows it; what follows is its acknowledgement.
        let last = packets.len().saturating_sub(2);
        for (index, packet) in packets.iter().enumerate() {
            packet_block(out, self.last, packet, if index == last { note } else { "" })?;
        }
        Ok(())
    }
}

fn http(out: &mut dyn Write, live: &mut Live, item: &Item) -> io::Result<()> {
    let pace = Pace::of(item);
    let mut message = |down: bool, began: i128, written: Written, length: usize| -> io::Result<()> {
        let s = &item.summary;
        let mut note = format!("exchange {}/{}: {}", s.session, s.exchange, s.verdict.as_str());
        if let Some(rule) = &s.rule {
            note.push_str(&format!(" by rule {rule}"));
        }
        for said in &written.notes {
            note.push_str("; ");
            note.push_str(said);
        }
        let ended = pace.at(down, length as u64).max(began);
        live.say(out, (down, began), &written.head, &note)?;
        let mut from = 0;
        for piece in item.exchange.pieces.iter().filter(|p| length > 0 && p.down == down && p.at.is_some()) {
            let end = piece.offset + piece.length;
            // The last goes with what ends the message.
            let Some(bytes) =
                written.body.get(from..written.lead + end as usize).filter(|_| end < length as u64)
            else {
                break;
            };
            live.say(out, (down, pace.at(down, end).max(began)), bytes, "")?;
            from += bytes.len();
        }
        live.say(out, (down, ended), &written.body[from..], &note)
    };
    message(false, item.began(), wire::request(item), item.exchange.up.len())?;
    for (at, response) in item.exchange.responses.iter().enumerate() {
        let last = at + 1 == item.exchange.responses.len();
        let when = nanos(&response.time).unwrap_or_else(|| item.began());
        let length = if last { item.exchange.down.len() } else { 0 };
        message(true, when, wire::response(item, response, last), length)?;
    }
    if item.is_websocket() {
        websocket(out, live, item)?;
    }
    Ok(())
}

/// Frames as they were, message by message.
fn websocket(out: &mut dyn Write, live: &mut Live, item: &Item) -> io::Result<()> {
    for timed in both_ways(item) {
        let bytes = if timed.down { &item.exchange.down } else { &item.exchange.up };
        let range = timed.from as usize..timed.message.end as usize;
        live.say(out, (timed.down, timed.at), bytes.get(range).unwrap_or_default(), "")?;
    }
    Ok(())
}

/// A tunnel's bytes: by their pieces where these have times, else first those of the client.
fn raw(out: &mut dyn Write, live: &mut Live, item: &Item) -> io::Result<()> {
    let pace = Pace::of(item);
    let exchange = &item.exchange;
    let mut pieces: Vec<(bool, usize, usize)> = if exchange.pieces.is_empty() {
        vec![(false, 0, exchange.up.len()), (true, 0, exchange.down.len())]
    } else {
        exchange.pieces.iter().map(|p| (p.down, p.offset as usize, (p.offset + p.length) as usize)).collect()
    };
    if pace.is_known() {
        pieces.sort_by_key(|(down, _, end)| pace.at(*down, *end as u64));
    }
    let s = &item.summary;
    let mut note = format!("exchange {}/{}: {}", s.session, s.exchange, s.protocol);
    for (down, from, end) in pieces {
        let bytes = if down { &exchange.down } else { &exchange.up };
        live.say(out, (down, pace.at(down, end as u64)), bytes.get(from..end).unwrap_or_default(), &note)?;
        note.clear();
    }
    Ok(())
}

fn packet_block(out: &mut dyn Write, at: i128, packet: &[u8], comment: &str) -> io::Result<()> {
    let at = u64::try_from(at).unwrap_or(0);
    let mut body = Vec::with_capacity(packet.len() + 64);
    body.extend(0_u32.to_le_bytes());
    body.extend(((at >> 32) as u32).to_le_bytes());
    body.extend((at as u32).to_le_bytes());
    // invariant: a packet is short.
    body.extend((packet.len() as u32).to_le_bytes());
    body.extend((packet.len() as u32).to_le_bytes());
    body.extend(packet);
    pad(&mut body);
    if !comment.is_empty() {
        let end =
            (0..=comment.len().min(COMMENT_MAX)).rev().find(|at| comment.is_char_boundary(*at)).unwrap_or(0);
        option(&mut body, COMMENT, &comment.as_bytes()[..end]);
        option(&mut body, 0, &[]);
    }
    block(out, PACKET, &body)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn block(out: &mut dyn Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = (body.len() as u32 + 12).to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&length)?;
    out.write_all(body)?;
    out.write_all(&length)
}
