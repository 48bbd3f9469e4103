//! Which recorded exchanges a verb is for: the same flags wherever the store is read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::paths::{STATE_DIR, STORE_DIR};
use crate::record::payload::stamp;
use crate::record::read::list::{Filter, Host, Status};

/// The flags. Those that are not given want everything.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FilterArgs {
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
    /// The store, or a copy of one
    #[arg(long, value_name = "DIR", default_value_os_t = default_store())]
    pub store: PathBuf,
}

impl FilterArgs {
    /// Everything in a store.
    #[cfg(test)]
    pub fn all_of(store: &Path) -> Self {
        Self { store: store.to_owned(), ..Self::default() }
    }

    /// What is done, with the tag, unit and times that it is done to: for the record of who read.
    pub fn words(&self, verb: &str) -> String {
        let texts =
            [("since", &self.since), ("until", &self.until), ("tag", &self.tag), ("unit", &self.unit)];
        let said = texts.iter().filter_map(|(name, text)| Some(format!(" --{name} {}", text.as_ref()?)));
        std::iter::once(verb.to_owned()).chain(said).collect()
    }

    /// What they want.
    pub fn filter(&self) -> Filter {
        let service =
            |unit: &String| if unit.contains('.') { unit.clone() } else { format!("{unit}.service") };
        Filter {
            since: self.since.clone(),
            until: self.until.clone(),
            tag: self.tag.clone(),
            unit: self.unit.as_ref().map(service),
            host: self.host.clone(),
            status: self.status,
        }
    }
}

/// Where the installed agent keeps its store.
pub fn default_store() -> PathBuf {
    Path::new(STATE_DIR).join(STORE_DIR)
}

/// Reads a moment: a time, a day, or how long ago. As RFC 3339 in UTC.
///
/// # Errors
/// What may be written.
pub fn when(text: &str) -> Result<String, String> {
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
    let ago = duration(text).ok().and_then(|ago| time::Duration::try_from(ago).ok());
    ago.and_then(|ago| OffsetDateTime::now_utc().checked_sub(ago)).map(stamp).ok_or_else(bad)
}

/// Reads how long something takes: `45s`, `10m`, `2h`, `3d`, `1w`.
///
/// # Errors
/// What may be written.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
    let read = units.iter().find_map(|(unit, seconds)| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(*seconds).map(Duration::from_secs)
    });
    read.ok_or_else(|| format!("{text:?} is no duration: give 45s, 10m, 2h, 3d or 1w"))
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
}
