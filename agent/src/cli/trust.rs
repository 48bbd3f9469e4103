//! `sluice trust`: the CA in the host's stores, and the variables for runtimes with roots of their own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};

use crate::paths;
use crate::report::Chain;
use crate::trust::{self, CaCertificate, Scope, Tree, Trusted};

/// The CA in the host's trust stores, and the variables for runtimes with their own
#[derive(Debug, Args)]
pub struct TrustArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add the CA to the system's store and to the JREs' keystores; nothing of theirs is replaced
    #[command(after_help = "Example:\n  sluice trust install --only system")]
    Install {
        #[command(flatten)]
        host: HostArgs,
        /// Only these stores
        #[arg(long, value_enum, default_value_t = Only::All)]
        only: Only,
    },
    /// Take the CA out again: every file as it was, byte for byte, where no one else changed it since
    #[command(after_help = "Example:\n  sluice trust remove")]
    Remove {
        #[command(flatten)]
        host: HostArgs,
    },
    /// Whether each store on the host trusts the CA: trusted, not, or stale (an earlier CA of ours)
    #[command(after_help = "Example:\n  sluice trust status --json")]
    Status {
        #[command(flatten)]
        host: HostArgs,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// The variables that make runtimes with a bundle of their own trust the CA
    #[command(after_help = "Examples:\n  eval \"$(sluice trust env --export)\"\n  \
        sluice trust env --systemd > /etc/systemd/system/legacy.service.d/sluice-trust.conf")]
    Env {
        /// One JSON object a line
        #[arg(long, group = "form")]
        json: bool,
        /// Commands for a shell
        #[arg(long, group = "form")]
        export: bool,
        /// A drop-in for a systemd unit
        #[arg(long, group = "form")]
        systemd: bool,
    },
}

#[derive(Debug, Args)]
struct HostArgs {
    /// Work on the system below this folder instead of on this host
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// The CA's certificate [default: /run/sluice/ca.pem, which the daemon writes]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A Java home beside those in the usual places; may be given more than once
    #[arg(long, value_name = "DIR")]
    java_home: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Only {
    All,
    System,
    Java,
}

impl TrustArgs {
    /// Runs the verb; every change is a line on standard output.
    pub fn run(self) -> Result<ExitCode> {
        match self.verb {
            Verb::Install { host, only } => install(&host, only),
            Verb::Remove { host } => {
                let failures = trust::remove(&Tree::new(&host.root), &mut |line| println!("{line}"))?;
                Ok(conclude(&failures))
            }
            Verb::Status { host, json } => status(&host, json),
            Verb::Env { json, export, systemd } => {
                print_environment(json, export, systemd);
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn install(host: &HostArgs, only: Only) -> Result<ExitCode> {
    let ca = host.ca().context("no CA certificate\nstart the daemon first: systemctl start sluice")?;
    let scope = match only {
        Only::All => Scope::All,
        Only::System => Scope::System,
        Only::Java => Scope::Java,
    };
    let mut say = |line: &str| println!("{line}");
    let failures = trust::install(&Tree::new(&host.root), &ca, scope, &host.java_home, &mut say)?;
    Ok(conclude(&failures))
}

fn status(host: &HostArgs, json: bool) -> Result<ExitCode> {
    let ca = host.ca().ok();
    let all = trust::status(&Tree::new(&host.root), ca.as_ref(), &host.java_home)?;
    for one in all {
        let why = one.trusted.as_ref().err().map(|error| Chain(error).to_string());
        if json {
            let line = serde_json::json!({
                "store": one.store, "path": one.path, "state": one.trusted.as_ref().ok(), "error": why,
            });
            println!("{line}");
            continue;
        }
        let state = match one.trusted {
            Ok(Trusted::Yes) => "trusted",
            Ok(Trusted::No) => "not",
            Ok(Trusted::Stale) => "stale",
            Err(_) => "unknown",
        };
        println!("{state:<8} {:<7} {}", one.store.split(':').next().unwrap_or_default(), one.path.display());
        if let Some(why) = why {
            eprintln!("sluice: {}: {why}", one.path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn conclude(failures: &[(String, trust::Error)]) -> ExitCode {
    for (store, error) in failures {
        eprintln!("sluice: {store}: {}", Chain(error));
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_environment(json: bool, export: bool, systemd: bool) {
    let runtime_dir = Path::new(paths::RUNTIME_DIR);
    if systemd {
        print!("{}", trust::systemd_drop_in(runtime_dir));
        return;
    }
    for (name, value) in trust::environment(runtime_dir) {
        if json {
            println!("{}", serde_json::json!({ "name": name, "value": value }));
        } else if export {
            println!("{}", export_line(&name, &value));
        } else {
            println!("{name}={value}");
        }
    }
}

/// The shell itself keeps what it has in `JAVA_TOOL_OPTIONS`: it is a list of options, not one value.
fn export_line(name: &str, value: &str) -> String {
    let quoted = value.replace('\'', r"'\''");
    match name {
        trust::JAVA_OPTIONS => format!("export {name}='{quoted}'\"${{{name}:+ ${name}}}\""),
        _ => format!("export {name}='{quoted}'"),
    }
}

impl HostArgs {
    fn ca(&self) -> Result<CaCertificate> {
        let path = match &self.ca {
            Some(path) => path.clone(),
            None => self.root.join(paths::RUNTIME_DIR.trim_start_matches('/')).join(paths::CA_CERT),
        };
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(CaCertificate::parse(&path, &text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        trust: TrustArgs,
    }

    #[test]
    fn the_command_line_is_sound_and_has_an_example_on_every_verb() {
        use clap::CommandFactory as _;

        Cli::command().debug_assert();
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().expect("an example").to_string();
            assert!(help.starts_with("Example"), "{}", verb.get_name());
        }
        assert!(Cli::try_parse_from(["sluice", "env", "--json", "--export"]).is_err());
    }

    #[test]
    fn an_export_is_safe_in_a_shell_and_keeps_java_options() {
        assert_eq!(export_line("A", "it's $x"), r"export A='it'\''s $x'");
        let java = export_line("JAVA_TOOL_OPTIONS", "-Da=b");
        assert_eq!(java, "export JAVA_TOOL_OPTIONS='-Da=b'\"${JAVA_TOOL_OPTIONS:+ $JAVA_TOOL_OPTIONS}\"");
    }
}
