//! `sluice daemon` and the hidden `sluice gate` that it starts.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::report::Chain;
use crate::warden::{daemon, keeper, self_test};
use crate::{doctor, gate, paths};

/// Run the agent.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sluice daemon --config /etc/sluice")]
pub struct DaemonArgs {
    /// Directory of sluice.toml and policy.d.
    #[arg(long, value_name = "DIR", default_value = paths::CONFIG_DIR)]
    config: PathBuf,
}

impl DaemonArgs {
    /// Runs until it is told to end.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        log();
        raise_descriptors().context("the limit of open files cannot be raised")?;
        close_memory().context("the agent's memory cannot be closed to others")?;
        lock_memory();
        match daemon::run(&self.config) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error @ daemon::Error::Config(_)) => Err(Failure {
                why: Chain(&error).to_string(),
                remedy: "mend the lines above; nothing was started".to_owned(),
                code: 2,
            }
            .into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Runs the gate on standard input, which the warden made its end of their channel.
pub fn gate() -> anyhow::Result<ExitCode> {
    log();
    lock_memory();
    let channel = io::stdin().as_fd().try_clone_to_owned().context("the warden's channel")?;
    gate::run(channel)?;
    Ok(ExitCode::SUCCESS)
}

/// Arguments of the hidden `sluice keep`.
#[derive(Debug, clap::Args)]
pub struct KeepArgs {
    /// Directory of the CA.
    #[arg(long)]
    ca: PathBuf,
    /// Process id of the gate, on the other end of standard input.
    #[arg(long)]
    gate: i32,
    /// Milliseconds that it may take.
    #[arg(long)]
    within: u64,
}

impl KeepArgs {
    /// Runs until the gate ends.
    ///
    /// # Errors
    /// The gate cannot be kept.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        log();
        close_memory().context("the keeper's memory cannot be closed to others")?;
        let channel = io::stdin().as_fd().try_clone_to_owned().context("the gate's channel")?;
        let within = Duration::from_millis(self.within);
        keeper::run(channel, &keeper::Charge { ca: self.ca, gate: self.gate, within })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of the hidden `sluice self-test`.
#[derive(Debug, clap::Args)]
pub struct SelfTestArgs {
    /// Be the process that goes into the tag.
    #[arg(long)]
    probe: bool,
}

impl SelfTestArgs {
    /// Tries the ways out of a tag, at the daemon's word.
    ///
    /// # Errors
    /// The daemon is gone.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let run = if self.probe { self_test::probe } else { self_test::child };
        run().context("the self-test")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Diagnostics of both processes go to stderr, which systemd leads to the journal; it has the time of each line.
fn log() {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info"))
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .init();
}

/// Each session takes two descriptors in the gate, which inherits the limit.
fn raise_descriptors() -> io::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// The warden holds the CA's key and reads secrets: no core file of it, no ptrace by less than root, and its environment is
/// root's alone. The gate inherits the limit and does the rest itself.
fn close_memory() -> io::Result<()> {
    use nix::sys::prctl;
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(prctl::set_dumpable(false)?)
}

/// Keys are not to reach swap. Where that cannot be had, `sluice status` says so. Before the sandbox: afterwards it cannot be
/// asked for.
fn lock_memory() {
    if let Err(error) = doctor::memory::lock() {
        tracing::debug!("memory is not locked: {error}");
    }
}
