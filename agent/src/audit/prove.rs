//! Makes proofs. What is asked for is a session, one of its exchanges, or a record's number.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ulid::Ulid;

use super::Error;
use super::files::{self, LARGEST, Segment};
use super::proof::{FORM, Proof, Proven};
use super::said::kind;
use super::scan::{Frame, Item, Scan};
use super::source::{Source, log_of};
use crate::evidence::chain::Chain;
use crate::evidence::checkpoint;
use crate::evidence::note::{self, Note, Piece};
use crate::evidence::tree::Head;

/// Records that one proof holds at most, and their bytes.
const RECORDS: usize = 100_000;
const BYTES: usize = 256 << 20;

/// What is to be proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// A record, by its sequence number.
    Record(u64),
    /// A session, by its id or the beginning of it, or one exchange of it with the session's own records.
    Session(String, Option<u32>),
}

impl std::str::FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} must be a session, SESSION/EXCHANGE, or a record's number");
        if let Some(number) = checkpoint::number(text) {
            return Ok(Self::Record(number));
        }
        let (session, exchange) = text.split_once('/').map_or((text, None), |(s, e)| (s, Some(e)));
        let session = session.to_ascii_uppercase();
        let exchange = exchange.map(str::parse).transpose().map_err(|_| bad())?;
        if checkpoint::ulid(&padded(&session)).is_none() || session.len() < SHORTEST {
            return Err(bad());
        }
        Ok(Self::Session(session, exchange))
    }
}

/// Letters of a session's id that must be given: its time is in the first ten.
const SHORTEST: usize = 8;

/// The first id that begins so.
fn padded(session: &str) -> String {
    format!("{session:0<26}")
}

/// Why nothing is proven.
#[derive(Debug, thiserror::Error)]
pub enum Unproved {
    /// The store.
    #[error(transparent)]
    Unreadable(#[from] Error),
    /// No such record.
    #[error("no such record is in the store")]
    None,
    /// More than one log has them, or too many.
    #[error(
        "the records are too many for one proof, or of several logs; prove one exchange or record at a time"
    )]
    TooMuch,
    /// In no log.
    #[error("the record was written by a version without evidence: it is in no tree")]
    Outside,
    /// Not signed yet.
    #[error("no checkpoint covers the record yet; one comes within a second or two while the agent runs")]
    Unsigned,
    /// The evidence is damaged.
    #[error("the evidence for it is damaged: {0}; `sluice audit verify` names the place")]
    Damaged(String),
}

/// Makes a proof of what `id` names, from the store in `dir`.
///
/// # Errors
/// [`Unproved`].
pub fn prove(dir: &Path, id: &Id) -> Result<Proof, Unproved> {
    let segments = files::segments(dir)?;
    let found = find(&segments, id)?;
    let first = found.first().ok_or(Unproved::None)?;
    let log = first.log.ok_or(Unproved::Outside)?;
    if found.iter().any(|record| record.log != Some(log)) {
        return Err(Unproved::TooMuch);
    }
    if found.iter().any(|record| record.sequence < log.1) {
        return Err(Unproved::Damaged("a record is before its log".to_owned()));
    }
    let last = found.iter().map(|record| record.sequence - log.1).max().unwrap_or(0);
    let (chain, certificates) = chain(dir)?;
    let (note, number, tree) = newest(dir, &chain, log.0).ok_or(Unproved::Unsigned)?;
    if tree.size > LARGEST {
        return Err(Unproved::Damaged("its checkpoint".to_owned()));
    }
    if tree.size <= last {
        return Err(Unproved::Unsigned);
    }
    let source = Source::new(dir, log, tree.size, &segments)?;
    let proven = found.into_iter().map(|record| {
        let index = record.sequence - log.1;
        let hashes = source.inclusion(index).ok_or_else(|| Unproved::Damaged("its tiles".to_owned()))?;
        let (payload, payload_base64) = match String::from_utf8(record.payload) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(STANDARD.encode(error.into_bytes()))),
        };
        let inclusion = hashes.iter().map(ToString::to_string).collect();
        Ok(Proven { sequence: record.sequence, index, kind: record.kind, payload, payload_base64, inclusion })
    });
    let records = proven.collect::<Result<_, Unproved>>()?;
    let keys = certificates.into_iter().take(number as usize + 2).collect();
    let proof = Proof { form: FORM.to_owned(), records, checkpoint: note, keys };
    // Never hand out what does not hold: a store that was changed says so here, not at the auditor's.
    let bytes = serde_json::to_vec(&proof).map_err(|error| Unproved::Damaged(error.to_string()))?;
    // Its time is for who verifies it to judge: an honest clock may have been set.
    super::proof::verify(&bytes, None, Some(Duration::MAX))
        .map_err(|error| Unproved::Damaged(error.to_string()))?;
    Ok(proof)
}

struct Record {
    sequence: u64,
    kind: u8,
    payload: Vec<u8>,
    log: Option<(Ulid, u64)>,
}

/// The segment from which on a record of `id` may be found.
fn first_of(segments: &[Segment], id: &Id) -> Option<usize> {
    let heads = |i: usize| segments[i].head.as_ref();
    match id {
        Id::Record(number) => {
            (0..segments.len()).rev().find(|i| heads(*i).is_some_and(|(first, _)| first <= number))
        }
        // A session's id has the time at which it began; a clock may have been set back by a little.
        Id::Session(session, _) => {
            let id = checkpoint::ulid(&padded(session));
            let began = id.map_or(0, |id| id.timestamp_ms().saturating_sub(5000));
            let before = |i: &usize| heads(*i).is_some_and(|(_, head)| millis(&head.time) <= began);
            Some((0..segments.len()).rev().find(before).unwrap_or(0))
        }
    }
}

