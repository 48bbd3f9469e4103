//! A proof that records are in a store: one file that needs nothing but the key that an auditor kept. It proves that each
//! record is in a tree that the store's keys signed, at its place; not that there are no others.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

pub use super::clock::{GRACE, Window};
use super::files::LARGEST;
use crate::evidence::chain::{Broken, Chain, Worthless};
use crate::evidence::checkpoint::Checkpoint;
use crate::evidence::note::{self, Note, VerifierKey};
use crate::evidence::tree::{Hash, LONGEST, Unproven, record, verify_inclusion};

/// What the file says it is.
pub const FORM: &str = "sluice-proof-1";

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// [`FORM`].
    pub form: String,
    /// The records.
    pub records: Vec<Proven>,
    /// The checkpoint of the tree that they are in: a signed note.
    pub checkpoint: String,
    /// The certificates of the keys, from the first to the one behind the checkpoint's, if there is one: signed notes.
    pub keys: Vec<String>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// Its sequence number in the store. Not proven: what is, is its place in the log.
    pub sequence: u64,
    /// Its place in the log.
    pub index: u64,
    /// The kind's number.
    pub kind: u8,
    /// Its payload, if that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Its payload in base64, if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// Hashes from the record to the root, base64.
    pub inclusion: Vec<String>,
}

impl Proven {
    /// The payload.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.payload, &self.payload_base64) {
            (Some(text), None) => Some(text.clone().into_bytes()),
            (None, Some(text)) => STANDARD.decode(text).ok(),
            _ => None,
        }
    }
}

/// Why a file proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is no proof.
    #[error("the file is no proof of the form {FORM}")]
    Form(#[source] Option<serde_json::Error>),
    /// A certificate or the checkpoint is no note.
    #[error("a signed note in it is damaged")]
    Note(#[source] note::Malformed),
    /// A certificate.
    #[error("the certificate of key {0} does not hold")]
    Key(usize, #[source] Broken),
    /// The checkpoint.
    #[error("the checkpoint does not hold")]
    Checkpoint(#[source] Worthless),
    /// The checkpoint's time is not one of its key's.
    #[error("the checkpoint says {0}, outside of the time of its key")]
    Time(String),
    /// A record.
    #[error("record {0} is not in the signed tree as the file has it")]
    Record(u64, #[source] Option<Unproven>),
}

/// What was proven.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The first key: what it rests on.
    pub key: VerifierKey,
    /// Of the key that signed the checkpoint.
    pub number: u64,
    /// From when to when that key was in use, by certificates that it cannot change; the end is not known of the last one.
    pub window: Window,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The records.
    pub records: Vec<Proven>,
}

/// Verifies a file. Without `key` it rests on whoever made it. `clock`: by how much the host's clock was wrong or set, where
/// the auditor knows.
///
/// # Errors
/// [`Refused`].
pub fn verify(file: &[u8], key: Option<&VerifierKey>, clock: Option<Duration>) -> Result<Verdict, Refused> {
    let proof: Proof = serde_json::from_slice(file).map_err(|error| Refused::Form(Some(error)))?;
    if proof.form != FORM || proof.records.is_empty() {
        return Err(Refused::Form(None));
    }
    let mut chain: Option<Chain> = None;
    for (number, text) in proof.keys.iter().enumerate() {
        let note = Note::parse(text).map_err(Refused::Note)?;
        let refused = |why| Refused::Key(number, why);
        match &mut chain {
            None => chain = Some(Chain::begin(&note, key).map_err(refused)?),
            Some(chain) => chain.add(&note).map_err(refused)?,
        }
    }
    let chain = chain.ok_or(Refused::Form(None))?;
    let note = Note::parse(&proof.checkpoint).map_err(Refused::Note)?;
    let (number, checkpoint) = chain.open(&note).map_err(Refused::Checkpoint)?;
    let window = Window::of(&chain, number, number, clock.unwrap_or(GRACE));
    if window.excludes_far(&checkpoint.time) || checkpoint.tree.size > LARGEST {
        return Err(Refused::Time(checkpoint.time));
    }
    for proven in &proof.records {
        let refused = |why| Refused::Record(proven.sequence, why);
        let payload = proven.bytes().ok_or_else(|| refused(None))?;
        let hashes: Option<Vec<Hash>> = proven.inclusion.iter().map(|hash| hash.parse().ok()).collect();
        let hashes = hashes.filter(|hashes| hashes.len() <= LONGEST).ok_or_else(|| refused(None))?;
        verify_inclusion(proven.index, record(proven.kind, &payload), &checkpoint.tree, &hashes)
            .map_err(|why| refused(Some(why)))?;
    }
    Ok(Verdict { key: chain.first().clone(), number, window, checkpoint, records: proof.records })
}
