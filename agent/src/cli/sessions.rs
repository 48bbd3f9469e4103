//! `sluice sessions`: the recorded exchanges, one a line.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use super::DaemonAt;
use super::filter::FilterArgs;
use super::identity::Reading;
use super::table::{self, Cell, Look, Tone};
use crate::look::grep::Needle;
use crate::look::item::Item;
use crate::look::plain;
use crate::record::read::list::{self, Filter};
use crate::record::read::unseal::Access;
use crate::record::read::{Damage, Error, each, index};
use crate::report::Chain;
use crate::types::{Summary, Verdict};

/// How many a person is shown without asking for more.
const PAGE: usize = 100;
/// Rows that are aligned together in a long list.
const BLOCK: usize = 1000;
/// Longest cell for a person: an address line of 80 columns keeps its shape with the id beside it.
const CELL: usize = 60;

/// Lists recorded exchanges: one line each, the newest last.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice sessions --since 10m --tag ci
  sluice sessions --host '*.openai.com' --status 4xx --json | jq .error
  sluice sessions --grep 'customer 4711' --since 1d

Without --limit a table shows the newest 100, --json shows all. With --limit exchanges are in the order in which they
began; without, --json gives them in the order in which they ended, those under way last.")]
pub struct SessionsArgs {
    /// One JSON object a line, with the fields that scripts rely on
    #[arg(long)]
    json: bool,
    /// The newest N only; 0 for all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// With this text in a head or body, whatever the case of its letters; coded bodies are decoded for it
    #[arg(long, value_name = "TEXT", value_parser = Needle::new)]
    grep: Option<Needle>,
    #[command(flatten)]
    of: FilterArgs,
    #[command(flatten)]
    reading: Reading,
}

impl SessionsArgs {
    /// Prints the list; what is damaged goes to stderr and makes the exit code 1.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        if self.grep.is_some() {
            self.reading.record(daemon, &self.of.store, self.of.words("sessions --grep"));
        }
        let mut out = BufWriter::new(io::stdout().lock());
        // Only a search looks into bodies.
        let access = if self.grep.is_some() { self.reading.access(&self.of.store)? } else { Access::none() };
        let listed = self.print(&mut out, Look::of_stdout(), &access);
        match listed.and_then(|result| out.flush().map(|()| result)) {
            Err(error) if table::nobody_reads(&error) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(anyhow::Error::new(error).context("stdout")),
            Ok(Err(error)) => Ok(unreadable(&error)),
            Ok(Ok(damage)) => Ok(damaged(&damage)),
        }
    }

    fn print(
        &self,
        out: &mut impl Write,
        look: Look,
        access: &Access,
    ) -> io::Result<Result<Vec<Damage>, Error>> {
        let filter = self.of.filter();
        let limit = match self.limit {
            Some(0) => None,
            Some(n) => Some(n),
            None => (!self.json).then_some(PAGE),
        };
        let mut sheet = Sheet { json: self.json, look, rows: Vec::new(), headed: false };
        let Some(limit) = limit else {
            let mut wrote = Ok(());
            let read = self.all((&filter, access), |summary| {
                wrote = sheet.add(out, &summary);
                if wrote.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            wrote.and_then(|()| sheet.end(out))?;
            return Ok(read);
        };
        let (summaries, damage) = match self.newest((&filter, access), limit) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        for summary in &summaries {
            sheet.add(out, summary)?;
        }
        sheet.end(out)?;
        if self.limit.is_none() && summaries.len() == PAGE {
            out.flush()?;
            eprintln!("sluice: these are the newest {PAGE}; --limit 0 shows all");
        }
        Ok(Ok(damage))
    }
}

impl SessionsArgs {
    fn all(
        &self,
        (filter, access): (&Filter, &Access),
        mut each: impl FnMut(Summary) -> ControlFlow<()>,
    ) -> Result<Vec<Damage>, Error> {
        let Some(needle) = &self.grep else { return list::all(&self.of.store, filter, each) };
        each::all(&self.of.store, (filter, access), |recorded| {
            let item = Item::from(recorded);
            if needle.is_in(&item) { each(item.summary) } else { ControlFlow::Continue(()) }
        })
    }

    fn newest(
        &self,
        (filter, access): (&Filter, &Access),
        limit: usize,
    ) -> Result<(Vec<Summary>, Vec<Damage>), Error> {
        if self.grep.is_none() {
            return newest(&self.of.store, filter, limit);
        }
        let mut found: BTreeMap<(String, String, u32), Summary> = BTreeMap::new();
        let damage = self.all((filter, access), |summary| {
            found.insert((summary.time.clone(), summary.session.clone(), summary.exchange), summary);
            if found.len() > limit {
                found.pop_first();
            }
            ControlFlow::Continue(())
        })?;
        Ok((found.into_values().collect(), damage))
    }
}

/// By the index where that helps: without a filter the end of the store has them.
fn newest(store: &Path, filter: &Filter, limit: usize) -> Result<(Vec<Summary>, Vec<Damage>), Error> {
    if filter.narrows() {
        match index::newest(store, &index::path_of(store), filter, limit) {
            Ok(found) => return Ok(found),
            // Whoever may not write beside the store reads it without.
            Err(why) => tracing::debug!("{}", Chain(&why)),
        }
    }
    list::newest(store, filter, limit)
}

/// What is printed, in blocks that are aligned together.
struct Sheet {
    json: bool,
    look: Look,
    rows: Vec<[Cell; 9]>,
    headed: bool,
}

impl Sheet {
    fn add(&mut self, out: &mut impl Write, summary: &Summary) -> io::Result<()> {
        if self.json {
            plain::write(out, summary)?;
            return out.write_all(b"\n");
        }
        self.rows.push(row(summary));
        if self.rows.len() == BLOCK { self.end(out) } else { Ok(()) }
    }

    fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        let heads = ["TIME (UTC)", "ID", "TAG", "METHOD", "WHERE", "STATUS", "TOOK", "UP/DOWN", "REMARK"];
        if self.json || (self.headed && self.rows.is_empty()) {
            return Ok(());
        }
        let heads = (!std::mem::replace(&mut self.headed, true)).then_some(heads);
        table::write(out, self.look, heads, &std::mem::take(&mut self.rows), CELL)
    }
}

