//! Keeping a gate: when to start the next one, when to give one up, and when to refuse connections instead of letting
//! them wait for a gate that does not come. Pure decisions over time; [`super::daemon`] carries them out.

use std::time::Duration;

/// A gate that served this long was healthy: the next one starts at once.
const HEALTHY: Duration = Duration::from_secs(5);

/// The longest pause between two starts.
const LONGEST: Duration = Duration::from_secs(5);

/// The daemon's ticks (of two seconds) without a word after which a gate is stuck and killed. It says `Alive` every two
/// seconds. Ticks, not seconds: what the daemon itself was too busy to hear does not count as silence.
pub const SILENT_TICKS: u32 = 5;

/// Starts that failed in a row before connections are refused by the kernel instead of waiting in the backlog.
const PATIENCE: u32 = 2;

/// The memory of how the last gates did.
#[derive(Debug, Default)]
pub struct Supervisor {
    failures: u32,
}

/// What to do after a gate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Wait this long, then start the next.
    pub pause: Duration,
    /// Whether tagged connections are refused until a gate is ready.
    pub refuse: bool,
}

impl Supervisor {
    /// A gate ended after serving for `age` (`None`: it never became ready).
    pub fn ended(&mut self, age: Option<Duration>) -> Next {
        if age.is_some_and(|age| age >= HEALTHY) {
            self.failures = 0;
        } else {
            self.failures += 1;
        }
        let doubled = Duration::from_millis(50).saturating_mul(1 << self.failures.min(10));
        let pause = if self.failures <= 1 { Duration::ZERO } else { doubled.min(LONGEST) };
        Next { pause, refuse: self.failures > PATIENCE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_healthy_gate_is_replaced_at_once_and_a_failing_one_ever_slower() {
        let mut supervisor = Supervisor::default();
        let healthy = Some(Duration::from_secs(60));
        assert_eq!(supervisor.ended(healthy), Next { pause: Duration::ZERO, refuse: false });
        assert_eq!(supervisor.ended(None), Next { pause: Duration::ZERO, refuse: false });
        let second = supervisor.ended(None);
        assert!(second.pause > Duration::ZERO && !second.refuse);
        assert!(supervisor.ended(None).refuse);
        for _ in 0..100 {
            assert!(supervisor.ended(None).pause <= LONGEST);
        }
        assert_eq!(supervisor.ended(healthy), Next { pause: Duration::ZERO, refuse: false });
    }
}
