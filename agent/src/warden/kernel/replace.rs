//! Programs of another release: how a tag's are told from ours, and how ours take their place while the tag's processes
//! go on connecting.
//!
//! A hook that both releases have changes hands in one step: each call of it runs the old program or the new one. A hook
//! that only ours has is attached, one that only the other had goes last. Between the steps old and new programs are at
//! work together; with maps of one [`agent_ebpf::ABI`] they understand each other, otherwise the connections that meet
//! both are refused. Every step can be the last before a crash: what is half done is told as not ours, and done again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::askers::Askers;
use super::cgroup::{self, CgroupId};
use super::link::{self, Fingerprint, Link, Object, ProgramId};
use super::pins::Pins;
use super::waiting::Waiting;
use super::{Error, Hook, Kernel, Tag};
use crate::types::TagName;

/// What this release's programs do.
pub struct Ours(Vec<(Hook, Fingerprint)>);

/// A tag's programs, as they are pinned.
pub type Programs = Vec<(Hook, Object)>;

impl Ours {
    pub fn new(programs: Vec<(Hook, Fingerprint)>) -> Self {
        Self(programs)
    }

    /// A tag's pinned programs, if every one is ours. `None` also when one cannot be opened: it is replaced then.
    fn pinned(&self, pins: &Pins, name: &TagName) -> Option<Vec<(Hook, ProgramId)>> {
        let one = |(hook, ours): &(Hook, Fingerprint)| {
            let object = Object::open(&pins.program(name, *hook)).ok()?;
            let (id, does) = link::program(object.as_fd()).ok()?;
            (does == *ours).then_some((*hook, id))
        };
        self.0.iter().map(one).collect()
    }

    /// Whether the programs that are pinned for a tag are ours.
    pub fn are_pinned(&self, pins: &Pins, name: &TagName) -> bool {
        self.pinned(pins, name).is_some()
    }

    /// Whether a tag's pinned programs are ours, and they and no others are at work on a cgroup.
    pub fn are_at_work(&self, pins: &Pins, name: &TagName, number: u32, cgroup: CgroupId) -> bool {
        let Some(pinned) = self.pinned(pins, name) else { return false };
        let at_work = |(hook, id): &(Hook, ProgramId)| {
            let link = Link::open(&pins.link(name, number, cgroup, *hook));
            link.and_then(|link| link.program()).is_ok_and(|program| program == *id)
        };
        pinned.iter().all(at_work) && pins.strays(name, number, cgroup).is_ok_and(|strays| strays.is_empty())
    }
}

/// Opens the programs that are pinned for a tag; those that are not there are left out.
pub fn pinned(pins: &Pins, name: &TagName) -> Programs {
    Hook::ALL
        .into_iter()
        .filter_map(|hook| Some((hook, Object::open(&pins.program(name, hook)).ok()?)))
        .collect()
}

/// Puts `programs` to work on a cgroup, in the places of those of the tag that are at work there. On failure what was at
/// work before still is, some of it replaced.
pub fn put_to_work(
    pins: &Pins,
    name: &TagName,
    number: u32,
    target: &cgroup::Opened,
    programs: &Programs,
) -> Result<(), Error> {
    let fresh = pins.make_links(name, number, target.id)?;
    let all = programs.iter().try_for_each(|(hook, program)| {
        let place = pins.link(name, number, target.id, *hook);
        let failed = |source| Error::Attach { program: hook.name(), source };
        if !update(&place, program.as_fd()).map_err(failed)? {
            let link =
                Link::create(program.as_fd(), target.dir.as_fd(), hook.attach_type()).map_err(failed)?;
            let beside = Pins::fresh(&place)?;
            link.pin(&beside).map_err(|source| Error::PinLink { path: beside, source })?;
            Pins::settle(&place)?;
        }
        Ok(())
    });
    match all {
        Ok(()) => pins.remove_strays(name, number, target.id),
        Err(error) => {
            if fresh {
                pins.remove_links(name, number, target.id)?;
            }
            Err(error)
        }
    }
}

/// Puts a program in the place of the one of a pinned link. `false`: there is no link that takes it, so that another must
/// be made and pinned over it.
fn update(place: &Path, program: BorrowedFd<'_>) -> io::Result<bool> {
    let link = match Link::open(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        link => link?,
    };
    if link.program()? == link::program(program)?.0 {
        return Ok(true);
    }
    match link.update(program) {
        // Another type of program under the same name; the cgroup that it was for is gone.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOLINK)) => Ok(false),
        updated => updated.map(|()| true),
    }
}

