//! `sluice credentials leaks`: which long-lived keys jobs still send of their own, and where they live.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::filter::{default_store, when};
use super::sessions::{damaged, unreadable};
use super::table::{self, Cell, Look};
use crate::record::read::list::{self, Filter};
use crate::types::{CallerKey, Summary};

/// Names of one sort that are kept of one key; more are counted.
const NAMES: usize = 100;
/// Keys that are told apart; a job can make up as many as it likes.
const KEYS: usize = 10_000;

/// Long-lived keys that jobs sent of their own: where each still lives.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice credentials leaks --since 7d
  sluice credentials leaks --json | jq -r 'select(.kind == \"openai\") | .units[]'

A key is told by its fingerprint, which is the same on this host only, and its last four characters.")]
pub(super) struct LeaksArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Sent at or after: a time (RFC 3339) or so long ago (45s, 10m, 2h, 3d, 1w)
    #[arg(long, value_name = "TIME", value_parser = when)]
    since: Option<String>,
    /// The store, or a copy of one
    #[arg(long, value_name = "DIR", default_value_os_t = default_store())]
    store: PathBuf,
}

/// One key, and everything that is known of where it lives.
#[derive(Debug, Serialize)]
struct Leak {
    #[serde(flatten)]
    key: CallerKey,
    tags: BTreeSet<String>,
    units: BTreeSet<String>,
    containers: BTreeSet<String>,
    exes: BTreeSet<String>,
    users: BTreeSet<String>,
    hosts: BTreeSet<String>,
    /// Exchanges.
    count: u64,
    /// Of these, so many were sent on without the rule's credential in place of the key.
    sent: u64,
    first_seen: String,
    last_seen: String,
    last_session: String,
}

impl LeaksArgs {
    /// Prints the list; what is damaged goes to stderr and makes the exit code 1.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let filter = Filter { since: self.since.clone(), ..Filter::default() };
        let mut leaks = BTreeMap::new();
        let mut beyond = false;
        let read = list::all(&self.store, &filter, |summary| {
            beyond |= !add(&mut leaks, &summary);
            ControlFlow::Continue(())
        });
        let damage = match read {
            Ok(damage) => damage,
            Err(error) => return Ok(unreadable(&error)),
        };
        let mut out = BufWriter::new(io::stdout().lock());
        let mut leaks: Vec<Leak> = leaks.into_values().collect();
        leaks.sort_by(|a, b| b.last_seen.cmp(&a.last_seen));
        let wrote = print(&mut out, &leaks, self.json || json).and_then(|()| out.flush());
        match wrote {
            Err(error) if table::nobody_reads(&error) => return Ok(ExitCode::SUCCESS),
            wrote => wrote?,
        }
        if beyond {
            eprintln!("sluice: there are more than {KEYS} keys; give --since for fewer");
        }
        Ok(damaged(&damage))
    }
}

/// `false`: there was no room.
fn add(leaks: &mut BTreeMap<String, Leak>, summary: &Summary) -> bool {
    let mut all = true;
    for key in &summary.caller_keys {
        if leaks.len() >= KEYS && !leaks.contains_key(&key.fingerprint) {
            all = false;
            continue;
        }
        let leak = leaks.entry(key.fingerprint.clone()).or_insert_with(|| Leak {
            key: key.clone(),
            tags: BTreeSet::new(),
            units: BTreeSet::new(),
            containers: BTreeSet::new(),
            exes: BTreeSet::new(),
            users: BTreeSet::new(),
            hosts: BTreeSet::new(),
            count: 0,
            sent: 0,
            first_seen: summary.time.clone(),
            last_seen: summary.time.clone(),
            last_session: String::new(),
        });
        let user = summary.user.clone().unwrap_or_else(|| summary.uid.to_string());
        for (names, name) in [
            (&mut leak.tags, Some(&summary.tag)),
            (&mut leak.units, summary.unit.as_ref()),
            (&mut leak.containers, summary.container.as_ref()),
            (&mut leak.exes, summary.exe.as_ref()),
            (&mut leak.users, Some(&user)),
            (&mut leak.hosts, Some(&summary.host)),
        ] {
            if let Some(name) = name
                && names.len() < NAMES
            {
                names.insert(name.clone());
            }
        }
        leak.count += 1;
        // In observe a refusal is sent: then an answer came.
        let refused = summary.verdict == crate::types::Verdict::Deny && summary.error.is_some();
        leak.sent += u64::from(!refused && summary.credential.is_none());
        if summary.time < leak.first_seen {
            leak.first_seen.clone_from(&summary.time);
        }
        if summary.time >= leak.last_seen {
            leak.last_seen.clone_from(&summary.time);
            leak.last_session = format!("{}/{}", summary.session, summary.exchange);
        }
    }
    all
}

fn print(out: &mut impl Write, leaks: &[Leak], json: bool) -> io::Result<()> {
    if json {
        for leak in leaks {
            serde_json::to_writer(&mut *out, leak)?;
            out.write_all(b"\n")?;
        }
        return Ok(());
    }
    let some = |names: &BTreeSet<String>| match (names.first(), names.len()) {
        (None, _) => String::new(),
        (Some(one), 1) => one.clone(),
        (Some(one), n) => format!("{one} +{}", n - 1),
    };
    let seconds = |time: &str| time.get(..19).unwrap_or(time).replace('T', " ");
    let rows: Vec<_> = leaks
        .iter()
        .map(|leak| {
            [
                Cell::new(&leak.key.kind),
                Cell::new(format!("…{}", leak.key.last4)),
                Cell::new(&leak.key.fingerprint),
                Cell::new(some(&leak.tags)),
                Cell::new(some(&leak.units)),
                Cell::new(some(&leak.exes)),
                Cell::new(some(&leak.hosts)),
                Cell::new(leak.count.to_string()),
                Cell::new(seconds(&leak.first_seen)),
                Cell::new(seconds(&leak.last_seen)),
            ]
        })
        .collect();
    let heads =
        ["KIND", "KEY", "FINGERPRINT", "TAG", "UNIT", "EXE", "HOST", "COUNT", "FIRST (UTC)", "LAST (UTC)"];
    table::write(out, Look::of_stdout(), Some(heads), &rows, 60)
}
