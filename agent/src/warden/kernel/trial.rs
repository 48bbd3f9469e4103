//! The tag programs on one throw-away cgroup, with maps of their own that nobody else reads: for the self-test. Nothing is
//! pinned, so all of it is gone when this is dropped, or when the process dies. Only `BORN`, in which sockets are marked, is
//! the one that the LSM programs look into.

use std::os::fd::AsFd as _;
use std::path::Path;

use agent_ebpf::{Config, Counter};

use super::hook::Hook;
use super::instance::{Loader, Shared};
use super::link::{Link, Object};

use super::pins::Pins;
use super::{CgroupId, Error, TagOptions, cgroup};

/// The number of the trial's tag, which no tag bears.
pub const NUMBER: u32 = u32::MAX;

/// Programs at work on a cgroup. Dropping it takes them off.
pub struct Trial {
    shared: Shared,
    _links: Vec<Link>,
}

impl Trial {
    /// Puts fresh programs on `cgroup`; its connections are led where `config` says, in the network namespace with the
    /// cookie `netns`. `bpf_dir` is where the daemon's own maps are pinned.
    ///
    /// # Errors
    /// As for a tag.
    pub fn on(cgroup: &Path, bpf_dir: &Path, config: Config, netns: u64) -> Result<Self, Error> {
        let target = cgroup::open(cgroup, CgroupId(0))?;
        let mut loader = Loader::unpinned(&Pins::open(bpf_dir)?);
        let (mut shared, programs) = loader.alone(NUMBER, &TagOptions::default())?;
        shared.config.set(0, config, 0).map_err(|source| Error::Map { map: "CONFIG", source })?;
        shared.namespaces.insert(netns, 1, 0).map_err(|source| Error::Map { map: "NAMESPACES", source })?;
        let link = |(hook, program): (Hook, Object)| {
            let link = Link::create(program.as_fd(), target.dir.as_fd(), hook.attach_type());
            link.map_err(|source| Error::Attach { program: hook.name(), source })
        };
        let links = programs.into_iter().map(link).collect::<Result<_, _>>()?;
        Ok(Self { shared, _links: links })
    }

    /// How often each thing has happened.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counts(&self) -> Result<Vec<(Counter, u64)>, Error> {
        let count = |counter: &Counter| {
            let slots = self.shared.counters.get(&(*counter as u32), 0);
            let slots = slots.map_err(|source| Error::Map { map: "COUNTERS", source })?;
            Ok((*counter, slots.iter().sum()))
        };
        Counter::ALL.iter().map(count).collect()
    }
}
