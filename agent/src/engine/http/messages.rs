//! Messages on a WebSocket that rules ask for: what is read of a side are the frames that were allowed, as they came. A
//! message that is refused ends it: nothing of it is read, and the client gets a close frame that says why (RFC 6455
//! §7.4.1). The two sides' streams stand in [`ends`].

mod ends;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Waking, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use crate::codec::websocket::{Event, Messages, Violation};
use crate::engine::Context;
use crate::engine::held::Held;
use crate::engine::http::masked::Side;
use crate::policy::{Denied, Hears, Mode, NONE, Verdict};
use crate::stream::BoxStream;
use crate::types::action::{Body, Http, Kept, Message, Speaker};
use crate::types::{self, Action};

pub(super) use ends::{Client, Server};

/// Read at once.
const PIECE: usize = 16 << 10;
/// Octets of a close frame's reason (RFC 6455 §5.5: 125 with the status).
const REASON: usize = 123;
/// The status for what policy refuses (§7.4.1).
const POLICY_VIOLATION: u16 = 1008;

/// Judges messages.
#[derive(Clone)]
pub(super) struct Judge {
    /// Who, and under which rules.
    pub cx: Context,
    /// The handshake.
    pub handshake: Arc<Kept>,
    /// Whose.
    pub hears: Hears,
    pub tally: Arc<[Tally; 2]>,
}

/// What was judged so far of one side's.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Messages.
    pub judged: AtomicU64,
    /// Of them, those that a rule refuses and observe mode lets pass.
    pub observed: AtomicU64,
}

/// A message was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a message was refused: {} (rule {}{})", denied.reason, denied.rule, if *from == Speaker::Server { ", from the server" } else { "" })]
pub(super) struct Refused {
    pub denied: Denied,
    pub status: u16,
    pub from: Speaker,
}

/// What becomes of a message.
enum Fate {
    Pass,
    /// Observed only, and no frames that could be read on.
    PassUnread,
    Refuse(Refused),
}

impl Judge {
    fn judge(
        &self,
        from: Speaker,
        binary: bool,
        data: Result<&[u8], &str>,
    ) -> Result<types::Verdict, Denied> {
        let body = Body::Message(Message { from, binary, data });
        let policy = self.cx.policy();
        let action = Action::Http(Http { body, ..self.handshake.http() });
        let permit = self.cx.decide(&policy, action).and_then(Verdict::settled)?;
        let tally = &self.tally[usize::from(from == Speaker::Server)];
        tally.judged.fetch_add(1, Ordering::Relaxed);
        if permit.verdict() == types::Verdict::Deny {
            tally.observed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(permit.verdict())
    }

    /// Whether a rule asks for this side's messages.
    fn judges(&self, from: Speaker) -> bool {
        self.hears == Hears::Both || (self.hears == Hears::Client && from == Speaker::Client)
    }

    fn message(&self, from: Speaker, binary: bool, data: Result<&[u8], &str>) -> Fate {
        if !self.judges(from) {
            return Fate::Pass;
        }
        match self.judge(from, binary, data) {
            Ok(_) => Fate::Pass,
            Err(denied) => Fate::Refuse(Refused { denied, status: POLICY_VIOLATION, from }),
        }
    }

    /// What is no WebSocket cannot be judged; it passes only where nothing is refused at all.
    fn violation(&self, from: Speaker, violation: Violation) -> Fate {
        let why = violation.to_string();
        match self.judge(from, false, Err(&why)) {
            Ok(_) if self.cx.policy().mode(&self.cx.caller.tag) == Mode::Observe => Fate::PassUnread,
            Ok(_) => {
                let denied = Denied { rule: NONE.to_owned(), reason: why };
                Fate::Refuse(Refused { denied, status: violation.status(), from })
            }
            Err(denied) => Fate::Refuse(Refused { denied, status: violation.status(), from }),
        }
    }
}

/// Longest message that is masked where no rule asks for messages.
const MASKED_MAX: usize = 4 << 20;

/// Reads one side: of its frames, those that are allowed.
struct Reader {
    judge: Judge,
    /// Masks its messages.
    masked: Option<Side>,
    from: Speaker,
    messages: Messages,
    held: Option<Held>,
    /// Read, not looked at yet: an event stopped it.
    input: BytesMut,
    /// Allowed, not taken yet.
    out: BytesMut,
    /// The side has ended.
    eof: bool,
    /// What comes is no more looked at.
    unread: bool,
    /// Why nothing more is read.
    refused: Option<Refused>,
}

/// What came of reading.
enum Came {
    /// Octets, or the end.
    Read,
    /// All that was allowed has been read, and this was not.
    Refused(Refused),
}

impl Reader {
    fn new(judge: Judge, masked: Option<Side>, from: Speaker) -> Self {
        let messages = Messages::of(from);
        let (input, out) = (BytesMut::new(), BytesMut::new());
        Self {
            judge,
            masked,
            from,
            messages,
            held: None,
            input,
            out,
            eof: false,
            unread: false,
            refused: None,
        }
    }

