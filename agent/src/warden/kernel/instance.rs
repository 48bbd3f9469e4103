//! The object, loaded once for each tag.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use agent_ebpf::{Config, Settings};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};

use super::askers::Askers;
use super::events::Events;
use super::hook::{Hook, Layer, LayerState};
use super::link::Link;
use super::pins::Pins;
use super::rules;
use super::waiting::Waiting;
use super::{Error, TagOptions};
use crate::config::Loopback;
use crate::types::TagName;

/// The compiled programs; `cargo xtask ebpf` makes them, `cargo xtask ebpf --check` proves that they are these.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../agent-ebpf/sluice.bpf.o");

/// Maps that all tags share.
const SHARED: [&str; 7] = ["CONFIG", "COUNTERS", "EVENTS", "NAMESPACES", "ORIGINS", "ASKED", "BORN"];

/// Maps that one tag has to itself and that outlive the warden.
const OWN: [&str; 4] = ["WAITING", "SETTINGS", "ASKERS", "UDP_RULES"];

/// What all tags share.
pub struct Shared {
    pub config: Array<MapData, Config>,
    pub counters: PerCpuArray<MapData, u64>,
    pub namespaces: HashMap<MapData, u64, u32>,
    pub events: Events,
    pub layers: Vec<Layer>,
}

/// Programs that serve one tag. Dropping it leaves pinned programs and links as they are.
pub struct Instance {
    object: Ebpf,
    settings: Array<MapData, Settings>,
    rules: rules::Table,
    /// Those that this kernel has.
    hooks: Vec<Hook>,
}

/// Loads the object. Made once: aya reads the kernel's own types each time that a loader is made, though none of them is
/// needed here.
pub struct Loader {
    loader: EbpfLoader<'static>,
    /// Those that this kernel has; all until [`Loader::shared`] knows better.
    hooks: Vec<Hook>,
}

impl Loader {
    pub fn new(pins: &Pins, waiting_entries: Option<u32>) -> Self {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for map in SHARED {
            loader.map_pin_path(map, pins.map(map));
        }
        if let Some(entries) = waiting_entries {
            loader.map_max_entries("WAITING", entries);
        }
        Self { loader, hooks: Hook::ALL.to_vec() }
    }

    /// A loader that shares nothing with others but the marks of sockets.
    pub fn unpinned(pins: &Pins) -> Self {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        loader.map_pin_path("BORN", pins.map("BORN"));
        Self { loader, hooks: Hook::ALL.to_vec() }
    }

    /// Programs with all maps to themselves.
    pub fn alone(&mut self, number: u32, options: &TagOptions) -> Result<(Shared, Instance), Error> {
        let mut object = self.loader.load(OBJECT).map_err(Error::Load)?;
        let shared = self.verified(&mut object)?;
        let settings = take(&mut object, "SETTINGS")?;
        let rules = take(&mut object, "UDP_RULES")?;
        let mut instance = Instance { object, settings, rules, hooks: self.hooks.clone() };
        instance.set(number, options)?;
        Ok((shared, instance))
    }

    /// Opens or makes the shared maps, and has the kernel verify every program.
    pub fn shared(&mut self) -> Result<Shared, Error> {
        let mut object = self.loader.load(OBJECT).map_err(Error::Load)?;
        self.verified(&mut object)
    }

    fn verified(&mut self, object: &mut Ebpf) -> Result<Shared, Error> {
        let mut layers = Vec::with_capacity(Hook::ALL.len());
        for hook in Hook::ALL {
            let state = match load_program(object, hook) {
                Err(Error::Program { source, .. }) if hook.is_optional() => {
                    self.hooks.retain(|other| *other != hook);
                    LayerState::Absent(source.to_string())
                }
                loaded => loaded.map(|()| LayerState::Loaded)?,
            };
            layers.push(Layer { name: hook.name(), purpose: hook.purpose(), state });
        }
        let config = take(object, "CONFIG")?;
        let counters = take(object, "COUNTERS")?;
        let namespaces = take(object, "NAMESPACES")?;
        let events = Events::new(take::<RingBuf<MapData>>(object, "EVENTS")?);
        Ok(Shared { config, counters, namespaces, events, layers })
    }

