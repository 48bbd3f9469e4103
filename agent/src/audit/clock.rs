//! Signs of life, and clocks: what stands between them is said, it is no proof of anything.

use std::sync::LazyLock;
use std::time::Duration;

use memchr::memmem::Finder;
use time::PrimitiveDateTime;

use super::report::{Finding, Report, What};
use crate::evidence::chain::Chain;
use crate::evidence::checkpoint;

/// Heartbeats come each 10 s; this long without one is silence.
const SILENCE_US: u64 = 30_000_000;
/// The wall's clock may drift so far from the machine's between two signs.
const STEP_US: u64 = 2_000_000;
/// So far a time that is signed may be from what it must lie within, where nobody knows better: clocks are set.
pub const GRACE: Duration = Duration::from_secs(60);

/// One sign of life.
#[derive(Clone, Debug)]
struct Sign {
    time: String,
    boot_id: String,
    boottime_us: u64,
}

/// The last sign of the log that is read.
#[derive(Debug, Default)]
pub struct Clock(Option<Sign>);

impl Clock {
    /// Another log begins.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// Takes the next sign: the wall's time, the boot, microseconds since then.
    pub fn sign(&mut self, time: &str, boot_id: &str, boottime_us: u64, sequence: u64, report: &mut Report) {
        let sign = Sign { time: time.to_owned(), boot_id: boot_id.to_owned(), boottime_us };
        let Some(before) = self.0.replace(sign).filter(|before| before.boot_id == boot_id) else { return };
        let passed = boottime_us.saturating_sub(before.boottime_us);
        if boottime_us < before.boottime_us {
            let text = format!("the machine's clock ran backwards before record {sequence}");
            report.add(Finding::bad(What::Clock, text).record(sequence));
        }
        if passed > SILENCE_US {
            let text =
                format!("no sign of life for {} s, from {} to {time}", passed / 1_000_000, before.time);
            report.add(Finding::said(What::Silence, text).record(sequence));
        }
        let (Some(from), Some(to)) = (micros(&before.time), micros(time)) else { return };
        let step = to.saturating_sub(from).saturating_sub(i64::try_from(passed).unwrap_or(i64::MAX));
        if step.unsigned_abs() > STEP_US {
            let seconds = step as f64 / 1e6;
            let text =
                format!("the wall's clock was set by {seconds:+.1} s between {} and {time}", before.time);
            report.add(Finding::said(What::Clock, text).record(sequence));
        }
    }
}

/// Microseconds of a record's time since 1970.
fn micros(time: &str) -> Option<i64> {
    let form = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
    );
    let time = PrimitiveDateTime::parse(time, form).ok()?.assume_utc();
    i64::try_from(time.unix_timestamp_nanos() / 1000).ok()
}

/// The time that a record bears, which is the first in its text.
pub fn time_of(payload: &[u8]) -> Option<&str> {
    static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"time\""));
    NAME.find_iter(payload).find_map(|at| {
        let rest = payload[at + 6..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let time = rest.strip_prefix(b"\"")?.get(..27)?;
        str::from_utf8(time).ok().filter(|time| checkpoint::is_time(time))
    })
}

/// Whether `to` is more than that behind `from`.
pub fn is_long(from: &str, to: &str, grace: Duration) -> bool {
    let grace = i64::try_from(grace.as_micros()).unwrap_or(i64::MAX);
    micros(from).zip(micros(to)).is_none_or(|(from, to)| to.saturating_sub(from) > grace)
}

/// When something may have been: from the certificate of a key to the next one's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Not before; `None`: whenever.
    pub from: Option<String>,
    /// Not after; `None`: whenever.
    pub to: Option<String>,
    /// So far from it is not far.
    grace: Duration,
}

impl Window {
    /// While the keys from `first` to `last` were in use.
    pub fn of(chain: &Chain, first: u64, last: u64, grace: Duration) -> Self {
        let time = |number: u64| {
            let number = usize::try_from(number).ok()?;
            chain.certificates().get(number).map(|certificate| certificate.time.clone())
        };
        Self { from: time(first), to: last.checked_add(1).and_then(time), grace }
    }

    /// Whether `time` is before or after it.
    pub fn excludes(&self, time: &str) -> bool {
        self.from.as_deref().is_some_and(|from| time < from) || self.to.as_deref().is_some_and(|to| time > to)
    }

    /// Whether it is so by more than a clock that was set explains.
    pub fn excludes_far(&self, time: &str) -> bool {
        self.excludes(time)
            && (self.from.as_deref().is_some_and(|from| is_long(time, from, self.grace))
                || self.to.as_deref().is_some_and(|to| is_long(to, time, self.grace)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_steps_are_said() {
        let (mut clock, mut report) = (Clock::default(), Report::default());
        let mut sign = |time: &str, boot: &str, us| clock.sign(time, boot, us, 1, &mut report);
        sign("2026-11-23T00:00:00.000000Z", "a", 5_000_000);
        sign("2026-11-23T00:00:10.100000Z", "a", 15_000_000);
        sign("2026-11-23T00:00:41.100000Z", "a", 46_000_000);
        sign("2026-11-23T00:00:10.100000Z", "a", 55_000_000);
        sign("2026-11-23T01:00:00.000000Z", "b", 1_000_000);
        let found: Vec<_> = report.findings.iter().map(|f| (f.what, f.text.as_str())).collect();
        assert_eq!(
            found,
            [
                (
                    What::Silence,
                    "no sign of life for 31 s, from 2026-11-23T00:00:10.100000Z to 2026-11-23T00:00:41.100000Z"
                ),
                (
                    What::Clock,
                    "the wall's clock was set by -40.0 s between 2026-11-23T00:00:41.100000Z and 2026-11-23T00:00:10.100000Z"
                ),
            ]
        );
    }
}
