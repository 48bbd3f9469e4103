//! The object, loaded once for each tag.

use std::os::fd::AsFd;

use agent_ebpf::{Config, Settings};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};

use super::events::Events;
use super::link::{self, Object};
use super::pins::Pins;
use super::replace::{Ours, Programs};
use super::waiting::Waiting;
use super::{Error, Sizes};
use crate::types::TagName;

/// The compiled programs; `cargo xtask ebpf` makes them, `cargo xtask ebpf --check` proves that they are these.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../agent-ebpf/sluice.bpf.o");

/// Maps that all tags share.
const SHARED: [&str; 4] = ["CONFIG", "COUNTERS", "ORIGINS", "AYA_LOGS"];

/// Where a program attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TCP's milestones.
    Established,
    /// getpeername() on IPv4 sockets.
    GetPeerName4,
    /// getpeername() on IPv6 sockets.
    GetPeerName6,
    /// setsockopt(): no source routes.
    Route,
    /// connect() on IPv4 sockets.
    Connect4,
    /// connect() on IPv6 sockets.
    Connect6,
}

impl Hook {
    /// In the order in which they are attached: what rewrites comes last, when all that must know of it listens.
    pub const ALL: [Self; 6] = [
        Self::Established,
        Self::GetPeerName4,
        Self::GetPeerName6,
        Self::Route,
        Self::Connect4,
        Self::Connect6,
    ];

    /// The program's name in the object.
    pub fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::GetPeerName4 => "getpeername4",
            Self::GetPeerName6 => "getpeername6",
            Self::Route => "route",
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
        }
    }

    /// `enum bpf_attach_type` of the kernel.
    pub fn attach_type(self) -> u32 {
        match self {
            Self::Established => 3,
            Self::GetPeerName4 => 29,
            Self::GetPeerName6 => 30,
            Self::Route => 22,
            Self::Connect4 => 10,
            Self::Connect6 => 11,
        }
    }

    /// The type's name in systemd's `BPFProgram=` (systemd 249), which has none for getpeername.
    pub fn systemd_type(self) -> Option<&'static str> {
        match self {
            Self::Established => Some("sock_ops"),
            Self::Route => Some("setsockopt"),
            Self::Connect4 => Some("connect4"),
            Self::Connect6 => Some("connect6"),
            Self::GetPeerName4 | Self::GetPeerName6 => None,
        }
    }
}

/// What all tags share.
pub struct Shared {
    pub config: Array<MapData, Config>,
    pub counters: PerCpuArray<MapData, u64>,
    pub events: Events,
    /// What our programs are known by.
    pub ours: Ours,
}

/// What this process holds of one tag's programs: their maps. The programs themselves are pinned.
pub struct Instance {
    settings: Array<MapData, Settings>,
}

/// One tag's maps, and the programs that work on them.
pub struct Loaded {
    pub instance: Instance,
    pub waiting: Waiting,
    /// `None`: those that are pinned.
    pub programs: Option<Programs>,
}

/// Loads the object. Made once: aya reads the kernel's own types each time that a loader is made, though none of them is
/// needed here.
pub struct Loader {
    loader: EbpfLoader<'static>,
    object: &'static [u8],
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
        Self { loader, object: sizes.object.unwrap_or(OBJECT) }
    }

    /// Opens or makes the shared maps, and has the kernel verify every program.
    pub fn shared(&mut self) -> Result<Shared, Error> {
        let mut object = self.loader.load(self.object).map_err(Error::Load)?;
        load_programs(&mut object)?;
        let config = take(&mut object, "CONFIG")?;
        let counters = take(&mut object, "COUNTERS")?;
        let events = Events::of(&mut object).ok_or(Error::Missing("AYA_LOGS"))?;
        let known = programs(&mut object)?.into_iter().map(|(hook, program)| {
            let by = link::program(program.as_fd());
            Ok((hook, by.map_err(|source| Error::Attach { program: hook.name(), source })?.1))
        });
        let ours = Ours::new(known.collect::<Result<_, Error>>()?);
        Ok(Shared { config, counters, events, ours })
    }

    /// Opens one tag's maps where they are pinned, makes and pins them where not, and loads programs that work on them
    /// unless ours are `pinned` already.
    pub fn load(
        &mut self,
        pins: &Pins,
        name: &TagName,
        settings: Settings,
        pinned: bool,
    ) -> Result<Loaded, Error> {
        self.loader.map_pin_path("WAITING", pins.own_map(name, "WAITING"));
        self.loader.map_pin_path("SETTINGS", pins.own_map(name, "SETTINGS"));
        let mut object = self.loader.load(self.object).map_err(Error::Load)?;
        let mut instance = Instance { settings: take(&mut object, "SETTINGS")? };
        instance.set(settings)?;
        let waiting = Waiting::new(take(&mut object, "WAITING")?);
        if pinned {
            return Ok(Loaded { instance, waiting, programs: None });
        }
        load_programs(&mut object)?;
        Ok(Loaded { instance, waiting, programs: Some(programs(&mut object)?) })
    }
}

/// A map of the object, as the type that it is.
fn take<M: TryFrom<Map, Error = aya::maps::MapError>>(
    object: &mut Ebpf,
    map: &'static str,
) -> Result<M, Error> {
    object.take_map(map).ok_or(Error::Missing(map))?.try_into().map_err(|source| Error::Map { map, source })
}

fn load_programs(object: &mut Ebpf) -> Result<(), Error> {
    for hook in Hook::ALL {
        let program = hook.name();
        let failed = |source| Error::Program { program, source };
        match find(object, hook)? {
            Program::CgroupSockAddr(p) => p.load().map_err(failed)?,
            Program::SockOps(p) => p.load().map_err(failed)?,
            Program::CgroupSockopt(p) => p.load().map_err(failed)?,
            _ => return Err(Error::Missing(program)),
        }
    }
    Ok(())
}

fn find(object: &mut Ebpf, hook: Hook) -> Result<&mut Program, Error> {
    object.program_mut(hook.name()).ok_or(Error::Missing(hook.name()))
}

/// The loaded programs, which outlive the object.
fn programs(object: &mut Ebpf) -> Result<Programs, Error> {
    let mut programs = Vec::with_capacity(Hook::ALL.len());
    for hook in Hook::ALL {
        let program = hook.name();
        let fd = find(object, hook)?.fd().map_err(|source| Error::Program { program, source })?;
        let own = fd.as_fd().try_clone_to_owned().map_err(|source| Error::Attach { program, source })?;
        programs.push((hook, Object::from(own)));
    }
    Ok(programs)
}

impl Instance {
    /// Settings for all programs of the tag, from the next connect() on; those that an earlier daemon attached too.
    pub fn set(&mut self, settings: Settings) -> Result<(), Error> {
        self.settings.set(0, settings, 0).map_err(|source| Error::Map { map: "SETTINGS", source })
    }
}
