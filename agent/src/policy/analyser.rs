//! What a mask says of an analyser: a service on this host that finds names of people and places, which takes a model. It speaks as
//! Presidio's analyser does. Who asks it is the engine.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A mask's analyser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analyser {
    /// Where it listens: an address of loopback.
    pub address: SocketAddr,
    /// The path that it answers at.
    pub path: String,
    /// What it is asked for, in its own words (`PERSON`); all that it knows where there are none.
    pub entities: Vec<String>,
    /// The language of what it is given, as ISO 639-1 has it.
    pub language: String,
    /// So long all that is asked for one request may take.
    pub timeout: Duration,
    /// What becomes of a request where it gives no answer.
    pub on_failure: OnFailure,
}

/// What becomes of a request that the analyser has not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is refused.
    #[default]
    Refuse,
    /// It goes on without.
    Pass,
}