fn row(s: &Summary) -> [Cell; 9] {
    let place = format!("{}{}", s.host, s.path.as_deref().unwrap_or_default());
    let (remark, tone) = match (&s.error, s.verdict) {
        (Some(error), _) => (error.clone(), Tone::Bad),
        (None, Verdict::Deny) => {
            (format!("denied by {}", s.rule.as_deref().unwrap_or("no rule")), Tone::Warn)
        }
        (None, Verdict::Allow) => (String::new(), Tone::Plain),
    };
    let status = match s.status {
        Some(500..) => Tone::Bad,
        Some(400..) => Tone::Warn,
        _ => Tone::Plain,
    };
    let seconds = s.time.get(..19).map_or(s.time.clone(), |time| time.replace('T', " "));
    [
        Cell::new(seconds),
        Cell::new(format!("{}/{}", s.session, s.exchange)),
        Cell::new(&s.tag),
        Cell::new(s.method.as_deref().unwrap_or(&s.protocol)),
        Cell::new(place),
        Cell::new(s.status.map(|code| code.to_string()).unwrap_or_default()).tone(status),
        Cell::new(
            s.duration_us.map_or_else(
                || if s.error.is_some() { String::new() } else { "…".to_owned() },
                table::duration,
            ),
        ),
        Cell::new(format!("{}/{}", table::size(s.bytes_up), table::size(s.bytes_down))),
        Cell::new(remark).tone(tone),
    ]
}

/// Says on stderr why a store cannot be read, and what to do.
pub(super) fn unreadable(error: &Error) -> ExitCode {
    eprintln!("sluice: {}\n  {}", Chain(error), error.remedy());
    ExitCode::FAILURE
}

/// Says on stderr what of a store is damaged.
pub(super) fn damaged(damage: &[Damage]) -> ExitCode {
    for found in damage.iter().take(20) {
        eprintln!("sluice: the store is damaged: {found}");
    }
    if damage.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("  everything else was read; keep a copy of the store before anything changes it");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_not_there_is_said() {
        let args = SessionsArgs {
            json: true,
            limit: None,
            grep: None,
            reading: Reading::default(),
            of: FilterArgs::all_of("/nonexistent/store".as_ref()),
        };
        let result = args
            .print(&mut Vec::new(), Look { person: false, colour: false }, &Access::none())
            .expect("no output, no failure");
        let error = result.expect_err("no store");
        assert!(
            Chain(&error)
                .to_string()
                .starts_with("the store /nonexistent/store cannot be read: No such file")
        );
    }
}
