//! Verifies a store: reads everything once, in the order of writing.

use std::path::Path;

use super::line::Line;
use super::report::{Finding, Report, What};
use super::{Error, files, signed};
use crate::evidence::note::VerifierKey;

/// What to verify against.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The first key of the chain, as the auditor kept it. Without it the store is only held against itself.
    pub key: Option<VerifierKey>,
    /// A text with checkpoints that were kept elsewhere (a witness, the journal): the store must still have what they state.
    pub known: String,
}

/// Verifies the store in `dir`.
///
/// # Errors
/// It cannot be read. What is wrong with it is in the report.
pub fn verify(dir: &Path, options: &Options) -> Result<Report, Error> {
    let mut report = Report::default();
    // What is signed first, then the records: so one that is being written is not ahead of its records.
    let signed = signed::read(dir, options.key.as_ref(), &options.known, &mut report)?;
    let segments = files::segments(dir)?;
    if segments.is_empty() && signed.chain.is_none() {
        report.add(Finding::bad(
            What::Missing,
            "there are no segments: this is no store, or all of it is gone",
        ));
        return Ok(report);
    }
    report.segments = segments.len() as u64;
    let mut line = Line::new(dir, signed, &segments);
    for (index, segment) in segments.iter().enumerate() {
        line.segment(segment, &segments[index + 1..], &mut report)?;
    }
    line.finish(&mut report);
    Ok(report)
}
