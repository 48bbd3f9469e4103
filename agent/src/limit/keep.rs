//! Keeps the counts on disk: a thread that writes them when they have changed, at once and then each second at most; takes in
//! what was left by the gate before; and, in a gate that drains beside the next one, tells that what it still spends.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::count::{Count, Kept};
use super::saved::{self, Error, Group, One, Saved};
use super::table::{Id, Table};
use super::window::{Amount, Nanos};
use super::{Limits, locked};
use crate::report::Chain;

/// How often it writes, and looks for what others wrote, at most.
const PACE: Duration = Duration::from_secs(1);
/// What is open in a gate that drains counts here for so long after it was told: it tells each second.
const ELSEWHERE: Nanos = 3_000_000_000;
/// A gate drains no longer (`drain.grace` is 80 s at most), and a little.
const DRAINS: i64 = 100_000;
/// Counts that count no more are forgotten so often, in turns of the thread.
const SWEEP: u64 = 10;

/// Told what goes wrong.
pub type Tell = Box<dyn Fn(String) + Send + Sync>;

/// What the thread and the rest tell each other.
#[derive(Debug, Default)]
pub(super) struct Wake {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    dirty: bool,
    stop: bool,
    thread: Option<JoinHandle<()>>,
}

impl Wake {
    pub(super) fn dirty(&self) {
        locked(&self.state).dirty = true;
        self.changed.notify_one();
    }
}

/// Why the thread goes on.
struct Turn {
    dirty: bool,
    stop: bool,
}

/// The thread's own.
struct Keeper {
    limits: Arc<Limits>,
    dir: PathBuf,
    tell: Tell,
    /// Files whose counts are taken in, and not yet written.
    absorbed: Vec<PathBuf>,
    /// Set while writing fails: it is told once.
    failing: bool,
    /// Until when, by the wall clock, a gate that drains may leave something.
    beside: i64,
    number: u64,
    turns: u64,
}

/// Takes in what is in `dir`, and keeps it there from now on.
pub(super) fn start(limits: &Arc<Limits>, dir: &Path, tell: Tell) {
    let (limits, dir) = (Arc::clone(limits), dir.to_owned());
    let mut keeper =
        Keeper { limits, dir, tell, absorbed: Vec::new(), failing: false, beside: 0, number: 0, turns: 0 };
    match Saved::read(&keeper.dir) {
        Ok(Some(saved)) => keeper.restore(&saved),
        Ok(None) => {}
        Err(error) => {
            (keeper.tell)(format!("what limits have counted is lost, they begin anew: {}", Chain(&error)));
        }
    }
    let limits = Arc::clone(&keeper.limits);
    if keeper.absorb() {
        keeper.write();
    }
    limits.kept.store(true, Ordering::Release);
    let running = std::thread::Builder::new().name("limits".to_owned()).spawn(move || keeper.run());
    match running {
        Ok(thread) => locked(&limits.wake.state).thread = Some(thread),
        Err(error) => tracing::error!("what limits count is not kept on disk: {error}"),
    }
}

/// Ends the thread, which writes what there is.
pub(super) fn stop(limits: &Limits) {
    let thread = {
        let mut state = locked(&limits.wake.state);
        state.stop = true;
        state.thread.take()
    };
    limits.wake.changed.notify_one();
    if let Some(thread) = thread {
        // It does not panic; if it did, there is nothing left to do here.
        let _ = thread.join();
    }
}

impl Keeper {
    fn run(mut self) {
        loop {
            let turn = self.wait();
            let told = !self.limits.aside() && self.absorb();
            if turn.dirty || turn.stop || told || self.limits.aside() {
                self.write();
            }
            if turn.stop {
                return;
            }
            self.turns += 1;
            if self.turns.is_multiple_of(SWEEP) {
                locked(&self.limits.table).sweep((self.limits.clock)());
            }
            self.crowded();
            let state = locked(&self.limits.wake.state);
            drop(self.limits.wake.changed.wait_timeout_while(state, PACE, |state| !state.stop));
        }
    }

