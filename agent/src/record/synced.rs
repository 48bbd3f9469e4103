//! Which frames are on disk, which never will be, and which are not decided yet.

/// What is on disk.
#[derive(Clone, Debug, Default)]
pub struct Synced {
    /// Every frame up to this one, save the lost.
    pub through: u64,
    /// Frames that no sync will ever cover. The newest ranges only: nobody waits that long.
    lost: Vec<(u64, u64)>,
    /// Up to here nothing is known any more, and the answer is no.
    forgotten: u64,
    /// No sync will come any more.
    pub over: bool,
}

impl Synced {
    /// Every frame up to this one is.
    pub fn up_to(through: u64) -> Self {
        Self { through, ..Self::default() }
    }

    /// The frames from `first` to `last` will never be known to be on disk. What is before them is decided elsewhere.
    pub fn lose(&mut self, first: u64, last: u64) {
        if first <= self.through + 1 {
            self.through = self.through.max(last);
        }
        match self.lost.last_mut() {
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => self.lost.push((first, last)),
        }
        if self.lost.len() > 16 {
            self.forgotten = self.lost.remove(0).1;
        }
    }

    /// Whether this frame is on disk; `None` while that is not decided.
    pub fn covers(&self, sequence: u64) -> Option<bool> {
        let lost = self.lost.iter().any(|(first, last)| (*first..=*last).contains(&sequence));
        if lost || sequence <= self.forgotten {
            Some(false)
        } else if sequence <= self.through {
            Some(true)
        } else {
            self.over.then_some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_stays_lost() {
        let mut synced = Synced::up_to(10);
        assert_eq!((synced.covers(10), synced.covers(11)), (Some(true), None));
        synced.lose(11, 15);
        synced.lose(16, 20);
        assert_eq!(synced.lost.len(), 1, "ranges that touch are one");
        let mut ahead = Synced::up_to(10);
        ahead.lose(15, 17);
        assert_eq!((ahead.covers(12), ahead.covers(16), ahead.covers(18)), (None, Some(false), None));
        for n in 0..40 {
            synced.through = 30 + 10 * n;
            synced.lose(31 + 10 * n, 35 + 10 * n);
        }
        assert!(synced.lost.len() <= 16);
        assert_eq!(
            (synced.covers(12), synced.covers(425), synced.covers(430)),
            (Some(false), Some(false), None)
        );
        synced.through = 430;
        assert_eq!(synced.covers(430), Some(true));
        assert_eq!(Synced { over: true, ..synced }.covers(431), Some(false));
    }
}
