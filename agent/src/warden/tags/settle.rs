//! Settling: look at the tree, then do what the tag needs. Called after every change and for every event; calling it
//! once too often changes nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::state::{Entry, Kind};
use super::tree::Life;
use super::watch::Look;
use super::{CgroupPath, Event, HostKind, TagError, TagName, Tags};

/// How often tags in trouble are tried again. Tags without trouble are never polled.
const RETRY: Duration = Duration::from_secs(10);

impl Tags {
    /// Follows the tree for as long as the daemon lives: run it beside everything else. Ends only with an error.
    ///
    /// # Errors
    /// When inotify fails; the tags stay in force, but units that restart are no longer followed.
    pub async fn watch(&self) -> Result<(), TagError> {
        let inotify = |e| TagError::io("inotify", e);
        let mut events = self.inner.watch.events().map_err(inotify)?;
        // What happened before the first event was read.
        self.settle_all();
        let mut retry = tokio::time::interval(RETRY);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                look = events.next(&self.inner.watch) => match look.map_err(inotify)? {
                    Look::At(tags) => tags.iter().for_each(|tag| self.settle(tag)),
                    Look::Everywhere => self.settle_all(),
                },
                _ = retry.tick(), if self.any_trouble() => self.retry().await,
            }
        }
    }

    fn any_trouble(&self) -> bool {
        self.registry().slots.values().any(|s| s.entry.trouble.is_some())
    }

    pub(super) fn settle_all(&self) {
        let names: Vec<TagName> = self.registry().slots.keys().cloned().collect();
        names.iter().for_each(|name| self.settle(name));
    }

    /// Brings one tag in line with the tree. Tags that somebody is working on are left alone: that somebody settles
    /// them when done.
    pub(super) fn settle(&self, name: &TagName) {
        let Ok(entry) = self.claim(name) else { return };
        let Some(cgroup) = entry.cgroup.clone() else {
            self.release(name);
            return;
        };
        if let Err(e) = self.follow(&entry, &cgroup) {
            self.trouble(Some(name), &e);
        }
        if self.ends_when_empty(&entry) {
            self.settle_ephemeral(entry, &cgroup);
        } else {
            self.reattach(entry, &cgroup);
        }
    }

    fn ends_when_empty(&self, entry: &Entry) -> bool {
        let ours = |c: &CgroupPath| self.inner.is_ours(c);
        entry.is_ephemeral() || (entry.kind == Kind::Found && entry.cgroup.as_ref().is_some_and(ours))
    }

    fn settle_ephemeral(&self, entry: Entry, cgroup: &CgroupPath) {
        match self.inner.tree.life(cgroup) {
            // Only after a restart that could not attach again, or found links of another version.
            Ok(Life::Populated) if entry.trouble.is_some() || entry.attached.is_none() => {
                self.reattach(entry, cgroup)
            }
            Ok(Life::Populated) => self.release(&entry.name),
            Ok(Life::Empty | Life::Gone) => self.bury(&entry, "its last process ended"),
            Err(e) => {
                self.release(&entry.name);
                self.trouble(Some(&entry.name), &e);
            }
        }
    }

    /// Clears away an ephemeral tag that nobody lives in.
    pub(super) fn bury(&self, entry: &Entry, why: &'static str) {
        let name = &entry.name;
        let detached = self.registry().attach.detach(name);
        if let Err(e) = detached {
            self.trouble(Some(name), &e);
        }
        if self.inner.settings.host == HostKind::Plain
            && let Some(cgroup) = entry.cgroup.as_ref().filter(|c| self.inner.is_ours(c))
            && let Err(e) = self.inner.tree.remove(cgroup)
        {
            self.trouble(Some(name), &e);
        }
        self.cancel(name);
        self.tell(Event::Ended { tag: name.clone(), why });
    }

    /// Attaches to the cgroup that is there, if it is another than the one attached to.
    fn reattach(&self, mut entry: Entry, cgroup: &CgroupPath) {
        let before = entry.clone();
        match self.inner.tree.id(cgroup) {
            Ok(None) if entry.kind == Kind::Found => return self.bury(&entry, "its cgroup is gone"),
            Ok(None) => entry.attached = None,
            Ok(Some(id)) if entry.attached == Some(id) => entry.trouble = None,
            Ok(Some(id)) => match self.attach(&entry, cgroup) {
                Ok(()) => {
                    entry.attached = Some(id);
                    entry.trouble = None;
                }
                Err(e) => {
                    entry.attached = None;
                    entry.trouble = Some(crate::report::Chain(&e).to_string());
                }
            },
            Err(e) => entry.trouble = Some(e.to_string()),
        }
        if entry == before {
            self.release(&entry.name);
            return;
        }
        let tag = entry.name.clone();
        let event = match (&entry.trouble, entry.attached) {
            (Some(what), _) => Event::Trouble { tag: Some(tag), what: what.clone() },
            (None, Some(_)) => Event::Taken { tag, cgroup: cgroup.clone() },
            (None, None) => Event::Waiting { tag },
        };
        self.commit(entry);
        self.tell(event);
    }

    /// Watches what tells of changes to this tag: the life of its own cgroup, or the nearest directory that is there
    /// on the way to where its cgroup will appear.
    fn follow(&self, entry: &Entry, cgroup: &CgroupPath) -> Result<(), TagError> {
        // Directories may come while we look: again until two looks agree. Paths are at most 64 deep in practice.
        let mut wanted = self.signs(entry, cgroup);
        for _ in 0..64 {
            let set = self.inner.watch.set(&entry.name, wanted.clone());
            set.map_err(|e| TagError::io("inotify", e))?;
            let again = self.signs(entry, cgroup);
            if again == wanted {
                break;
            }
            wanted = again;
        }
        Ok(())
    }

    fn signs(&self, entry: &Entry, cgroup: &CgroupPath) -> BTreeSet<PathBuf> {
        let folder = self.inner.tree.directory(cgroup);
        let mut signs = BTreeSet::new();
        let above = folder.ancestors().skip(1).find(|f| f.is_dir());
        signs.extend(above.map(PathBuf::from));
        if self.ends_when_empty(entry) {
            signs.insert(folder.join("cgroup.events"));
        }
        signs
    }
}
