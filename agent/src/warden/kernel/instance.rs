//! The object, loaded once for each tag with the tag's number in it.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use agent_ebpf::Config;
use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::links::{CgroupAttachMode, FdLink, LinkError};
use aya::programs::{CgroupSockAddr, Program, ProgramError, SockOps};
use aya::{Ebpf, EbpfLoader};

use super::events::Events;
use super::pins::Pins;
use super::waiting::Waiting;
use super::{Error, TagOptions};
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
    /// connect() on IPv4 sockets.
    Connect4,
    /// connect() on IPv6 sockets.
    Connect6,
}

impl Hook {
    /// In the order in which they are attached: what rewrites comes last, when all that must know of it listens.
    pub const ALL: [Self; 5] =
        [Self::Established, Self::GetPeerName4, Self::GetPeerName6, Self::Connect4, Self::Connect6];

    /// The program's name in the object.
    pub fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::GetPeerName4 => "getpeername4",
            Self::GetPeerName6 => "getpeername6",
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
        }
    }

    /// The type's name in systemd's `BPFProgram=` (systemd 249), which has none for getpeername.
    pub fn systemd_type(self) -> Option<&'static str> {
        match self {
            Self::Established => Some("sock_ops"),
            Self::Connect4 => Some("connect4"),
            Self::Connect6 => Some("connect6"),
            Self::GetPeerName4 | Self::GetPeerName6 => None,
        }
    }
}

/// What [`shared`] opens.
pub struct Shared {
    pub config: Array<MapData, Config>,
    pub counters: PerCpuArray<MapData, u64>,
    pub events: Events,
}

/// Why a program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel refused.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// It attached without a link: a kernel before 5.7.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Programs that serve one tag. Dropping it leaves pinned programs and links as they are.
pub struct Instance {
    object: Ebpf,
}

fn loader(pins: &Pins) -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    loader.btf(None); // No relocation against the kernel's types: nothing of it is read.
    for map in SHARED {
        loader.map_pin_path(map, pins.map(map));
    }
    loader
}

/// Opens or makes the shared maps, and has the kernel verify every program.
pub fn shared(pins: &Pins) -> Result<Shared, Error> {
    let mut object = loader(pins).load(OBJECT).map_err(Error::Load)?;
    load_programs(&mut object)?;
    let config = take(&mut object, "CONFIG")?;
    let counters = take(&mut object, "COUNTERS")?;
    let events = Events::of(&mut object).ok_or(Error::Missing("AYA_LOGS"))?;
    Ok(Shared { config, counters, events })
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
            _ => return Err(Error::Missing(program)),
        }
    }
    Ok(())
}

fn find(object: &mut Ebpf, hook: Hook) -> Result<&mut Program, Error> {
    object.program_mut(hook.name()).ok_or(Error::Missing(hook.name()))
}

impl Instance {
    /// Loads the programs for one tag. Its `WAITING` is opened where it is pinned, made and pinned where not.
    pub fn load(
        pins: &Pins,
        name: &TagName,
        number: u32,
        options: TagOptions,
        waiting_entries: Option<u32>,
    ) -> Result<(Self, Waiting), Error> {
        let loopback = u8::from(options.take_loopback);
        let mut loader = loader(pins);
        loader.map_pin_path("WAITING", pins.waiting(name));
        loader.override_global("TAG", &number, true);
        loader.override_global("TAKE_LOOPBACK", &loopback, true);
        if let Some(entries) = waiting_entries {
            loader.map_max_entries("WAITING", entries);
        }
        let mut object = loader.load(OBJECT).map_err(Error::Load)?;
        load_programs(&mut object)?;
        let waiting = Waiting::new(take(&mut object, "WAITING")?);
        Ok((Self { object }, waiting))
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
    pub fn attach(&mut self, cgroup: BorrowedFd<'_>) -> Result<Vec<(Hook, FdLink)>, Error> {
        Hook::ALL
            .into_iter()
            .map(|hook| {
                let link = match find(&mut self.object, hook)? {
                    Program::CgroupSockAddr(program) => attach_addr(program, cgroup),
                    Program::SockOps(program) => attach_ops(program, cgroup),
                    _ => return Err(Error::Missing(hook.name())),
                };
                let failed = |source| Error::Attach { program: hook.name(), source };
                Ok((hook, link.map_err(failed)?))
            })
            .collect()
    }
}

// Links take no mode: they always stand beside others. `Single` is how aya says "no flags".
fn attach_addr(program: &mut CgroupSockAddr, cgroup: BorrowedFd<'_>) -> Result<FdLink, AttachError> {
    let id = program.attach(cgroup, CgroupAttachMode::Single)?;
    Ok(program.take_link(id)?.try_into()?)
}

fn attach_ops(program: &mut SockOps, cgroup: BorrowedFd<'_>) -> Result<FdLink, AttachError> {
    let id = program.attach(cgroup, CgroupAttachMode::Single)?;
    Ok(program.take_link(id)?.try_into()?)
}
