//! The LSM layer: one object for the host, whose programs see what a tagged *task* does, wherever its sockets were made.
//!
//! Optional: it is there where the kernel has BPF LSM on (`bpf` in `lsm=`) and shows its types; where it is not,
//! [`Lsm::open`] says why, and the cgroup programs stand alone. Below the pin directory:
//!
//! ```text
//! BPF_DIR/lsm/{TAGGED,LSM_STATE,UNIX_BORN}_v1    cgroup → tag; that something changed; Unix sockets' tags
//! BPF_DIR/lsm/link_socket_create …               one link for each hook
//! ```
//!
//! They outlive the warden. The next one attaches its own programs beside the old ones, to the same maps, and then moves
//! its links over theirs: at no moment is a hook without a program. `sluice purge` removes the directory.

mod btf;
mod hook;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use agent_ebpf::lsm::{
    FIXED, LSM_ABI, LsmState, Offsets, PROBE_PROTOCOL, TAGGED_DEPTH, UNIX_NAME, UNIX_RULES,
};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError};
use aya::programs::links::FdLink;
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};

use self::btf::{Btf, BtfError};
use super::pins::Pins;
use super::{CgroupId, Error};

pub use self::hook::LsmHook;
pub use crate::config::UnixRule;

/// The compiled programs, made and checked as the cgroup programs are.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../agent-ebpf/sluice-lsm.bpf.o");

/// Maps that the cgroup programs own.
const SHARED: [&str; 3] = ["BORN", "COUNTERS", "EVENTS"];
/// [`PROBE_PROTOCOL`].
const PROBE: std::num::NonZeroU32 =
    std::num::NonZeroU32::new(PROBE_PROTOCOL.cast_unsigned()).expect("not zero");
/// Maps that outlive the warden.
const KEPT: [&str; 3] = ["TAGGED", "LSM_STATE", "UNIX_BORN"];

