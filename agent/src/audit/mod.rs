//! Reads a store and judges what its evidence is worth: `sluice audit`. Nothing is believed that is not under a signature of
//! the chain of keys, and nothing is asked of the agent: a copy of the directory is enough, and whoever has the first key
//! needs nobody's word. Formats: `docs/store.md`.
//!
//! It shares the frame and [`crate::evidence`] with the writer, nothing else: `tests/reader/verify.py` is the second opinion.

use std::io;
use std::path::PathBuf;

mod bodies;
mod clock;
mod files;
mod line;
mod log;
pub mod proof;
pub mod prove;
mod range;
mod report;
mod said;
mod scan;
mod signed;
mod source;
mod verify;

pub use range::Range;
pub use report::{Finding, Grade, Part, Report, What};
pub use verify::{Options, verify};

/// The store cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read")]
pub struct Error {
    /// What.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl Error {
    fn of(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self { path: path.to_owned(), source }
    }
}
