//! Designated tags: a unit, a slice, a cgroup or a user, from the configuration or from the command line. They stay
//! when nobody lives in them.

use std::collections::BTreeSet;

use super::state::{Asker, Entry, Kind};
use super::systemd::slice_cgroup;
use super::{CgroupPath, HostKind, TagError, TagName, Tags, dropin, units};
use crate::config::{Designation, Intercept, Options};

/// Where a designation's processes are.
struct Located {
    cgroup: CgroupPath,
    /// The unit that gets a drop-in.
    unit: Option<String>,
    notes: Vec<String>,
}

impl Tags {
    /// Tags a place in the tree until it is untagged or the host boots. When this returns, what lives there is taken;
    /// sockets that were
    /// connected before stay so: a unit that must not keep them is restarted.
    ///
    /// # Errors
    /// [`TagError`]: nothing is left behind.
    pub async fn tag(
        &self,
        designation: Designation,
        name: Option<TagName>,
        options: Options,
        uid: u32,
    ) -> Result<Entry, TagError> {
        let name = match name {
            Some(name) => name,
            None => derived_name(&designation)?,
        };
        let entry =
            self.reserve(name, Kind::Designated(designation.clone()), Asker::User { uid }, options)?;
        let name = entry.name.clone();
        match self.designate(entry, &designation).await {
            Ok((entry, changed)) => {
                let reloaded = self.reload_if(changed).await;
                self.commit(entry);
                self.settle(&name);
                reloaded?;
                self.entry(&name).ok_or(TagError::NoSuch(name))
            }
            Err(e) => {
                let detached = self.registry().attach.detach(&name);
                if let Err(e) = detached {
                    self.trouble(Some(&name), &e);
                }
                self.cancel(&name);
                Err(e)
            }
        }
    }

    /// Makes the configured tags those of `intercepts`: ends what is no longer named, makes what is new, leaves the
    /// rest alone. A tag that cannot be made stays in the list as failed and is tried again by [`Tags::watch`].
    pub async fn apply_config(&self, intercepts: &[Intercept]) -> Vec<(TagName, TagError)> {
        let mut failed = Vec::new();
        let wanted = |entry: &Entry| {
            intercepts.iter().any(|i| {
                i.name == entry.name
                    && entry.kind == Kind::Designated(i.designation.clone())
                    && i.options == entry.options
            })
        };
        let entries: Vec<Entry> = self.registry().slots.values().map(|s| s.entry.clone()).collect();
        for entry in entries.iter().filter(|e| e.asker == Asker::Configuration && !wanted(e)) {
            let ended = match self.claim(&entry.name) {
                Ok(claimed) => self.end(claimed, "no longer in the configuration").await,
                Err(e) => Err(e),
            };
            failed.extend(ended.err().map(|e| (entry.name.clone(), e)));
        }
        let mut changed = false;
        for one in intercepts {
            match self.apply_one(one).await {
                Ok(dropin) => changed |= dropin,
                Err(e) => failed.push((one.name.clone(), e)),
            }
        }
        if let Err(e) = self.reload_if(changed).await {
            // The links are in force all the same; only the order before the next start of a unit is not.
            self.trouble(None, &e);
        }
        for one in intercepts {
            self.settle(&one.name);
        }
        failed
    }

    /// Makes or keeps one configured tag; tells whether a drop-in changed.
    async fn apply_one(&self, one: &Intercept) -> Result<bool, TagError> {
        let kind = Kind::Designated(one.designation.clone());
        let entry = match self.entry(&one.name) {
            // Here already, from an earlier daemon or by hand: the configuration owns it from now on.
            Some(there) if there.kind == kind && there.options == one.options => {
                let mut entry = self.claim(&one.name)?;
                entry.asker = Asker::Configuration;
                entry
            }
            // Known by its pins alone: its number stays, everything else is what the configuration says.
            Some(Entry { kind: Kind::Found, .. }) => {
                let mut entry = self.claim(&one.name)?;
                entry.kind = kind;
                entry.asker = Asker::Configuration;
                entry.options = one.options.clone();
                entry
            }
            _ => self.reserve(one.name.clone(), kind, Asker::Configuration, one.options.clone())?,
        };
        let mut failed = entry.clone();
        match self.designate(entry, &one.designation).await {
            Ok((entry, changed)) => {
                self.commit(entry);
                Ok(changed)
            }
            Err(e) => {
                failed.trouble = Some(crate::report::Chain(&e).to_string());
                self.trouble(Some(&one.name), &e);
                self.commit(failed);
                Err(e)
            }
        }
    }

