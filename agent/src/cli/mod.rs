//! The command line: one file a verb, each an `Args` with `run(self) -> anyhow::Result<ExitCode>`. Errors are printed
//! here and nowhere else: `sluice: verb: why`, and what to do on a second line. Exit codes: 0 done, 1 failed, 2 wrong
//! usage or configuration.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::config;
use crate::control::{self, Answer, ControlError, Request};
use crate::paths;
use crate::record::visible::{Keep, visible};
use crate::report::Chain;

mod audit;
mod credentials;
mod daemon;
mod doctor;
mod export;
mod filter;
mod identity;
mod leaks;
mod man;
mod mask;
mod policy;
mod replay;
mod run;
pub mod sessions;
pub mod show;
mod status;
mod store;
mod table;
mod tag;
mod top;
pub mod trust;

/// Takes the outbound connections of tagged processes, reads, records and sends them on.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Example:\n  sluice run -- curl https://example.com\n  sluice sessions --since 10m")]
struct Cli {
    #[command(flatten)]
    daemon: DaemonAt,
    #[command(subcommand)]
    verb: Verb,
}

/// Where the daemon is.
#[derive(Clone, Debug, clap::Args)]
pub struct DaemonAt {
    /// Runtime directory of the daemon to talk to.
    #[arg(long, global = true, value_name = "DIR", default_value = paths::RUNTIME_DIR, hide = true)]
    pub runtime: PathBuf,
}

/// Each verb, in the order of the help.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a command in a tag of its own, with the trust environment.
    Run(run::RunArgs),
    /// Tag a unit, slice, cgroup, user or process while the daemon runs.
    Tag(tag::TagArgs),
    /// End a tag.
    Untag(tag::UntagArgs),
    /// List the tags.
    Tags(tag::TagsArgs),
    /// What is running and taken.
    Status(status::StatusArgs),
    /// A live view of tagged processes, exchanges, rates and verdicts.
    Top(top::TopArgs),
    /// What on this host weakens the enforcement, and what to do about it.
    Doctor(doctor::DoctorArgs),
    /// List recorded exchanges.
    Sessions(sessions::SessionsArgs),
    /// Show one session or exchange whole.
    Show(show::ShowArgs),
    /// Print what went over the wire, at its pace.
    Replay(replay::ReplayArgs),
    /// Write recorded sessions in a format that other tools read.
    Export(export::ExportArgs),
    /// What the store holds, and the destruction of its keys.
    Store(store::StoreArgs),
    /// What proves the recordings: verify a store, prove a record, the key to keep.
    Audit(audit::AuditArgs),
    /// What the rules say: problems, tests, and which rule decides.
    Policy(policy::PolicyArgs),
    /// The credentials that rules name: sources, bindings, ages; never values.
    Credentials(credentials::CredentialsArgs),
    /// What masks find in a text, and make of it.
    Mask(mask::MaskArgs),
    /// The CA in the host's trust stores, and the variables for runtimes with their own.
    Trust(trust::TrustArgs),
    /// Run the agent: what the systemd unit starts.
    Daemon(daemon::DaemonArgs),
    /// The process that touches the network's bytes: started by the daemon.
    #[command(hide = true)]
    Gate,
    /// The process that keeps the last gate while it drains: started by a daemon that is restarted.
    #[command(hide = true)]
    Keep(daemon::KeepArgs),
    /// The process that tries the ways out of a tag: started by the daemon.
    #[command(hide = true)]
    SelfTest(daemon::SelfTestArgs),
    /// The manual pages, for packages.
    #[command(hide = true)]
    Man(man::ManArgs),
    /// Completions for a shell, on stdout.
    Completions(CompletionsArgs),
    /// Asked by the drop-in of a tagged service: is this cgroup taken? Exit 255 if not, so that it does not start.
    #[command(hide = true)]
    Taken(tag::TakenArgs),
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Tag(_) => "tag",
            Self::Untag(_) => "untag",
            Self::Tags(_) => "tags",
            Self::Status(_) => "status",
            Self::Top(_) => "top",
            Self::Doctor(_) => "doctor",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
            Self::Taken(_) => "taken",
            Self::Sessions(_) => "sessions",
            Self::Show(_) => "show",
            Self::Store(_) => "store",
            Self::Replay(_) => "replay",
            Self::Export(_) => "export",
            Self::Audit(_) => "audit",
            Self::Policy(_) => "policy",
            Self::Credentials(_) => "credentials",
            Self::Mask(_) => "mask",
            Self::Trust(_) => "trust",
            Self::Daemon(_) => "daemon",
            Self::Gate => "gate",
            Self::Keep(_) => "keep",
            Self::SelfTest(_) => "self-test",
        }
    }

    fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(args) => args.run(daemon),
            Self::Tag(args) => args.run(daemon),
            Self::Untag(args) => args.run(daemon),
            Self::Tags(args) => args.run(daemon),
            Self::Status(args) => args.run(daemon),
            Self::Top(args) => args.run(daemon),
            Self::Doctor(args) => args.run(daemon),
            Self::Completions(args) => args.run(),
            Self::Man(args) => args.run(),
            Self::Taken(args) => args.run(daemon),
            Self::Sessions(args) => args.run(daemon),
            Self::Show(args) => args.run(daemon),
            Self::Store(args) => args.run(daemon),
            Self::Replay(args) => args.run(daemon),
            Self::Export(args) => args.run(daemon),
            Self::Policy(args) => args.run(daemon),
            Self::Audit(args) => args.run(),
            Self::Credentials(args) => args.run(daemon),
            Self::Mask(args) => args.run(),
            Self::Trust(args) => args.run(),
            Self::Daemon(args) => args.run(),
            Self::Gate => daemon::gate(),
            Self::Keep(args) => args.run(),
            Self::SelfTest(args) => args.run(),
        }
    }
}

