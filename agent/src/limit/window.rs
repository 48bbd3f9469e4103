//! A sliding window: what was spent in the last so-and-so long, as a sum of slots. Plain arithmetic; the time is told.
//!
//! What is spent counts for at least the window's length, and for a sixtieth of it more at most. So in no stretch of that
//! length more is spent than the limit, wherever it begins.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Slots that a window is cut into.
const SLOTS: u64 = 60;

/// Nanoseconds on the clock of [`super::clock`].
pub type Nanos = u64;

/// What is counted in windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Requests,
    Bytes,
    Tokens,
}

impl Amount {
    pub const ALL: [Self; 3] = [Self::Requests, Self::Bytes, Self::Tokens];
}

/// One of each amount.
pub type Amounts = [u64; 3];

/// What was spent in one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its number: time divided by the slots' width.
    pub at: u64,
    pub spent: Amounts,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Window {
    width: Nanos,
    /// Those in which something was spent, the oldest first. At most [`SLOTS`] + 1.
    slots: VecDeque<Slot>,
    sum: Amounts,
}

impl Window {
    pub fn new(per: Duration) -> Self {
        let per = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        Self { width: per.div_ceil(SLOTS).max(1), slots: VecDeque::new(), sum: [0; 3] }
    }

    /// Forgets what is over.
    pub fn advance(&mut self, now: Nanos) {
        let oldest = (now / self.width).saturating_sub(SLOTS);
        let before = self.slots.len();
        while self.slots.front().is_some_and(|slot| slot.at < oldest) {
            self.slots.pop_front();
        }
        if self.slots.len() < before {
            self.add_up();
        }
    }

    /// Anew, not by taking away: sums that have hit their bound could not be taken apart.
    fn add_up(&mut self) {
        self.sum = [0; 3];
        for slot in &self.slots {
            for (sum, spent) in self.sum.iter_mut().zip(slot.spent) {
                *sum = sum.saturating_add(spent);
            }
        }
    }

    /// Nothing counts any more.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What counts of an amount, as of the last [`Window::advance`].
    pub fn spent(&self, amount: Amount) -> u64 {
        self.sum[amount as usize]
    }

    /// Spends now.
    pub fn add(&mut self, now: Nanos, amount: Amount, much: u64) {
        self.advance(now);
        let at = now / self.width;
        // A clock that went back: what is spent counts as long as the newest.
        if self.slots.back().is_none_or(|slot| slot.at < at) {
            self.slots.push_back(Slot { at, spent: [0; 3] });
        }
        if let Some(slot) = self.slots.back_mut() {
            let spent = &mut slot.spent[amount as usize];
            *spent = spent.saturating_add(much);
        }
        let sum = &mut self.sum[amount as usize];
        *sum = sum.saturating_add(much);
    }

