//! What is signed: the chain of keys, and the trees that it states, before any record is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use ulid::Ulid;

use super::clock::{GRACE, Window};
use super::files::LARGEST;
use super::report::{Finding, Last, Report, What};
use super::{Error, Options, files};
use crate::evidence::chain::Chain;
use crate::evidence::checkpoint::Checkpoint;
use crate::evidence::note::{self, Note, Piece, VerifierKey};
use crate::evidence::tree::Head;

/// Who says that a log had this tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A checkpoint, under this key.
    Checkpoint(u64),
    /// One from outside of the store, under this key.
    Known(u64),
    /// The certificate of this number.
    Pin(u64),
    /// The head of this log's first segment.
    Log(Ulid),
}

impl By {
    /// Whether a signature is behind it.
    pub fn is_signed(&self) -> bool {
        !matches!(self, Self::Log(_))
    }
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Checkpoint(key) => write!(f, "a checkpoint under key {key}"),
            Self::Known(key) => write!(f, "a checkpoint from elsewhere, under key {key}"),
            Self::Pin(number) => write!(f, "the certificate of key {number}"),
            Self::Log(log) => write!(f, "the first record of log {log}"),
        }
    }
}

/// A tree that a log is said to have had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which.
    pub tree: Head,
    /// Who says so.
    pub by: By,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Signed {
    /// As far as it holds.
    pub chain: Option<Chain>,
    /// By log; unordered.
    pub marks: BTreeMap<Ulid, Vec<Mark>>,
    /// So far a time may be from the keys' that it is signed with.
    grace: Duration,
    /// Logs of which only the last checkpoint is kept, as it is when their records were deleted.
    pub only_last: BTreeSet<Ulid>,
}

/// Reads keys and checkpoints of a store.
///
/// # Errors
/// A file cannot be read.
pub fn read(dir: &Path, options: &Options, report: &mut Report) -> Result<Signed, Error> {
    // In this order: whoever writes them meanwhile puts a key's certificate before what it signs, and that behind records.
    let mut kept = Vec::new();
    for log in files::logs(dir)? {
        let dir = files::log_dir(dir, log);
        let last = files::whole(&dir.join("checkpoint"), files::SMALL)?;
        kept.push((log, last, files::whole(&dir.join("checkpoints"), files::NOTES)?));
    }
    let grace = options.clock.unwrap_or(GRACE);
    let mut signed = Signed { chain: chain(dir, options.key.as_ref(), report)?, grace, ..Signed::default() };
    let Some(chain) = signed.chain.clone() else {
        if !kept.is_empty() {
            report.add(Finding::bad(
                What::Key,
                "there are checkpoints, and no key that could have signed them",
            ));
        }
        return Ok(signed);
    };
    for certificate in chain.certificates() {
        for pin in &certificate.pins {
            signed.mark(pin.log, pin.tree, By::Pin(certificate.number));
        }
    }
    for (log, last, all) in kept {
        signed.log(&chain, log, last.as_deref(), all.as_deref(), report);
    }
    for text in notes_in(&options.known) {
        match Note::parse(&text).ok().map(|note| chain.open(&note)) {
            Some(Ok((key, checkpoint))) => {
                signed.mark(checkpoint.origin.log, checkpoint.tree, By::Known(key));
            }
            Some(Err(why)) => {
                let line = text.lines().next().unwrap_or_default();
                let text = format!("a checkpoint from elsewhere ({line}) is not of this store's keys: {why}");
                report.add(Finding::bad(What::Checkpoint, text));
            }
            None => {}
        }
    }
    signed.bounded(report);
    Ok(signed)
}

