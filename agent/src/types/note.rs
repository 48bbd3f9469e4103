//! What somebody did with the store by the control socket, for the record.

use serde::{Deserialize, Serialize};

/// A thing that was done, and who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// User id, by the kernel's word.
    pub uid: u32,
    /// The user's name, where there is one.
    pub user: Option<String>,
    /// What.
    pub what: Noted,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Noted {
    /// Bodies were read: which, in words of the command line.
    Read(String),
    /// Keys of bodies are to be destroyed.
    Erase {
        /// Of all segments that ended before this time, as records bear times; `None`: of `segments`.
        before: Option<String>,
        /// Of these.
        segments: Vec<u64>,
        /// Why.
        why: Option<String>,
    },
}
