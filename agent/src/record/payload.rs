//! The JSON payloads of the store's frames, one shape for writing and reading. Fields may be added; none changes meaning.

use std::borrow::Cow;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Direction, TlsFacts};
use crate::types::{Destination, LookedUp, Recipient, Summary, Verdict};

/// A time as every record bears it: RFC 3339 in UTC with microseconds, always 27 characters, so that times sort as text.
/// Written by hand: it is made several times an exchange, and `time`'s own formatting takes four times as long.
pub fn stamp(time: OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let mut put = |at: std::ops::Range<usize>, mut value: u32| {
        for digit in text[at].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0..4, time.year().unsigned_abs());
    put(5..7, u32::from(u8::from(time.month())));
    put(8..10, u32::from(time.day()));
    put(11..13, u32::from(time.hour()));
    put(14..16, u32::from(time.minute()));
    put(17..19, u32::from(time.second()));
    put(20..26, time.microsecond());
    // Digits and marks are ASCII.
    String::from_utf8(text.to_vec()).unwrap_or_default()
}

/// [`super::frame::Kind::Segment`]: opens every segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SegmentHead {
    /// The store's id (ULID), drawn when the store was made.
    pub store: String,
    /// Number of the segment: its file's name.
    pub segment: u64,
    /// When it began.
    pub time: String,
    /// The segment before and the offset at which its records end, whatever bytes follow there; `null` in the first.
    pub previous: Option<End>,
    /// The first segment of a writer that began while the one before it was still writing, into segments with lower numbers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apart: bool,
    /// The log that the segment's frames are leaves of; absent before 0.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogHead>,
}

/// Of which log a segment is a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// The log's id (ULID).
    pub id: String,
    /// The sequence number of its leaf 0: the head of its first segment.
    pub first: u64,
    /// In the log's first segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<LogBegin>,
}

/// What a log begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBegin {
    /// The machine's boot.
    pub boot_id: String,
    /// Microseconds since then.
    pub boottime_us: u64,
    /// The logs before it, but for those that another one said this of with `ended`.
    pub previous: Vec<LogEnd>,
}

/// How far a log had come. Payload of [`super::frame::Kind::LogEnd`] too, where it ended while this one was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// Its id.
    pub log: String,
    /// Its leaves.
    pub size: u64,
    /// The root over them, base64.
    pub root: String,
    /// No more follow.
    pub ended: bool,
}

/// [`super::frame::Kind::Heartbeat`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// When, by the wall.
    pub time: String,
    /// The machine's boot.
    pub boot_id: String,
    /// Microseconds since then, by the clock that goes on while it sleeps.
    pub boottime_us: u64,
    /// Sessions and exchanges under way.
    pub open: u64,
}

/// [`super::frame::Kind::Key`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Key<'a> {
    /// When it came.
    pub time: String,
    /// Its certificate: a signed note.
    pub certificate: Cow<'a, str>,
}

/// Where a segment's records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Number of the segment.
    pub segment: u64,
    /// Bytes from the start of its file.
    pub offset: u64,
}

/// [`super::frame::Kind::Start`] and [`super::frame::Kind::Stop`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// When.
    pub time: String,
    /// The kernel's boot id, `unknown` where it cannot be read.
    pub boot_id: String,
    /// The agent's version.
    pub version: String,
    /// The writing process.
    pub pid: u32,
}

/// [`super::frame::Kind::Recovered`]: bytes that were cut short by a crash; they stay where they are and are not read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recovered {
    /// When it was found.
    pub time: String,
    /// Where the bytes begin.
    pub at: End,
    /// How many, up to the last that is not zero.
    pub bytes: u64,
    /// The first and the last of the segments that followed and were left out, too: what they go on from is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<(u64, u64)>,
}

/// [`super::frame::Kind::GivenUp`]: a segment was left after a failed write or sync.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GivenUp {
    /// When.
    pub time: String,
    /// Where its records end.
    pub at: End,
    /// What failed.
    pub why: String,
    /// First and last sequence number that are not proven to be on disk (they were written; no sync covered them).
    pub unproven: Option<(u64, u64)>,
}

/// [`super::frame::Kind::Deleted`]: the oldest segment went, to keep the size bound.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deleted {
    /// When.
    pub time: String,
    /// Its number.
    pub segment: u64,
    /// Its size.
    pub bytes: u64,
    /// The bound.
    pub max_bytes: u64,
    /// Where it was its age: what was written before this was too old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
}

/// [`super::frame::Kind::BodyKey`]: a bodies file began with its segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BodyKey {
    /// When.
    pub time: String,
    /// Number of the bodies file and of its key.
    pub number: u64,
    /// SHA-256 (hex) of the key's file.
    pub file_sha256: String,
    /// SHA-256 (hex) of `sluice body key` and the key: whoever has a key can tell that it is this one.
    pub commitment: String,
    /// Who the key is sealed for.
    pub recipients: Vec<Recipient>,
}

/// [`super::frame::Kind::Read`]: bodies were read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReadBy {
    /// When.
    pub time: String,
    /// Who.
    pub uid: u32,
    /// The user's name.
    pub user: Option<String>,
    /// Which, in words of the command line.
    pub what: String,
}

