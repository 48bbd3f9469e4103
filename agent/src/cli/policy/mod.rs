//! `sluice policy`: the tools for who writes rules. They read files and the store; the daemon is only told that
//! bodies are read.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use super::sessions::unreadable;
use super::{DaemonAt, Failure, table};
use crate::config;
use crate::policy::Policy;
use crate::record::read::Error;

mod check;
mod explain;
mod recorded;
mod replay;
mod suggest;
mod template;

/// Why what is recorded tells nothing.
#[derive(Debug)]
enum Unread {
    /// Wrong usage or configuration, or nothing there.
    Failure(Failure),
    /// The store cannot be read.
    Store(Error),
    /// Nobody can be told.
    Output(io::Error),
}

impl Unread {
    fn told(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Failure(failure) => Err(failure.into()),
            Self::Store(error) => Ok(unreadable(&error)),
            Self::Output(error) if table::nobody_reads(&error) => Ok(ExitCode::SUCCESS),
            Self::Output(error) => Err(anyhow::Error::new(error).context("stdout")),
        }
    }
}

fn wrong(why: impl Into<String>, remedy: impl Into<String>) -> Failure {
    Failure { why: why.into(), remedy: remedy.into(), code: 2 }
}

/// What would be in force with the configuration in `directory`.
fn in_force(directory: &Path) -> Result<Policy, Failure> {
    if !directory.is_dir() {
        let why = format!("{} is no directory", directory.display());
        return Err(wrong(
            why,
            format!("name the one that has {} or {}", config::MAIN_FILE, config::POLICY_DIR),
        ));
    }
    let config = config::load(directory).map_err(|problems| {
        let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
        wrong(
            format!("the configuration cannot be used:\n{}", all.join("\n")),
            "sluice policy check tells the same",
        )
    })?;
    let mut policy = Policy::compile(config.policy).map_err(|wrongs| {
        let all: Vec<_> = wrongs.iter().map(ToString::to_string).collect();
        wrong(all.join("\n"), "mend the conditions")
    })?;
    policy.durable = config.record.durable;
    policy.lookups = config.dns.lookups;
    Ok(policy)
}

/// Arguments of `sluice policy`.
#[derive(Debug, clap::Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    verb: PolicyVerb,
}

#[derive(Debug, Subcommand)]
enum PolicyVerb {
    /// Every problem of a configuration at once, and what its tests say.
    Check(check::CheckArgs),
    /// Which rule decides a request, and why the others do not.
    Explain(Box<explain::ExplainArgs>),
    /// The least that would have allowed what was recorded, as rules.
    Suggest(suggest::SuggestArgs),
    /// What the rules would have said to what was recorded.
    Replay(replay::ReplayArgs),
}

impl PolicyArgs {
    /// Does it.
    ///
    /// # Errors
    /// See the verbs.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        match self.verb {
            PolicyVerb::Check(args) => args.run(),
            PolicyVerb::Explain(args) => args.run(daemon),
            PolicyVerb::Suggest(args) => args.run(daemon),
            PolicyVerb::Replay(args) => args.run(daemon),
        }
    }
}