    fn poll(
        &mut self,
        inner: &mut BoxStream,
        cx: &mut Waking<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Came>> {
        loop {
            if !self.out.is_empty() {
                let n = self.out.len().min(buf.remaining());
                buf.put_slice(&self.out[..n]);
                self.out.advance(n);
                if self.out.is_empty() {
                    self.out = BytesMut::new();
                }
                return Poll::Ready(Ok(Came::Read));
            }
            if let Some(refused) = &self.refused {
                return Poll::Ready(Ok(Came::Refused(refused.clone())));
            }
            if self.unread && !self.input.is_empty() {
                let octets = self.input.len();
                self.masked.iter_mut().for_each(|side| side.pass(octets));
                self.out.unsplit(self.input.split());
                continue;
            }
            if self.eof {
                return Poll::Ready(Ok(Came::Read));
            }
            let mut piece = [0; PIECE];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut *inner).poll_read(cx, &mut read))?;
            self.eof = read.filled().is_empty();
            self.input.extend_from_slice(read.filled());
            self.look();
        }
    }

    /// Looks at what was read, up to the first message that is refused.
    fn look(&mut self) {
        let from = self.from;
        let max = match self.judge.judges(from) {
            true => self.judge.cx.policy().message_max(),
            false => MASKED_MAX,
        };
        while self.refused.is_none() && !self.unread {
            let mut rest = &self.input[..];
            let read = self.messages.read(&mut rest, max, &mut self.out);
            let upto = self.input.len() - rest.len();
            let Some((fate, whole, unread)) = self.fate(read, max) else {
                self.input.clear();
                return;
            };
            let fate = match self.masked_fate(fate, whole, unread) {
                Some(fate) => fate,
                None => {
                    self.input.advance(upto);
                    self.held = None;
                    continue;
                }
            };
            match fate {
                Fate::Pass => {
                    self.input.advance(upto);
                    self.messages.pass(&mut self.out);
                    self.held = None;
                }
                Fate::PassUnread => {
                    self.input.advance(upto);
                    self.messages.give_up(&mut self.out);
                    self.unread = true;
                }
                Fate::Refuse(refused) => self.refused = Some(refused),
            }
        }
    }

    /// What rules say of what was read: with it, whether a message is whole, and else why it is not. `None`: more has to come.
    fn fate(&mut self, read: Result<Event, Violation>, max: usize) -> Option<(Fate, bool, String)> {
        let from = self.from;
        if let Ok(Event::Hungry) = read {
            let why = self.reach().err()?;
            let (binary, _) = self.messages.message();
            return Some((self.judge.message(from, binary, Err(&why)), false, why));
        }
        let (binary, data) = self.messages.message();
        Some(match read {
            Ok(Event::Hungry | Event::Message) => {
                (self.judge.message(from, binary, Ok(data)), true, String::new())
            }
            Ok(Event::TooLong) => {
                let why = format!("it is longer than {max} bytes");
                (self.judge.message(from, binary, Err(&why)), false, why)
            }
            Err(violation) if self.judge.judges(from) => {
                (self.judge.violation(from, violation), false, violation.to_string())
            }
            Err(violation) => (Fate::PassUnread, false, violation.to_string()),
        })
    }

    /// The same after masks have had their say. `None`: another message went in its place.
    fn masked_fate(&mut self, fate: Fate, whole: bool, unread: String) -> Option<Fate> {
        let Some(must_read) = self.masked.as_ref().map(Side::must_read) else { return Some(fate) };
        match fate {
            Fate::Refuse(refused) => Some(Fate::Refuse(refused)),
            fate if whole => match self.mask() {
                Ok(true) => None,
                Ok(false) => Some(fate),
                Err(why) => Some(self.unmaskable(why)),
            },
            _ if must_read => Some(self.unmaskable(unread)),
            fate => {
                self.masked.iter_mut().for_each(|side| side.pass(0));
                Some(fate)
            }
        }
    }

    /// Masks the message that waits. Whether another went in its place.
    fn mask(&mut self) -> Result<bool, String> {
        let Some(side) = &mut self.masked else { return Ok(false) };
        let (binary, data) = self.messages.message();
        let Some(now) = side.message(binary, data)? else { return Ok(false) };
        let mask = (self.from == Speaker::Client).then(|| {
            let mut mask = [0; 4];
            aws_lc_rs::rand::fill(&mut mask).expect("the kernel's generator answers");
            mask
        });
        self.messages.replace(&now, mask, &mut self.out);
        Ok(true)
    }

    /// A message that cannot be masked ends the conversation.
    fn unmaskable(&self, why: String) -> Fate {
        let reason = format!("the message cannot be masked: {why}");
        let denied = Denied { rule: NONE.to_owned(), reason };
        Fate::Refuse(Refused { denied, status: POLICY_VIOLATION, from: self.from })
    }

    /// Takes what is held of a message that is not whole of the tag's share.
    fn reach(&mut self) -> Result<(), String> {
        // A share counts twice what it is told.
        let octets = self.messages.holds() / 2;
        if octets == 0 {
            return Ok(());
        }
        let tag = &self.judge.cx.caller.tag;
        let held = self.held.get_or_insert_with(|| Held::of(tag.clone()));
        held.reach(octets).map_err(|full| full.to_string())
    }
}

/// A close frame; with a mask, a client's (RFC 6455 §5.2).
pub(super) fn close(status: u16, reason: &str, mask: Option<[u8; 4]>) -> BytesMut {
    let mut reason = reason.to_owned();
    reason.truncate(reason.floor_char_boundary(REASON));
    let payload = [&status.to_be_bytes()[..], reason.as_bytes()].concat();
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let length = u8::try_from(payload.len()).unwrap_or(u8::MAX) & 0x7f;
    let mut frame = BytesMut::from(&[0x88, masked | length][..]);
    frame.extend_from_slice(mask.as_ref().map_or(&[][..], |mask| mask));
    let mask = mask.unwrap_or_default();
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}
