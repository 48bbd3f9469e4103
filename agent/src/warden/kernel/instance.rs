//! The object, loaded once for each tag.

use std::os::fd::AsFd;

use agent_ebpf::{Config, Settings};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};

use super::askers::Askers;
use super::events::Events;
use super::hook::{Hook, Layer, LayerState};
use super::link::{self, Object};
use super::pins::Pins;
use super::replace::{Ours, Programs};
use super::rules;
use super::waiting::Waiting;
use super::{Error, Sizes, TagOptions};
use crate::config::Loopback;
use crate::types::TagName;

/// The compiled programs; `cargo xtask ebpf` makes them, `cargo xtask ebpf --check` proves that they are these.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../agent-ebpf/sluice.bpf.o");

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
    /// What our programs are known by, those that this kernel has.
    pub ours: Ours,
}

/// What this process holds of one tag's programs: their maps. The programs themselves are pinned.
pub struct Instance {
    settings: Array<MapData, Settings>,
    rules: rules::Table,
}

/// One tag's maps, and the programs that work on them.
pub struct Loaded {
    pub instance: Instance,
    pub waiting: Waiting,
    pub askers: Askers,
    /// `None`: those that are pinned.
    pub programs: Option<Programs>,
}

/// Loads the object. Made once: aya reads the kernel's own types each time that a loader is made, though none of them is
/// needed here.
pub struct Loader {
    loader: EbpfLoader<'static>,
    object: &'static [u8],
    /// Those that this kernel has; all until [`Loader::shared`] knows better.
    hooks: Vec<Hook>,
}

impl Loader {
    pub fn new(pins: &Pins, sizes: Sizes) -> Self {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for map in SHARED {
            loader.map_pin_path(map, pins.map(map));
        }
        if let Some(entries) = sizes.waiting {
            loader.map_max_entries("WAITING", entries);
        }
        Self { loader, object: sizes.object.unwrap_or(OBJECT), hooks: Hook::ALL.to_vec() }
    }

    /// A loader that shares nothing with others but the marks of sockets.
    pub fn unpinned(pins: &Pins) -> Self {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        loader.map_pin_path("BORN", pins.map("BORN"));
        Self { loader, object: OBJECT, hooks: Hook::ALL.to_vec() }
    }

    /// Programs with all maps to themselves.
    pub fn alone(&mut self, number: u32, options: &TagOptions) -> Result<(Shared, Programs), Error> {
        let mut object = self.loader.load(self.object).map_err(Error::Load)?;
        let shared = self.verified(&mut object)?;
        let (settings, rules) = (take(&mut object, "SETTINGS")?, take(&mut object, "UDP_RULES")?);
        // The programs hold the maps: what is set stays when this handle goes.
        Instance { settings, rules }.set(number, options)?;
        Ok((shared, programs(&mut object, &self.hooks)?))
    }

    /// Opens or makes the shared maps, and has the kernel verify every program.
    pub fn shared(&mut self) -> Result<Shared, Error> {
        let mut object = self.loader.load(self.object).map_err(Error::Load)?;
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
        let known = programs(object, &self.hooks)?.into_iter().map(|(hook, program)| {
            let by = link::program(program.as_fd());
            Ok((hook, by.map_err(|source| Error::Attach { program: hook.name(), source })?.1))
        });
        let ours = Ours::new(known.collect::<Result<_, Error>>()?);
        Ok(Shared { config, counters, namespaces, events, layers, ours })
    }

    /// Opens one tag's maps where they are pinned, makes and pins them where not, and loads programs that work on them
    /// unless ours are `pinned` already.
    pub fn load(
        &mut self,
        pins: &Pins,
        name: &TagName,
        number: u32,
        options: &TagOptions,
        pinned: bool,
    ) -> Result<Loaded, Error> {
        for map in OWN {
            self.loader.map_pin_path(map, pins.own_map(name, map));
        }
        let mut object = self.loader.load(self.object).map_err(Error::Load)?;
        let (settings, rules) = (take(&mut object, "SETTINGS")?, take(&mut object, "UDP_RULES")?);
        let mut instance = Instance { settings, rules };
        instance.set(number, options)?;
        let waiting = Waiting::new(take(&mut object, "WAITING")?);
        let askers = Askers::new(take(&mut object, "ASKERS")?);
        let programs = match pinned {
            true => None,
            false => {
                self.hooks.iter().try_for_each(|hook| load_program(&mut object, *hook))?;
                Some(programs(&mut object, &self.hooks)?)
            }
        };
        Ok(Loaded { instance, waiting, askers, programs })
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

/// The loaded programs, which outlive the object.
fn programs(object: &mut Ebpf, hooks: &[Hook]) -> Result<Programs, Error> {
    let mut programs = Vec::with_capacity(hooks.len());
    for hook in hooks {
        let program = hook.name();
        let fd = find(object, *hook)?.fd().map_err(|source| Error::Program { program, source })?;
        let own = fd.as_fd().try_clone_to_owned().map_err(|source| Error::Attach { program, source })?;
        programs.push((*hook, Object::from(own)));
    }
    Ok(programs)
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
}
