//! The client's side of a WebSocket whose messages rules ask for: what is read from it are the frames that were allowed,
//! as they came. A message that is refused ends it: nothing of it is read from here, and the client gets a close frame
//! that says why (RFC 6455 §7.4.1). Messages from the server pass unjudged.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Waking, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::codec::websocket::{Event, Frames, Messages, Violation};
use crate::engine::Context;
use crate::engine::held::Held;
use crate::policy::{Denied, Mode, NONE, Verdict};
use crate::stream::BoxStream;
use crate::types::action::{Body, Http, Kept, Message};
use crate::types::{self, Action};

/// Read from the client at once.
const PIECE: usize = 16 << 10;
/// How long a frame to the client that is under way holds the close frame up, and how long the client has to take that.
const GOODBYE: Duration = Duration::from_secs(5);
/// Octets of a close frame's reason (RFC 6455 §5.5: 125 with the status).
const REASON: usize = 123;
/// The status for what policy refuses (§7.4.1).
const POLICY_VIOLATION: u16 = 1008;

/// Judges messages.
pub(super) struct Judge {
    /// Who, and under which rules.
    pub cx: Context,
    /// The handshake.
    pub handshake: Box<Kept>,
    pub tally: Arc<Tally>,
}

/// What was judged so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Messages.
    pub judged: AtomicU64,
    /// Of them, those that a rule refuses and observe mode lets pass.
    pub observed: AtomicU64,
}

/// A message was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a message was refused: {} (rule {})", denied.reason, denied.rule)]
pub(super) struct Refused {
    pub denied: Denied,
    pub status: u16,
}

/// What becomes of a message.
enum Fate {
    Pass,
    /// Observed only, and no frames that could be read on.
    PassUnread,
    Refuse(Refused),
}

impl Judge {
    fn judge(&self, binary: bool, data: Result<&[u8], &str>) -> Result<types::Verdict, Denied> {
        let body = Body::Message(Message { binary, data });
        let policy = self.cx.policy();
        let action = Action::Http(Http { body, ..self.handshake.http() });
        let permit = self.cx.decide(&policy, action).and_then(Verdict::settled)?;
        self.tally.judged.fetch_add(1, Ordering::Relaxed);
        if permit.verdict() == types::Verdict::Deny {
            self.tally.observed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(permit.verdict())
    }

    fn message(&self, binary: bool, data: Result<&[u8], &str>) -> Fate {
        match self.judge(binary, data) {
            Ok(_) => Fate::Pass,
            Err(denied) => Fate::Refuse(Refused { denied, status: POLICY_VIOLATION }),
        }
    }

    /// What is no WebSocket cannot be judged; it passes only where nothing is refused at all.
    fn violation(&self, violation: Violation) -> Fate {
        let why = violation.to_string();
        match self.judge(false, Err(&why)) {
            Ok(_) if self.cx.policy().mode(&self.cx.caller.tag) == Mode::Observe => Fate::PassUnread,
            Ok(_) => {
                let denied = Denied { rule: NONE.to_owned(), reason: why };
                Fate::Refuse(Refused { denied, status: violation.status() })
            }
            Err(denied) => Fate::Refuse(Refused { denied, status: violation.status() }),
        }
    }
}

/// See the module.
pub(super) struct Judged {
    inner: BoxStream,
    judge: Judge,
    messages: Messages,
    held: Option<Held>,
    /// Read, not looked at yet: an event stopped it.
    input: BytesMut,
    /// Allowed, not taken yet.
    out: BytesMut,
    /// The client has ended.
    eof: bool,
    /// What comes is no more looked at.
    unread: bool,
    /// What was written to the client.
    down: Frames,
    goodbye: Option<Goodbye>,
}

struct Goodbye {
    refused: Refused,
    frame: BytesMut,
    patience: Pin<Box<Sleep>>,
}

impl Judged {
    pub(super) fn new(inner: BoxStream, judge: Judge) -> Self {
        let (messages, down) = (Messages::default(), Frames::default());
        let (input, out) = (BytesMut::new(), BytesMut::new());
        Self {
            inner,
            judge,
            messages,
            held: None,
            input,
            out,
            eof: false,
            unread: false,
            down,
            goodbye: None,
        }
    }

    /// Looks at what was read, up to the first message that is refused.
    fn look(&mut self) {
        let max = self.judge.cx.policy().message_max();
        while self.goodbye.is_none() && !self.unread {
            let mut rest = &self.input[..];
            let read = self.messages.read(&mut rest, max, &mut self.out);
            let upto = self.input.len() - rest.len();
            let (binary, data) = self.messages.message();
            let fate = match read {
                Ok(Event::Hungry) => match self.reach() {
                    Ok(()) => {
                        self.input.clear();
                        return;
                    }
                    Err(why) => self.judge.message(binary, Err(&why)),
                },
                Ok(Event::Message) => self.judge.message(binary, Ok(data)),
                Ok(Event::TooLong) => {
                    self.judge.message(binary, Err(&format!("it is longer than {max} bytes")))
                }
                Err(violation) => self.judge.violation(violation),
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
                Fate::Refuse(refused) => {
                    let frame = close(refused.status, &refused.denied.reason, None);
                    let patience = Box::pin(tokio::time::sleep(GOODBYE));
                    self.goodbye = Some(Goodbye { refused, frame, patience });
                }
            }
        }
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

    /// Says goodbye to the client between two frames; then, or when that takes too long, it is over.
    fn poll_goodbye(&mut self, cx: &mut Waking<'_>) -> Poll<io::Error> {
        let Some(goodbye) = &mut self.goodbye else { return Poll::Pending };
        let over = Poll::Ready(io::Error::other(goodbye.refused.clone()));
        if goodbye.patience.as_mut().poll(cx).is_ready() || self.down.broken || self.down.closed {
            return over;
        }
        if self.down.under_way() > 0 {
            return Poll::Pending;
        }
        while !goodbye.frame.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &goodbye.frame)) {
                Ok(n) if n > 0 => goodbye.frame.advance(n),
                Ok(_) | Err(_) => return over,
            }
        }
        ready!(Pin::new(&mut self.inner).poll_flush(cx)).map_or_else(Poll::Ready, |()| over)
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

impl AsyncRead for Judged {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Waking<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.out.is_empty() {
                let n = this.out.len().min(buf.remaining());
                buf.put_slice(&this.out[..n]);
                this.out.advance(n);
                if this.out.is_empty() {
                    this.out = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            if this.goodbye.is_some() {
                return this.poll_goodbye(cx).map(Err);
            }
            if this.unread && !this.input.is_empty() {
                this.out.unsplit(this.input.split());
                continue;
            }
            if this.eof {
                return Poll::Ready(Ok(()));
            }
            let mut piece = [0; PIECE];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
            this.eof = read.filled().is_empty();
            this.input.extend_from_slice(read.filled());
            this.look();
        }
    }
}

impl AsyncWrite for Judged {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Waking<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut buf = buf;
        if this.goodbye.is_some() {
            // To the end of the frame under way, and no further.
            let left = usize::try_from(this.down.under_way()).unwrap_or(usize::MAX);
            if left == 0 {
                // The other direction says goodbye, and ends it.
                return Poll::Pending;
            }
            buf = &buf[..left.min(buf.len())];
        }
        let n = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
        this.down.count(&buf[..n]);
        if this.goodbye.is_some() {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Waking<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Waking<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
