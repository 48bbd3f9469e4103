//! `sluice policy replay`: what the rules of a configuration would have said to what was recorded, and what of that is
//! another verdict than the recorded one. Each exchange is judged as the gate judges, at its time, with what was known of
//! its caller; what the record lacks is told and never guessed.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Unread, recorded};
use crate::cli::DaemonAt;
use crate::cli::filter::FilterArgs;
use crate::cli::identity::Reading;
use crate::cli::sessions::damaged;
use crate::cli::table::Look;
use crate::paths;
use crate::policy::Policy;
use crate::record::read::Damage;
use crate::record::read::each::{self, Recorded};
use report::Report;

mod report;

/// Arguments of `sluice policy replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice policy replay --since 1d
  sluice policy replay ./sluice --tag ci --json | jq -r 'select(.change == \"refused\") | .host'

Exit code 1: something that was allowed would be refused. 0: nothing. 2: wrong usage or configuration.

Verdicts are compared, whatever the mode. Not replayed: limits, rates of lookups, aliases, credentials, masks. What depends
on something that the record lacks (bodies that were cut or not sent, secrets that were taken out, claims of identities,
messages on WebSockets that rules judge one by one) is counted as what cannot be judged.")]
pub struct ReplayArgs {
    /// Directory with sluice.toml and policy.d
    #[arg(value_name = "DIR", default_value = paths::CONFIG_DIR)]
    pub(super) directory: PathBuf,
    #[command(flatten)]
    pub(super) of: FilterArgs,
    #[command(flatten)]
    pub(super) reading: Reading,
    /// Also what keeps its verdict, and gets it from another rule
    #[arg(long)]
    pub(super) all: bool,
    /// One JSON object for each changed exchange, then one with the counts
    #[arg(long)]
    pub(super) json: bool,
}

impl ReplayArgs {
    /// Prints what changes; exit code 1 when something that was allowed would be refused, or the store is damaged.
    ///
    /// # Errors
    /// [`Failure`](crate::cli::Failure): a bad configuration; or stdout cannot be written.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        self.reading.record(daemon, &self.of.store, self.of.words("policy replay"));
        let mut out = BufWriter::new(io::stdout().lock());
        let (report, damage) = match self.replay(&mut out) {
            Ok(replayed) => replayed,
            Err(unread) => return unread.told(),
        };
        let code = damaged(&damage);
        Ok(if report.refuses() { ExitCode::FAILURE } else { code })
    }

    /// Judges and prints.
    pub(super) fn replay(&self, out: &mut impl Write) -> Result<(Report, Vec<Damage>), Unread> {
        let policy = super::in_force(&self.directory).map_err(Unread::Failure)?;
        let mut report = Report::new(self.all);
        let mut wrote = Ok(());
        let access = self.reading.access(&self.of.store).map_err(Unread::Failure)?;
        let read = each::each(
            &self.of.store,
            (&self.of.filter(), &access),
            |begin, head, names| {
                policy.asks_body()
                    && recorded::of_head(begin, head, names).is_ok_and(|past| past.asks_body(&policy))
            },
            |recorded| {
                wrote = self.judge(&policy, &recorded, &mut report, out);
                if wrote.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        );
        let printed = wrote.and_then(|()| {
            if self.json { report.as_json(out) } else { report.as_text(out, Look::of_stdout()) }
        });
        match (read, printed.and_then(|()| out.flush())) {
            (Err(error), _) => Err(Unread::Store(error)),
            (Ok(_), Err(error)) => Err(Unread::Output(error)),
            (Ok(damage), Ok(())) => Ok((report, damage)),
        }
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
