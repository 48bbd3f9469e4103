//! Tags: which processes are taken, under which name, in which cgroup, and that this stays so over restarts of units
//! and of the daemon.
//!
//! Not here: how the programs are loaded ([`Attach`]), who may ask (`control`).
//!
//! Two families. *Ephemeral* tags (`run`, `pid`) own a cgroup (a transient scope under systemd, `/sluice/NAME` without
//! it) and end with its last process. *Designated* tags (unit, slice, cgroup, user) name a place in the tree: whenever
//! a cgroup appears there the programs are attached to it, and while there is none the tag waits.
//!
//! Every change is settled by looking at the tree, never by believing an event: [`Tags::watch`] is told where to look.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::config::{Designation, Options};
use crate::control::{TagKind, TagState, TagStatus};
use crate::types::TagName;

mod apart;
mod attach;
mod designate;
pub mod dropin;
mod end;
mod error;
mod filter;
mod freed;
mod place;
mod process;
mod resume;
mod settle;
mod state;
mod systemd;
mod tree;
mod watch;

pub use attach::{Adopted, Attach, AttachError};
pub use error::TagError;
pub use place::Placed;
pub use process::Process;
pub use state::{Asker, Entry, Kind};
pub use systemd::SystemdError;
pub use tree::{CgroupId, CgroupPath, Tree, of_process};

/// A tag's number: what the kernel programs write into what they remember. Never reused within a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TagNumber(pub u32);

/// Tags at once: each holds five programs and five links in the kernel.
pub const MAX_TAGS: usize = 256;

/// Ephemeral tags at once of one user who is not root: one user must not use up everybody's.
pub const MAX_TAGS_PER_USER: usize = 64;

/// Ephemeral tags at once of all users who are not root: the rest is the configuration's and root's. One account may
/// have many user ids (subuid(5)).
pub const MAX_TAGS_OF_USERS: usize = 192;

/// What happened to a tag, for the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// In force (again: a unit's new cgroup was taken).
    Taken {
        /// Name.
        tag: TagName,
        /// Its cgroup.
        cgroup: CgroupPath,
    },
    /// Its cgroup went; it waits for the next.
    Waiting {
        /// Name.
        tag: TagName,
    },
    /// Taken over from an earlier daemon.
    Resumed {
        /// Name.
        tag: TagName,
    },
    /// Over.
    Ended {
        /// Name.
        tag: TagName,
        /// Why, in words.
        why: &'static str,
    },
    /// Should be in force and is not, or something of a tag's cannot be cleaned up: the agent's own failure.
    Trouble {
        /// Name, where it is one tag's trouble.
        tag: Option<TagName>,
        /// What.
        what: String,
    },
}

/// Where events go. Must not block.
pub type Sink = Arc<dyn Fn(Event) + Send + Sync>;

/// How tags work on this host.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `RUNTIME_DIR`: the state files live in `tags/` below it.
    pub runtime: PathBuf,
    /// `BPF_DIR`, for the paths in drop-ins.
    pub bpf: PathBuf,
    /// Path of our binary, for the check in drop-ins.
    pub program: PathBuf,
    /// The cgroup below which ephemeral tags are made where there is no systemd: `/sluice`.
    pub base: CgroupPath,
    /// Whether to work with systemd.
    pub host: HostKind,
}

/// Who manages the cgroup tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// systemd, asked over D-Bus.
    Systemd,
    /// Nobody: we make cgroups ourselves.
    Plain,
}

impl Settings {
    /// The settings for a configuration: with systemd where systemd is the init.
    pub fn new(paths: &crate::config::Paths, program: PathBuf) -> Self {
        Self {
            runtime: paths.runtime.clone(),
            bpf: paths.bpf.clone(),
            program,
            base: CgroupPath("/sluice".into()),
            host: if systemd::booted() { HostKind::Systemd } else { HostKind::Plain },
        }
    }
}

/// All tags. Cheap to clone.
#[derive(Clone)]
pub struct Tags {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    tree: Tree,
    /// The agent's own cgroup: its connections are never taken.
    own: CgroupPath,
    files: state::Files,
    watch: watch::Watch,
    journal: Sink,
    /// Held for short, never across an await.
    registry: Mutex<Registry>,
    /// Told when a tag is there whole, or gone.
    changed: tokio::sync::Notify,
    /// Held while a connection is made: two are never opened at once.
    systemd: tokio::sync::Mutex<Option<systemd::Systemd>>,
}