    /// Loads the programs for one tag. Its maps are opened where they are pinned, made and pinned where not.
    pub fn load(
        &mut self,
        pins: &Pins,
        name: &TagName,
        number: u32,
        options: &TagOptions,
    ) -> Result<Instance, Error> {
        for map in OWN {
            self.loader.map_pin_path(map, pins.own_map(name, map));
        }
        let mut object = self.loader.load(OBJECT).map_err(Error::Load)?;
        let settings = take(&mut object, "SETTINGS")?;
        let rules = take(&mut object, "UDP_RULES")?;
        let mut instance = Instance { object, settings, rules, hooks: self.hooks.clone() };
        instance.set(number, options)?;
        for hook in &self.hooks {
            load_program(&mut instance.object, *hook)?;
        }
        Ok(instance)
    }
}

/// A map of the object, as the type that it is.
pub fn take<M: TryFrom<Map, Error = aya::maps::MapError>>(
    object: &mut Ebpf,
    map: &'static str,
) -> Result<M, Error> {
    object.take_map(map).ok_or(Error::Missing(map))?.try_into().map_err(|source| Error::Map { map, source })
}

fn load_program(object: &mut Ebpf, hook: Hook) -> Result<(), Error> {
    let program = hook.name();
    let loaded: Result<(), ProgramError> = match find(object, hook)? {
        Program::CgroupSockAddr(p) => p.load(),
        Program::CgroupSock(p) => p.load(),
        Program::CgroupSkb(p) => p.load(),
        Program::SockOps(p) => p.load(),
        Program::CgroupSockopt(p) => p.load(),
        _ => return Err(Error::Missing(program)),
    };
    loaded.map_err(|source| Error::Program { program, source })
}

fn find(object: &mut Ebpf, hook: Hook) -> Result<&mut Program, Error> {
    object.program_mut(hook.name()).ok_or(Error::Missing(hook.name()))
}

fn flags(options: &TagOptions) -> u32 {
    let loopback = match options.loopback {
        Loopback::Pass => 0,
        Loopback::Take => Settings::TAKE_LOOPBACK,
        Loopback::Deny => Settings::DENY_LOOPBACK,
    };
    let of = |set: bool, flag: u32| if set { flag } else { 0 };
    loopback
        | of(options.metadata, Settings::METADATA)
        | of(options.inbound, Settings::INBOUND)
        | of(!options.mptcp, Settings::NO_MPTCP)
}

impl Instance {
    /// Settings for all programs of the tag, from the next connect() on; those that an earlier daemon attached too.
    pub fn set(&mut self, number: u32, options: &TagOptions) -> Result<(), Error> {
        rules::set(&mut self.rules, &options.udp)?;
        let settings = Settings { tag: number, flags: flags(options) };
        self.settings.set(0, settings, 0).map_err(|source| Error::Map { map: "SETTINGS", source })
    }

    /// The tag's map of connections that nobody asked for.
    pub fn waiting(&mut self) -> Result<Waiting, Error> {
        Ok(Waiting::new(take(&mut self.object, "WAITING")?))
    }

    /// The tag's map of who asked the resolver.
    pub fn askers(&mut self) -> Result<Askers, Error> {
        Ok(Askers::new(take(&mut self.object, "ASKERS")?))
    }

    /// Pins the programs, over those that are there.
    pub fn pin_programs(&mut self, pins: &Pins, name: &TagName) -> Result<(), Error> {
        for hook in self.hooks.clone() {
            let place = pins.program(name, hook);
            let fresh: PathBuf = Pins::fresh(&place)?;
            let pinned = find(&mut self.object, hook)?.pin(&fresh);
            pinned.map_err(|source| Error::Pin { path: fresh, source })?;
            Pins::settle(&place)?;
        }
        Ok(())
    }

    /// Attaches every program to a cgroup, beside what others have attached there. On failure those that were attached
    /// are detached when this returns.
    pub fn attach(&mut self, cgroup: BorrowedFd<'_>) -> Result<Vec<(Hook, Link)>, Error> {
        self.hooks
            .clone()
            .into_iter()
            .map(|hook| {
                let program = hook.name();
                let fd = find(&mut self.object, hook)?
                    .fd()
                    .map_err(|source| Error::Program { program, source })?;
                let link = Link::create(fd.as_fd(), cgroup, hook.attach_type());
                Ok((hook, link.map_err(|source| Error::Attach { program, source })?))
            })
            .collect()
    }
}
