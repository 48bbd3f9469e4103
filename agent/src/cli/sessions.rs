//! `sluice sessions`: the recorded exchanges, one a line.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::table::{self, Cell, Look, Tone};
use crate::paths::{STATE_DIR, STORE_DIR};
use crate::record::payload::stamp;
use crate::record::read::list::{self, Filter, Host, Status};
use crate::record::read::{Damage, Error};
use crate::report::Chain;
use crate::types::{Summary, Verdict};

/// How many a person is shown without asking for more.
const PAGE: usize = 100;
/// Rows that are aligned together in a long list.
const BLOCK: usize = 1000;
/// Longest cell for a person: an address line of 80 columns keeps its shape with the id beside it.
const CELL: usize = 60;

/// Lists recorded exchanges: one line each, the newest last.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice sessions --since 10m --tag ci
  sluice sessions --host '*.openai.com' --status 4xx --json | jq .error

Without --limit a table shows the newest 100, --json shows all. With --limit exchanges are in the order in which they
began; without, --json gives them in the order in which they ended, those under way last.")]
pub struct SessionsArgs {
    /// One JSON object a line, with the fields that scripts rely on
    #[arg(long)]
    json: bool,
    /// Begun at or after: a time (RFC 3339) or so long ago (45s, 10m, 2h, 3d, 1w)
    #[arg(long, value_name = "TIME", value_parser = when)]
    since: Option<String>,
    /// Begun before: likewise
    #[arg(long, value_name = "TIME", value_parser = when)]
    until: Option<String>,
    /// Of this tag
    #[arg(long)]
    tag: Option<String>,
    /// Of this systemd unit (`.service` may be left out)
    #[arg(long)]
    unit: Option<String>,
    /// To this host, or `*.example.com` for all below example.com
    #[arg(long, value_parser = host)]
    host: Option<Host>,
    /// With this status: `200`, or `4xx` for all from 400 to 499
    #[arg(long, value_parser = status)]
    status: Option<Status>,
    /// The newest N only; 0 for all
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The store, or a copy of one
    #[arg(long, value_name = "DIR", default_value_os_t = default_store())]
    store: PathBuf,
}

/// Where the installed agent keeps its store.
pub(super) fn default_store() -> PathBuf {
    Path::new(STATE_DIR).join(STORE_DIR)
}

impl SessionsArgs {
    /// Prints the list; what is damaged goes to stderr and makes the exit code 1.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut out = BufWriter::new(io::stdout().lock());
        let listed = self.print(&mut out, Look::of_stdout());
        match listed.and_then(|result| out.flush().map(|()| result)) {
            Err(error) if table::nobody_reads(&error) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(anyhow::Error::new(error).context("stdout")),
            Ok(Err(error)) => Ok(unreadable(&error)),
            Ok(Ok(damage)) => Ok(damaged(&damage)),
        }
    }

    fn print(&self, out: &mut impl Write, look: Look) -> io::Result<Result<Vec<Damage>, Error>> {
        let filter = Filter {
            since: self.since.clone(),
            until: self.until.clone(),
            tag: self.tag.clone(),
            unit: self
                .unit
                .as_ref()
                .map(|unit| if unit.contains('.') { unit.clone() } else { format!("{unit}.service") }),
            host: self.host.clone(),
            status: self.status,
        };
        let limit = match self.limit {
            Some(0) => None,
            Some(n) => Some(n),
            None => (!self.json).then_some(PAGE),
        };
        let mut sheet = Sheet { json: self.json, look, rows: Vec::new(), headed: false };
        let Some(limit) = limit else {
            let mut wrote = Ok(());
            let read = list::all(&self.store, &filter, |summary| {
                wrote = sheet.add(out, &summary);
                if wrote.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            wrote.and_then(|()| sheet.end(out))?;
            return Ok(read);
        };
        let (summaries, damage) = match list::newest(&self.store, &filter, limit) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        for summary in &summaries {
            sheet.add(out, summary)?;
        }
        sheet.end(out)?;
        if self.limit.is_none() && summaries.len() == PAGE {
            out.flush()?;
            eprintln!("sluice: these are the newest {PAGE}; --limit 0 shows all");
        }
        Ok(Ok(damage))
    }
}

/// What is printed, in blocks that are aligned together.
struct Sheet {
    json: bool,
    look: Look,
    rows: Vec<[Cell; 9]>,
    headed: bool,
}

impl Sheet {
    fn add(&mut self, out: &mut impl Write, summary: &Summary) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut *out, summary)?;
            return out.write_all(b"\n");
        }
        self.rows.push(row(summary));
        if self.rows.len() == BLOCK { self.end(out) } else { Ok(()) }
    }

    fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        let heads = ["TIME (UTC)", "ID", "TAG", "METHOD", "WHERE", "STATUS", "TOOK", "UP/DOWN", "REMARK"];
        if self.json || (self.headed && self.rows.is_empty()) {
            return Ok(());
        }
        let heads = (!std::mem::replace(&mut self.headed, true)).then_some(heads);
        table::write(out, self.look, heads, &std::mem::take(&mut self.rows), CELL)
    }
}