/// A failure whose remedy is known.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Failure {
    /// What went wrong.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
    /// Exit code.
    pub code: u8,
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self { why: Chain(&error).to_string(), remedy: error.remedy(), code: 1 }
    }
}

impl DaemonAt {
    /// Asks the daemon.
    ///
    /// # Errors
    /// [`Failure`] with the daemon's remedy.
    pub fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        Ok(control::ask(&self.runtime, request)?)
    }
}

/// An answer of another kind than the question.
fn strange() -> Failure {
    ControlError::Strange.into()
}

/// Runs the command line; `args` begins with the program's name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // systemd runs generators by their own name, with three directories (systemd.generator(7)).
    let called = args.first().and_then(|a| Path::new(a).file_name());
    if called.is_some_and(|n| n == "sluice-generator") {
        return generate(args.get(1).map(Path::new));
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    let verb = cli.verb.name();
    match cli.verb.run(&cli.daemon) {
        Ok(code) => code,
        Err(e) => report(verb, &e),
    }
}

fn report(verb: &str, error: &anyhow::Error) -> ExitCode {
    if error
        .chain()
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
    {
        return ExitCode::SUCCESS; // the reader has seen enough: `sluice tags | head -1`
    }
    let mut stderr = io::stderr();
    match error.downcast_ref::<Failure>() {
        Some(failure) => {
            let (why, remedy) = (visible(&failure.why, Keep::Lines), visible(&failure.remedy, Keep::Lines));
            let _ = writeln!(stderr, "sluice: {verb}: {why}\n{remedy}");
            ExitCode::from(failure.code)
        }
        None => {
            let _ = writeln!(stderr, "sluice: {verb}: {}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Writes the drop-ins of configured units to `out`; what cannot be read is said and left out, so that a mistake in
/// one place does not leave the other units without their order.
fn generate(out: Option<&Path>) -> ExitCode {
    let mut stderr = io::stderr();
    let (config, problems) = config::load_leniently(Path::new(paths::CONFIG_DIR));
    for problem in &problems {
        let _ = writeln!(stderr, "sluice: generator: {problem}");
    }
    let Some(out) = out else {
        let _ = writeln!(
            stderr,
            "sluice: generator: no directory given\nsystemd calls it at boot and at daemon-reload"
        );
        return ExitCode::from(2);
    };
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/sluice"));
    match crate::warden::tags::dropin::generate(&config, out, &program) {
        Ok(()) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(2),
        Err(e) => {
            let _ = writeln!(stderr, "sluice: generator: {}: {e}", out.display());
            ExitCode::FAILURE
        }
    }
}

/// `sluice completions SHELL`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sluice completions bash > /usr/share/bash-completion/completions/sluice")]
struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl CompletionsArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let shell = match self.shell {
            Shell::Bash => clap_complete::Shell::Bash,
            Shell::Zsh => clap_complete::Shell::Zsh,
            Shell::Fish => clap_complete::Shell::Fish,
        };
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "sluice", &mut text);
        io::stdout().write_all(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_verb_has_an_example() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for verb in command.get_subcommands().filter(|v| v.get_name() != "help" && !v.is_hide_set()) {
            let example =
                |c: &clap::Command| c.get_after_help().is_some_and(|h| h.to_string().contains("Example"));
            // A verb of verbs (`trust`) has one at each of them.
            let below: Vec<_> = verb.get_subcommands().filter(|v| v.get_name() != "help").collect();
            let good = if below.is_empty() { example(verb) } else { below.into_iter().all(example) };
            assert!(good, "{} has no example", verb.get_name());
        }
    }
}
