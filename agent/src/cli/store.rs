//! `sluice store`: what the store holds, and the destruction of keys.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use super::filter::{default_store, when};
use super::sessions::unreadable;
use super::{DaemonAt, Failure, strange, table};
use crate::control::{Answer, Erase, Request};
use crate::record::read::Reader;
use crate::record::read::index::{self, Index, Unindexed};
use crate::report::Chain;

/// The store itself.
#[derive(Debug, clap::Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    verb: StoreVerb,
}

#[derive(Debug, Subcommand)]
enum StoreVerb {
    /// Segments, bodies and keys: how many, how large, how old.
    Stat(StatArgs),
    /// Destroy keys of bodies: what they sealed nobody can read any more; heads, and all proofs, stay.
    Erase(EraseArgs),
    /// Make the index anew that `sluice sessions` asks: it is made of the store, and proves nothing.
    RebuildIndex(RebuildArgs),
}

impl StoreArgs {
    /// Does it.
    ///
    /// # Errors
    /// [`Failure`]; or stdout cannot be written.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        match self.verb {
            StoreVerb::Stat(args) => args.run(),
            StoreVerb::Erase(args) => args.run(daemon),
            StoreVerb::RebuildIndex(args) => args.run(),
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sluice store stat --json | jq .bodies_bytes")]
struct StatArgs {
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// The store, or a copy of one
    #[arg(long, value_name = "DIR", default_value_os_t = default_store())]
    store: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice store erase --before 90d --why 'retention'
  sluice store erase --segment 17 --segment 18

The daemon does it, and records it: who, when, why, which keys. The segment in use stays. A segment that began before the
time and ended after it stays, too: name it with --segment.")]
struct EraseArgs {
    /// Of all segments that ended before: a time (RFC 3339) or so long ago (45s, 10m, 2h, 3d, 1w)
    #[arg(long, value_name = "TIME", value_parser = when, required_unless_present = "segment")]
    before: Option<String>,
    /// Of this segment; may be given several times
    #[arg(long, value_name = "N", conflicts_with = "before")]
    segment: Vec<u64>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sluice store rebuild-index\n
It is beside the store (DIR.index.sqlite), of the segments that are whole; what is written now is read from the store.")]
struct RebuildArgs {
    /// The store, or a copy of one
    #[arg(long, value_name = "DIR", default_value_os_t = default_store())]
    store: PathBuf,
}

impl RebuildArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let path = index::path_of(&self.store);
        let made = Reader::open(&self.store).map_err(Unindexed::from).and_then(|reader| {
            let mut index = Index::open(&path, &reader)?;
            index.forget(&reader)?;
            index.catch_up(&reader)
        });
        let made = made.map_err(|why| Failure {
            why: Chain(&why).to_string(),
            remedy: "run it as root, or remove the index: it is made anew when it is asked".to_owned(),
            code: 1,
        })?;
        println!("{} segments, {} records: {}", made.segments, made.records, path.display());
        Ok(ExitCode::SUCCESS)
    }
}

impl EraseArgs {
    fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        let request = Request::Erase(Erase { before: self.before, segments: self.segment, why: self.why });
        let Answer::Erased(keys) = daemon.ask(&request)? else { return Err(strange().into()) };
        let numbers: Vec<_> = keys.iter().map(u64::to_string).collect();
        match numbers.len() {
            0 => println!("no key was there to destroy"),
            count => println!("{count} key(s) destroyed: {}", numbers.join(" ")),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What the store holds: field names are stable.
#[derive(Debug, Default, Serialize)]
struct Stat {
    segments: usize,
    segments_bytes: u64,
    bodies_bytes: u64,
    keys: usize,
    /// Bodies files whose keys are gone.
    erased: usize,
    oldest: Option<String>,
    newest: Option<String>,
}

impl StatArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let reader = match Reader::open(&self.store) {
            Ok(reader) => reader,
            Err(error) => return Ok(unreadable(&error)),
        };
        let stat = stat(&self.store, &reader).map_err(|error| Failure {
            why: format!("{}: {error}", self.store.display()),
            remedy: "the store is read by root and the gate's user: use sudo".to_owned(),
            code: 1,
        })?;
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&stat)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let time = |time: &Option<String>| time.clone().unwrap_or_else(|| "-".to_owned());
        writeln!(out, "segments  {}, {} of records", stat.segments, table::size(stat.segments_bytes))?;
        writeln!(out, "bodies    {}, sealed", table::size(stat.bodies_bytes))?;
        writeln!(out, "keys      {}, and {} destroyed", stat.keys, stat.erased)?;
        writeln!(out, "begun     {} the oldest, {} the newest", time(&stat.oldest), time(&stat.newest))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn stat(store: &Path, reader: &Reader) -> io::Result<Stat> {
    let mut stat = Stat { segments: reader.segments(), ..Stat::default() };
    let mut bodies = 0;
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        let (name, length) = (entry.file_name(), entry.metadata()?.len());
        match name.to_str().filter(|name| !name.starts_with("spare.")).and_then(|name| name.rsplit_once('.'))
        {
            Some((_, "sluice")) => stat.segments_bytes += length,
            Some((_, "bodies")) => {
                bodies += 1;
                stat.bodies_bytes += length;
            }
            Some((_, "key")) => stat.keys += 1,
            _ => {}
        }
    }
    stat.erased = bodies - stat.keys.min(bodies);
    stat.oldest = reader.began(0).map(str::to_owned);
    stat.newest = (0..reader.segments()).rev().find_map(|index| reader.began(index)).map(str::to_owned);
    Ok(stat)
}
