//! `sluice replay`: what went over the wire, printed as it came. Nothing is sent anywhere. As everything that callers and
//! servers wrote, it is made visible and indented first.

use std::io::{self, BufRead as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::DaemonAt;
use super::filter::default_store;
use super::identity::Reading;
use super::sessions::damaged;
use super::{show, table};
use crate::look::item::Item;
use crate::look::pace::Pace;
use crate::record::read::whole::{self, Which};

mod moments;

use moments::{Moment, Said};

/// Bytes of bodies that are read at once.
const BODIES: usize = 64 << 20;

/// Prints what went over the wire, in its order and at its pace: heads, bodies, events and messages. Sends nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice replay 01JZ8Q4T9V/3               as it was
  sluice replay 01JZ8Q4T9V --speed 10      ten times as fast
  sluice replay 01JZ8Q4T9V --step          piece by piece, at Enter")]
pub struct ReplayArgs {
    /// The session's id or its beginning, and /N for one exchange
    #[arg(value_name = "ID[/N]", value_parser = show::id)]
    id: (String, Option<u32>),
    /// How many times as fast
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed)]
    speed: f64,
    /// Go on at Enter; q and Enter ends
    #[arg(long, conflicts_with = "speed")]
    step: bool,
    /// The store, or a copy of one
    #[arg(long, value_name = "DIR", default_value_os_t = default_store())]
    store: PathBuf,
    #[command(flatten)]
    reading: Reading,
}

fn speed(text: &str) -> Result<f64, String> {
    let good = |speed: &f64| (0.001..=1e6).contains(speed);
    text.parse().ok().filter(good).ok_or_else(|| format!("{text:?} is no speed: give 0.001 to 1000000"))
}

impl ReplayArgs {
    /// Prints it.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        let number = self.id.1.map(|number| format!("/{number}")).unwrap_or_default();
        self.reading.record(daemon, &self.store, format!("replay {}{number}", self.id.0));
        let which = self.id.1.map_or(Which::First(u32::MAX), Which::One);
        let access = self.reading.access(&self.store)?;
        let mut session = match whole::read(&self.store, &self.id.0, which, BODIES, &access) {
            Ok(session) => session,
            Err(error) => return Ok(show::not_found(&error)),
        };
        if session.exchanges.is_empty() {
            return Ok(show::failed("there is no such exchange", "sluice show ID shows those that are"));
        }
        let damage = std::mem::take(&mut session.damage);
        let items = Item::of_session(session);
        match self.play(&items) {
            Err(error) if !table::nobody_reads(&error) => Err(anyhow::Error::new(error).context("stdout")),
            _ => Ok(damaged(&damage)),
        }
    }

    fn play(&self, items: &[Item]) -> io::Result<()> {
        let moments = moments::of(items);
        let mut out = io::stdout().lock();
        let (first, last) = (moments.first().map_or(0, |m| m.at), moments.last().map_or(0, |m| m.at));
        let known = items.iter().all(|item| item.exchange.pieces.is_empty() || Pace::of(item).is_known());
        let bodies = if known { "as recorded" } else { "not recorded; they are spread evenly" };
        let took = table::duration(u64::try_from((last - first) / 1000).unwrap_or(0));
        writeln!(
            out,
            "replay    {} exchange(s) in {took}; times of pieces of bodies: {bodies}",
            items.len()
        )?;
        let begun = Instant::now();
        let mut printer = Printer { midline: false };
        for moment in &moments {
            let since = u64::try_from(moment.at - first).unwrap_or(0);
            if self.step {
                out.flush()?;
                if moment.at > first && !go_on()? {
                    break;
                }
            } else {
                let due = Duration::from_nanos(since).div_f64(self.speed);
                let early = due.saturating_sub(begun.elapsed());
                if !early.is_zero() {
                    out.flush()?;
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "the pace of what was recorded; nothing waits for it"
                    )]
                    std::thread::sleep(early);
                }
            }
            printer.print(&mut out, moment, since)?;
        }
        printer.end_line(&mut out)?;
        out.flush()
    }
}

/// Waits for Enter; at the end of the input, and after `q`, no.
fn go_on() -> io::Result<bool> {
    let mut line = String::new();
    Ok(io::stdin().lock().read_line(&mut line)? > 0 && line.trim() != "q")
}

struct Printer {
    /// A body's line is not ended yet.
    midline: bool,
}

impl Printer {
    fn print(&mut self, out: &mut impl Write, moment: &Moment, since: u64) -> io::Result<()> {
        match &moment.said {
            Said::Lines(lines) => {
                self.end_line(out)?;
                write!(out, "[+{:.3}s] ", since as f64 / 1e9)?;
                out.write_all(lines.as_bytes())?;
                self.midline = !lines.ends_with('\n');
            }
            Said::Text(text) => {
                for row in text.split_inclusive('\n') {
                    if !std::mem::replace(&mut self.midline, true) {
                        write!(out, "  ")?;
                    }
                    out.write_all(row.as_bytes())?;
                    self.midline = !row.ends_with('\n');
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self, out: &mut impl Write) -> io::Result<()> {
        if std::mem::replace(&mut self.midline, false) { writeln!(out) } else { Ok(()) }
    }
}
