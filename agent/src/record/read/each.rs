//! Every exchange of a store in turn, with what it asked: who, the request's head, and its body where that is wanted; and
//! with what was answered, for those who want all.
//!
//! In memory are what is under way at one place in the store: at most [`OPEN`] exchanges, and [`BODIES`] bytes of bodies.
//! Beyond it the oldest exchange is given as it is, and a body is left out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::list::{Filter, INTERRUPTED, UNKNOWN, of_begin};
use super::unseal::{Access, BodyPiece, Hidden, Unsealer};
use super::whole::{Headers, Piece};
use super::{Damage, Error, Frame, Reader};
use crate::record::frame::{BodyAt, Kind};
use crate::record::payload::{
    ExchangeBegin, ExchangeEnd, Kept, Response, SessionBegin, SessionEnd, Tls, Trailers,
};
use crate::types::{Caller, Summary};

/// Exchanges, and sessions, under way at once.
const OPEN: usize = 65_536;
/// Bytes of bodies under way at once.
const BODIES: usize = 256 << 20;
/// Names that TLS verified within one session: more than the layers and connections that one may hold.
const NAMES: usize = 64;

/// A request's head.
pub type Head = ExchangeBegin<'static, Headers>;

/// One exchange.
#[derive(Debug)]
pub struct Recorded {
    /// Who, and where to; `None` where the store has lost it.
    pub session: Option<Arc<SessionBegin<Caller>>>,
    /// The request's head; `None` where the store has lost it.
    pub head: Option<Head>,
    /// What TLS was verified for in its session before it began, in order.
    pub names: Vec<String>,
    /// How much of the request's body there was; `None` where it was not seen to end.
    pub up: Option<Kept>,
    /// The request's body from its start, where it was wanted and may be read.
    pub body: Vec<u8>,
    /// Why that is not there to its end, and how many bytes are not.
    pub hidden: Option<(Hidden, u64)>,
    /// What was answered; empty but for [`all`].
    pub answer: Answer,
    /// In one line.
    pub summary: Summary,
}

/// The rest of an exchange.
#[derive(Debug, Default)]
pub struct Answer {
    /// Heads of answers: informational ones, then the final one.
    pub responses: Vec<Response<'static, Headers>>,
    /// Trailers, either way.
    pub trailers: Vec<Trailers<'static, Headers>>,
    /// The answer's body from its start.
    pub down: Vec<u8>,
    /// Why that is not there to its end, and how many bytes are not.
    pub down_hidden: Option<(Hidden, u64)>,
    /// The pieces in which the bodies came, in order.
    pub pieces: Vec<Piece>,
    /// How much of it there was; `None` where it was not seen to end.
    pub kept: Option<Kept>,
    /// The session's TLS legs.
    pub tls: Option<Arc<Tls<'static>>>,
}

impl Answer {
    /// What it counts for in [`BODIES`].
    fn size(&self) -> usize {
        self.down.len() + self.pieces.len() * size_of::<Piece>()
    }
}

/// As [`each`], with all of every exchange: request and answer.
///
/// # Errors
/// As [`each`].
pub fn all(
    dir: &Path,
    wanted: (&Filter, &Access),
    each: impl FnMut(Recorded) -> ControlFlow<()>,
) -> Result<Vec<Damage>, Error> {
    walk(dir, wanted, (true, |_: &SessionBegin<Caller>, _: &Head, _: &[String]| true), each)
}

/// Gives every exchange that `filter` wants to `each`, in the order in which they ended, those under way last. `wants` says
/// of a head, and of what TLS was verified for before it, whether its body is wanted; it is read for one who has `access`.
///
/// # Errors
/// [`Error`]: the store cannot be read.
pub fn each(
    dir: &Path,
    wanted: (&Filter, &Access),
    wants: impl Fn(&SessionBegin<Caller>, &Head, &[String]) -> bool,
    each: impl FnMut(Recorded) -> ControlFlow<()>,
) -> Result<Vec<Damage>, Error> {
    walk(dir, wanted, (false, wants), each)
}

fn walk<W: Fn(&SessionBegin<Caller>, &Head, &[String]) -> bool>(
    dir: &Path,
    (filter, access): (&Filter, &Access),
    (whole, wants): (bool, W),
    mut each: impl FnMut(Recorded) -> ControlFlow<()>,
) -> Result<Vec<Damage>, Error> {
    let reader = Reader::open(dir)?;
    let from = filter.since.as_ref().map_or(0, |since| reader.before(since));
    let mut walk = Walk {
        reader: &reader,
        from,
        unsealer: Unsealer::new(dir, access),
        wants,
        whole,
        sessions: BTreeMap::new(),
        exchanges: BTreeMap::new(),
        held: 0,
        looked_back: from == 0,
    };
    let mut give = |recorded: Recorded| {
        if filter.wants(&recorded.summary) { each(recorded) } else { ControlFlow::Continue(()) }
    };
    let (mut damage, broken) = reader.frames_from(from, |frame| walk.frame(frame, &mut give))?;
    if !broken {
        // Nothing follows: whether `each` has had enough makes no difference.
        let _ = walk.over((!reader.live()).then_some(INTERRUPTED), &mut give);
    }
    damage.append(&mut walk.unsealer.damage);
    Ok(damage)
}

