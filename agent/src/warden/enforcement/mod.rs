//! How much of the enforcement holds for a caller: its own rights, what its user and its files let it reach, how its tag was
//! made, and what this kernel has. Asked once a connection, so answers are remembered: a process's for a second, the
//! host's for some.
//!
//! What each [`Weakness`] means and its remedy is the doctor's part.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::tags::{CgroupPath, Entry, Kind, Tags};
use crate::config::Designation;
use crate::doctor::process::{Facts, Proc};
use crate::doctor::socket;
use crate::types::{Caller, Layer, LayerState, Weakness};

mod lookup;
mod survey;

use lookup::Lookup;

pub use survey::survey;

/// How long what was read of a process is believed. One that takes up rights meanwhile is seen a second late.
const PROCESS: Duration = Duration::from_secs(1);

/// Processes that are remembered; beyond it the memory is emptied.
const PROCESSES: usize = 4096;

/// How long it is believed who shares a user id, and who reaches which socket.
const HOST: Duration = Duration::from_secs(10);

/// How long a connection waits for such an answer when there is none yet.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the host weakens for everybody. Cheap to clone; told by whoever finds out.
#[derive(Clone, Default)]
pub struct Host(Arc<Mutex<HostFacts>>);

#[derive(Clone, Debug, Default)]
struct HostFacts {
    layers: Vec<Layer>,
    way_open: bool,
    /// Tags whose unit has an address filter.
    filtered: Vec<String>,
}

impl HostFacts {
    /// Whether every hook of the LSM layer works: each that does not leaves something open.
    fn has_lsm(&self) -> bool {
        let mut hooks = self.layers.iter().filter(|layer| layer.is_lsm()).peekable();
        hooks.peek().is_some() && hooks.all(|layer| layer.state == LayerState::Active)
    }
}

impl Host {
    fn facts<T>(&self, work: impl FnOnce(&mut HostFacts) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The kernel layers as they were found.
    pub fn tell_layers(&self, layers: Vec<Layer>) {
        self.facts(|facts| facts.layers = layers);
    }

    /// Whether the self-test found a way open that should be closed.
    pub fn tell_way_open(&self, open: bool) {
        self.facts(|facts| facts.way_open = open);
    }

    /// The tags whose units have `IPAddressDeny=`.
    pub fn tell_filtered(&self, tags: Vec<String>) {
        self.facts(|facts| facts.filtered = tags);
    }

    /// The kernel layers.
    pub fn layers(&self) -> Vec<Layer> {
        self.facts(|facts| facts.layers.clone())
    }

    /// Whether the LSM layer works, all of it.
    pub fn has_lsm(&self) -> bool {
        self.facts(|facts| facts.has_lsm())
    }

    /// What the host and the tag weaken, whoever calls.
    pub fn weaknesses(&self, tag: &str) -> Vec<Weakness> {
        self.facts(|facts| {
            let mut found = Vec::new();
            if !facts.has_lsm() {
                found.push(Weakness::NoLsm);
            }
            if facts.layers.iter().any(|l| !l.is_lsm() && l.name != "lsm" && l.state != LayerState::Active) {
                found.push(Weakness::LayerMissing);
            }
            if facts.way_open {
                found.push(Weakness::WayOpen);
            }
            if facts.filtered.iter().any(|t| t == tag) {
                found.push(Weakness::AddressFilter);
            }
            found
        })
    }

    fn packets_closed(&self) -> bool {
        self.facts(|facts| {
            facts.layers.iter().any(|l| l.name == "lsm socket_create" && l.state == LayerState::Active)
        })
    }
}

/// Which sockets a process can reach depends on this and on nothing else of it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct View {
    files: (PathBuf, PathBuf),
    user: u32,
    group: u32,
    groups: Vec<u32>,
    overrides: bool,
}

/// A process by pid and start time.
type ProcessKey = (u32, u64);

/// Looks at processes; what takes long is answered by threads of its own.
pub struct Examiner {
    proc: Proc,
    host: Host,
    sockets: Lookup<View, (u32, Facts), Vec<PathBuf>>,
    users: Lookup<u32, (), bool>,
}

/// What was seen of one process.
struct Seen {
    uid: u32,
    weaknesses: Vec<Weakness>,
    sockets: Vec<PathBuf>,
}

impl Examiner {
    /// Starts what answers beside the loop.
    ///
    /// # Errors
    /// A thread cannot be made.
    pub fn start(proc: Proc, host: Host, tags: Tags) -> io::Result<Self> {
        let tagged = move |cgroup: &str| tags.tag_of(&CgroupPath(cgroup.to_owned())).is_some();
        Self::with(proc, host, tagged)
    }

