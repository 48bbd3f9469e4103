//! `sluice credentials`: which there are, where they come from, where they may go, how they do. Never a value.

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::leaks::LeaksArgs;
use super::table::{self, Cell, Look, Tone};
use super::{DaemonAt, Failure, strange};
use crate::control::{Answer, CredentialState, CredentialStatus, Request, Tested};
use crate::record::visible::{Keep, visible};
use crate::types::CredentialName;

/// Arguments of `sluice credentials`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice credentials
  sluice credentials --json | jq -r 'select(.state == \"failing\") | .name + \": \" + .error'
  sluice credentials test openai
  sluice credentials leaks --since 7d")]
pub struct CredentialsArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    verb: Option<CredentialsVerb>,
}

#[derive(Debug, clap::Subcommand)]
enum CredentialsVerb {
    /// Fetch a credential now and shake hands with its hosts: nothing of it is sent.
    Test(TestArgs),
    /// Long-lived keys that jobs sent of their own: where each still lives.
    Leaks(LeaksArgs),
}

/// Arguments of `sluice credentials test`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sluice credentials test openai\n  sluice credentials test openai --json"
)]
struct TestArgs {
    /// The credential.
    #[arg(value_parser = CredentialName::parse)]
    name: CredentialName,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

impl CredentialsArgs {
    /// Lists or tests; exit code 1 when what is tested fails.
    ///
    /// # Errors
    /// [`Failure`] when the daemon cannot be asked.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        match self.verb {
            Some(CredentialsVerb::Test(args)) => return args.run(daemon, self.json),
            Some(CredentialsVerb::Leaks(args)) => return args.run(self.json),
            None => {}
        }
        let Answer::Credentials(all) = daemon.ask(&Request::Credentials)? else {
            return Err(strange().into());
        };
        let mut out = io::stdout().lock();
        if self.json {
            for one in &all {
                let mut line = serde_json::to_value(one)?;
                line["age_s"] = json!(one.fetched.map(age));
                writeln!(out, "{line}")?;
            }
        } else {
            print(&mut out, &all)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Seconds since then.
fn age(then: OffsetDateTime) -> i64 {
    (OffsetDateTime::now_utc() - then).whole_seconds().max(0)
}

fn print(out: &mut impl io::Write, all: &[CredentialStatus]) -> io::Result<()> {
    let row = |one: &CredentialStatus| {
        let tone = match one.state {
            CredentialState::Failing => Tone::Bad,
            CredentialState::Good | CredentialState::Unread => Tone::Plain,
        };
        [
            Cell::new(one.name.as_str()),
            Cell::new(format!("{} {}", one.source, one.place)),
            Cell::new(one.inject.as_deref().unwrap_or("(for others)")),
            Cell::new(one.hosts.join(" ")),
            Cell::new(one.state.as_str()).tone(tone),
            Cell::new(one.fetched.map(|then| seconds(age(then))).unwrap_or_default()),
            Cell::new(one.expires.map(|then| seconds(-age_of_end(then))).unwrap_or_default()),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let heads = ["CREDENTIAL", "SOURCE", "INJECT", "HOSTS", "STATE", "AGE", "ENDS IN"];
    table::write(out, Look::of_stdout(), Some(heads), &rows, 60)?;
    for one in all {
        if let Some(error) = &one.error {
            writeln!(out, "{}: {}", one.name, visible(error, Keep::Nothing))?;
        }
    }
    Ok(())
}

fn age_of_end(end: OffsetDateTime) -> i64 {
    (OffsetDateTime::now_utc() - end).whole_seconds()
}

fn seconds(count: i64) -> String {
    match count {
        0..120 => format!("{count}s"),
        120..7200 => format!("{}m", count / 60),
        7200..172_800 => format!("{}h", count / 3600),
        172_800.. => format!("{}d", count / 86_400),
        _ => "over".to_owned(),
    }
}

impl TestArgs {
    fn run(self, daemon: &DaemonAt, json: bool) -> anyhow::Result<ExitCode> {
        let Answer::Tested(outcome) = daemon.ask(&Request::TestCredential { name: self.name.clone() })?
        else {
            return Err(strange().into());
        };
        let name = self.name;
        let tested = outcome.map_err(|why| Failure {
            why: format!("{name}: {why}"),
            remedy: "look at its source, and at `sluice credentials`".to_owned(),
            code: 1,
        })?;
        let mut out = io::stdout().lock();
        if self.json || json {
            let hosts: Vec<_> =
                tested.hosts.iter().map(|(host, error)| json!({"host": host, "error": error})).collect();
            let line = json!({
                "name": name,
                "fetched": time(Some(tested.fetched)),
                "expires": time(tested.expires),
                "hosts": hosts,
            });
            writeln!(out, "{line}")?;
        } else {
            tell(&mut out, &name, &tested)?;
        }
        let well = tested.hosts.iter().all(|(_, error)| error.is_none());
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn time(seconds: Option<u64>) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds?).ok()?).ok()?;
    time.format(&Rfc3339).ok()
}

fn tell(out: &mut impl io::Write, name: &CredentialName, tested: &Tested) -> io::Result<()> {
    let fetched = time(Some(tested.fetched)).unwrap_or_default();
    let ends = time(tested.expires).map_or_else(String::new, |end| format!(", ends {end}"));
    writeln!(out, "{name}: fetched {fetched}{ends}")?;
    for (host, error) in &tested.hosts {
        let how = error.as_deref().unwrap_or("verified; nothing was sent");
        writeln!(out, "{name}: {host}: {}", visible(how, Keep::Nothing))?;
    }
    Ok(())
}
