//! What records say that matters here. Only the fields that are judged; a record of another shape is damage.

use std::borrow::Cow;

use serde::Deserialize;

use super::files::LARGEST;
use crate::evidence::checkpoint;
use crate::evidence::tree::Head;
use ulid::Ulid;

/// Numbers of kinds, see `docs/store.md`.
pub mod kind {
    pub const SEGMENT: u8 = 1;
    pub const STOP: u8 = 3;
    pub const RECOVERED: u8 = 4;
    pub const GIVEN_UP: u8 = 5;
    pub const DELETED: u8 = 6;
    pub const LOG_END: u8 = 7;
    pub const KEY: u8 = 8;
    pub const HEARTBEAT: u8 = 9;
    pub const BODY_KEY: u8 = 10;
    pub const ERASED: u8 = 12;
    pub const BODY: u8 = 35;
    pub const BODY_REF: u8 = 37;
    pub const DIVERTED: u8 = 38;
}

/// A place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Place {
    pub segment: u64,
    pub offset: u64,
}

/// Of a segment.
#[derive(Clone, Debug, Deserialize)]
pub struct SegmentHead {
    pub store: String,
    pub segment: u64,
    pub time: String,
    pub previous: Option<Place>,
    #[serde(default)]
    pub apart: bool,
    #[serde(default)]
    pub log: Option<LogHead>,
}

/// Of a log.
#[derive(Clone, Debug, Deserialize)]
pub struct LogHead {
    pub id: String,
    pub first: u64,
    #[serde(default)]
    pub begins: Option<LogBegin>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct LogBegin {
    pub boot_id: String,
    pub boottime_us: u64,
    pub previous: Vec<LogEnd>,
}

/// How far a log had come, by another's word.
#[derive(Clone, Debug, Deserialize)]
pub struct LogEnd {
    pub log: String,
    pub size: u64,
    pub root: String,
    pub ended: bool,
}

impl LogEnd {
    /// Log and tree; `None` when they are not written as they must be.
    pub fn tree(&self) -> Option<(Ulid, Head)> {
        let size = Some(self.size).filter(|size| *size <= LARGEST)?;
        Some((checkpoint::ulid(&self.log)?, Head { size, root: self.root.parse().ok()? }))
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Recovered {
    pub time: String,
    pub at: Place,
    pub bytes: u64,
    #[serde(default)]
    pub segments: Option<(u64, u64)>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct GivenUp {
    pub time: String,
    pub at: Place,
    pub why: String,
    pub unproven: Option<(u64, u64)>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Deleted {
    pub segment: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Key<'a> {
    pub certificate: Cow<'a, str>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Heartbeat {
    pub time: String,
    pub boot_id: String,
    pub boottime_us: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct BodyKey {
    pub number: u64,
    pub file_sha256: String,
}
