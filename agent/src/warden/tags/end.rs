//! Ending a tag on request: what is refused, and what is taken away in which order.

use super::state::{Asker, Entry, Kind};
use super::{CgroupPath, Event, HostKind, TagError, TagName, Tags};

impl Tags {
    /// Ends a tag: its processes, if any, go on untaken.
    ///
    /// # Errors
    /// [`TagError::Configured`] for what the configuration names, [`TagError::Live`] for a run whose processes still
    /// run unless `force`.
    pub async fn untag(&self, name: &TagName, force: bool) -> Result<(), TagError> {
        let entry = self.claim(name)?;
        let refused = self.refuses_untag(&entry, force);
        if let Some(error) = refused {
            self.release(name);
            return Err(error);
        }
        self.end(entry, "untagged").await
    }

    fn refuses_untag(&self, entry: &Entry, force: bool) -> Option<TagError> {
        if entry.asker == Asker::Configuration {
            return Some(TagError::Configured(entry.name.clone()));
        }
        if !force && matches!(entry.kind, Kind::Run { .. } | Kind::Found) {
            let cgroup = entry.cgroup.as_ref()?;
            let processes = self.inner.tree.processes(cgroup).map_or(0, |p| p.len());
            return (processes > 0).then(|| TagError::Live { name: entry.name.clone(), processes });
        }
        None
    }

    /// Takes everything of a claimed tag away.
    pub(super) async fn end(&self, entry: Entry, why: &'static str) -> Result<(), TagError> {
        let name = entry.name.clone();
        let detached = self.registry().attach.detach(&name);
        if let Err(e) = detached {
            self.release(&name);
            return Err(TagError::Kernel(e));
        }
        self.inner.watch.forget(&name);
        let mut outcome = Ok(());
        if entry.is_ephemeral()
            && self.inner.settings.host == HostKind::Plain
            && let Some(cgroup) = &entry.cgroup
        {
            outcome = self.evacuate(cgroup, entry.came_from.as_ref());
        }
        if let (Kind::Designated(_), Some(unit)) = (&entry.kind, &entry.unit) {
            let removed = self.remove_dropin(unit).await;
            outcome = outcome.and(removed);
        }
        outcome = outcome.and(self.inner.files.forget(&name).map_err(|e| TagError::io("its state file", e)));
        self.free(&name);
        self.tell(Event::Ended { tag: name, why });
        outcome
    }

    /// Moves what lives in a cgroup of ours to where it came from, and removes the cgroup.
    pub(super) fn evacuate(&self, cgroup: &CgroupPath, to: Option<&CgroupPath>) -> Result<(), TagError> {
        let tree = &self.inner.tree;
        let root = CgroupPath("/".into());
        let home = to.filter(|c| tree.id(c).is_ok_and(|id| id.is_some())).unwrap_or(&root);
        // Processes may fork while they are moved; each round catches the children of the last.
        for _ in 0..8 {
            let processes = tree.processes(cgroup).map_err(|e| TagError::io("its cgroup", e))?;
            if processes.is_empty() {
                break;
            }
            for pid in processes {
                let _ = tree.adopt(home, pid); // gone meanwhile, or seen again in the next round
            }
        }
        tree.remove(cgroup).map_err(|e| TagError::io("its cgroup", e))
    }
}