fn find(segments: &[Segment], id: &Id) -> Result<Vec<Record>, Unproved> {
    let mut found = Vec::new();
    let mut bytes = 0;
    let mut session = None;
    let from = first_of(segments, id).ok_or(Unproved::None)?;
    for (at, segment) in segments.iter().enumerate().skip(from) {
        if matches!(id, Id::Record(_)) && at > from {
            break;
        }
        let next = segments[at + 1..].iter().find_map(|segment| segment.head.as_ref());
        let end = next.and_then(|(_, head)| head.previous).filter(|place| place.segment == segment.number);
        let unreadable = |source: io::Error| Error { path: segment.path.clone(), source };
        let (mut scan, _) = Scan::open(&segment.path, end.map(|place| place.offset)).map_err(unreadable)?;
        if let Id::Record(number) = id {
            scan.seek(*number).map_err(unreadable)?;
        }
        let mut ended = false;
        loop {
            match scan.next(|_| true).map_err(unreadable)? {
                Item::Frame(frame) if wanted(id, &mut session, &frame) => {
                    bytes += frame.payload.len();
                    ended |= matches!(id, Id::Record(_)) || frame.kind == SESSION_END;
                    let payload = frame.payload.to_vec();
                    found.push(Record {
                        sequence: frame.sequence,
                        kind: frame.kind,
                        payload,
                        log: log_of(segment),
                    });
                    if found.len() > RECORDS || bytes > BYTES {
                        return Err(Unproved::TooMuch);
                    }
                }
                Item::Frame(frame) if matches!(id, Id::Record(number) if frame.sequence > *number) => break,
                Item::Frame(_) | Item::Bad { .. } => {}
                Item::Tail { .. } | Item::End => break,
            }
            if ended {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Kinds of records that belong to a session: 16 to 18 to itself, the others to one of its exchanges.
const SESSION_BEGIN: u8 = 16;
const SESSION_END: u8 = 18;

/// Whether a record belongs to what is asked for; `session` is the one that a beginning of an id turned out to be of.
fn wanted(id: &Id, session: &mut Option<Ulid>, frame: &Frame<'_>) -> bool {
    let (prefix, exchange) = match id {
        Id::Record(number) => return *number == frame.sequence,
        Id::Session(prefix, exchange) => (prefix, *exchange),
    };
    // Bodies and references to them begin with the session and the exchange.
    if matches!(frame.kind, BODY | kind::BODY_REF) {
        let number = frame.payload.get(16..20).map(|b| b.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b)));
        let own = session.is_some_and(|session| frame.payload.starts_with(&session.to_bytes()));
        return own && exchange.is_none_or(|exchange| number == Some(exchange));
    }
    #[derive(serde::Deserialize)]
    struct Of<'a> {
        session: Cow<'a, str>,
        exchange: Option<u32>,
    }
    let has = frame.payload.windows(prefix.len()).any(|part| part == prefix.as_bytes());
    if frame.kind < SESSION_BEGIN || !has {
        return false;
    }
    let Ok(own) = serde_json::from_slice::<Of<'_>>(frame.payload) else { return false };
    let Some(of) = checkpoint::ulid(&own.session).filter(|_| own.session.starts_with(prefix)) else {
        return false;
    };
    *session.get_or_insert(of) == of
        && (exchange.is_none() || own.exchange.is_none() || own.exchange == exchange)
}

/// The kind of bodies in stores of older versions.
const BODY: u8 = 35;

fn millis(time: &str) -> u64 {
    let parsed = time::OffsetDateTime::parse(time, &time::format_description::well_known::Rfc3339);
    parsed.map_or(0, |time| u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
}

/// The chain of keys of a store, from whichever first key it has.
///
/// # Errors
/// [`Unproved`].
pub fn keys(dir: &Path) -> Result<Chain, Unproved> {
    chain(dir).map(|(chain, _)| chain)
}

/// The chain of keys, and its certificates as they are.
fn chain(dir: &Path) -> Result<(Chain, Vec<String>), Unproved> {
    let bytes = files::whole(&dir.join("keys"), files::NOTES)?.ok_or(Unproved::Unsigned)?;
    let mut texts = Vec::new();
    let mut chain: Option<Chain> = None;
    for (_, piece) in note::split(&bytes) {
        let Piece::Note(text) = piece else { break };
        let added = Note::parse(text).map_err(|why| why.to_string()).and_then(|note| match &mut chain {
            None => Chain::begin(&note, None).map(|new| chain = Some(new)).map_err(|why| why.to_string()),
            Some(chain) => chain.add(&note).map_err(|why| why.to_string()),
        });
        added.map_err(|why| Unproved::Damaged(format!("the chain of keys: {why}")))?;
        texts.push(text.to_owned());
    }
    Ok((chain.ok_or(Unproved::Unsigned)?, texts))
}

/// The last checkpoint of a log: its note, the key's number, the tree.
fn newest(dir: &Path, chain: &Chain, log: Ulid) -> Option<(String, u64, Head)> {
    let bytes = files::whole(&files::log_dir(dir, log).join("checkpoint"), files::SMALL).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    let (number, checkpoint) = chain.open(&Note::parse(&text).ok()?).ok()?;
    (checkpoint.origin.log == log).then_some((text, number, checkpoint.tree))
}
