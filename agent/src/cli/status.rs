//! `sluice status`: what is running and taken.

use std::io::{self, Write as _};
use std::process::ExitCode;

use time::OffsetDateTime;

use super::{DaemonAt, strange, tag};
use crate::control::{Answer, ProcessStatus, Request, Status, TagState};
use crate::record::visible::{Keep, visible};
use crate::types::{LayerState, Outcome};

/// Arguments of `sluice status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice status\n  sluice status --json | jq .counters")]
pub struct StatusArgs {
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    /// Prints the status; exit code 1 when something that should be in force is not.
    ///
    /// # Errors
    /// [`super::Failure`] when the daemon cannot be asked.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        let Answer::Status(status) = daemon.ask(&Request::Status)? else { return Err(strange().into()) };
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&status)?)?;
        } else {
            print(&mut out, &status)?;
        }
        Ok(if is_well(&status) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn is_well(status: &Status) -> bool {
    status.gate.is_some()
        && status.store.as_ref().is_none_or(|s| s.trouble.is_none())
        && status.tags.iter().all(|t| t.state != TagState::Failed)
}

fn print(out: &mut impl io::Write, status: &Status) -> io::Result<()> {
    writeln!(out, "sluice {}, mode {}", status.version, status.mode)?;
    writeln!(out, "warden   {}", process(&status.warden))?;
    match &status.gate {
        Some(gate) => writeln!(out, "gate     {}, restarted {} times", process(gate), status.gate_restarts)?,
        None => {
            writeln!(out, "gate     not running: connections wait; restarted {} times", status.gate_restarts)?
        }
    }
    if let Some(sessions) = status.sessions {
        writeln!(out, "sessions {sessions} under way")?;
    }
    if let Some(store) = &status.store {
        let size = store.bytes.map_or_else(String::new, |b| format!(", {} MiB", b / (1024 * 1024)));
        let state = visible(store.trouble.as_deref().unwrap_or("well"), Keep::Nothing);
        writeln!(out, "store    {}{size}: {state}", store.path.display())?;
    }
    writeln!(out, "memory   {}", visible(&status.memory, Keep::Nothing))?;
    layers(out, status)?;
    for (name, value) in &status.counters {
        writeln!(out, "{name} {value}")?;
    }
    for (name, count) in &status.masked {
        writeln!(out, "masked {} {count}", visible(name, Keep::Nothing))?;
    }
    if !status.tags.is_empty() {
        writeln!(out)?;
        tag::print(out, &status.tags)?;
    }
    for note in &status.notes {
        writeln!(out, "note: {}", visible(note, Keep::Nothing))?;
    }
    Ok(())
}

/// What encloses the tags on this kernel, whether it was proven, and what it stopped.
fn layers(out: &mut impl io::Write, status: &Status) -> io::Result<()> {
    let active: Vec<_> =
        status.layers.iter().filter(|l| l.state == LayerState::Active).map(|l| l.name.as_str()).collect();
    writeln!(out, "layers   {}", if active.is_empty() { "none".to_owned() } else { active.join(", ") })?;
    for layer in &status.layers {
        if let LayerState::Absent { why } = &layer.state {
            writeln!(out, "missing  {}: {}", layer.name, visible(why, Keep::Nothing))?;
        }
    }
    match &status.self_test {
        None => writeln!(out, "tested   not yet")?,
        Some(test) => {
            writeln!(out, "tested   {}", visible(&test.line(), Keep::Nothing))?;
            for way in &test.ways {
                if let Outcome::Open { why, .. } = &way.outcome {
                    writeln!(out, "open     {}: {}", way.name, visible(why, Keep::Nothing))?;
                }
            }
        }
    }
    if !status.blocked.is_empty() {
        let ways: Vec<_> = status.blocked.iter().map(|(way, count)| format!("{way} {count}")).collect();
        writeln!(out, "blocked  {}", ways.join(", "))?;
    }
    Ok(())
}

fn process(process: &ProcessStatus) -> String {
    let up = OffsetDateTime::now_utc() - process.since;
    let (days, hours, minutes) = (up.whole_days(), up.whole_hours() % 24, up.whole_minutes() % 60);
    let up = if days > 0 { format!("{days}d {hours}h") } else { format!("{hours}h {minutes}m") };
    format!("pid {}, up {up}", process.pid)
}