    fn with(proc: Proc, host: Host, tagged: impl Fn(&str) -> bool + Send + 'static) -> io::Result<Self> {
        let at = proc.clone();
        let sockets = move |_: &View, (pid, facts): (u32, Facts)| {
            let found = socket::reachable(&at.of(pid).join("root"), &facts);
            // A process that ended while it was looked at has no files: that says nothing.
            at.facts(pid).filter(|now| now.view == facts.view).map(|_| found)
        };
        let sockets = Lookup::start("enforce-files", HOST, PATIENCE, sockets)?;
        let at = proc.clone();
        let users = move |uid: &u32, ()| Some(shares(&at, *uid, &tagged));
        let users = Lookup::start("enforce-users", HOST, PATIENCE, users)?;
        Ok(Self { proc, host, sockets, users })
    }

    /// Looks at a process; `None` when it is gone.
    fn look_at(&self, pid: u32) -> Option<Seen> {
        let facts = self.proc.facts(pid)?;
        let mut weaknesses = facts.weaknesses(self.host.packets_closed());
        let sockets = facts.view.clone().and_then(|files| {
            let view = View {
                files,
                user: facts.uids[3],
                group: facts.gids[3],
                groups: facts.groups.clone(),
                overrides: facts.overrides_files(),
            };
            self.sockets.ask(&view, (pid, facts.clone()))
        });
        weaknesses.extend(named(sockets.as_ref().map(|found| !found.is_empty()), Weakness::ContainerSocket));
        // Root shares its id with the whole host; that is said already.
        let uid = facts.uids[0];
        if uid != 0 {
            weaknesses.extend(named(self.users.ask(&uid, ()), Weakness::SharedUid));
        }
        Some(Seen { uid, weaknesses, sockets: sockets.unwrap_or_default() })
    }
}

/// Judges callers, remembering what was seen of them.
pub struct Judge {
    examiner: Arc<Examiner>,
    processes: HashMap<ProcessKey, (Vec<Weakness>, Instant)>,
}

impl Judge {
    /// Judges by what `examiner` sees.
    pub fn new(examiner: Arc<Examiner>) -> Self {
        Self { examiner, processes: HashMap::new() }
    }

    /// What weakens the enforcement for a caller of a tag made so, in the order of [`Weakness::ALL`].
    pub fn weakened(&mut self, caller: &Caller, tag: Option<&Entry>) -> Vec<Weakness> {
        let mut found = match caller.start_time {
            Some(start) => self.process((caller.pid, start)),
            None => vec![Weakness::Unseen],
        };
        // The kernel's word from connect(), whatever the process has become since.
        if caller.uid == 0 {
            found.push(Weakness::Root);
        }
        found.extend(self.examiner.host.weaknesses(caller.tag.as_str()));
        if tag.is_some_and(no_start_check) {
            found.push(Weakness::NoStartCheck);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn process(&mut self, key: ProcessKey) -> Vec<Weakness> {
        if let Some((known, at)) = self.processes.get(&key)
            && at.elapsed() < PROCESS
        {
            return known.clone();
        }
        let seen = self.examiner.look_at(key.0);
        // Still the same one: what was read belongs to it.
        let seen = seen.filter(|_| self.examiner.proc.start_time(key.0) == Some(key.1));
        let found = seen.map_or_else(|| vec![Weakness::Unseen], |seen| seen.weaknesses);
        if self.processes.len() >= PROCESSES {
            self.processes.clear();
        }
        self.processes.insert(key, (found.clone(), Instant::now()));
        found
    }
}

/// A question without an answer in time is not taken for a no.
fn named(answer: Option<bool>, weakness: Weakness) -> Option<Weakness> {
    match answer {
        Some(true) => Some(weakness),
        Some(false) => None,
        None => Some(Weakness::Unseen),
    }
}

/// Whether nothing checks that the tag is in force before a process starts in it: only a service can have an
/// `ExecCondition=`, and a run's or a process's cgroup is made for it.
pub fn no_start_check(tag: &Entry) -> bool {
    match &tag.kind {
        Kind::Run { .. } | Kind::Pid { .. } => false,
        Kind::Designated(Designation::Unit(unit)) => !unit.ends_with(".service"),
        Kind::Designated(_) | Kind::Found => true,
    }
}

/// Whether a process outside of every tag runs as `uid`.
fn shares(proc: &Proc, uid: u32, tagged: impl Fn(&str) -> bool) -> bool {
    proc.pids().any(|pid| {
        proc.owner(pid) == Some(uid)
            && proc.cgroup(pid).is_some_and(|cgroup| !tagged(&cgroup))
            && !proc.is_zombie(pid)
    })
}

#[cfg(test)]
mod tests;
