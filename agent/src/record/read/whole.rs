//! One session whole: who, where to, the TLS legs, and its exchanges with heads, trailers and bodies.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::list::INTERRUPTED;
use super::unseal::{Access, BodyPiece, Hidden, Unsealer};
use super::{Damage, Error, Frame, Reader};
use crate::record::frame::Kind;
use crate::record::headers::Stored;
use crate::record::payload::{
    ExchangeBegin, ExchangeEnd, Kept, Response, SessionBegin, SessionEnd, Tls, Trailers, stamp,
};
use crate::types::{Caller, Summary};

/// `[name, value]`.
pub type Headers = Vec<(String, Stored<'static>)>;

/// Sessions that a prefix is told to stand for, when it stands for several.
const NAMED: usize = 5;

/// Why a session cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// The store cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Error),
    /// No such session.
    #[error("no session {0} is in the store")]
    None(String),
    /// Several.
    #[error("{prefix} stands for several sessions, among them {}", .some.join(", "))]
    Several {
        /// What was asked for.
        prefix: String,
        /// The first of them.
        some: Vec<String>,
    },
}

/// A session.
#[derive(Debug, Default)]
pub struct Session {
    /// Its begin; `None` when the size bound took it.
    pub begin: Option<SessionBegin<Caller>>,
    /// Its TLS legs.
    pub tls: Option<Tls<'static>>,
    /// Its end; `None` when it runs or was interrupted.
    pub end: Option<SessionEnd<'static>>,
    /// Why it has no end, if it does not run.
    pub interrupted: Option<&'static str>,
    /// Those of its exchanges that were asked for.
    pub exchanges: BTreeMap<u32, Exchange>,
    /// How many more it has.
    pub more: u64,
    /// What is damaged in what was read.
    pub damage: Vec<Damage>,
}

/// An exchange.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The request's head.
    pub head: Option<ExchangeBegin<'static, Headers>>,
    /// The answers' heads: informational ones, then the final one.
    pub responses: Vec<Response<'static, Headers>>,
    /// Trailers.
    pub trailers: Vec<Trailers<'static, Headers>>,
    /// Body towards the upstream, as far as it is in the store.
    pub up: Vec<u8>,
    /// Body towards the client.
    pub down: Vec<u8>,
    /// Why the body towards the upstream is not shown to its end, and how many bytes are not.
    pub up_hidden: Option<(Hidden, u64)>,
    /// The same of the body towards the client.
    pub down_hidden: Option<(Hidden, u64)>,
    /// The pieces in which the bodies came, in order; none where whoever read it did not ask.
    pub pieces: Vec<Piece>,
    /// Its end.
    pub end: Option<End>,
}

/// A piece of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Towards the client; else towards the upstream.
    pub down: bool,
    /// Where in the body it begins.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// When its first byte came, in microseconds since the exchange began; `None` where the store does not say.
    pub at: Option<u64>,
}

/// An exchange's end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct End {
    /// Body towards the upstream.
    pub up: Kept,
    /// Body towards the client.
    pub down: Kept,
    /// In one line.
    pub summary: Summary,
}

/// Which exchanges of a session.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// The one of this number.
    One(u32),
    /// So many from the first on.
    First(u32),
}

impl Which {
    fn has(self, number: u32) -> bool {
        match self {
            Self::One(n) => n == number,
            Self::First(n) => number <= n,
        }
    }
}

/// Reads the session whose id is or begins with `prefix`, for one who has `access`. Bodies beyond `body_budget` bytes in all
/// are left out.
///
/// # Errors
/// [`NotFound`].
pub fn read(
    dir: &Path,
    prefix: &str,
    which: Which,
    body_budget: usize,
    access: &Access,
) -> Result<Session, NotFound> {
    let reader = Reader::open(dir)?;
    let prefix = prefix.to_ascii_uppercase();
    let guess = reader.before(&earliest(&prefix));
    // A clock that was set back puts a session before its time: look everywhere before saying no.
    for from in BTreeSet::from([std::cmp::Reverse(guess), std::cmp::Reverse(0)]) {
        let (ids, first) = find(&reader, from.0, &prefix)?;
        let mut ids = ids.into_iter();
        match (ids.next(), ids.next()) {
            (None, _) => {}
            (Some(id), None) => return Ok(gather(&reader, first, &id, (which, body_budget), access)?),
            (Some(a), Some(b)) => {
                let some = [a, b].into_iter().chain(ids).take(NAMED).collect();
                return Err(NotFound::Several { prefix, some });
            }
        }
    }
    Err(NotFound::None(prefix))
}

/// The earliest time that a ULID beginning with `prefix` bears, and a little before.
fn earliest(prefix: &str) -> String {
    let padded: String = prefix.chars().chain(std::iter::repeat('0')).take(26).collect();
    let time = padded.parse::<ulid::Ulid>().map_or(SystemTime::UNIX_EPOCH, |id| id.datetime());
    stamp(OffsetDateTime::from(time.checked_sub(Duration::from_secs(5)).unwrap_or(time)))
}

#[derive(Deserialize)]
struct Of<'a> {
    session: Cow<'a, str>,
}