    /// Until there is something to do.
    fn wait(&self) -> Turn {
        let mut state = locked(&self.limits.wake.state);
        // A gate that drains tells what is open, and the next one listens, whether or not anything changes here.
        while !state.dirty && !state.stop && !self.limits.aside() && saved::wall() >= self.beside {
            state = self.limits.wake.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let dirty = std::mem::take(&mut state.dirty);
        self.limits.dirty.store(false, Ordering::Release);
        Turn { dirty, stop: state.stop }
    }

    /// Writes what there is; then what was taken in is not needed any more.
    fn write(&mut self) {
        let limits = Arc::clone(&self.limits);
        let _alone = locked(&limits.writing);
        let written = if limits.aside() {
            self.number += 1;
            limits.write_late(&self.dir, self.number)
        } else {
            Saved { beside: self.beside, ..limits.saved_of(&locked(&limits.table)) }.write(&self.dir)
        };
        match written {
            Ok(()) => {
                self.failing = false;
                self.absorbed.retain(|file| match fs::remove_file(file) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        tracing::error!("{} cannot be removed: {error}", file.display());
                        true
                    }
                    _ => false,
                });
            }
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                (self.tell)(format!("what limits count is not kept on disk: {}", Chain(&error)));
            }
            Err(_) => {}
        }
    }

    fn restore(&mut self, saved: &Saved) {
        self.beside = saved.beside.min(saved::wall().saturating_add(DRAINS));
        let now = Saved::now((self.limits.clock)());
        let moved = saved.moved(&now);
        self.limits.each(saved, now.clock, |kept, one| {
            one.slots.iter().for_each(|slot| kept.window.restore(*slot, moved, now.clock));
        });
    }

    /// Takes in what gates that drain have told; whether there was anything.
    fn absorb(&mut self) -> bool {
        let mut files = saved::late(&self.dir).unwrap_or_default();
        files.retain(|file| !self.absorbed.contains(file));
        let now = (self.limits.clock)();
        for file in &files {
            let late = match Saved::read_from(file) {
                Ok(late) => late,
                Err(error @ (Error::Io(..) | Error::Damaged(_))) => {
                    (self.tell)(format!("what a gate that drained has spent is lost: {}", Chain(&error)));
                    continue;
                }
            };
            self.limits.each(&late, now, |kept, one| {
                kept.elsewhere = (one.open, now.saturating_add(ELSEWHERE));
                for (amount, much) in Amount::ALL.into_iter().zip(one.late) {
                    match much {
                        0.. => kept.window.add(now, amount, much.unsigned_abs()),
                        _ => kept.window.lessen(amount, much.unsigned_abs()),
                    }
                }
            });
        }
        let any = !files.is_empty();
        self.absorbed.append(&mut files);
        any
    }

    fn crowded(&self) {
        let crowded = std::mem::take(&mut locked(&self.limits.table).crowded);
        if crowded > 0 {
            (self.tell)(format!(
                "{crowded} requests were refused since a limit has no room for more callers"
            ));
        }
    }
}

impl Limits {
    /// Goes on beside the next gate: leaves it what was counted, and from now on tells it what is still spent here.
    pub fn stand_aside(&self, dir: &Path) {
        let _alone = locked(&self.writing);
        let beside = saved::wall().saturating_add(DRAINS);
        // Held: what is taken from now on is told apart.
        let table = locked(&self.table);
        self.aside.store(true, Ordering::SeqCst);
        let saved = Saved { beside, ..self.saved_of(&table) };
        drop(table);
        let written = saved.write(dir).and_then(|()| self.write_late(dir, 0));
        if let Err(error) = written {
            tracing::error!("the next gate does not know what limits have counted: {}", Chain(&error));
        }
        self.wake.dirty();
    }

    fn saved_of(&self, table: &Table) -> Saved {
        let now = (self.clock)();
        let saved = of_each(table.all(), |kept| {
            kept.window.advance(now);
            // It stands in the window.
            kept.late = [0; 3];
            let slots: Vec<_> = kept.window.slots().copied().collect();
            (!slots.is_empty()).then(|| One { slots, ..One::default() })
        });
        Saved { groups: saved, ..Saved::now(now) }
    }

    /// Tells what was spent since it was last told, and what is open.
    fn write_late(&self, dir: &Path, number: u64) -> Result<(), Error> {
        let all = locked(&self.table).all();
        let groups = of_each(all, |kept| {
            let late = std::mem::take(&mut kept.late);
            (late != [0; 3] || kept.open > 0).then(|| One { late, open: kept.open, ..One::default() })
        });
        if groups.is_empty() {
            return Ok(());
        }
        let now = (self.clock)();
        let late = Saved { groups, ..Saved::now(now) };
        late.write_late(dir, number).inspect_err(|_| {
            self.each(&late, now, |kept, one| {
                for (late, untold) in kept.late.iter_mut().zip(one.late) {
                    *late = late.saturating_add(untold);
                }
            });
        })
    }

    /// Does something to each count that is named.
    fn each(&self, saved: &Saved, now: Nanos, with: impl Fn(&mut Kept, &One)) {
        for Group { rule, by, per, counts } in &saved.groups {
            for one in counts {
                let id = Id { rule: rule.clone(), by: by.clone(), per: *per };
                // Without room for it, it is as if its caller came anew.
                let count = locked(&self.table).count(id, &one.key, now);
                if let Ok(count) = count {
                    with(&mut count.kept(), one);
                }
            }
        }
    }
}

/// What there is to be said of each count.
fn of_each(
    all: Vec<(Id, Vec<(Arc<str>, Arc<Count>)>)>,
    say: impl Fn(&mut Kept) -> Option<One>,
) -> Vec<Group> {
    let group = |(id, counts): (Id, Vec<(Arc<str>, Arc<Count>)>)| {
        let one = |(key, count): (Arc<str>, Arc<Count>)| {
            Some(One { key: key.to_string(), ..say(&mut count.kept())? })
        };
        let counts: Vec<_> = counts.into_iter().filter_map(one).collect();
        (!counts.is_empty()).then_some(Group { rule: id.rule, by: id.by, per: id.per, counts })
    };
    all.into_iter().filter_map(group).collect()
}

#[cfg(test)]
mod tests;