/// What is under way at one place in the store.
struct Walk<'a, W> {
    reader: &'a Reader,
    from: usize,
    unsealer: Unsealer<'a>,
    wants: W,
    /// Answers are wanted, too, and what of bodies there is.
    whole: bool,
    /// By id, so that the first is the oldest.
    sessions: BTreeMap<String, Live>,
    exchanges: BTreeMap<(String, u32), Open>,
    held: usize,
    /// Whether what is before `from` was looked through for sessions.
    looked_back: bool,
}

struct Live {
    begin: Arc<SessionBegin<Caller>>,
    /// What TLS in it was verified for, so far.
    names: Vec<String>,
    tls: Option<Arc<Tls<'static>>>,
}

struct Open {
    session: Option<Arc<SessionBegin<Caller>>>,
    head: Head,
    names: Vec<String>,
    /// `None`: not wanted, or there was no room.
    body: Option<Vec<u8>>,
    hidden: Option<(Hidden, u64)>,
    answer: Box<Answer>,
}

#[derive(Deserialize)]
struct Of<'a> {
    #[serde(borrow)]
    session: Cow<'a, str>,
    exchange: u32,
}

impl<W: Fn(&SessionBegin<Caller>, &Head, &[String]) -> bool> Walk<'_, W> {
    fn frame(
        &mut self,
        frame: &Frame<'_>,
        each: &mut impl FnMut(Recorded) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        match frame.kind {
            Some(Kind::Start) if self.reader.goes_on(frame) => {}
            Some(Kind::Start) => {
                self.sessions.clear();
                return Ok(self.over(Some(INTERRUPTED), each));
            }
            Some(Kind::Exchange) => return self.begun(frame.payload, each),
            Some(Kind::Body | Kind::BodyRef | Kind::Diverted) => self.body(frame),
            Some(kind @ (Kind::Response | Kind::Trailers)) if self.whole => self.told(kind, frame.payload),
            Some(Kind::ExchangeEnd) => {
                if let Ok(end) = serde_json::from_slice::<ExchangeEnd<'_>>(frame.payload) {
                    return Ok(each(self.ended(end)));
                }
            }
            _ => track(&mut self.sessions, frame),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn begun(
        &mut self,
        payload: &[u8],
        each: &mut impl FnMut(Recorded) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let Ok(head) = serde_json::from_slice::<Head>(payload) else { return Ok(ControlFlow::Continue(())) };
        if !self.sessions.contains_key(head.session.as_ref()) {
            self.look_back()?;
        }
        let live = self.sessions.get(head.session.as_ref());
        let names = live.map_or_else(Vec::new, |live| live.names.clone());
        let session = live.map(|live| Arc::clone(&live.begin));
        let wanted = session.as_ref().is_some_and(|session| (self.wants)(session, &head, &names));
        let key = (head.session.to_string(), head.exchange);
        let tls = live.and_then(|live| live.tls.clone()).filter(|_| self.whole);
        let answer = Box::new(Answer { tls, ..Answer::default() });
        let body = (wanted || self.whole).then(Vec::new);
        self.exchanges.insert(key, Open { session, head, names, body, hidden: None, answer });
        let oldest = if self.exchanges.len() > OPEN { self.exchanges.pop_first() } else { None };
        Ok(oldest.map_or(ControlFlow::Continue(()), |(_, open)| each(self.unended(open, None))))
    }

    /// A head of an answer, or trailers.
    fn told(&mut self, kind: Kind, payload: &[u8]) {
        let Ok(of) = serde_json::from_slice::<Of<'_>>(payload) else { return };
        let Some(open) = self.exchanges.get_mut(&(of.session.into_owned(), of.exchange)) else { return };
        if kind == Kind::Response {
            open.answer.responses.extend(serde_json::from_slice::<Response<'static, Headers>>(payload));
        } else {
            open.answer.trailers.extend(serde_json::from_slice::<Trailers<'static, Headers>>(payload));
        }
    }

    fn body(&mut self, frame: &Frame<'_>) {
        let key = BodyPiece::at(frame).map(|(at, _)| (at, (ulid::Ulid(at.session).to_string(), at.exchange)));
        let wanted = |(at, key): &(BodyAt, _)| {
            (!at.down || self.whole) && self.exchanges.get(key).is_some_and(|open: &Open| open.body.is_some())
        };
        if key.as_ref().is_some_and(|key| !wanted(key)) {
            return;
        }
        let piece = self.unsealer.piece(frame);
        let (Some(piece), Some((at, key))) = (piece, key) else { return };
        let Some(open) = self.exchanges.get_mut(&key) else { return };
        let Some(up) = &mut open.body else { return };
        let (body, hidden) = if at.down {
            (&mut open.answer.down, &mut open.answer.down_hidden)
        } else {
            (up, &mut open.hidden)
        };
        let data = match piece.bytes {
            Ok(data) => data,
            Err(why) => {
                hidden.get_or_insert((why, 0)).1 += piece.length;
                Cow::Borrowed(&[][..])
            }
        };
        // Pieces come in order; one that leaves a gap ends what is known.
        if at.offset == body.len() as u64
            && data.len() as u64 == piece.length
            && self.held + data.len() <= BODIES
        {
            body.extend_from_slice(&data);
            self.held += data.len();
            if self.whole {
                let (down, offset, length) = (at.down, at.offset, piece.length);
                open.answer.pieces.push(Piece { down, offset, length, at: piece.time });
                self.held += size_of::<Piece>();
            }
        } else if !self.whole {
            self.held -= body.len();
            open.body = None;
        }
    }

    fn ended(&mut self, end: ExchangeEnd<'_>) -> Recorded {
        let summary = end.summary.into_owned();
        let open = self.exchanges.remove(&(end.session.into_owned(), end.exchange));
        let hidden = open.as_ref().and_then(|open| open.hidden);
        let (session, head, names, body, mut answer) = match open {
            Some(open) => {
                (open.session, Some(open.head), open.names, open.body.unwrap_or_default(), *open.answer)
            }
            None => (None, None, Vec::new(), Vec::new(), Answer::default()),
        };
        self.held -= body.len() + answer.size();
        answer.kept = Some(end.down);
        Recorded { session, head, names, up: Some(end.up), body, hidden, answer, summary }
    }

    fn unended(&mut self, open: Open, error: Option<&str>) -> Recorded {
        let Open { session, head, names, body, hidden, answer } = open;
        let mut summary = of_begin(&head, session.as_deref());
        summary.status = answer.responses.last().map(|response| response.status);
        summary.error = error.map(str::to_owned);
        if session.is_none() {
            UNKNOWN.clone_into(&mut summary.tag);
        }
        let body = body.unwrap_or_default();
        self.held -= body.len() + answer.size();
        let answer = *answer;
        Recorded { session, head: Some(head), names, up: None, body, hidden, answer, summary }
    }

    /// Everything that is under way will not be ended by a record: `error` says why.
    fn over(
        &mut self,
        error: Option<&str>,
        each: &mut impl FnMut(Recorded) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        while let Some((_, open)) = self.exchanges.pop_first() {
            each(self.unended(open, error))?;
        }
        ControlFlow::Continue(())
    }

    /// Sessions that began before what is read: looked for once, when one is missed.
    fn look_back(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.looked_back, true) {
            return Ok(());
        }
        let mut earlier = BTreeMap::new();
        self.reader.frames(0..self.from, |frame| {
            track(&mut earlier, &frame);
            ControlFlow::Continue(())
        })?;
        // What was read since then is newer.
        earlier.append(&mut self.sessions);
        self.sessions = earlier;
        Ok(())
    }
}

/// Keeps the sessions that are open. An exchange may outlast its session's end, but has its caller by then.
fn track(sessions: &mut BTreeMap<String, Live>, frame: &Frame<'_>) {
    match frame.kind {
        Some(Kind::Session) => {
            if let Ok(begin) = serde_json::from_slice::<SessionBegin<Caller>>(frame.payload) {
                let live = Live { begin: Arc::new(begin), names: Vec::new(), tls: None };
                sessions.insert(live.begin.session.clone(), live);
                if sessions.len() > OPEN {
                    sessions.pop_first();
                }
            }
        }
        Some(Kind::Tls) => {
            if let Ok(tls) = serde_json::from_slice::<Tls<'static>>(frame.payload)
                && let Some(live) = sessions.get_mut(tls.session.as_ref())
                && live.names.len() < NAMES
            {
                live.names.push(tls.facts.verified_name.clone());
                live.tls = Some(Arc::new(tls));
            }
        }
        Some(Kind::SessionEnd) => {
            if let Ok(end) = serde_json::from_slice::<SessionEnd<'_>>(frame.payload) {
                sessions.remove(end.session.as_ref());
            }
        }
        Some(Kind::Start) => sessions.clear(),
        _ => {}
    }
}