fn row(s: &Summary) -> [Cell; 9] {
    let place = format!("{}{}", s.host, s.path.as_deref().unwrap_or_default());
    let (remark, tone) = match (&s.error, s.verdict) {
        (Some(error), _) => (error.clone(), Tone::Bad),
        (None, Verdict::Deny) => {
            (format!("denied by {}", s.rule.as_deref().unwrap_or("no rule")), Tone::Warn)
        }
        (None, Verdict::Allow) => (String::new(), Tone::Plain),
    };
    let status = match s.status {
        Some(500..) => Tone::Bad,
        Some(400..) => Tone::Warn,
        _ => Tone::Plain,
    };
    let seconds = s.time.get(..19).map_or(s.time.clone(), |time| time.replace('T', " "));
    [
        Cell::new(seconds),
        Cell::new(format!("{}/{}", s.session, s.exchange)),
        Cell::new(&s.tag),
        Cell::new(s.method.as_deref().unwrap_or(&s.protocol)),
        Cell::new(place),
        Cell::new(s.status.map(|code| code.to_string()).unwrap_or_default()).tone(status),
        Cell::new(
            s.duration_us.map_or_else(
                || if s.error.is_some() { String::new() } else { "…".to_owned() },
                table::duration,
            ),
        ),
        Cell::new(format!("{}/{}", table::size(s.bytes_up), table::size(s.bytes_down))),
        Cell::new(remark).tone(tone),
    ]
}

/// Says on stderr why a store cannot be read, and what to do.
pub(super) fn unreadable(error: &Error) -> ExitCode {
    eprintln!("sluice: {}\n  {}", Chain(error), error.remedy());
    ExitCode::FAILURE
}

/// Says on stderr what of a store is damaged.
pub(super) fn damaged(damage: &[Damage]) -> ExitCode {
    for found in damage.iter().take(20) {
        eprintln!("sluice: the store is damaged: {found}");
    }
    if damage.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("  everything else was read; keep a copy of the store before anything changes it");
    ExitCode::FAILURE
}

pub(super) fn when(text: &str) -> Result<String, String> {
    let bad = || {
        format!(
            "{text:?} is no time: give RFC 3339 (2026-01-31T12:00:00Z), a day, or so long ago (45s, 10m, 2h, 3d, 1w)"
        )
    };
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(stamp(time));
    }
    if let Ok(day) = time::Date::parse(text, format_description!("[year]-[month]-[day]")) {
        return Ok(stamp(day.midnight().assume_utc()));
    }
    let unit = text.chars().next_back().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(bad()),
    };
    let count: i64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    let ago = time::Duration::seconds(count.checked_mul(seconds).filter(|s| *s >= 0).ok_or_else(bad)?);
    OffsetDateTime::now_utc().checked_sub(ago).map(stamp).ok_or_else(bad)
}

fn host(text: &str) -> Result<Host, String> {
    let (host, below) = text.strip_prefix("*.").map_or((text, false), |suffix| (suffix, true));
    if host.is_empty() || host.contains('*') {
        return Err(format!("{text:?} is no host: give a name, an address, or *.name for all below it"));
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    Ok(if below { Host::Below(host) } else { Host::Exact(host) })
}

fn status(text: &str) -> Result<Status, String> {
    let bad = || format!("{text:?} is no status: give 100 to 599, or 4xx for all of a hundred");
    let class = text.to_ascii_lowercase();
    if let Some(digit) = class.strip_suffix("xx") {
        return digit.parse().ok().filter(|d| (1..=9).contains(d)).map(Status::Class).ok_or_else(bad);
    }
    text.parse().ok().filter(|code| (100..1000).contains(code)).map(Status::Exact).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(when("2026-01-02T03:04:05+01:00").expect("time"), "2026-01-02T02:04:05.000000Z");
        assert_eq!(when("2026-01-02").expect("day"), "2026-01-02T00:00:00.000000Z");
        assert!(when("10m").expect("ago") < stamp(OffsetDateTime::now_utc()));
        for bad in ["", "m", "10", "-5m", "99999999999999w", "9223372036854775807d", "x", "10µ"] {
            assert!(when(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_and_statuses() {
        assert_eq!(host("API.example."), Ok(Host::Exact("api.example".to_owned())));
        assert_eq!(host("*.example"), Ok(Host::Below("example".to_owned())));
        assert!(host("a*.example").is_err() && host("*.").is_err());
        assert_eq!((status("404"), status("5XX")), (Ok(Status::Exact(404)), Ok(Status::Class(5))));
        assert!(status("xx").is_err() && status("4x").is_err() && status("99").is_err());
    }

    #[test]
    fn a_store_that_is_not_there_is_said() {
        let args = SessionsArgs {
            json: true,
            since: None,
            until: None,
            tag: None,
            unit: None,
            host: None,
            status: None,
            limit: None,
            store: "/nonexistent/store".into(),
        };
        let result = args
            .print(&mut Vec::new(), Look { person: false, colour: false })
            .expect("no output, no failure");
        let error = result.expect_err("no store");
        assert!(
            Chain(&error)
                .to_string()
                .starts_with("the store /nonexistent/store cannot be read: No such file")
        );
    }
}
