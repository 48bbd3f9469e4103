//! `sluice export`: recorded exchanges in the formats of other tools. What a format cannot say is left out and counted on
//! stderr; a body of which not all is recorded is said to be cut in each of them (`docs/export.md`).

use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;

use super::filter::FilterArgs;
use super::identity::Reading;
use super::sessions::{damaged, unreadable};
use super::show;
use super::table;
use super::{DaemonAt, Failure};
use crate::look::item::Item;
use crate::record::read::unseal::Access;
use crate::record::read::whole::{self, NotFound, Which};
use crate::record::read::{Damage, each, list::Filter};

mod har;
mod jsonl;
mod otlp;
mod packets;
mod pcapng;
mod text;
mod wire;

/// Bytes of bodies of one session that are held at once.
const BODIES: usize = 256 << 20;

/// Writes recorded sessions in a format that other tools read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice export 01JZ8Q4T9V --format har --output session.har        for a browser's developer tools
  sluice export --since 1h --tag ci --format jsonl | jq .summary.path
  sluice export 01JZ8Q4T9V --format pcapng --output session.pcapng  for Wireshark

Without ID everything that the filters want is written, in the order in which it ended. docs/export.md says what stands
where.")]
pub struct ExportArgs {
    /// Sessions by their ids or the beginnings of these, /N for one exchange
    #[arg(value_name = "ID[/N]", value_parser = show::id)]
    ids: Vec<(String, Option<u32>)>,
    /// The format
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write, for its owner only; stdout if none is given
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    of: FilterArgs,
    #[command(flatten)]
    reading: Reading,
}

/// What can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// HTTP archive 1.2: browsers' developer tools
    Har,
    /// One JSON object an exchange and line
    Jsonl,
    /// For people
    Text,
    /// OpenTelemetry logs in OTLP's JSON, a request of many records a line
    Otlp,
    /// Packets of the plaintext, for Wireshark
    Pcapng,
}

/// Writes one format.
trait Exporter {
    /// One exchange; whether the format can say it.
    fn add(&mut self, out: &mut dyn Write, item: &Item) -> io::Result<Said>;
    /// What follows the last.
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// Whether a format can say an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Yes,
    /// Why not.
    No(&'static str),
}

impl Format {
    fn exporter(self) -> Box<dyn Exporter> {
        match self {
            Self::Har => Box::new(har::Har::default()),
            Self::Jsonl => Box::new(jsonl::JsonLines),
            Self::Text => Box::new(text::Text::default()),
            Self::Otlp => Box::new(otlp::Otlp::default()),
            Self::Pcapng => Box::new(pcapng::Pcapng::default()),
        }
    }
}

/// An export under way.
struct Export<'a> {
    exporter: Box<dyn Exporter>,
    out: &'a mut dyn Write,
    filter: &'a Filter,
    written: u64,
    /// How many were left out, and why.
    left: std::collections::BTreeMap<&'static str, u64>,
}

impl Export<'_> {
    fn add(&mut self, item: &Item) -> io::Result<()> {
        if !self.filter.wants(&item.summary) {
            return Ok(());
        }
        match self.exporter.add(self.out, item)? {
            Said::Yes => self.written += 1,
            Said::No(why) => *self.left.entry(why).or_default() += 1,
        }
        Ok(())
    }
}

impl ExportArgs {
    /// Writes it; what is damaged goes to stderr and makes the exit code 1.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        self.reading.record(daemon, &self.of.store, self.of.words("export"));
        if self.output.is_none() && self.format == Format::Pcapng && io::stdout().is_terminal() {
            let why = "packets are no text for a terminal".to_owned();
            return Err(Failure { why, remedy: "give --output FILE, or pipe it".to_owned(), code: 2 }.into());
        }
        let access = self.reading.access(&self.of.store)?;
        let (mut out, place) = self.open()?;
        match self.write(&mut out, &access) {
            Ok(Ok(damage)) => Ok(damaged(&damage)),
            Ok(Err(NotFound::Unreadable(error))) => Ok(unreadable(&error)),
            Ok(Err(error)) => Ok(show::not_found(&error)),
            Err(error) if self.output.is_none() && table::nobody_reads(&error) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(error).context(place),
        }
    }

    fn open(&self) -> anyhow::Result<(Box<dyn Write>, String)> {
        let Some(path) = &self.output else {
            return Ok((Box::new(BufWriter::new(io::stdout().lock())), "stdout".to_owned()));
        };
        // What jobs said is for whoever asked, not for every user of the host.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let place = path.display().to_string();
        Ok((Box::new(BufWriter::new(file.with_context(|| place.clone())?)), place))
    }

    fn write(&self, out: &mut dyn Write, access: &Access) -> io::Result<Result<Vec<Damage>, NotFound>> {
        let filter = self.of.filter();
        let exporter = self.format.exporter();
        let left = std::collections::BTreeMap::new();
        let mut export = Export { exporter, out, filter: &filter, written: 0, left };
        let read = if self.ids.is_empty() {
            everything(&self.of.store, access, &mut export)?
        } else {
            named(&self.of.store, access, &self.ids, &mut export)?
        };
        export.exporter.end(export.out)?;
        export.out.flush()?;
        for (why, count) in &export.left {
            eprintln!("sluice: {count} exchange(s) left out: {why}");
        }
        if export.written == 0 && export.left.is_empty() && read.is_ok() {
            eprintln!("sluice: nothing is recorded that is wanted: see sluice sessions with the same flags");
        }
        Ok(read)
    }
}

fn everything(
    store: &Path,
    access: &Access,
    export: &mut Export<'_>,
) -> io::Result<Result<Vec<Damage>, NotFound>> {
    let mut wrote = Ok(());
    let filter = export.filter;
    let read = each::all(store, (filter, access), |recorded| {
        wrote = export.add(&Item::from(recorded));
        if wrote.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    wrote.map(|()| read.map_err(NotFound::Unreadable))
}

fn named(
    store: &Path,
    access: &Access,
    ids: &[(String, Option<u32>)],
    export: &mut Export<'_>,
) -> io::Result<Result<Vec<Damage>, NotFound>> {
    let mut damage = Vec::new();
    for (id, number) in ids {
        let which = number.map_or(Which::First(u32::MAX), Which::One);
        let mut session = match whole::read(store, id, which, BODIES, access) {
            Ok(session) => session,
            Err(error) => return Ok(Err(error)),
        };
        damage.append(&mut session.damage);
        for item in Item::of_session(session) {
            export.add(&item)?;
        }
    }
    damage.sort_by_key(ToString::to_string);
    damage.dedup();
    Ok(Ok(damage))
}