fn chain(dir: &Path, first: Option<&VerifierKey>, report: &mut Report) -> Result<Option<Chain>, Error> {
    let bytes = files::whole(&dir.join("keys"), files::NOTES)?.unwrap_or_default();
    let mut chain: Option<Chain> = None;
    for (at, piece) in note::split(&bytes) {
        let number = chain.as_ref().map_or(0, |chain| chain.certificates().len());
        let mut bad = |why: String| {
            let text = format!("keys, byte {at}: the certificate of key {number} does not hold: {why}");
            let so = format!("nothing that keys from {number} on signed proves anything");
            report.add(Finding::bad(What::Key, text).so(so));
        };
        let text = match piece {
            Piece::Note(text) => text,
            Piece::Torn(torn) if !torn.ends_with(b"\n\n") => {
                let text =
                    format!("keys, byte {at}: {} bytes at the end are no whole certificate", torn.len());
                report.add(Finding::said(What::Key, text));
                break;
            }
            Piece::Torn(_) => {
                bad("it is damaged".to_owned());
                break;
            }
        };
        let added = match (Note::parse(text), &mut chain) {
            (Err(why), _) => Err(why.to_string()),
            (Ok(note), None) => {
                Chain::begin(&note, first).map(|new| chain = Some(new)).map_err(|why| why.to_string())
            }
            (Ok(note), Some(chain)) => chain.add(&note).map_err(|why| why.to_string()),
        };
        if let Err(why) = added {
            bad(why);
            break;
        }
    }
    if let Some(chain) = &chain {
        report.keys = chain.certificates().len() as u64;
        report.key = Some(chain.first().to_string());
        report.key_given = first.is_some();
        clocks(chain, report);
    } else if let Some(first) = first {
        report.add(Finding::bad(What::Key, format!("no chain of keys begins with {first}")));
    }
    Ok(chain)
}

fn clocks(chain: &Chain, report: &mut Report) {
    for pair in chain.certificates().windows(2) {
        if pair[1].time < pair[0].time {
            let text =
                format!("key {} began at {}, before key {}", pair[1].number, pair[1].time, pair[0].number);
            report.add(Finding::said(What::Clock, text));
        }
    }
}

impl Signed {
    /// Leaves out trees of more leaves than there can be.
    fn bounded(&mut self, report: &mut Report) {
        for (log, marks) in &mut self.marks {
            marks.retain(|mark| {
                let possible = mark.tree.size <= LARGEST;
                if !possible {
                    let text = format!("{} says that log {log} had {} records", mark.by, mark.tree.size);
                    report.add(Finding::bad(What::Checkpoint, text).log(log));
                }
                possible
            });
        }
    }

    /// The first and the last key that signed something of a log, by what the keys themselves say.
    pub fn keys_of(&self, log: Ulid) -> Option<(u64, u64)> {
        let marks = self.marks.get(&log)?.iter().filter(|mark| mark.tree.size > 0);
        let keys = marks.filter_map(|mark| match mark.by {
            By::Checkpoint(key) | By::Known(key) => Some(key),
            // The key before signed what a certificate pins.
            By::Pin(number) => Some(number.saturating_sub(1)),
            By::Log(_) => None,
        });
        let (first, last) = keys.clone().min().zip(keys.max())?;
        Some((first, last))
    }

    /// When the records of a log that are signed may have been written.
    pub fn window(&self, log: Ulid) -> Window {
        let keys = self.chain.as_ref().zip(self.keys_of(log));
        keys.map_or_else(Window::default, |(chain, (first, last))| Window::of(chain, first, last, self.grace))
    }

    fn mark(&mut self, log: Ulid, tree: Head, by: By) {
        self.marks.entry(log).or_default().push(Mark { tree, by });
    }

    /// The checkpoints of one log.
    fn log(
        &mut self,
        chain: &Chain,
        log: Ulid,
        last: Option<&[u8]>,
        all: Option<&[u8]>,
        report: &mut Report,
    ) {
        // Once the records are deleted, only the last is kept.
        if all.is_none() && last.is_some() {
            self.only_last.insert(log);
        }
        let before = self.all(chain, log, all.unwrap_or_default(), report);
        let Some(last) = last else { return };
        let text = str::from_utf8(last).map_err(|_| "it is no text".to_owned());
        match text.and_then(|text| open(chain, log, text)) {
            Ok((key, checkpoint)) if before.is_none_or(|size| size < checkpoint.tree.size) => {
                if all.is_some() {
                    let text = format!(
                        "logs/{log}/checkpoints lacks the last checkpoint, which is in the file checkpoint"
                    );
                    report.add(Finding::said(What::Checkpoint, text).log(log));
                }
                self.keep(chain, log, key, &checkpoint, report);
            }
            Ok(_) => {}
            Err(why) => {
                let text = format!("logs/{log}/checkpoint proves nothing: {why}");
                report.add(Finding::bad(What::Checkpoint, text).log(log));
            }
        }
    }

