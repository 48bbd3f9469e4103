//! The next daemon's first look: which tags of the last one live on, which are to be cleared away. Nothing leaks, and
//! nothing that lives is let go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

use super::attach::{Adopted, Attach};
use super::state::{Asker, Entry, Files, Kind};
use super::tree::{Life, Tree};
use super::watch::Watch;
use super::{Event, HostKind, Inner, Registry, Settings, Sink, Slot, TagError, Tags, own_cgroup};
use crate::config::Options;

impl Tags {
    /// Takes over what an earlier daemon left and clears away what nobody lives in. Configured tags of the last daemon
    /// are in force when this returns; [`Tags::apply_config`] comes next, then [`Tags::watch`].
    ///
    /// # Errors
    /// When the host has no cgroup v2, the runtime directory cannot be used or the pins cannot be read.
    pub async fn open(
        settings: Settings,
        mut attach: Box<dyn Attach>,
        journal: Sink,
    ) -> Result<Self, TagError> {
        let tree = Tree::find().map_err(|e| TagError::io("the cgroup tree", e))?;
        let own = own_cgroup().map_err(|e| TagError::io("our own cgroup", e))?;
        let files = Files::open(&settings.runtime).map_err(|e| TagError::io("the runtime directory", e))?;
        let watch = Watch::open().map_err(|e| TagError::io("inotify", e))?;
        let adopted = attach.adopt().map_err(TagError::Kernel)?;
        let (entries, wrong) = files.load().map_err(|e| TagError::io("the state files", e))?;
        let highest = entries.iter().map(|e| e.number.0).chain(adopted.iter().map(|a| a.number.0)).max();
        let next = highest.unwrap_or(0).saturating_add(1).max(fresh_number());
        let registry = Mutex::new(Registry { slots: BTreeMap::new(), attach, next });
        let (changed, systemd) = (tokio::sync::Notify::new(), tokio::sync::Mutex::new(None));
        let inner = Inner { settings, tree, own, files, watch, journal, registry, changed, systemd };
        let tags = Self { inner: Arc::new(inner) };
        for what in wrong {
            tags.tell(Event::Trouble { tag: None, what });
        }
        let strangers =
            adopted.iter().filter(|a| entries.iter().all(|e| e.name != a.name)).cloned().collect();
        for entry in entries {
            tags.resume(entry, &adopted).await;
        }
        tags.keep_strangers(strangers);
        tags.clear_cgroups();
        tags.remove_stray_dropins().await;
        tags.settle_all();
        Ok(tags)
    }

    async fn resume(&self, mut entry: Entry, adopted: &[Adopted]) {
        let name = entry.name.clone();
        let linked = adopted.iter().any(|a| a.name == name && a.number == entry.number && a.alive);
        if !linked {
            entry.attached = None;
        }
        self.registry().slots.insert(name.clone(), Slot { entry: entry.clone(), busy: true });
        if !entry.is_ephemeral() {
            self.release(&name);
            self.tell(Event::Resumed { tag: name });
            return;
        }
        let cgroup = entry.cgroup.clone();
        let lives =
            cgroup.as_ref().is_some_and(|c| self.inner.tree.life(c).is_ok_and(|l| l == Life::Populated));
        let Some(cgroup) = cgroup.filter(|_| lives) else {
            self.bury(&entry, "its processes ended while the agent was away");
            return;
        };
        if !linked {
            match self.attach(&entry, &cgroup) {
                Ok(()) => entry.attached = self.inner.tree.id(&cgroup).ok().flatten(),
                Err(e) => {
                    entry.trouble = Some(crate::report::Chain(&e).to_string());
                    self.trouble(Some(&name), &e);
                }
            }
        }
        // A daemon that died while it sealed a process's sockets left it halted.
        if matches!(entry.kind, Kind::Pid { .. })
            && let Err(e) = self.let_go(&entry).await
        {
            self.trouble(Some(&name), &e);
        }
        self.commit(entry);
        self.tell(Event::Resumed { tag: name });
    }

    /// Links that no state file tells of: those of cgroups that are gone go; the others stay in force under their
    /// name, and end with their cgroup.
    fn keep_strangers(&self, strangers: Vec<Adopted>) {
        for one in strangers {
            let Some(folder) = one.cgroup else {
                let detached = self.registry().attach.detach(&one.name);
                if let Err(e) = detached {
                    self.trouble(Some(&one.name), &e);
                }
                continue;
            };
            let cgroup = self.inner.tree.named(&folder.to_string_lossy());
            let attached = self.inner.tree.id(&cgroup).ok().flatten().filter(|_| one.alive);
            let entry = Entry {
                name: one.name.clone(),
                number: one.number,
                kind: Kind::Found,
                asker: Asker::User { uid: 0 },
                since: OffsetDateTime::now_utc(),
                options: Options::default(),
                cgroup: Some(cgroup),
                attached,
                unit: None,
                came_from: None,
                notes: vec![
                    "its state file is gone; it stays in force until it is untagged or its cgroup goes"
                        .into(),
                ],
                trouble: None,
            };
            self.commit(entry);
            self.tell(Event::Resumed { tag: one.name });
        }
    }

    /// Cgroups of ours that belong to no tag: empty ones go, others are reported.
    fn clear_cgroups(&self) {
        if self.inner.settings.host == HostKind::Systemd {
            return; // scopes are systemd's to clear away
        }
        let below = match self.inner.tree.below(&self.inner.settings.base) {
            Ok(below) => below,
            Err(e) => return self.trouble(None, &e),
        };
        for cgroup in below {
            let known = self.registry().slots.values().any(|s| s.entry.cgroup.as_ref() == Some(&cgroup));
            if known {
                continue;
            }
            if let Err(e) = self.inner.tree.remove(&cgroup) {
                let what = format!("the cgroup {cgroup} belongs to no tag and cannot be removed: {e}");
                self.tell(Event::Trouble { tag: None, what });
            }
        }
    }
}

/// Seconds since 2020: larger than any number of an earlier daemon of this boot unless it made more than one tag a
/// second all its life, so that late answers of the kernel never meet another tag's number.
fn fresh_number() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    u32::try_from(now.saturating_sub(1_577_836_800)).unwrap_or(1).max(1)
}
