//! The kernel side as the warden sees it: programs on tags' cgroups, and the question whose connection this is.
//!
//! Everything lives in bpffs below one directory, so that it outlives the warden:
//!
//! ```text
//! BPF_DIR/maps_v2/{CONFIG,COUNTERS,EVENTS,NAMESPACES,ORIGINS,ASKED,BORN}   shared by all tags, and with the LSM
//! BPF_DIR/lsm/…                                          the host's LSM programs, see [`lsm`]
//! BPF_DIR/tags/NAME/{WAITING,SETTINGS,ASKERS,UDP_RULES}_v2    the tag's connections that nobody asked for yet; its
//!                                                        options; who asked the resolver; where datagrams may go
//! BPF_DIR/tags/NAME/prog_connect4 …                      the programs, for systemd's BPFProgram=
//! BPF_DIR/tags/NAME/NUMBER/CGROUP_ID/link_connect4 …     one directory for each cgroup that bears the tag
//! ```
//!
//! bpffs takes no `.` in a name: a tag's `.` becomes `+`. `v2` is [`agent_ebpf::ABI`].
//! Not here: which cgroups bear which tag, and what a caller is called. That is the tags' and the callers' part.

mod ask;
mod askers;
mod cgroup;
mod error;
mod events;
#[cfg(test)]
mod floor;
mod guard;
mod hook;
mod instance;
mod link;
mod lsm;
mod pins;
mod replace;
mod rules;
mod table;
mod trial;
mod waiting;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agent_ebpf::Config;
use aya::maps::{Array, HashMap, MapData, PerCpuArray};

use self::askers::Askers;
use self::events::Events;
use self::instance::{Instance, Loaded, Loader, Shared};
use self::pins::Pins;
use self::replace::{Ours, Programs};
use self::waiting::Waiting;
use crate::types::TagName;

pub use self::cgroup::{CgroupId, mount_point};
pub use self::error::Error;
pub use self::events::{address, way};
pub use self::hook::{Hook, Layer, LayerState};
pub use self::lsm::{Absent, Lsm, LsmHook, UnixRule, purge as purge_lsm};
pub use self::trial::{NUMBER as TRIAL_NUMBER, Trial};
pub use self::waiting::boot_time;
/// How a tag's programs work.
pub use crate::config::Options as TagOptions;

/// A tag that an earlier daemon left in the kernel, still at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Its name.
    pub name: TagName,
    /// Its number, as its programs write it into [`agent_ebpf::Origin::tag`].
    pub number: u32,
    /// Cgroups that it is attached to and that still exist.
    pub cgroups: Vec<PathBuf>,
    /// Its programs are another release's, or a crash left some of them out: [`Kernel::attach`] puts ours in their place.
    /// Until then they do what they did.
    pub stale: bool,
}

/// What tests have otherwise than the daemon.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// Entries of each tag's `WAITING`; `None`: as compiled.
    pub waiting: Option<u32>,
    /// The programs of another release with the same [`agent_ebpf::ABI`]; `None`: ours.
    pub object: Option<&'static [u8]>,
}

struct Tag {
    number: u32,
    waiting: Option<Waiting>,
    /// What programs of another release wrote, as long as there is something in it.
    older: Vec<Waiting>,
    /// The programs that were pinned before ours, until those are at work: systemd attached them, too.
    replaced: Programs,
    /// See [`Adopted::stale`].
    stale: bool,
    askers: Option<Askers>,
    /// `None` until this process has loaded programs of its own for the tag.
    instance: Option<Instance>,
}

/// The kernel part. Dropping it changes nothing in the kernel.
pub struct Kernel {
    pins: Pins,
    loader: Loader,
    config: Array<MapData, Config>,
    counters: PerCpuArray<MapData, u64>,
    agent_cgroup: u64,
    namespaces: HashMap<MapData, u64, u32>,
    tags: BTreeMap<TagName, Tag>,
    /// Where attached cgroups were seen last.
    places: BTreeMap<CgroupId, PathBuf>,
    events: Events,
    layers: Vec<Layer>,
    /// `None` until [`Kernel::guard`], and where this kernel cannot.
    lsm: Option<Lsm>,
    ours: Ours,
}