    /// Takes back what was spent at a time, as far as that still counts.
    pub fn give_back(&mut self, spent_at: Nanos, amount: Amount, much: u64) {
        let at = spent_at / self.width;
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.at == at) {
            let spent = &mut slot.spent[amount as usize];
            *spent = spent.saturating_sub(much);
        }
        self.slots.retain(|slot| slot.spent != [0; 3]);
        self.add_up();
    }

    /// Takes back what was spent nobody knows when: of the latest.
    pub fn lessen(&mut self, amount: Amount, much: u64) {
        let mut left = much;
        for slot in self.slots.iter_mut().rev() {
            let spent = &mut slot.spent[amount as usize];
            let back = left.min(*spent);
            (*spent, left) = (*spent - back, left - back);
        }
        self.slots.retain(|slot| slot.spent != [0; 3]);
        self.add_up();
    }

    /// How long until `much` more fits below `most`; `None` when it fits now. What is more than `most` fits into an empty
    /// window.
    pub fn wait(&self, now: Nanos, amount: Amount, much: u64, most: u64) -> Option<Duration> {
        let room = most.saturating_sub(much);
        let mut left = self.spent(amount);
        if left <= room {
            return None;
        }
        let mut over = now;
        for slot in &self.slots {
            over = slot.at.saturating_add(SLOTS + 1).saturating_mul(self.width);
            left = left.saturating_sub(slot.spent[amount as usize]);
            if left <= room {
                break;
            }
        }
        Some(Duration::from_nanos(over.saturating_sub(now)))
    }

    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// Takes a slot of the past in, whose time has since been moved by `moved`. None counts longer than what is spent now.
    pub fn restore(&mut self, slot: Slot, moved: i128, now: Nanos) {
        let begin = i128::from(slot.at) * i128::from(self.width) + moved;
        let at = begin.div_euclid(self.width.into()) + i128::from(begin.rem_euclid(self.width.into()) > 0);
        let at = u64::try_from(at).unwrap_or(0).min(now / self.width);
        let place = self.slots.partition_point(|one| one.at < at);
        match self.slots.get_mut(place).filter(|one| one.at == at) {
            Some(one) => {
                for (have, more) in one.spent.iter_mut().zip(slot.spent) {
                    *have = have.saturating_add(more);
                }
            }
            None => self.slots.insert(place, Slot { at, ..slot }),
        }
        self.advance(now);
        self.add_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const SECOND: Nanos = 1_000_000_000;
    /// Begins in the middle of a slot.
    const T0: Nanos = (1 << 62) + 123_456_789;

    fn spend(window: &mut Window, now: Nanos, most: u64) -> Option<Duration> {
        window.advance(now);
        let wait = window.wait(now, Amount::Requests, 1, most);
        if wait.is_none() {
            window.add(now, Amount::Requests, 1);
        }
        wait
    }

    #[test]
    fn what_was_spent_counts_for_the_window_and_a_slot_at_most() {
        let mut window = Window::new(MINUTE);
        for _ in 0..3 {
            assert_eq!(spend(&mut window, T0, 3), None);
        }
        let wait = spend(&mut window, T0, 3).expect("full");
        assert!((MINUTE..=MINUTE + MINUTE / 60).contains(&wait), "{wait:?}");
        assert!(spend(&mut window, T0 + 60 * SECOND - 1, 3).is_some());
        let wait = wait.as_nanos() as Nanos;
        assert!(spend(&mut window, T0 + wait - 1, 3).is_some(), "no sooner than told");
        assert_eq!(spend(&mut window, T0 + wait, 3), None, "as was told");
    }

    #[test]
    fn room_comes_as_the_oldest_leaves() {
        let mut window = Window::new(MINUTE);
        for second in 0..10 {
            window.add(T0 + second * SECOND, Amount::Tokens, 10);
        }
        let now = T0 + 10 * SECOND;
        assert_eq!(window.wait(now, Amount::Tokens, 1, 101), None);
        let of =
            |much, most| window.wait(now, Amount::Tokens, much, most).expect("full").as_secs_f64().ceil();
        assert_eq!((of(1, 100), of(10, 100), of(11, 100), of(100, 100)), (51.0, 51.0, 52.0, 60.0));
        assert_eq!(of(1000, 100), 60.0, "too much for any window waits for an empty one");
        assert_eq!(window.wait(now, Amount::Requests, 1, 1), None, "amounts are apart");
    }

    #[test]
    fn giving_back() {
        let mut window = Window::new(MINUTE);
        window.add(T0, Amount::Tokens, 100);
        window.add(T0 + 5 * SECOND, Amount::Tokens, 7);
        window.give_back(T0, Amount::Tokens, 90);
        assert_eq!(window.spent(Amount::Tokens), 17);
        window.give_back(T0, Amount::Tokens, 90);
        assert_eq!(window.spent(Amount::Tokens), 7, "no more than was spent");
        window.give_back(T0 + 3600 * SECOND, Amount::Tokens, 7);
        assert_eq!(window.spent(Amount::Tokens), 7, "only where it was spent");
        window.give_back(T0 + 5 * SECOND, Amount::Tokens, 7);
        assert!(window.is_empty());
    }

    #[test]
    fn bounds_of_numbers() {
        for per in [Duration::from_nanos(1), MINUTE, Duration::from_secs(31 * 24 * 3600), Duration::MAX] {
            let mut window = Window::new(per);
            for now in [0, T0, u64::MAX] {
                window.add(now, Amount::Bytes, u64::MAX);
                window.add(now, Amount::Bytes, u64::MAX);
                assert_eq!(window.spent(Amount::Bytes), u64::MAX);
                assert!(window.wait(now, Amount::Bytes, 1, u64::MAX).is_some());
            }
            window.give_back(u64::MAX, Amount::Bytes, u64::MAX);
        }
        let mut window = Window::new(MINUTE);
        window.add(T0, Amount::Bytes, u64::MAX);
        window.advance(T0 + 3600 * SECOND);
        assert_eq!((window.spent(Amount::Bytes), window.is_empty()), (0, true));
    }

    #[test]
    fn a_clock_that_goes_back_neither_opens_nor_closes_a_window_for_ever() {
        let mut window = Window::new(MINUTE);
        window.add(T0, Amount::Requests, 5);
        window.add(T0 - 3600 * SECOND, Amount::Requests, 1);
        assert_eq!(window.spent(Amount::Requests), 6);
        window.advance(T0 + 62 * SECOND);
        assert!(window.is_empty());
    }

    #[test]
    fn restoring() {
        let mut old = Window::new(MINUTE);
        old.add(T0, Amount::Requests, 2);
        old.add(T0 + 30 * SECOND, Amount::Requests, 3);
        let restored = |moved: i128, now: Nanos| {
            let mut new = Window::new(MINUTE);
            old.slots().for_each(|slot| new.restore(*slot, moved, now));
            new
        };
        let ends =
            |window: &Window| window.slots().last().map_or(0, |slot| (slot.at + SLOTS + 1) * window.width);
        let same = restored(0, T0 + 31 * SECOND);
        assert_eq!(same.spent(Amount::Requests), 5);
        assert_eq!(restored(0, T0 + 70 * SECOND).spent(Amount::Requests), 3, "time went on");
        let shift = i128::from(SECOND) * 1000 + 7;
        let shifted = restored(shift, (i128::from(T0 + 31 * SECOND) + shift) as Nanos);
        assert_eq!(shifted.spent(Amount::Requests), 5);
        assert!(ends(&shifted) >= ends(&same) + 1000 * SECOND, "never shorter");
        let ahead = restored(i128::from(u64::MAX), T0);
        assert_eq!(ahead.spent(Amount::Requests), 5);
        assert!(ends(&ahead) <= T0 + 61 * SECOND, "nothing counts longer than what is spent now");
        assert!(restored(-i128::from(u64::MAX), T0).is_empty());
    }

    /// Random spending, refunds and jumps against a list of everything that was ever spent.
    #[test]
    fn in_no_stretch_of_the_window_more_is_spent_than_the_limit() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |n: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % n
        };
        for _ in 0..50 {
            let per = Duration::from_millis(1000 + next(100_000));
            let (most, mut now) = (1 + next(50), T0);
            let (mut window, mut spent, mut refused) = (Window::new(per), Vec::new(), 0_u32);
            let nanos = per.as_nanos() as Nanos;
            for _ in 0..2000 {
                now += if next(20) == 0 { next(nanos) } else { next(nanos / most) };
                match spend(&mut window, now, most) {
                    None => spent.push(now),
                    Some(wait) => {
                        refused += 1;
                        let again = now + wait.as_nanos() as Nanos;
                        let mut later = window.clone();
                        later.advance(again);
                        assert_eq!(later.wait(again, Amount::Requests, 1, most), None, "the wait is enough");
                        let oldest = spent[spent.len() - most as usize];
                        assert!(now - oldest <= nanos + nanos / 60 + 60, "no longer than it must");
                    }
                }
            }
            let too_many =
                spent.windows(most as usize + 1).filter(|w| w[most as usize] - w[0] < nanos).count();
            assert_eq!(too_many, 0, "limit {most} per {per:?}");
            assert!(refused > 0);
        }
    }
}