    /// Those in the file that has all of them; gives the size of the last.
    fn all(&mut self, chain: &Chain, log: Ulid, all: &[u8], report: &mut Report) -> Option<u64> {
        let mut before: Option<(u64, Checkpoint)> = None;
        for (at, piece) in note::split(all) {
            let bad = |why: &str| {
                let text =
                    format!("the checkpoint at byte {at} of logs/{log}/checkpoints proves nothing: {why}");
                Finding::bad(What::Checkpoint, text).log(log)
            };
            let text = match piece {
                Piece::Note(text) => text,
                Piece::Torn(torn) if !torn.ends_with(b"\n\n") => {
                    let text = format!(
                        "logs/{log}/checkpoints: {} bytes at the end are no whole checkpoint",
                        torn.len()
                    );
                    report.add(Finding::said(What::Checkpoint, text).log(log));
                    break;
                }
                Piece::Torn(_) => {
                    report.add(bad("it is damaged"));
                    continue;
                }
            };
            let (key, checkpoint) = match open(chain, log, text) {
                Ok(opened) => opened,
                Err(why) => {
                    report.add(bad(&why));
                    continue;
                }
            };
            if let Some((old_key, old)) = &before {
                if old.tree.size > checkpoint.tree.size || *old_key > key {
                    report.add(bad("it is smaller or under an older key than the one before"));
                } else if old.time > checkpoint.time {
                    let text = format!("the clock went back from {} to {}", old.time, checkpoint.time);
                    report.add(Finding::said(What::Clock, text).log(log));
                }
            }
            self.keep(chain, log, key, &checkpoint, report);
            before = Some((key, checkpoint));
        }
        before.map(|(_, checkpoint)| checkpoint.tree.size)
    }

    fn keep(&mut self, chain: &Chain, log: Ulid, key: u64, checkpoint: &Checkpoint, report: &mut Report) {
        let window = Window::of(chain, key, key, self.grace);
        if window.excludes(&checkpoint.time) {
            let text = format!(
                "a checkpoint of {} leaves says that it was signed at {}, outside of the time of its key {key}",
                checkpoint.tree.size, checkpoint.time
            );
            let far = window.excludes_far(&checkpoint.time);
            let finding = if far { Finding::bad } else { Finding::said };
            report.add(finding(What::Clock, text).log(log));
        }
        let last = Last { time: checkpoint.time.clone(), log: log.to_string(), size: checkpoint.tree.size };
        report.last = report.last.take().max(Some(last));
        self.mark(log, checkpoint.tree, By::Checkpoint(key));
    }
}

fn open(chain: &Chain, log: Ulid, text: &str) -> Result<(u64, Checkpoint), String> {
    let note = Note::parse(text).map_err(|why| why.to_string())?;
    let (key, checkpoint) = chain.open(&note).map_err(|why| why.to_string())?;
    if checkpoint.origin.log != log {
        return Err(format!("it is of log {}", checkpoint.origin.log));
    }
    Ok((key, checkpoint))
}

/// Lines of a checkpoint at most.
const LINES: usize = 64;

/// Checkpoints in a text that has other lines around them, or in the journal's JSON lines.
fn notes_in(text: &str) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(rename = "SLUICE_CHECKPOINT")]
        checkpoint: String,
    }
    let entries = text.lines().filter(|line| line.starts_with('{'));
    let told: Vec<_> = entries.filter_map(|line| serde_json::from_str::<Entry>(line).ok()).collect();
    let lines: Vec<_> = text
        .lines()
        .chain(told.iter().flat_map(|entry| entry.checkpoint.lines().chain([""])))
        .map(str::trim)
        .collect();
    let mut found = Vec::new();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("sluice/")) {
        let Some(empty) = lines[at..].iter().take(LINES).position(|line| line.is_empty()) else { continue };
        let signatures = lines[at + empty + 1..].iter().take_while(|line| line.starts_with("— ")).count();
        if signatures > 0 {
            found.push(lines[at..=at + empty + signatures].join("\n") + "\n");
        }
    }
    found
}