/// Takes the programs of another release off a cgroup to which systemd attached them when it made it (`BPFProgram=`).
/// Ours must be at work there already.
pub fn take_off(old: &Programs, target: &cgroup::Opened) -> Result<(), Error> {
    for (hook, program) in old.iter().filter(|(hook, _)| hook.systemd_type().is_some()) {
        let failed = |source| Error::Attach { program: hook.name(), source };
        link::detach(program.as_fd(), target.dir.as_fd(), hook.attach_type()).map_err(failed)?;
    }
    Ok(())
}

impl Kernel {
    /// A tag that an earlier daemon left.
    pub(super) fn found(&self, name: &TagName, number: u32, stale: bool) -> Result<Tag, Error> {
        let waiting = Waiting::from_pin(&self.pins.own_map(name, "WAITING"))?;
        let askers = Askers::from_pin(&self.pins.own_map(name, "ASKERS"))?;
        let older = Waiting::older(&self.pins, name)?;
        Ok(Tag { number, waiting, older, replaced: Vec::new(), stale, askers, instance: None })
    }

    /// Whether a tag has our programs, and they and no others are at work on these cgroups.
    pub(super) fn at_work(&self, name: &TagName, number: u32, cgroups: &[CgroupId]) -> bool {
        self.ours.are_pinned(&self.pins, name)
            && cgroups.iter().all(|id| self.ours.are_at_work(&self.pins, name, number, *id))
    }

    /// Puts our programs in the place of another release's wherever a tag is at work, and pins them. Gives those that were
    /// pinned before.
    pub(super) fn replace(&self, name: &TagName, number: u32, ours: &Programs) -> Result<Programs, Error> {
        let old = pinned(&self.pins, name);
        for target in self.linked(name, number)? {
            put_to_work(&self.pins, name, number, &target, ours)?;
            take_off(&old, &target)?;
        }
        for (hook, program) in ours {
            let place = self.pins.program(name, *hook);
            let beside = Pins::fresh(&place)?;
            program.pin(&beside).map_err(|source| Error::PinLink { path: beside, source })?;
            Pins::settle(&place)?;
        }
        Ok(old)
    }

    /// Puts a tag's pinned programs to work on a cgroup, and only there.
    pub(super) fn put_to_work(
        &mut self,
        name: &TagName,
        number: u32,
        target: &cgroup::Opened,
    ) -> Result<(), Error> {
        put_to_work(&self.pins, name, number, target, &pinned(&self.pins, name))?;
        // A unit's cgroup is a new one after each restart: what is pinned for dead ones goes.
        self.places.insert(target.id, target.path.clone());
        self.remove_dead(name, number)?;
        if let Some(tag) = self.tags.get_mut(name) {
            take_off(&std::mem::take(&mut tag.replaced), target)?;
        }
        Ok(())
    }

    /// Removes a tag's links to cgroups that are gone. The whole tree is looked through only when one is not where it was.
    fn remove_dead(&mut self, name: &TagName, number: u32) -> Result<(), Error> {
        let mut missing = self.pins.cgroups(name, number)?;
        missing.retain(|id| !self.places.get(id).is_some_and(|path| cgroup::is_at(*id, path)));
        if missing.is_empty() {
            return Ok(());
        }
        let alive = cgroup::all()?;
        self.places.retain(|id, _| alive.contains_key(id));
        for id in missing {
            match alive.get(&id) {
                Some(path) => drop(self.places.insert(id, path.clone())),
                None => self.pins.remove_links(name, number, id)?,
            }
        }
        Ok(())
    }

    /// The cgroups on which a tag is at work. Links to those that are gone go.
    fn linked(&self, name: &TagName, number: u32) -> Result<Vec<cgroup::Opened>, Error> {
        let ids = self.pins.cgroups(name, number)?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let alive = cgroup::all()?;
        let mut linked = Vec::new();
        for id in ids {
            // Opened by its path, which may be another's by now: its number tells.
            let opened = alive.get(&id).and_then(|path| cgroup::open(path, CgroupId(0)).ok());
            match opened.filter(|opened| opened.id == id) {
                Some(opened) => linked.push(opened),
                None => self.pins.remove_links(name, number, id)?,
            }
        }
        Ok(linked)
    }

    /// Lets go of the maps that programs of another ABI filled, as soon as all tags have ours and nothing is in them that
    /// somebody could still ask for.
    ///
    /// # Errors
    /// A map cannot be read or a pin not removed.
    pub(super) fn forget_older(&mut self) -> Result<(), Error> {
        if self.pins.older_maps()?.is_empty() || self.tags.values().any(|tag| tag.stale) {
            return Ok(());
        }
        for (name, tag) in &mut self.tags {
            for waiting in &tag.older {
                if waiting.len()? > 0 {
                    return Ok(());
                }
            }
            tag.older.clear();
            self.pins.remove_older(name)?;
        }
        self.pins.remove_older_maps()
    }
}
