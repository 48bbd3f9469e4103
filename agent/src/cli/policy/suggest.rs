//! `sluice policy suggest`: what was recorded, as the rules that allow it and little else. It reads the store and judges
//! nothing; `policy replay` then tells what the rules would have said.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use super::{Unread, recorded};
use crate::cli::DaemonAt;
use crate::cli::Failure;
use crate::cli::filter::FilterArgs;
use crate::cli::identity::Reading;
use crate::cli::sessions::damaged;
use crate::config;
use crate::policy::NONE;
use crate::policy::llm::Llm;
use crate::policy::past::What;
use crate::policy::rule::Rule;
use crate::record::payload::SessionBegin;
use crate::record::read::Damage;
use crate::record::read::each::{self, Head, Recorded};
use crate::types::action::{Body, Http};
use crate::types::{Caller, HostName, Summary, Verdict};
use rules::Suggestion;
use seen::Everything;

mod rules;
mod seen;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod uses;

/// Arguments of `sluice policy suggest`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice policy suggest --since 1d --tag ci > /etc/sluice/policy.d/ci.toml
  sluice policy check && sluice policy replay --since 1d --tag ci

Left out, and counted in the comments: what was refused, what failed, and what is beyond the bounds (4,096 destinations,
32,768 segments of paths, 64 models of one destination, 2,000 rules, 1 MiB). Nothing becomes broader for being much, but in
paths, where more than 8 different segments in one place become *.")]
pub struct SuggestArgs {
    #[command(flatten)]
    of: FilterArgs,
    #[command(flatten)]
    reading: Reading,
    /// Also what a rule refused, and what failed
    #[arg(long)]
    with_denied: bool,
}

impl SuggestArgs {
    /// Prints the rules; exit code 1 when there is nothing to make them of, or the store is damaged.
    ///
    /// # Errors
    /// [`Failure`]: nothing is there; or stdout cannot be written.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        self.reading.record(daemon, &self.of.store, self.of.words("policy suggest"));
        let (text, damage) = match self.suggest() {
            Ok(suggested) => suggested,
            Err(unread) => return unread.told(),
        };
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) => Unread::Output(error).told(),
            Ok(()) => Ok(damaged(&damage)),
        }
    }

    /// The rules as text, and what of the store is damaged.
    fn suggest(&self) -> Result<(String, Vec<Damage>), Unread> {
        let mut all = Everything::default();
        let access = self.reading.access(&self.of.store).map_err(Unread::Failure)?;
        let damage = each::each(&self.of.store, (&self.of.filter(), &access), to_model, |recorded| {
            self.take(&mut all, &recorded);
            ControlFlow::Continue(())
        });
        let damage = damage.map_err(Unread::Store)?;
        if all.places.is_empty() {
            let left = all.left.iter().map(|(why, count)| format!("; {count} {why}")).collect::<String>();
            let why = format!("nothing is recorded that rules could be made of{left}");
            let remedy =
                "see sluice sessions, with the same flags; --with-denied takes what was refused".to_owned();
            return Err(Unread::Failure(Failure { why, remedy, code: 1 }));
        }
        let suggestions = rules::of(&mut all);
        let text = text::file(&mut all, &suggestions, &self.flags());
        check(&text, &suggestions).map_err(Unread::Failure)?;
        Ok((text, damage))
    }

    fn take(&self, all: &mut Everything, recorded: &Recorded) {
        match recorded::past(recorded) {
            Ok(_) if !self.with_denied && refused(&recorded.summary) => all.leave("were refused"),
            Ok(past) if !self.with_denied && failed(&recorded.summary, &past.what) => all.leave("failed"),
            Ok(past) => all.add(recorded, &past),
            Err(recorded::UNASKED) => all.leave("failed before any rule was asked"),
            Err(_) => all.leave("are no more whole in the store"),
        }
    }

    /// The flags that say what it is made of; the times of what was found stand beside.
    fn flags(&self) -> String {
        let filter = self.of.filter();
        let texts = [("tag", &filter.tag), ("unit", &filter.unit)];
        let mut flags: String =
            texts.iter().filter_map(|(name, text)| Some(format!(" --{name} {}", text.as_ref()?))).collect();
        if filter.host.is_some() {
            flags.push_str(" --host …");
        }
        if filter.status.is_some() {
            flags.push_str(" --status …");
        }
        if self.with_denied {
            flags.push_str(" --with-denied");
        }
        flags
    }
}

/// Whether a body may say which model is asked.
fn to_model(begin: &SessionBegin<Caller>, head: &Head, _: &[String]) -> bool {
    let target = head.path.as_deref().unwrap_or_default();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let (host, headers) = (HostName::parse(&head.host).ok(), http::HeaderMap::new());
    let http = Http {
        destination: begin.destination,
        host: host.as_ref(),
        protocol: "http/1.1",
        method: head.method.as_deref().unwrap_or_default(),
        path,
        query,
        headers: &headers,
        body: Body::Unread,
    };
    Llm::of(&http, &[]).is_ok_and(|llm| llm.is_some())
}

/// Whether a rule refused it. What no rule matched and was sent all the same is what rules are wanted for.
pub(super) fn refused(summary: &Summary) -> bool {
    let observed = summary.rule.as_deref() == Some(NONE) && summary.error.is_none();
    summary.verdict == Verdict::Deny && !observed
}

/// Whether it was sent and nobody answered, but we.
pub(super) fn failed(summary: &Summary, what: &What) -> bool {
    let request = matches!(what, What::Request { .. });
    request && summary.error.is_some() && summary.status.is_none_or(|status| status >= 400)
}

/// What is printed must be read as it is meant: whatever is wrong with it is a mistake of ours.
fn check(text: &str, suggestions: &[Suggestion]) -> Result<(), Failure> {
    let remedy = || "this is a mistake in sluice: please report it".to_owned();
    let config = config::parse(Path::new("suggested.toml"), text.to_owned()).map_err(|problems| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        Failure { why: format!("the rules would not be accepted: {first}"), remedy: remedy(), code: 1 }
    })?;
    let meant: Vec<&Rule> = suggestions.iter().map(|suggestion| &suggestion.rule).collect();
    let read = &config.policy.rules;
    // The last may not have fitted in.
    if read.iter().all(|rule| meant.contains(&rule)) {
        return Ok(());
    }
    Err(Failure { why: "the rules would be read as others".to_owned(), remedy: remedy(), code: 1 })
}
