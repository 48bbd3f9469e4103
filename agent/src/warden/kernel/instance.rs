//! The object, loaded once for each tag.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use agent_ebpf::{Config, Settings};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};

use super::Error;
use super::events::Events;
use super::link::Link;
use super::pins::Pins;
use super::waiting::Waiting;
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
    fn attach_type(self) -> u32 {
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
}

/// Programs that serve one tag. Dropping it leaves pinned programs and links as they are.
pub struct Instance {
    object: Ebpf,
    settings: Array<MapData, Settings>,
}

/// Loads the object. Made once: aya reads the kernel's own types each time that a loader is made, though none of them is
/// needed here.
pub struct Loader(EbpfLoader<'static>);

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
        Self(loader)
    }

    /// Opens or makes the shared maps, and has the kernel verify every program.
    pub fn shared(&mut self) -> Result<Shared, Error> {
        let mut object = self.0.load(OBJECT).map_err(Error::Load)?;
        load_programs(&mut object)?;
        let config = take(&mut object, "CONFIG")?;
        let counters = take(&mut object, "COUNTERS")?;
        let events = Events::of(&mut object).ok_or(Error::Missing("AYA_LOGS"))?;
        Ok(Shared { config, counters, events })
    }

    /// Loads the programs for one tag. Its maps are opened where they are pinned, made and pinned where not.
    pub fn load(&mut self, pins: &Pins, name: &TagName, settings: Settings) -> Result<Instance, Error> {
        self.0.map_pin_path("WAITING", pins.own_map(name, "WAITING"));
        self.0.map_pin_path("SETTINGS", pins.own_map(name, "SETTINGS"));
        let mut object = self.0.load(OBJECT).map_err(Error::Load)?;
        let map = take(&mut object, "SETTINGS")?;
        let mut instance = Instance { object, settings: map };
        instance.set(settings)?;
        load_programs(&mut instance.object)?;
        Ok(instance)
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

impl Instance {
    /// Settings for all programs of the tag, from the next connect() on; those that an earlier daemon attached too.
    pub fn set(&mut self, settings: Settings) -> Result<(), Error> {
        self.settings.set(0, settings, 0).map_err(|source| Error::Map { map: "SETTINGS", source })
    }

    /// The tag's map of connections that nobody asked for.
    pub fn waiting(&mut self) -> Result<Waiting, Error> {
        Ok(Waiting::new(take(&mut self.object, "WAITING")?))
    }

    /// Pins the programs, over those that are there.
    pub fn pin_programs(&mut self, pins: &Pins, name: &TagName) -> Result<(), Error> {
        for hook in Hook::ALL {
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
        Hook::ALL
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
