//! The doctor: what on this host lets a tagged process get past Sluice, why that matters, and what to do about it.
//!
//! Facts are read here (processes, sockets, kernel, files) and judged here; no change is made. The warden uses the same
//! reading for the `enforcement` of each session, `sluice doctor` prints all of it.

pub mod dropin;
pub mod explain;
pub mod facts;
pub mod finding;
pub mod host;
pub mod kernel;
pub mod memory;
pub mod process;
pub mod socket;

pub use facts::{Facts, TagFacts, Who};
pub use finding::{Finding, Severity};
