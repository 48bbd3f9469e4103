//! The LSM layer's place in the kernel part: what is attached to a tag is under its rules too, where there is one.

use std::collections::BTreeMap;
use std::path::Path;

use super::lsm::{Absent, Lsm, UnixRule};
use super::{CgroupId, Error, Kernel, Layer, LayerState, TagName, cgroup, mount_point};
use crate::report::Chain;

/// How far a cgroup's directory lies below the root of the hierarchy.
fn depth(cgroup: &Path) -> Result<usize, Error> {
    let root = mount_point()?;
    Ok(cgroup.strip_prefix(&root).map_or(usize::MAX, |below| below.components().count()))
}

impl Kernel {
    /// Puts the LSM layer to work, in place of an earlier warden's; `denied` are the Unix sockets that no tag may talk
    /// to. Called again, it replaces that list. Everything works without it, less what only it can close: the reason
    /// stands in [`Kernel::layers`].
    ///
    /// # Errors
    /// This kernel cannot, or not as it was started.
    pub fn guard(&mut self, denied: &[UnixRule]) -> Result<(), Absent> {
        if let Some(lsm) = &mut self.lsm {
            return Ok(lsm.deny(denied)?);
        }
        self.layers.retain(|layer| !layer.name.starts_with("lsm"));
        match Lsm::open(&self.pins, denied) {
            Ok(lsm) => {
                self.layers.extend(lsm.hooks().iter().map(|(hook, state)| Layer {
                    name: hook.layer(),
                    purpose: hook.purpose(),
                    state: state.clone().map_or_else(LayerState::Absent, |()| LayerState::Loaded),
                }));
                self.lsm = Some(lsm);
                self.exempt_agent()?;
                Ok(())
            }
            Err(absent) => {
                let state = LayerState::Absent(Chain(&absent).to_string());
                let purpose = "sockets from elsewhere, other families, helpers outside of the tag, ptrace";
                self.layers.push(Layer { name: "lsm", purpose, state });
                Err(absent)
            }
        }
    }

    /// The LSM layer, where there is one.
    pub fn lsm(&self) -> Option<&Lsm> {
        self.lsm.as_ref()
    }

    /// Whether the tasks of a cgroup that was attached are under the LSM's rules.
    pub fn is_guarded(&self, cgroup: CgroupId) -> bool {
        self.lsm.as_ref().is_some_and(|lsm| lsm.tagged().contains_key(&cgroup))
    }

    /// The agent's own tasks are left alone, even if its cgroup lies inside a tag.
    pub(super) fn exempt_agent(&mut self) -> Result<(), Error> {
        let agent = CgroupId(self.agent_cgroup);
        let Some(lsm) = self.lsm.as_mut().filter(|_| agent.0 != 0) else { return Ok(()) };
        match cgroup::all()?.get(&agent) {
            Some(path) => lsm.exempt(agent, depth(path)?),
            None => Ok(()),
        }
    }

    /// Puts one cgroup under the rules. Without room or too deep it is left to the cgroup programs, which is told.
    pub(super) fn guard_cgroup(&mut self, id: CgroupId, path: &Path, number: u32) {
        let Some(lsm) = &mut self.lsm else { return };
        let tagged = depth(path).and_then(|depth| lsm.tag(id, depth, number));
        if let Err(error) = tagged {
            tracing::warn!(cgroup = %path.display(), "the LSM does not know this cgroup's tag: {}", Chain(&error));
        }
    }

    /// Puts all that is attached under the rules, and nothing else.
    pub(super) fn guard_only(
        &mut self,
        attached: &BTreeMap<CgroupId, (u32, std::path::PathBuf)>,
    ) -> Result<(), Error> {
        for (id, (number, path)) in attached {
            self.guard_cgroup(*id, path, *number);
        }
        let agent = CgroupId(self.agent_cgroup);
        self.lsm.as_mut().map_or(Ok(()), |lsm| lsm.retain(|id, _| id == agent || attached.contains_key(&id)))
    }

    /// Takes one cgroup out of the rules.
    pub(super) fn unguard_cgroup(&mut self, id: CgroupId) -> Result<(), Error> {
        self.lsm.as_mut().map_or(Ok(()), |lsm| lsm.untag(id))
    }

    /// Puts the self-test's cgroup under the rules, as a tag that no tag is. Tells whether it is.
    pub fn guard_trial(&mut self, id: CgroupId, path: &Path) -> bool {
        self.guard_cgroup(id, path, super::TRIAL_NUMBER);
        self.is_guarded(id)
    }

    /// Takes the self-test's cgroup out of the rules. Tells whether it was under them.
    pub fn unguard_trial(&mut self, id: CgroupId) -> bool {
        let was = self.is_guarded(id);
        if let Err(error) = self.unguard_cgroup(id) {
            tracing::warn!("the LSM keeps the self-test's cgroup: {}", Chain(&error));
        }
        was
    }

    /// Takes a tag out of the rules.
    pub(super) fn unguard_tag(&mut self, name: &TagName) -> Result<(), Error> {
        let Some(number) = self.tags.get(name).map(|tag| tag.number) else { return Ok(()) };
        self.lsm.as_mut().map_or(Ok(()), |lsm| lsm.retain(|_, tagged| tagged != number))
    }
}