    /// Tries configured tags again that could not be made.
    pub(super) async fn retry(&self) {
        let entries: Vec<Entry> = self.registry().slots.values().map(|s| s.entry.clone()).collect();
        let mut changed = false;
        for entry in entries.into_iter().filter(|e| e.trouble.is_some()) {
            let name = entry.name;
            if let Kind::Designated(designation) = &entry.kind {
                let Ok(claimed) = self.claim(&name) else { continue };
                match self.designate(claimed, designation).await {
                    Ok((entry, dropin)) => {
                        changed |= dropin;
                        self.commit(entry);
                    }
                    Err(_) => self.release(&name), // said when it failed first
                }
            }
            self.settle(&name);
        }
        if let Err(e) = self.reload_if(changed).await {
            self.trouble(None, &e);
        }
    }

    /// Locates, prepares the programs, writes the drop-in. The entry comes back ready to be settled; `true`: systemd
    /// must reload.
    async fn designate(
        &self,
        mut entry: Entry,
        designation: &Designation,
    ) -> Result<(Entry, bool), TagError> {
        let must_exist = entry.asker != Asker::Configuration;
        let located = self.locate(designation, must_exist).await?;
        self.check_place(&entry.name, &located.cgroup)?;
        entry.trouble = None;
        entry.notes = located.notes;
        entry.cgroup = Some(located.cgroup.clone());
        entry.unit = located.unit;
        self.save(&entry)?;
        let prepared = self.registry().attach.prepare(&entry.name, entry.number, &entry.options);
        prepared.map_err(TagError::Kernel)?;
        let mut changed = false;
        if let Some(unit) = entry.unit.as_ref().filter(|_| self.inner.settings.host == HostKind::Systemd) {
            let above = self.inner.own.is_within(&located.cgroup);
            let order = if above { dropin::Order::Free } else { dropin::Order::AfterAgent };
            let settings = &self.inner.settings;
            let text = dropin::compose(&entry.name, unit, &settings.bpf, &settings.program, order);
            changed = dropin::write(units(), &text)
                .map_err(|e| TagError::io(format!("the drop-in of {unit}"), e))?;
        }
        Ok((entry, changed))
    }

    async fn locate(&self, designation: &Designation, must_exist: bool) -> Result<Located, TagError> {
        let plain = self.inner.settings.host == HostKind::Plain;
        let mut notes = Vec::new();
        let located = match designation {
            Designation::Cgroup(text) => {
                // Named by its place in the file system or in the tree: the same cgroup.
                let path = self.inner.tree.named(text);
                let Designation::Cgroup(text) = Designation::cgroup(&path.0).map_err(TagError::Bad)? else {
                    return Err(TagError::NotFound(path.0));
                };
                let cgroup = CgroupPath(text);
                if must_exist && self.inner.tree.id(&cgroup).is_ok_and(|id| id.is_none()) {
                    return Err(TagError::NotFound(format!("the cgroup {cgroup}")));
                }
                Located { cgroup, unit: None, notes: Vec::new() }
            }
            other if plain => return Err(TagError::NeedsSystemd(other.to_string())),
            Designation::Unit(unit) => {
                let facts = self.systemd().await?.unit(unit).await.map_err(TagError::Systemd)?;
                match facts.load_state.as_str() {
                    "not-found" if must_exist => return Err(TagError::NotFound(unit.clone())),
                    "loaded" => {}
                    state => notes.push(format!("systemd says that {unit} is {state}")),
                }
                if unit == "sluice.service" {
                    let why = "it is the agent itself";
                    return Err(TagError::Unsuitable { what: unit.clone(), why });
                }
                Located { cgroup: facts.cgroup, unit: Some(unit.clone()), notes: Vec::new() }
            }
            Designation::Slice(slice) => {
                Located { cgroup: slice_cgroup(slice), unit: Some(slice.clone()), notes: Vec::new() }
            }
            Designation::User(user) => {
                let slice = dropin::unit_of(designation, dropin::uid_of);
                let slice = slice.ok_or_else(|| TagError::NotFound(format!("the user {user}")))?;
                Located { cgroup: slice_cgroup(&slice), unit: Some(slice), notes: Vec::new() }
            }
        };
        if self.inner.own.is_within(&located.cgroup) {
            notes.push(format!(
                "the agent itself runs in {}: its own connections are not taken",
                self.inner.own
            ));
        }
        Ok(Located { notes, ..located })
    }

