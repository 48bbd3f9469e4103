//! `sluice policy`: the tools for who writes rules. They read files and the store; they ask no daemon.

use std::process::ExitCode;

use clap::Subcommand;

mod check;
mod explain;

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
}

impl PolicyArgs {
    /// Does it.
    ///
    /// # Errors
    /// See the verbs.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            PolicyVerb::Check(args) => args.run(),
            PolicyVerb::Explain(args) => args.run(),
        }
    }
}