impl Inner {
    /// Whether a cgroup lies where ephemeral tags are made.
    fn is_ours(&self, cgroup: &CgroupPath) -> bool {
        [&self.settings.base, &CgroupPath("/sluice.slice".into())]
            .into_iter()
            .any(|ours| cgroup.is_within(ours))
    }
}

struct Registry {
    slots: BTreeMap<TagName, Slot>,
    attach: Box<dyn Attach>,
    next: u32,
}

struct Slot {
    entry: Entry,
    /// Somebody is making or ending it: settling leaves it alone.
    busy: bool,
}

impl Tags {
    /// The name of a numbered tag; `None` when it is over.
    pub fn resolve(&self, number: TagNumber) -> Option<TagName> {
        let registry = self.registry();
        registry.slots.values().find(|s| s.entry.number == number).map(|s| s.entry.name.clone())
    }

    /// The innermost tag that a cgroup belongs to.
    pub fn tag_of(&self, cgroup: &CgroupPath) -> Option<TagName> {
        let registry = self.registry();
        let holds = |s: &&Slot| s.entry.cgroup.as_ref().is_some_and(|c| cgroup.is_within(c));
        let innermost = registry.slots.values().filter(holds);
        let innermost = innermost.max_by_key(|s| s.entry.cgroup.as_ref().map_or(0, |c| c.0.len()));
        innermost.map(|s| s.entry.name.clone())
    }

    /// The directories of the cgroups that bear a tag now.
    pub fn places(&self) -> Vec<(TagName, PathBuf)> {
        let registry = self.registry();
        let entries = registry.slots.values().map(|slot| &slot.entry);
        let placed = entries.filter_map(|entry| Some((entry.name.clone(), entry.cgroup.as_ref()?)));
        placed.map(|(name, cgroup)| (name, directory(&self.inner, cgroup))).collect()
    }

    /// One tag as it stands.
    pub fn entry(&self, name: &TagName) -> Option<Entry> {
        self.registry().slots.get(name).map(|s| s.entry.clone())
    }

    /// All tags, by name.
    pub fn list(&self) -> Vec<TagStatus> {
        let entries: Vec<Entry> = self.registry().slots.values().map(|s| s.entry.clone()).collect();
        entries.into_iter().map(|entry| self.describe(entry)).collect()
    }

    /// A tag in the words of the control socket.
    pub fn describe(&self, entry: Entry) -> TagStatus {
        let (kind, target) = match &entry.kind {
            Kind::Run { pid } => (TagKind::Run, pid.to_string()),
            Kind::Pid { pid } => (TagKind::Pid, pid.to_string()),
            Kind::Designated(d) => (TagKind::from(d), d.target().to_owned()),
            Kind::Found => (TagKind::Found, String::new()),
        };
        let state = match (&entry.trouble, entry.attached) {
            (Some(_), _) => TagState::Failed,
            (None, Some(_)) => TagState::Taken,
            (None, None) => TagState::Waiting,
        };
        let processes = entry.cgroup.as_ref().and_then(|c| self.inner.tree.processes(c).ok());
        TagStatus {
            name: entry.name,
            number: entry.number.0,
            kind,
            target,
            state,
            cgroup: entry.cgroup.map(|c| c.0),
            unit: entry.unit,
            processes: processes.map_or(0, |p| p.len()),
            loopback: entry.options.loopback,
            configured: entry.asker == Asker::Configuration,
            uid: match entry.asker {
                Asker::Configuration => None,
                Asker::User { uid } => Some(uid),
            },
            since: entry.since,
            trouble: entry.trouble,
            notes: entry.notes,
        }
    }

    /// Marks a settled tag as being worked on.
    fn claim(&self, name: &TagName) -> Result<Entry, TagError> {
        let mut registry = self.registry();
        let slot = registry.slots.get_mut(name).ok_or_else(|| TagError::NoSuch(name.clone()))?;
        if slot.busy {
            return Err(TagError::Busy(name.clone()));
        }
        slot.busy = true;
        Ok(slot.entry.clone())
    }