    /// Whether a cgroup may be designated under this name.
    fn check_place(&self, name: &TagName, cgroup: &CgroupPath) -> Result<(), TagError> {
        let unsuitable = |why| Err(TagError::Unsuitable { what: format!("the cgroup {cgroup}"), why });
        if *cgroup == self.inner.own {
            return unsuitable("the agent runs in it");
        }
        if self.inner.is_ours(cgroup) {
            return unsuitable("it is the agent's own place for tags");
        }
        let registry = self.registry();
        let other = registry
            .slots
            .values()
            .find(|s| s.entry.cgroup.as_ref() == Some(cgroup) && s.entry.name != *name);
        match other {
            Some(slot) => Err(TagError::Taken { cgroup: cgroup.clone(), by: slot.entry.name.clone() }),
            None => Ok(()),
        }
    }

    /// Answers the check in a service's drop-in, asked by a process in the service's own cgroup before its first
    /// command: attaches to this very cgroup if that is not done yet.
    ///
    /// # Errors
    /// [`TagError::NotTaken`] and what the kernel refuses: the service must not start.
    pub fn taken(&self, name: &TagName, cgroup: &CgroupPath) -> Result<(), TagError> {
        let mut entry = self.claim(name)?;
        let unit = entry.unit.clone();
        let fits = entry.cgroup.as_ref().is_some_and(|c| cgroup.is_within(c));
        // A unit whose slice was changed has its cgroup elsewhere than we computed: believe the kernel.
        if !fits && matches!(entry.kind, Kind::Designated(Designation::Unit(_))) {
            let same =
                unit.is_some_and(|u| cgroup.name() == u || cgroup.name().strip_prefix('_') == Some(&u));
            if same {
                entry.cgroup = Some(cgroup.clone());
            }
        }
        let fits = entry.cgroup.as_ref().is_some_and(|c| cgroup.is_within(c));
        self.commit(entry);
        self.settle(name);
        let why = match self.entry(name) {
            _ if !fits => format!("{cgroup} is not its cgroup"),
            Some(Entry { attached: Some(_), trouble: None, .. }) => return Ok(()),
            Some(entry) => entry.trouble.unwrap_or_else(|| "its cgroup is not there".into()),
            None => "it has ended".into(),
        };
        Err(TagError::NotTaken { name: name.clone(), why })
    }

    pub(super) async fn remove_dropin(&self, unit: &str) -> Result<(), TagError> {
        if self.inner.settings.host == HostKind::Plain {
            return Ok(());
        }
        let removed =
            dropin::remove(units(), unit).map_err(|e| TagError::io(format!("the drop-in of {unit}"), e))?;
        self.reload_if(removed).await
    }

    pub(super) async fn reload_if(&self, changed: bool) -> Result<(), TagError> {
        if changed { self.systemd().await?.reload().await.map_err(TagError::Systemd) } else { Ok(()) }
    }

    /// Drop-ins of ours that no tag wants: what a daemon left that did not come back.
    pub(super) async fn remove_stray_dropins(&self) {
        if self.inner.settings.host == HostKind::Plain {
            return;
        }
        let wanted: BTreeSet<String> =
            self.registry().slots.values().filter_map(|s| s.entry.unit.clone()).collect();
        for unit in dropin::present(units()).into_iter().filter(|u| !wanted.contains(u)) {
            if let Err(e) = self.remove_dropin(&unit).await {
                self.trouble(None, &e);
            }
        }
    }
}

/// The tag's name where none is given: the unit without its suffix, the cgroup's last part, the user.
fn derived_name(designation: &Designation) -> Result<TagName, TagError> {
    let text = designation.target();
    let stem = match designation {
        Designation::Unit(_) | Designation::Slice(_) => text.rsplit_once('.').map_or(text, |(stem, _)| stem),
        Designation::Cgroup(_) => text.rsplit('/').next().unwrap_or(text),
        Designation::User(_) => text,
    };
    let fit = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(fit).take(64).collect();
    TagName::parse(name.trim_start_matches(['-', '.', '_'])).map_err(|_| {
        let what = format!("{text:?} gives no name for a tag");
        TagError::Bad(crate::config::BadDesignation { what, remedy: "give one with --name".into() })
    })
}