/// Where systemd finds the programs of a tag that it can attach itself (`BPFProgram=type:path`): type and path, whether
/// they are pinned already or not.
pub fn systemd_programs(bpf_dir: &Path, name: &TagName) -> impl Iterator<Item = (&'static str, PathBuf)> {
    Hook::ALL
        .into_iter()
        .filter_map(move |hook| Some((hook.systemd_type()?, pins::program_path(bpf_dir, name, hook))))
}

impl Kernel {
    /// Opens what is pinned below `bpf_dir`, making it where it is missing, and loads every program once, so that a
    /// kernel that refuses one is found out at the start. Mounts bpffs on the parent of `bpf_dir` if it is not there.
    ///
    /// # Errors
    /// No bpffs, no right to load, or a kernel older than 5.15.
    pub fn open(bpf_dir: &Path, config: Config) -> Result<Self, Error> {
        Self::open_sized(bpf_dir, config, Sizes::default())
    }

    /// As [`Kernel::open`], with a test's wishes.
    ///
    /// # Errors
    /// As [`Kernel::open`].
    pub fn open_sized(bpf_dir: &Path, config: Config, sizes: Sizes) -> Result<Self, Error> {
        let pins = Pins::open(bpf_dir)?;
        let mut loader = Loader::new(&pins, sizes);
        let Shared { config: map, counters, namespaces, events, layers, ours } = loader.shared()?;
        let mut kernel = Self {
            pins,
            loader,
            config: map,
            counters,
            agent_cgroup: 0,
            namespaces,
            tags: BTreeMap::new(),
            places: BTreeMap::new(),
            events,
            layers,
            lsm: None,
            ours,
        };
        kernel.configure(config)?;
        Ok(kernel)
    }

    /// Says where connections are led to, from the next connect() on.
    ///
    /// An `agent_cgroup` that is the root is taken for none: an agent in the root cgroup is in no tag, and everybody is
    /// below the root.
    ///
    /// # Errors
    /// The map refuses.
    pub fn configure(&mut self, mut config: Config) -> Result<(), Error> {
        if config.agent_cgroup == CgroupId::ROOT.0 {
            config.agent_cgroup = 0;
        }
        self.config.set(0, config, 0).map_err(|source| Error::Map { map: "CONFIG", source })?;
        self.agent_cgroup = config.agent_cgroup;
        self.exempt_agent()
    }

    /// Loads and pins a tag's programs without attaching them, for a cgroup that does not exist yet: what systemd's
    /// `BPFProgram=TYPE:PATH` names. Returns those of them that systemd can attach, with its word for the type.
    ///
    /// # Errors
    /// Loading or pinning fails, or the number does not fit.
    pub fn prepare(
        &mut self,
        name: &TagName,
        number: u32,
        options: &TagOptions,
    ) -> Result<Vec<(&'static str, PathBuf)>, Error> {
        self.or_nothing(name, |kernel| kernel.instance(name, number, options).map(drop))?;
        Ok(Hook::ALL
            .iter()
            .filter_map(|hook| Some((hook.systemd_type()?, self.pins.program(name, *hook))))
            .collect())
    }

    /// Puts a cgroup, and all that are or will be below it, under a tag. Links are pinned: they outlive this process. On a
    /// cgroup that bears the tag already, programs of another release give their places to ours ([`replace`]). Links to
    /// cgroups that are gone go.
    ///
    /// Other options than before count for the whole tag from now on. Nothing stays behind on failure but what was there
    /// before.
    ///
    /// # Errors
    /// The root cgroup, the agent's own, no cgroup at all; a number that does not fit; the kernel refuses.
    pub fn attach(
        &mut self,
        name: &TagName,
        number: u32,
        cgroup: &Path,
        options: &TagOptions,
    ) -> Result<(), Error> {
        let target = cgroup::open(cgroup, CgroupId(self.agent_cgroup))?;
        self.or_nothing(name, |kernel| {
            kernel.instance(name, number, options)?;
            kernel.put_to_work(name, number, &target)?;
            kernel.guard_cgroup(target.id, &target.path, number);
            Ok(())
        })
    }

    /// Does `work` on a tag; if it fails and the tag was not there before, nothing of it is there after.
    fn or_nothing<T>(
        &mut self,
        name: &TagName,
        work: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let existed = self.pins.tag(name).exists();
        let done = work(self);
        if done.is_err() && !existed {
            self.tags.remove(name);
            self.pins.remove_tag(name)?;
        }
        done
    }