    fn release(&self, name: &TagName) {
        if let Some(slot) = self.registry().slots.get_mut(name) {
            slot.busy = false;
        }
    }

    /// Books a name and a number, in memory and on disk; the slot is busy until [`Tags::commit`] or [`Tags::cancel`].
    fn reserve(&self, name: TagName, kind: Kind, asker: Asker, options: Options) -> Result<Entry, TagError> {
        let mut registry = self.registry();
        if registry.slots.contains_key(&name) {
            return Err(TagError::Exists(name));
        }
        if registry.slots.len() >= MAX_TAGS {
            return Err(TagError::Full);
        }
        let privileged = |asker| matches!(asker, Asker::Configuration | Asker::User { uid: 0 });
        let count = |of: &dyn Fn(Asker) -> bool| {
            registry.slots.values().filter(|s| of(s.entry.asker) && s.entry.is_ephemeral()).count()
        };
        if !privileged(asker) {
            if count(&|other| other == asker) >= MAX_TAGS_PER_USER {
                return Err(TagError::FullForUser);
            }
            if count(&|other| !privileged(other)) >= MAX_TAGS_OF_USERS {
                return Err(TagError::Full);
            }
        }
        let number = TagNumber(registry.next);
        registry.next = registry.next.checked_add(1).unwrap_or(1);
        let entry = Entry {
            name: name.clone(),
            number,
            kind,
            asker,
            since: OffsetDateTime::now_utc(),
            options,
            cgroup: None,
            attached: None,
            unit: None,
            came_from: None,
            notes: Vec::new(),
            trouble: None,
        };
        self.save(&entry)?;
        registry.slots.insert(name, Slot { entry: entry.clone(), busy: true });
        Ok(entry)
    }

    /// Puts a finished entry in force; a failed save is reported, the tag stays.
    fn commit(&self, entry: Entry) {
        if let Err(e) = self.save(&entry) {
            self.trouble(Some(&entry.name), &e);
        }
        let mut registry = self.registry();
        registry.slots.insert(entry.name.clone(), Slot { entry, busy: false });
        self.inner.changed.notify_waiters();
    }

    /// Gives a reservation up. The name is free last: whoever takes it has its watch and its file.
    fn cancel(&self, name: &TagName) {
        self.inner.watch.forget(name);
        if let Err(e) = self.inner.files.forget(name) {
            self.trouble(Some(name), &e);
        }
        self.free(name);
    }

    fn free(&self, name: &TagName) {
        self.registry().slots.remove(name);
        self.inner.changed.notify_waiters();
    }

    fn save(&self, entry: &Entry) -> Result<(), TagError> {
        self.inner.files.save(entry).map_err(|e| TagError::io("its state file", e))
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        (self.inner.journal)(event);
    }

    fn trouble(&self, tag: Option<&TagName>, error: &(dyn std::error::Error + 'static)) {
        self.tell(Event::Trouble { tag: tag.cloned(), what: crate::report::Chain(error).to_string() });
    }

    /// The connection to systemd, made when it is first needed and again after it was lost.
    async fn systemd(&self) -> Result<systemd::Systemd, TagError> {
        let mut held = self.inner.systemd.lock().await;
        if let Some(systemd) = held.as_ref().filter(|s| s.is_open()) {
            return Ok(systemd.clone());
        }
        let systemd = systemd::Systemd::connect().await.map_err(TagError::Systemd)?;
        *held = Some(systemd.clone());
        Ok(systemd)
    }
}

impl From<&Designation> for TagKind {
    fn from(designation: &Designation) -> Self {
        match designation {
            Designation::Unit(_) => Self::Unit,
            Designation::Slice(_) => Self::Slice,
            Designation::Cgroup(_) => Self::Cgroup,
            Designation::User(_) => Self::User,
        }
    }
}

/// The directory of a cgroup, for [`Attach`].
fn directory(inner: &Inner, cgroup: &CgroupPath) -> PathBuf {
    inner.tree.directory(cgroup)
}

/// Reads the agent's own cgroup.
fn own_cgroup() -> io::Result<CgroupPath> {
    of_process(std::process::id())
}

/// The units directory that drop-ins go to.
fn units() -> &'static Path {
    Path::new(dropin::RUNTIME_UNITS)
}

#[cfg(test)]
mod tests;
