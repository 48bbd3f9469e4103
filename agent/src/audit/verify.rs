//! Verifies a store: reads everything once, in the order of writing.

use std::path::Path;
use std::time::Duration;

use super::line::Line;
use super::range::{Range, Reach, part};
use super::report::{Finding, Report, What};
use super::{Error, files, signed};
use crate::evidence::note::VerifierKey;
use crate::record::in_use;

/// What to verify against.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The first key of the chain, as the auditor kept it. Without it the store is only held against itself.
    pub key: Option<VerifierKey>,
    /// A text with checkpoints that were kept elsewhere (a witness, the journal): the store must still have what they state.
    pub known: String,
    /// By how much the host's clock was wrong or set, where the auditor knows: so far times may be from those of the keys.
    /// Without it, a minute.
    pub clock: Option<Duration>,
    /// Only this part of the store.
    pub range: Option<Range>,
}

/// Verifies the store in `dir`.
///
/// # Errors
/// It cannot be read. What is wrong with it is in the report.
pub fn verify(dir: &Path, options: &Options) -> Result<Report, Error> {
    let mut report = Report::default();
    let written = in_use(dir);
    // What is signed first, then the records: so one that is being written is not ahead of its records.
    let signed = signed::read(dir, options, &mut report)?;
    let segments = files::segments(dir)?;
    if segments.is_empty() && signed.chain.is_none() {
        report.add(Finding::bad(
            What::Missing,
            "there are no segments: this is no store, or all of it is gone",
        ));
        return Ok(report);
    }
    let within = options.range.as_ref().map_or(0..segments.len(), |range| range.of(&segments));
    if options.range.is_some() {
        report.part = part(&segments, &within);
        if within.is_empty() {
            report.add(Finding::bad(What::Missing, "no segment of this range is there"));
            return Ok(report);
        }
    }
    if let (Some(range), Some(part)) = (&options.range, &report.part)
        && let Some((first, last)) = range.segments.filter(|asked| *asked != (part.first, part.last))
    {
        let text =
            format!("segments {first} to {last} are asked for; {} to {} are there", part.first, part.last);
        report.add(Finding::bad(What::Missing, text));
    }
    // With the one behind: its signed head says where the part ends.
    let within = within.start..segments.len().min(within.end + 1);
    report.segments = within.len() as u64;
    let mut line = Line::new(dir, signed, &segments, Reach::of(&segments, &within), written);
    if within.start > 0 {
        line.begin_at(&segments, within.start, &mut report)?;
    }
    for index in within.clone() {
        line.segment(&segments[index], &segments[index + 1..], &mut report)?;
    }
    line.until_signed(&segments[within.end..], &mut report)?;
    line.finish(&mut report);
    Ok(report)
}
