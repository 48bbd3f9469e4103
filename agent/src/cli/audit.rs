//! `sluice audit`: what proves the recordings. Reads files only, of this host's store or of a copy, and asks nobody.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use super::Failure;
use super::filter::{default_store, duration, when};
use crate::audit::prove::{Id, prove};
use crate::audit::{Finding, Grade, Options, Range, Report, proof, verify};
use crate::evidence::note::VerifierKey;
use crate::paths::AUDIT_DIR;
use crate::record::visible::{Keep, visible};
use crate::report::Chain;

/// Longest proof and longest text of checkpoints that are read.
const LONGEST: u64 = 1 << 30;

/// `sluice audit`.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Verify a store, or with --proof a proof; exit code 1 if something was changed or is missing.
    Verify(VerifyArgs),
    /// Write a proof that a session, an exchange or a record is in the store: one file that needs no store.
    Prove(ProveArgs),
    /// Print the key that an auditor keeps: all others are certified from it on.
    Key(KeyArgs),
}

impl AuditArgs {
    /// Does it.
    ///
    /// # Errors
    /// The store cannot be read, or stdout not written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Verify(args) => args.run(),
            Verb::Prove(args) => args.run(),
            Verb::Key(args) => args.run(),
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice audit verify
  sluice audit verify /mnt/copy --key \"$(cat kept-key)\" --json
  journalctl -t sluice -o json | sluice audit verify --known -
  sluice audit verify --since 2026-11-01 --until 2026-11-02
  sluice audit verify --proof exchange.proof --key \"$(cat kept-key)\"

Without --key a store is only held against itself: it could be another one altogether. Without --known, what came after
the last checkpoint that is named may have been cut off: only what was kept elsewhere can tell. --since, --until and
--segments choose whole segments, the ones that reach over the times included: of what is before and behind them nothing is said.")]
struct VerifyArgs {
    /// The store, or a copy of one [default: this host's]
    #[arg(value_name = "DIR", conflicts_with = "proof")]
    dir: Option<PathBuf>,
    /// The first key, as `sluice audit key` printed it when the store was made
    #[arg(long, value_name = "KEY")]
    key: Option<VerifierKey>,
    /// Text with checkpoints that were kept elsewhere, such as the journal's; `-` for stdin
    #[arg(long, value_name = "FILE", conflicts_with = "proof")]
    known: Option<PathBuf>,
    /// Only from the segment on that this time is in: RFC 3339, or so long ago (45s, 10m, 2h, 3d, 1w)
    #[arg(long, value_name = "TIME", value_parser = when, conflicts_with = "proof")]
    since: Option<String>,
    /// Only to the segment that this time is in
    #[arg(long, value_name = "TIME", value_parser = when, conflicts_with = "proof")]
    until: Option<String>,
    /// Only these segments: a number, or FIRST-LAST
    #[arg(long, value_name = "RANGE", value_parser = segments, conflicts_with = "proof")]
    segments: Option<(u64, u64)>,
    /// The clock of the host was wrong, or was set, by so much (45s, 10m, 2h, 3d): times that are off by no more do not weigh
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    clock: Option<Duration>,
    /// Verify this proof instead of a store
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl VerifyArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(file) = &self.proof {
            return self.proof(file);
        }
        let dir = self.dir.clone().unwrap_or_else(default_store);
        let known = self.known.as_deref().map(text_of).transpose()?.unwrap_or_default();
        let range = Range { segments: self.segments, since: self.since.clone(), until: self.until.clone() };
        let range = Some(range).filter(|range| *range != Range::default());
        let options = Options { key: self.key.clone(), known, clock: self.clock, range };
        let report = verify(&dir, &options).map_err(|error| Failure {
            why: Chain(&error).to_string(),
            remedy: "Give the directory of a store that you may read: as root, or a copy.".to_owned(),
            code: 1,
        })?;
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        } else {
            print(&mut out, &report)?;
        }
        Ok(if report.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn proof(&self, path: &Path) -> anyhow::Result<ExitCode> {
        let bytes = bytes_of(path)?;
        let verdict = proof::verify(&bytes, self.key.as_ref(), self.clock).map_err(|error| Failure {
            why: format!("{} proves nothing: {}", path.display(), Chain(&error)),
            remedy: "Have it made again with `sluice audit prove`; if the key is refused, ask whose store it is of."
                .to_owned(),
            code: 1,
        })?;
        let checkpoint = &verdict.checkpoint;
        let mut out = io::stdout().lock();
        for record in &verdict.records {
            if self.json {
                let line = json!({
                    "log": checkpoint.origin.log.to_string(), "index": record.index, "kind": record.kind,
                    "payload": record.payload, "payload_base64": record.payload_base64,
                });
                writeln!(out, "{line}")?;
            } else {
                let text = record.payload.as_deref().unwrap_or("(bytes of a body, or a reference to them)");
                writeln!(
                    out,
                    "record {} of the log, kind {}: {}",
                    record.index,
                    record.kind,
                    visible(text, Keep::Lines)
                )?;
            }
        }
        if !self.json {
            let key = if self.key.is_some() {
                "the key given"
            } else {
                "the file's own key, which was not compared"
            };
            writeln!(
                out,
                "proven: {} records are in {}, signed at {} under key {}, which was in use from {} to {}; from {key} on:\n{}",
                verdict.records.len(),
                checkpoint.origin,
                checkpoint.time,
                verdict.number,
                verdict.window.from.as_deref().unwrap_or("?"),
                verdict.window.to.as_deref().unwrap_or("a time that the proof does not have"),
                verdict.key
            )?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A number, or two with a hyphen between.
fn segments(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok().zip(last.parse().ok()).filter(|(first, last)| first <= last);
    range.ok_or_else(|| format!("{text:?} is no range of segments: give a number, or two as in 3-17"))
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for (grade, mark) in [(Grade::Bad, "BAD "), (Grade::Said, "said")] {
        for finding in report.findings.iter().filter(|finding| finding.grade == grade) {
            writeln!(out, "{mark} {}{}", place(finding), visible(&finding.text, Keep::Lines))?;
            if let Some(follows) = &finding.follows {
                writeln!(out, "     so {}", visible(follows, Keep::Lines))?;
            }
        }
    }
    if report.more > 0 {
        writeln!(out, "     and {} more", report.more)?;
    }
    let Report { records, proven, late, unsigned, outside, segments, logs, checkpoints, keys, .. } = report;
    writeln!(
        out,
        "store {}: {records} records in {segments} segments, {logs} logs",
        report.store.as_deref().unwrap_or("?")
    )?;
    writeln!(
        out,
        "  {proven} proven, by {checkpoints} checkpoints under {keys} keys; {late} signed late, {unsigned} unsigned, {outside} in no log"
    )?;
    if let Some(part) = &report.part {
        let (from, to) = (part.from.as_deref().unwrap_or("?"), part.to.as_deref().unwrap_or("the end"));
        writeln!(
            out,
            "  only segments {} to {}, from {from} to {to}: what is before and behind was not read, and may be gone",
            part.first, part.last
        )?;
    }
    writeln!(out, "  {} pieces of bodies are what was recorded", report.bodies)?;
    if let Some(last) = &report.last {
        writeln!(out, "  last checkpoint: {}, {} records of log {}", last.time, last.size, last.log)?;
    }
    match (&report.key, report.key_given) {
        (Some(_), true) => writeln!(out, "  keys: from the key given")?,
        (Some(key), false) => writeln!(out, "  keys: from {key}, which was not compared")?,
        (None, _) => writeln!(out, "  keys: none")?,
    }
    if let Some(since) = &report.since {
        writeln!(
            out,
            "  what was recorded before {since} was deleted; only what was kept elsewhere can tell what it was"
        )?;
    }
    match (report.bad, report.unproven) {
        (0, 0) if *proven > 0 => {
            writeln!(out, "good: nothing was changed, removed or reordered in what is proven")
        }
        (0, 0) => writeln!(out, "unproven: nothing in this store is under a signature"),
        (0, n) => writeln!(
            out,
            "unproven {n} records: no signature covers them, whoever could write here may have made them"
        ),
        (n, 0) => writeln!(out, "BAD: {n} findings"),
        (n, m) => writeln!(out, "BAD: {n} findings; unproven {m} records"),
    }
}

fn place(finding: &Finding) -> String {
    match (finding.segment, finding.offset) {
        (Some(segment), Some(offset)) => format!("segment {segment}, byte {offset}: "),
        _ => String::new(),
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice audit prove 01JZ8Q4T9V7W3Q2M5N8P1R4S6T -o session.proof
  sluice audit prove 01JZ8Q4T9V/3 | ssh auditor 'sluice audit verify --proof -'")]
struct ProveArgs {
    /// A session or the beginning of its id, /N for one exchange of it, or a record's sequence number
    #[arg(value_name = "ID")]
    id: Id,
    /// The file to write, for its owner only; stdout if none is given
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The store, or a copy of one
    #[arg(long, value_name = "DIR", default_value_os_t = default_store())]
    store: PathBuf,
}

impl ProveArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let made = prove(&self.store, &self.id).map_err(|error| Failure {
            why: Chain(&error).to_string(),
            remedy: "`sluice sessions` lists what is recorded, `sluice audit verify` what is wrong with it."
                .to_owned(),
            code: 1,
        })?;
        let mut text = serde_json::to_vec_pretty(&made)?;
        text.push(b'\n');
        match &self.output {
            None => io::stdout().lock().write_all(&text)?,
            Some(path) => {
                let mut options = OpenOptions::new();
                let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
                file.and_then(|mut file| file.write_all(&text)).map_err(|error| Failure {
                    why: format!("{} cannot be written: {error}", path.display()),
                    remedy: "Give another file with -o.".to_owned(),
                    code: 1,
                })?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sluice audit key > kept-key")]
struct KeyArgs {
    /// The store, or a copy of one
    #[arg(long, value_name = "DIR", default_value_os_t = default_store())]
    store: PathBuf,
    /// One JSON object with all keys
    #[arg(long)]
    json: bool,
}

impl KeyArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let of = crate::audit::prove::keys;
        let copied = of(&self.store);
        let own = self.of_this_host(copied.as_ref().ok().map(|chain| chain.store().to_string()));
        let told = own.as_deref().map(of).and_then(Result::ok);
        if let Some(own) = &told
            && copied.as_ref().ok().map(crate::evidence::chain::Chain::first) != Some(own.first())
        {
            let text = "warning: the keys in the store are others than those that this host's agent made, which follow";
            writeln!(io::stderr(), "{text}")?;
        }
        let chain = told.map_or(copied, Ok).map_err(|error| Failure {
            why: Chain(&error).to_string(),
            remedy: "A key is made with the first record; see `sluice audit verify`.".to_owned(),
            code: 1,
        })?;
        let mut out = io::stdout().lock();
        if self.json {
            let keys = chain.certificates().iter();
            let keys: Vec<_> =
                keys.map(|c| json!({"number": c.number, "key": c.key.to_string(), "time": c.time})).collect();
            writeln!(
                out,
                "{}",
                json!({"store": chain.store().to_string(), "key": chain.first().to_string(), "keys": keys})
            )?;
        } else {
            writeln!(out, "{}", chain.first())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Where the agent that signs this store keeps its keys, beside the store: root alone may read and write there, so that
    /// it is the better witness of which key was the first. `named`: the store's id by its own copy; another one there counts
    /// if it is the only one.
    fn of_this_host(&self, named: Option<String>) -> Option<PathBuf> {
        let all = self.store.parent()?.join(AUDIT_DIR);
        let owner = fs::symlink_metadata(&all).ok().filter(fs::Metadata::is_dir)?.uid();
        if owner != nix::unistd::geteuid().as_raw() {
            return None;
        }
        let entries = fs::read_dir(&all).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let ids: Vec<_> = entries.filter(|name| crate::evidence::checkpoint::ulid(name).is_some()).collect();
        let own = ids.iter().find(|id| Some(*id) == named.as_ref());
        own.or(ids.first().filter(|_| ids.len() == 1)).map(|id| all.join(id))
    }
}

fn text_of(path: &Path) -> Result<String, Failure> {
    Ok(String::from_utf8_lossy(&bytes_of(path)?).into_owned())
}

/// A file's bytes, or stdin's for `-`.
fn bytes_of(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => io::stdin().lock().take(LONGEST).read_to_end(&mut bytes),
        false => fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes)),
    };
    read.map(|_| bytes).map_err(|error| Failure {
        why: format!("{} cannot be read: {error}", path.display()),
        remedy: "Give a file that is there, or `-` for stdin.".to_owned(),
        code: 1,
    })
}