/// Why there is no LSM layer.
#[derive(Debug, thiserror::Error)]
pub enum Absent {
    /// The kernel shows no types.
    #[error("the kernel shows no type information (CONFIG_DEBUG_INFO_BTF)")]
    Types(#[source] BtfError),
    /// The kernel's structs are not as the programs take them to be.
    #[error("this kernel keeps {0} elsewhere")]
    Layout(String),
    /// The kernel takes the programs and never asks them.
    #[error("BPF LSM is not on: add bpf to lsm= on the kernel's command line (now: {0})")]
    Off(String),
    /// The kernel refuses all of them.
    #[error("the kernel refuses LSM programs")]
    Refused(#[source] ProgramError),
    /// Anything else.
    #[error("the LSM programs cannot be set up")]
    Failed(#[from] Error),
}

/// The LSM layer, at work. Dropping it changes nothing in the kernel.
pub struct Lsm {
    tagged: HashMap<MapData, u64, u32>,
    state: Array<MapData, LsmState>,
    denied: LpmTrie<MapData, [u8; UNIX_NAME], u32>,
    rules: Vec<UnixRule>,
    /// What `tagged` holds.
    known: BTreeMap<CgroupId, u32>,
    generation: u64,
    hooks: Vec<(LsmHook, Result<(), String>)>,
}

impl Lsm {
    /// Loads the programs and puts them to work, in place of an earlier warden's; what that had tagged stays tagged.
    /// Hooks that the kernel refuses are left out, see [`Lsm::hooks`]. `denied` are the Unix sockets that no tag may talk
    /// to.
    ///
    /// # Errors
    /// This kernel cannot, or not as it was started. Programs of an earlier warden stay where they are.
    pub(super) fn open(pins: &Pins, denied: &[UnixRule]) -> Result<Self, Absent> {
        let btf = Btf::of_kernel().map_err(Absent::Types)?;
        let offsets = layout(&btf)?;
        let mut object = load(pins, &offsets)?;
        let mut lsm = Self {
            tagged: super::instance::take(&mut object, "TAGGED")?,
            state: super::instance::take(&mut object, "LSM_STATE")?,
            denied: super::instance::take(&mut object, "UNIX_DENY")?,
            rules: Vec::new(),
            known: BTreeMap::new(),
            generation: 0,
            hooks: Vec::new(),
        };
        lsm.generation = lsm.state.get(&0, 0).map_err(failed("LSM_STATE"))?.generation;
        for entry in lsm.tagged.iter() {
            let (cgroup, number) = entry.map_err(failed("TAGGED"))?;
            lsm.known.insert(CgroupId(cgroup), number);
        }
        lsm.deny(denied)?;
        lsm.announce()?;
        lsm.attach(pins, &mut object, &btf)?;
        Ok(lsm)
    }

    /// Attaches beside what is there, asks whether it is heard, and only then takes the old links' place.
    fn attach(&mut self, pins: &Pins, object: &mut Ebpf, btf: &Btf) -> Result<(), Absent> {
        let types = aya::Btf::from_sys_fs().map_err(|_same_file| Absent::Types(BtfError::Strange))?;
        let mut fresh = Vec::new();
        let mut first_refusal = None;
        for hook in LsmHook::ALL.into_iter().filter(|hook| hook.is_needed(btf)) {
            match link(object, hook, &types) {
                Ok(link) => fresh.push((hook, link)),
                Err(LinkError::Missing) => return Err(Error::Missing(hook.program()).into()),
                Err(LinkError::Refused(error)) => {
                    self.hooks.push((hook, Err(crate::report::Chain(&error).to_string())));
                    first_refusal.get_or_insert(error);
                }
            }
        }
        if fresh.iter().any(|(hook, _)| *hook == LsmHook::Create) && !is_heard() {
            return Err(Absent::Off(std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default()));
        }
        if fresh.is_empty()
            && let Some(refusal) = first_refusal
        {
            return Err(Absent::Refused(refusal));
        }
        for (hook, link) in fresh {
            let place = pins.lsm(&format!("link_{}", hook.name()));
            let path: PathBuf = Pins::fresh(&place)?;
            let pinned = link.pin(&path);
            pinned.map_err(|source| Error::Pin { path, source })?;
            Pins::settle(&place)?;
            self.hooks.push((hook, Ok(())));
        }
        self.hooks.sort_by_key(|(hook, _)| *hook);
        Ok(())
    }

    /// Each hook that this kernel needs: at work, or the kernel's reason against it.
    pub fn hooks(&self) -> &[(LsmHook, Result<(), String>)] {
        &self.hooks
    }

    /// Whether a hook is at work, or this kernel does not need it.
    pub fn covers(&self, hook: LsmHook) -> bool {
        self.hooks.iter().find(|(one, _)| *one == hook).is_none_or(|(_, state)| state.is_ok())
    }

    /// Puts the tasks of a cgroup, and of all below it, under a tag's rules at once; `depth` is how far the cgroup lies
    /// below the root of the hierarchy. To be called when the cgroup programs are attached: IP sockets that do not bear
    /// their mark are refused from now on.
    ///
    /// # Errors
    /// Too deep, or no room left.
    pub fn tag(&mut self, cgroup: CgroupId, depth: usize, number: u32) -> Result<(), Error> {
        if depth > TAGGED_DEPTH as usize {
            return Err(Error::TooDeep { depth, most: TAGGED_DEPTH as usize });
        }
        if self.known.get(&cgroup) == Some(&number) {
            return Ok(());
        }
        self.tagged.insert(cgroup.0, number, 0).map_err(failed("TAGGED"))?;
        self.known.insert(cgroup, number);
        self.announce()
    }

    /// Leaves the agent's own tasks alone, even inside a tag.
    ///
    /// # Errors
    /// As [`Lsm::tag`].
    pub fn exempt(&mut self, cgroup: CgroupId, depth: usize) -> Result<(), Error> {
        self.tag(cgroup, depth, 0)
    }

    /// Takes a cgroup out of its tag; nothing to do if it was in none.
    ///
    /// # Errors
    /// The map refuses.
    pub fn untag(&mut self, cgroup: CgroupId) -> Result<(), Error> {
        self.retain(|one, _| one != cgroup)
    }

    /// Keeps the cgroups, with their tag's number, that `keep` names: not those that are gone, or whose tag is.
    ///
    /// # Errors
    /// The map refuses.
    pub fn retain(&mut self, keep: impl Fn(CgroupId, u32) -> bool) -> Result<(), Error> {
        let gone: Vec<CgroupId> = self
            .known
            .iter()
            .filter(|(cgroup, number)| !keep(**cgroup, **number))
            .map(|(id, _)| *id)
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        for cgroup in gone {
            match self.tagged.remove(&cgroup.0) {
                Err(MapError::KeyNotFound) => {}
                Err(MapError::SyscallError(e)) if e.io_error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(failed("TAGGED"))?,
            }
            self.known.remove(&cgroup);
        }
        self.announce()
    }

    /// The tagged cgroups with their tags' numbers; 0 for the agent's own.
    pub fn tagged(&self) -> &BTreeMap<CgroupId, u32> {
        &self.known
    }

    /// What was concluded before a change of `TAGGED` holds no longer.
    fn announce(&mut self) -> Result<(), Error> {
        self.generation += 1;
        let state = LsmState { generation: self.generation, tagged: self.known.len() as u64 };
        self.state.set(0, state, 0).map_err(failed("LSM_STATE"))
    }

    /// Replaces the deny list of Unix sockets. What stays on it is on it throughout.
    ///
    /// # Errors
    /// More rules than there is room for, or the map refuses.
    pub fn deny(&mut self, rules: &[UnixRule]) -> Result<(), Error> {
        let left_out = rules.len().saturating_sub(UNIX_RULES as usize);
        if left_out > 0 {
            return Err(Error::Rules { left_out });
        }
        for (number, rule) in (1..).zip(rules) {
            let (octets, bits) = rule.key();
            self.denied.insert(&Key::new(bits, octets), number, 0).map_err(failed("UNIX_DENY"))?;
        }
        for rule in self.rules.iter().filter(|rule| !rules.contains(rule)) {
            let (octets, bits) = rule.key();
            self.denied.remove(&Key::new(bits, octets)).map_err(failed("UNIX_DENY"))?;
        }
        self.rules = rules.to_vec();
        Ok(())
    }

    /// The rule that an event of [`agent_ebpf::Counter::UnixPeer`] names in its `detail`.
    pub fn rule(&self, number: u32) -> Option<&UnixRule> {
        self.rules.get((number as usize).checked_sub(1)?)
    }
}

/// Takes the programs of any warden away and forgets what was tagged.
///
/// # Errors
/// Pins cannot be removed.
pub fn purge(bpf_dir: &Path) -> Result<(), Error> {
    let place = bpf_dir.join("lsm");
    match std::fs::remove_dir_all(&place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| Error::Io { what: "cannot remove", path: place, source }),
    }
}

fn failed(map: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map { map, source }
}

fn load(pins: &Pins, offsets: &Offsets) -> Result<Ebpf, Error> {
    let mut loader = EbpfLoader::new();
    loader.btf(None).override_global("OFFSETS", offsets, true);
    for map in SHARED {
        loader.map_pin_path(map, pins.map(map));
    }
    pins.make_lsm()?;
    for map in KEPT {
        loader.map_pin_path(map, pins.lsm(&format!("{map}_v{LSM_ABI}")));
    }
    loader.load(OBJECT).map_err(Error::Load)
}

enum LinkError {
    Missing,
    Refused(ProgramError),
}

fn link(object: &mut Ebpf, hook: LsmHook, types: &aya::Btf) -> Result<FdLink, LinkError> {
    let Some(Program::Lsm(program)) = object.program_mut(hook.program()) else {
        return Err(LinkError::Missing);
    };
    let attached = program.load(hook.name(), types).and_then(|()| {
        let id = program.attach()?;
        program.take_link(id)
    });
    attached.map(FdLink::from).map_err(LinkError::Refused)
}

/// Whether the kernel asks the programs: it takes them, and never calls them, when it was started without them.
fn is_heard() -> bool {
    // A protocol that Unix sockets do not have: without the programs it is another error.
    let family = rustix::net::AddressFamily::UNIX;
    let protocol = rustix::net::Protocol::from_raw(PROBE);
    let made = rustix::net::socket(family, rustix::net::SocketType::STREAM, Some(protocol));
    made.err() == Some(rustix::io::Errno::PERM)
}

/// Where this kernel keeps what the programs read.
fn layout(btf: &Btf) -> Result<Offsets, Absent> {
    for (of, member, place) in FIXED {
        if btf.member(of, member) != Some(place) {
            return Err(Absent::Layout(format!("{of}.{member}")));
        }
    }
    let find = |of: &str, member: &str| {
        btf.member(of, member).ok_or_else(|| Absent::Layout(format!("{of}.{member}")))
    };
    Ok(Offsets {
        task_cgroups: find("task_struct", "cgroups")?,
        task_tgid: find("task_struct", "tgid")?,
        css_set_cgroup: find("css_set", "dfl_cgrp")?,
        cgroup_kn: find("cgroup", "kn")?,
        cgroup_parent: find("cgroup_subsys_state", "parent")?,
        kn_id: find("kernfs_node", "id")?,
        unix_addr: find("unix_sock", "addr")?,
        unix_peer: find("unix_sock", "peer")?,
        address_len: find("unix_address", "len")?,
        address_name: find("unix_address", "name")?,
        sock_daddr6: find("sock_common", "skc_v6_daddr").unwrap_or(0),
        zero: 0,
    })
}