/// [`super::frame::Kind::Erased`]: keys of bodies are destroyed from now on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Erased {
    /// When.
    pub time: String,
    /// Their numbers.
    pub keys: Vec<u64>,
    /// Why.
    pub why: Option<String>,
    /// Who asked for it.
    pub uid: u32,
    /// The user's name.
    pub user: Option<String>,
}

/// [`super::frame::Kind::Session`]. `C` is the caller, borrowed or owned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionBegin<C> {
    /// Id.
    pub session: String,
    /// When it was accepted.
    pub time: String,
    /// The tagged socket's end.
    pub client: SocketAddr,
    /// Where it was going.
    pub destination: Destination,
    /// Who.
    pub caller: C,
    /// The name that the caller was told the destination's address for: one, or none. Absent before 0.2.
    #[serde(default)]
    pub looked_up: Option<Vec<LookedUp>>,
}

/// [`super::frame::Kind::Tls`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tls<'a> {
    /// Session.
    pub session: Cow<'a, str>,
    /// When both handshakes were done.
    pub time: String,
    /// The facts.
    #[serde(flatten)]
    pub facts: Cow<'a, TlsFacts>,
}

/// [`super::frame::Kind::SessionEnd`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionEnd<'a> {
    /// Id.
    pub session: Cow<'a, str>,
    /// When.
    pub time: String,
    /// Since its begin, by the monotonic clock.
    pub duration_us: u64,
    /// How many exchanges it had.
    pub exchanges: u32,
    /// What went wrong.
    pub error: Option<Cow<'a, str>>,
}

/// [`super::frame::Kind::Exchange`]. `H` is the headers, on their way in or out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExchangeBegin<'a, H> {
    /// Session.
    pub session: Cow<'a, str>,
    /// Number in it, from 1.
    pub exchange: u32,
    /// When.
    pub time: Cow<'a, str>,
    /// Protocol.
    pub protocol: Cow<'a, str>,
    /// Host that was asked for, or the address.
    pub host: Cow<'a, str>,
    /// Who says that it is the name; absent before 0.2.
    #[serde(default)]
    pub host_source: Option<crate::types::HostSource>,
    /// Method.
    pub method: Option<Cow<'a, str>>,
    /// Path and query, without secrets.
    pub path: Option<Cow<'a, str>>,
    /// Rule that decided.
    pub rule: Option<Cow<'a, str>>,
    /// Verdict.
    pub verdict: Verdict,
    /// Subject of the verified identity.
    #[serde(default)]
    pub identity: Option<Cow<'a, str>>,
    /// Its issuer; absent before 0.2.
    #[serde(default)]
    pub issuer: Option<Cow<'a, str>>,
    /// Its groups, as far as they fit.
    #[serde(default)]
    pub groups: Cow<'a, [String]>,
    /// Of its claims, those that rules in force asked for; absent before 0.2, and where rules ask for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Cow<'a, crate::types::identity::SomeClaims>>,
    /// Long-lived keys of the caller's own.
    #[serde(default)]
    pub caller_keys: Cow<'a, [crate::types::CallerKey]>,
    /// Headers: `[name, value]`.
    pub headers: H,
    /// How many more there were.
    pub headers_cut: usize,
}

/// [`super::frame::Kind::Response`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Response<'a, H> {
    /// Session.
    pub session: Cow<'a, str>,
    /// Number in it.
    pub exchange: u32,
    /// When.
    pub time: String,
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: H,
    /// How many more there were.
    pub headers_cut: usize,
}

/// [`super::frame::Kind::Trailers`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trailers<'a, H> {
    /// Session.
    pub session: Cow<'a, str>,
    /// Number in it.
    pub exchange: u32,
    /// `up`: of the request; `down`: of the answer.
    pub direction: Direction,
    /// Headers.
    pub headers: H,
    /// How many more there were.
    pub headers_cut: usize,
}

/// [`super::frame::Kind::ExchangeEnd`].
#[derive(Clone, Debug, Deserialize)]
pub struct ExchangeEnd<'a> {
    /// Session.
    pub session: Cow<'a, str>,
    /// Number in it.
    pub exchange: u32,
    /// Body towards the upstream.
    pub up: Kept,
    /// Body towards the client.
    pub down: Kept,
    /// The exchange in one line.
    pub summary: Cow<'a, Summary>,
}

/// An [`ExchangeEnd`] on its way in, without the summary.
#[derive(Serialize)]
pub(super) struct Ending<'a> {
    pub session: &'a str,
    pub exchange: u32,
    pub up: Kept,
    pub down: Kept,
}

/// How much of a body is in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Bytes in body frames, from the body's start.
    pub kept: u64,
    /// Bytes that went through.
    pub total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_sort_as_text() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_000_001_999).expect("time");
        assert_eq!(stamp(at), "2023-11-14T22:13:20.000001Z");
        assert_eq!(stamp(at.to_offset(time::macros::offset!(+2))), stamp(at));
        assert_eq!(stamp(OffsetDateTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
        let form = time::macros::format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
        );
        for second in (0..4_000_000_000_i64).step_by(12_345_677) {
            let at = OffsetDateTime::from_unix_timestamp(second).expect("time");
            assert_eq!(stamp(at), at.format(form).expect("format"));
        }
    }
}