    /// The programs of a tag, loaded by this process, with the options asked for.
    fn instance(
        &mut self,
        name: &TagName,
        number: u32,
        options: &TagOptions,
    ) -> Result<&mut Instance, Error> {
        if let Some((other, _)) = self.tags.iter().find(|(n, t)| t.number == number && *n != name) {
            return Err(Error::Number { name: name.clone(), number, other: format!("it is {other}'s") });
        }
        if let Some(tag) = self.tags.get(name)
            && tag.number != number
        {
            let other = format!("{name} bears {}", tag.number);
            return Err(Error::Number { name: name.clone(), number, other });
        }
        if self.tags.get(name).is_none_or(|tag| tag.instance.is_none()) {
            self.pins.make_tag(name, number)?;
            let pinned = self.ours.are_pinned(&self.pins, name);
            let loaded = self.loader.load(&self.pins, name, number, options, pinned)?;
            let Loaded { instance, waiting, askers, programs } = loaded;
            let replaced = programs.map_or(Ok(Vec::new()), |ours| self.replace(name, number, &ours))?;
            let older = Waiting::older(&self.pins, name)?;
            let (waiting, askers, instance) = (Some(waiting), Some(askers), Some(instance));
            let tag = Tag { number, waiting, older, replaced, stale: false, askers, instance };
            self.tags.insert(name.clone(), tag);
        }
        let loaded = self.tags.get_mut(name).and_then(|tag| tag.instance.as_mut());
        let instance = loaded.ok_or_else(|| Error::NoSuchTag(name.clone()))?;
        instance.set(number, options)?;
        Ok(instance)
    }

    /// Takes over the tags of an earlier daemon: their connections can be looked up from now on. Pins of cgroups that
    /// are gone, and what a crash left half-made, are removed; tags without a cgroup stay, since a unit's tag waits for
    /// the unit's next start.
    ///
    /// # Errors
    /// bpffs or the cgroup tree cannot be read.
    pub fn adopt(&mut self) -> Result<Vec<Adopted>, Error> {
        let alive = cgroup::all()?;
        let (mut adopted, mut attached) = (Vec::new(), BTreeMap::new());
        for found in self.pins.tags()? {
            let Some(number) = found.number else {
                self.pins.remove_tag(&found.name)?; // Died before its first cgroup: it took nothing.
                continue;
            };
            let (mut cgroups, mut at) = (Vec::new(), Vec::new());
            for id in found.cgroups {
                match alive.get(&id) {
                    Some(path) => {
                        cgroups.push(path.clone());
                        attached.insert(id, (number, path.clone()));
                        at.push(id);
                    }
                    None => self.pins.remove_links(&found.name, number, id)?,
                }
            }
            let known = self.tags.get(&found.name).map(|tag| tag.stale);
            let stale = known.unwrap_or_else(|| !self.at_work(&found.name, number, &at));
            if known.is_none() {
                let tag = self.found(&found.name, number, stale)?;
                self.tags.insert(found.name.clone(), tag);
            }
            adopted.push(Adopted { name: found.name, number, cgroups, stale });
        }
        self.guard_only(&attached)?;
        Ok(adopted)
    }

    /// Takes one cgroup out of a tag. The tag stays.
    ///
    /// # Errors
    /// The cgroup is none, or its pins cannot be removed.
    pub fn detach_cgroup(&mut self, name: &TagName, cgroup: &Path) -> Result<(), Error> {
        let number = self.tags.get(name).ok_or_else(|| Error::NoSuchTag(name.clone()))?.number;
        let target = cgroup::open(cgroup, CgroupId(0))?;
        self.pins.remove_links(name, number, target.id)?;
        self.unguard_cgroup(target.id)
    }

    /// Takes a tag out of the kernel: its links first, then its programs and its map. Connections of it that wait to be
    /// accepted will be closed as unknown. Does nothing for a tag that is not there.
    ///
    /// # Errors
    /// Pins cannot be removed.
    pub fn detach(&mut self, name: &TagName) -> Result<(), Error> {
        self.pins.remove_tag(name)?;
        self.unguard_tag(name)?;
        self.tags.remove(name);
        Ok(())
    }

    /// What the kernel knows under which number.
    pub fn numbers(&self) -> impl Iterator<Item = (&TagName, u32)> {
        self.tags.iter().map(|(name, tag)| (name, tag.number))
    }
}
