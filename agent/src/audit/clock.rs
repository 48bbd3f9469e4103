//! Signs of life, and clocks: what stands between them is said, it is no proof of anything.

use time::PrimitiveDateTime;

use super::report::{Finding, Report, What};

/// Heartbeats come each 10 s; this long without one is silence.
const SILENCE_US: u64 = 30_000_000;
/// The wall's clock may drift so far from the machine's between two signs.
const STEP_US: i64 = 2_000_000;

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
        let step = (to - from).saturating_sub(i64::try_from(passed).unwrap_or(i64::MAX));
        if step.abs() > STEP_US {
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
