//! `sluice audit`: what proves the recordings. Reads files only, of this host's store or of a copy, and asks nobody.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::Failure;
use super::filter::default_store;
use crate::audit::prove::{Id, prove};
use crate::audit::{Finding, Grade, Options, Report, proof, verify};
use crate::evidence::note::VerifierKey;
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
  sluice audit verify --proof exchange.proof --key \"$(cat kept-key)\"

Without --key a store is only held against itself: it could be another one altogether. Without --known, what came after
the last checkpoint that is named may have been cut off: only what was kept elsewhere can tell.")]
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
        let report = verify(&dir, &Options { key: self.key.clone(), known }).map_err(|error| Failure {
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
        let verdict = proof::verify(&bytes, self.key.as_ref()).map_err(|error| Failure {
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
                "proven: {} records are in {}, signed at {} under key {} from {key} on:\n{}",
                verdict.records.len(),
                checkpoint.origin,
                checkpoint.time,
                verdict.number,
                verdict.key
            )?;
        }
        Ok(ExitCode::SUCCESS)
    }
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
    writeln!(out, "  {} pieces of bodies are what was recorded", report.bodies)?;
    if let Some(last) = &report.last {
        writeln!(out, "  last checkpoint: {}, {} records of log {}", last.time, last.size, last.log)?;
    }
    match (&report.key, report.key_given) {
        (Some(_), true) => writeln!(out, "  keys: from the key given")?,
        (Some(key), false) => writeln!(out, "  keys: from {key}, which was not compared")?,
        (None, _) => writeln!(out, "  keys: none")?,
    }
    match report.bad {
        0 => writeln!(out, "good: nothing was changed, removed or reordered in what is proven"),
        n => writeln!(out, "BAD: {n} findings"),
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
        let chain = crate::audit::prove::keys(&self.store).map_err(|error| Failure {
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
