//! What a verification found.

use serde::Serialize;

/// Findings that are kept; more are counted.
const KEPT: usize = 1000;

/// How a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// The store is not what was signed, or not what the format promises.
    Bad,
    /// To be known: evidence that is not there yet, what was deleted, clocks, silence.
    Said,
}

/// What was found. Scripts rely on the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A record whose bytes are not those that were signed, or no record.
    Changed,
    /// Records that were signed, or that others go on from, and are not there.
    Missing,
    /// Records twice or in another order.
    Order,
    /// A segment's head, or its place among the others.
    Segment,
    /// What a record says of another log is not so, or a log that nothing leads to.
    Log,
    /// A checkpoint.
    Checkpoint,
    /// The chain of keys.
    Key,
    /// A tile.
    Tile,
    /// Bytes of a body, or a key's file.
    Body,
    /// What no signature covers.
    Unsigned,
    /// What was deleted or erased, by a record's word.
    Deleted,
    /// Cut short by a crash or given up after a failure of the disk.
    Gap,
    /// No sign of life.
    Silence,
    /// A clock.
    Clock,
}

/// One finding.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How it weighs.
    pub grade: Grade,
    /// Of what kind.
    pub what: What,
    /// In words.
    pub text: String,
    /// What follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
    /// Of which log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// In which segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<u64>,
    /// At which byte of its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Of which record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
}

impl Finding {
    /// One that weighs.
    pub fn bad(what: What, text: impl Into<String>) -> Self {
        Self::new(Grade::Bad, what, text.into())
    }

    /// One to be known.
    pub fn said(what: What, text: impl Into<String>) -> Self {
        Self::new(Grade::Said, what, text.into())
    }

    fn new(grade: Grade, what: What, text: String) -> Self {
        Self { grade, what, text, follows: None, log: None, segment: None, offset: None, sequence: None }
    }

    /// In this segment, from this byte on.
    pub fn at(self, segment: u64, offset: u64) -> Self {
        Self { segment: Some(segment), offset: Some(offset), ..self }
    }

    /// Of the record of this number.
    pub fn record(self, sequence: u64) -> Self {
        Self { sequence: Some(sequence), ..self }
    }

    /// In this log.
    pub fn log(self, log: impl ToString) -> Self {
        Self { log: Some(log.to_string()), ..self }
    }

    /// With what follows from it.
    pub fn so(self, follows: String) -> Self {
        Self { follows: Some(follows), ..self }
    }
}

/// The part of a store that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Number of its first segment.
    pub first: u64,
    /// Of its last.
    pub last: u64,
    /// When the first began, by its own word.
    pub from: Option<String>,
    /// When what follows began; `None` at the store's end.
    pub to: Option<String>,
}

/// What was read, and what is to be said of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The store's id.
    pub store: Option<String>,
    /// The first key of the chain: what an auditor keeps.
    pub key: Option<String>,
    /// It is the one that was asked for. Without one, the store may be another's altogether.
    pub key_given: bool,
    /// Keys in the chain.
    pub keys: u64,
    /// The part that was asked for; `None`: the whole store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// Segments that were read.
    pub segments: u64,
    /// Bytes that were read, bodies among them.
    pub bytes: u64,
    /// Logs.
    pub logs: u64,
    /// Records that were read.
    pub records: u64,
    /// Of them: proven to be what was signed.
    pub proven: u64,
    /// Of them: after the last checkpoint of their log, and named by a later log that is signed.
    pub late: u64,
    /// Of them: after the last checkpoint of their log, under nothing.
    pub unsigned: u64,
    /// Of them: in no log, from a version without evidence.
    pub outside: u64,
    /// Of the last two: all but the end of a store that may still be signed. Whoever could write to the store may have made
    /// them.
    pub unproven: u64,
    /// Records before this time were deleted; `None` when none was.
    pub since: Option<String>,
    /// Checkpoints that hold.
    pub checkpoints: u64,
    /// Pieces of bodies that are what was recorded.
    pub bodies: u64,
    /// The newest checkpoint's time, log and size: what came after may have been cut off, and only a witness or the journal
    /// can tell.
    pub last: Option<Last>,
    /// What was found, in the order of the store, and after it what holds for the whole.
    pub findings: Vec<Finding>,
    /// Findings that are not in the list.
    pub more: u64,
    /// Those that weigh.
    pub bad: u64,
}

/// A checkpoint, in short.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Last {
    /// When it was signed.
    pub time: String,
    /// Of which log.
    pub log: String,
    /// Of how many records.
    pub size: u64,
}

impl Report {
    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        self.bad += u64::from(finding.grade == Grade::Bad);
        // What weighs is never pushed out by what does not.
        if self.findings.len() < KEPT || finding.grade == Grade::Bad && self.bad < KEPT as u64 {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// A finding that weighed does not: there is a reason, and no deceit.
    pub fn excuse(&mut self, index: usize, why: &str) {
        let Some(finding) = self.findings.get_mut(index).filter(|finding| finding.grade == Grade::Bad) else {
            return;
        };
        (finding.grade, finding.what) = (Grade::Said, What::Gap);
        finding.text = format!("{}: {why}", finding.text);
        self.bad -= 1;
    }

    /// Nothing that weighs was found, and what is there is proven.
    pub fn good(&self) -> bool {
        self.bad == 0 && self.unproven == 0 && self.proven > 0
    }
}