/// Ids with this prefix, and the segment of the first frame of one.
fn find(reader: &Reader, from: usize, prefix: &str) -> Result<(BTreeSet<String>, usize), Error> {
    let mut ids = BTreeSet::new();
    let mut first = from;
    for index in from..reader.segments() {
        reader.frames(index..index + 1, |frame| {
            // The begin may be gone while an end is still there.
            if matches!(
                frame.kind,
                Some(Kind::Session | Kind::SessionEnd | Kind::Exchange | Kind::ExchangeEnd)
            ) && let Ok(of) = serde_json::from_slice::<Of<'_>>(frame.payload)
                && of.session.starts_with(prefix)
            {
                if ids.is_empty() {
                    first = index;
                }
                ids.insert(of.session.into_owned());
            }
            if ids.len() > NAMED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
    }
    Ok((ids, first))
}

fn gather(
    reader: &Reader,
    from: usize,
    id: &str,
    (which, body_budget): (Which, usize),
    access: &Access,
) -> Result<Session, Error> {
    let mut session = Session::default();
    let number = id.parse::<ulid::Ulid>().map_or(0, |id| id.0);
    let mut numbers = BTreeSet::new();
    let mut budget = body_budget;
    let mut unsealer = Unsealer::new(reader.dir(), access);
    let mut started_since = false;
    let mut damage = reader.frames(from..reader.segments(), |frame| {
        match frame.kind {
            Some(Kind::Body | Kind::BodyRef | Kind::Diverted) => {
                let ours = BodyPiece::at(&frame)
                    .is_none_or(|(at, _)| at.session == number && which.has(at.exchange));
                if let Some(piece) = ours.then(|| unsealer.piece(&frame)).flatten() {
                    body(&mut session, piece, &mut budget);
                }
            }
            Some(Kind::Start) if reader.goes_on(&frame) => {}
            Some(Kind::Start) => started_since |= session.begin.is_some() || !numbers.is_empty(),
            // Names are ASCII, ids are unlike anything else: a frame without the id is not of this session.
            _ if contains(frame.payload, id.as_bytes()) => {
                json(&mut session, &frame, id, which, &mut numbers)
            }
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    damage.append(&mut unsealer.damage);
    session.damage = damage;
    session.more = numbers.iter().filter(|n| !which.has(**n)).count() as u64;
    session.interrupted = (session.end.is_none() && (started_since || !reader.live())).then_some(INTERRUPTED);
    Ok(session)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

fn body(session: &mut Session, piece: BodyPiece<'_>, budget: &mut usize) {
    let exchange = session.exchanges.entry(piece.at.exchange).or_default();
    let (body, hidden) = if piece.at.down {
        (&mut exchange.down, &mut exchange.down_hidden)
    } else {
        (&mut exchange.up, &mut exchange.up_hidden)
    };
    match piece.bytes {
        // Pieces come in order; one that leaves a gap (its predecessor is lost) ends what can be shown.
        Ok(data) if piece.at.offset == body.len() as u64 && data.len() <= *budget => {
            body.extend_from_slice(&data);
            *budget -= data.len();
            let (down, offset, length) = (piece.at.down, piece.at.offset, piece.length);
            exchange.pieces.push(Piece { down, offset, length, at: piece.time });
        }
        // What is too much at once is said as such; what follows a piece that is hidden, with that.
        Ok(_) => {
            if let Some((_, bytes)) = hidden {
                *bytes += piece.length;
            }
        }
        Err(why) => hidden.get_or_insert((why, 0)).1 += piece.length,
    }
}

fn json(session: &mut Session, frame: &Frame<'_>, id: &str, which: Which, numbers: &mut BTreeSet<u32>) {
    #[derive(Deserialize)]
    struct Ids<'a> {
        session: Cow<'a, str>,
        exchange: Option<u32>,
    }
    let Ok(ids) = serde_json::from_slice::<Ids<'_>>(frame.payload) else { return };
    if ids.session != id {
        return;
    }
    match (frame.kind, ids.exchange) {
        (Some(Kind::Session), _) => session.begin = serde_json::from_slice(frame.payload).ok(),
        (Some(Kind::Tls), _) => session.tls = serde_json::from_slice(frame.payload).ok(),
        (Some(Kind::SessionEnd), _) => session.end = serde_json::from_slice(frame.payload).ok(),
        (Some(kind), Some(number)) => {
            numbers.insert(number);
            if !which.has(number) {
                return;
            }
            let exchange = session.exchanges.entry(number).or_default();
            match kind {
                Kind::Exchange => exchange.head = serde_json::from_slice(frame.payload).ok(),
                Kind::Response => exchange
                    .responses
                    .extend(serde_json::from_slice::<Response<'static, Headers>>(frame.payload)),
                Kind::Trailers => exchange
                    .trailers
                    .extend(serde_json::from_slice::<Trailers<'static, Headers>>(frame.payload)),
                Kind::ExchangeEnd => {
                    exchange.end = serde_json::from_slice::<ExchangeEnd<'_>>(frame.payload)
                        .ok()
                        .map(|end| End { up: end.up, down: end.down, summary: end.summary.into_owned() });
                }
                _ => {}
            }
        }
        _ => {}
    }
}
