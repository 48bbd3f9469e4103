//! `sluice policy replay`: what the rules of a configuration would have said to what was recorded, and what of that is
//! another verdict than the recorded one. Each exchange is judged as the gate judges, at its time, with what was known of
//! its caller; what the record lacks is told and never guessed.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use super::recorded;
use crate::cli::filter::FilterArgs;
use crate::cli::sessions::{damaged, unreadable};
use crate::cli::table::{self, Look};
use crate::paths;
use crate::policy::Policy;
use crate::record::read::each::{self, Recorded};
use report::Report;

mod report;

/// Arguments of `sluice policy replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice policy replay --since 1d
  sluice policy replay ./sluice --tag ci --json | jq -r 'select(.change == \"refused\") | .host'

Exit code 1: something that was allowed would be refused. 0: nothing. 2: wrong usage or configuration.

Verdicts are compared, whatever the mode. Not replayed: limits, rates of lookups, credentials, masks, and claims of
identities, which the record does not have.")]
pub struct ReplayArgs {
    /// Directory with sluice.toml and policy.d
    #[arg(value_name = "DIR", default_value = paths::CONFIG_DIR)]
    directory: PathBuf,
    #[command(flatten)]
    of: FilterArgs,
    /// Also what keeps its verdict, and gets it from another rule
    #[arg(long)]
    all: bool,
    /// One JSON object for each changed exchange, then one with the counts
    #[arg(long)]
    json: bool,
}

impl ReplayArgs {
    /// Prints what changes; exit code 1 when something that was allowed would be refused, or the store is damaged.
    ///
    /// # Errors
    /// [`Failure`](crate::cli::Failure): a bad configuration; or stdout cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let policy = super::in_force(&self.directory)?;
        let mut out = BufWriter::new(io::stdout().lock());
        let mut report = Report::new(self.all);
        let mut wrote = Ok(());
        let damage = each::each(
            &self.of.store,
            &self.of.filter(),
            |begin, head| {
                policy.asks_body() && recorded::of_head(begin, head).is_ok_and(|past| past.asks_body(&policy))
            },
            |recorded| {
                wrote = self.judge(&policy, &recorded, &mut report, &mut out);
                if wrote.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        );
        let printed = wrote.and_then(|()| {
            if self.json { report.as_json(&mut out) } else { report.as_text(&mut out, Look::of_stdout()) }
        });
        match printed.and_then(|()| out.flush()) {
            Err(error) if !table::nobody_reads(&error) => {
                return Err(anyhow::Error::new(error).context("stdout"));
            }
            _ => {}
        }
        let code = match damage {
            Ok(damage) => damaged(&damage),
            Err(error) => unreadable(&error),
        };
        Ok(if report.refuses() { ExitCode::FAILURE } else { code })
    }

    fn judge(
        &self,
        policy: &Policy,
        recorded: &Recorded,
        report: &mut Report,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let changed = report.add(policy, recorded, recorded::past(recorded));
        match changed.filter(|_| self.json) {
            Some(change) => writeln!(out, "{change}"),
            None => Ok(()),
        }
    }
}
