//! `sluice tag`, `untag`, `tags`, and the hidden `taken`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::table::{self, Cell, Look, Tone};
use super::{DaemonAt, Failure, strange};
use crate::config::{BadDesignation, Designation, Loopback};
use crate::control::{Answer, Request, TagState, TagStatus, Target};
use crate::record::visible::{Keep, visible};
use crate::types::TagName;

/// Arguments of `sluice tag`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sluice tag --unit legacy.service\n  sluice tag --pid 4711 --name nightly\n\n\
    The tag lasts until `sluice untag` or the next boot; an [[intercept]] in /etc/sluice/sluice.toml lasts for good. A \
    unit's tag follows its restarts. A process that is tagged while it runs leaves its unit for a scope of its own, and \
    loses the connections that it has."
)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false))]
pub struct TagArgs {
    /// A systemd service or scope.
    #[arg(long, group = "what", value_name = "UNIT")]
    unit: Option<String>,
    /// A systemd slice.
    #[arg(long, group = "what", value_name = "SLICE")]
    slice: Option<String>,
    /// A cgroup below the cgroup v2 mount.
    #[arg(long, group = "what", value_name = "PATH")]
    cgroup: Option<String>,
    /// A user, by name or number: all their sessions.
    #[arg(long, group = "what", value_name = "USER")]
    user: Option<String>,
    /// A process that runs, with all its threads, and what it starts from now on.
    #[arg(long, group = "what", value_name = "PID")]
    pid: Option<u32>,
    /// Name of the tag; derived from what is tagged if absent.
    #[arg(long, value_parser = TagName::parse)]
    name: Option<TagName>,
    /// Connections to loopback addresses: left alone, taken like any other, or refused.
    #[arg(long, value_name = "pass|take|deny", value_parser = loopback, default_value = "pass")]
    loopback: Loopback,
    /// Print the tag as one JSON object.
    #[arg(long)]
    json: bool,
}

fn loopback(text: &str) -> Result<Loopback, &'static str> {
    text.parse()
}

impl TagArgs {
    fn target(&self) -> Result<Target, Failure> {
        let wrong = |bad: BadDesignation| Failure { why: bad.what, remedy: bad.remedy, code: 2 };
        let place = match (&self.unit, &self.slice, &self.cgroup, &self.user, self.pid) {
            (Some(unit), ..) => Designation::unit(unit),
            (_, Some(slice), ..) => Designation::slice(slice),
            (_, _, Some(cgroup), ..) => Designation::cgroup(cgroup),
            (_, _, _, Some(user), _) => Designation::user(user),
            (.., Some(pid)) => return Ok(Target::Pid(pid)),
            _ => return Err(strange()), // clap's group has seen to it
        };
        place.map(Target::Place).map_err(wrong)
    }

    /// Tags.
    ///
    /// # Errors
    /// [`Failure`]: nothing was tagged.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        let what = self.target()?;
        let request = Request::Tag { what, name: self.name, loopback: self.loopback };
        let Answer::Tag(tag) = daemon.ask(&request)? else { return Err(strange().into()) };
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&tag)?)?;
        } else {
            print(&mut out, std::slice::from_ref(&*tag))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of `sluice untag`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sluice untag nightly")]
pub struct UntagArgs {
    /// The tag.
    #[arg(value_parser = TagName::parse)]
    name: TagName,
    /// Even while the processes of a run live: they go on untaken.
    #[arg(long)]
    force: bool,
}

impl UntagArgs {
    /// Ends the tag.
    ///
    /// # Errors
    /// [`Failure`]: it stays.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        match daemon.ask(&Request::Untag { name: self.name, force: self.force })? {
            Answer::Done => Ok(ExitCode::SUCCESS),
            _ => Err(strange().into()),
        }
    }
}

/// Arguments of `sluice tags`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sluice tags --json | jq -r 'select(.state == \"failed\") | .name'")]
pub struct TagsArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

impl TagsArgs {
    /// Lists the tags.
    ///
    /// # Errors
    /// [`Failure`] when the daemon cannot be asked.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        let Answer::Tags(tags) = daemon.ask(&Request::Tags)? else { return Err(strange().into()) };
        let mut out = io::stdout().lock();
        if self.json {
            for tag in &tags {
                writeln!(out, "{}", serde_json::to_string(tag)?)?;
            }
        } else {
            print(&mut out, &tags)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of the hidden `sluice taken`.
#[derive(Debug, clap::Args)]
pub struct TakenArgs {
    #[arg(value_parser = TagName::parse)]
    name: TagName,
}

impl TakenArgs {
    /// Asks whether this process's cgroup is taken under the tag.
    ///
    /// # Errors
    /// [`Failure`] with 255: below it systemd would take an `ExecCondition=` for "skip", and that is not a failure.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        let name = self.name;
        match daemon.ask(&Request::Taken { name: name.clone() }) {
            Ok(Answer::Done) => Ok(ExitCode::SUCCESS),
            Ok(_) => Err(Failure { code: 255, ..strange() }.into()),
            Err(e) => {
                let why = format!("this service is tagged {name} and does not start untaken: {}", e.why);
                Err(Failure { why, code: 255, ..e }.into())
            }
        }
    }
}

/// Prints tags for people; what needs attention stands below the table. Names of cgroups are others' to choose, so
/// nothing of them reaches the terminal as a control character.
pub(super) fn print(out: &mut impl io::Write, tags: &[TagStatus]) -> io::Result<()> {
    let row = |tag: &TagStatus| {
        let by = match (tag.configured, tag.uid) {
            (true, _) => "config".to_owned(),
            (false, uid) => uid.map_or_else(String::new, |uid| format!("uid {uid}")),
        };
        let tone = if tag.state == TagState::Failed { Tone::Bad } else { Tone::Plain };
        [
            Cell::new(tag.name.as_str()),
            Cell::new(tag.kind.as_str()),
            Cell::new(tag.state.as_str()).tone(tone),
            Cell::new(tag.processes.to_string()),
            Cell::new(by),
            Cell::new(tag.cgroup.as_deref().unwrap_or(&tag.target)),
        ]
    };
    let rows: Vec<_> = tags.iter().map(row).collect();
    let heads = ["TAG", "KIND", "STATE", "PROCESSES", "BY", "CGROUP"];
    table::write(out, Look::of_stdout(), Some(heads), &rows, usize::MAX)?;
    for tag in tags {
        for line in tag.trouble.iter().chain(&tag.notes) {
            writeln!(out, "{}: {}", tag.name, visible(line, Keep::Nothing))?;
        }
    }
    Ok(())
}
