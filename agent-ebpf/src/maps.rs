//! All maps, with who writes and who reads each.
//!
//! | map | shared by | kernel | warden |
//! |---|---|---|---|
//! | `CONFIG` | all tags | reads | writes |
//! | `COUNTERS` | all tags | adds | reads |
//! | `EVENTS` | all tags, the LSM | writes | reads |
//! | `NAMESPACES` | all tags | reads | writes |
//! | `ORIGINS` | all tags | writes, reads | – |
//! | `ASKED` | all tags | writes, reads | – |
//! | `BORN` | all tags, the LSM | writes, reads | – |
//! | `SETTINGS` | one tag | reads | writes |
//! | `WAITING` | one tag | inserts, marks closed | looks up and deletes, sweeps |
//! | `ASKERS` | one tag | inserts | looks up |
//! | `UDP_RULES` | one tag | reads | writes |
//! | `PACE` | one tag | writes, reads | – |
//! | `DNS_PACE` | one tag | writes, reads | – |
//!
//! `ORIGINS`, `ASKED` and `BORN` are storage that the kernel frees with its socket: open connections need no bound of
//! ours and no clean-up, and one job cannot use up another's room. `WAITING` and `ASKERS` are maps per tag for the same
//! reason.

use aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE;
use aya_ebpf::bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::btf_map;

use agent_ebpf::{
    ASKER_ENTRIES, Born, COUNTERS as COUNT, Config, Counter, EVENTS_BYTES, Event, NAMESPACE_ENTRIES, Origin,
    Settings, Tuple, UDP_RULE_ENTRIES, UdpRule, WAITING_ENTRIES, Waiting,
};

use crate::told::Pace;

/// What a connected socket bears from connect() to its end.
#[repr(C)]
pub struct Held {
    /// First, so that a pointer to `Held` is one to the value of `WAITING`.
    pub waiting: Waiting,
    /// The listener's address as we wrote it, network byte order; IPv4 as v4-mapped.
    pub target: [u32; 4],
    /// The listener's port, network byte order.
    pub target_port: u32,
    /// One of the constants below.
    pub phase: u32,
    /// Cookie of the socket's network namespace.
    pub netns: u64,
}

/// The address was rewritten in the connect() that is under way.
pub const REWRITTEN: u32 = 1;
/// TCP has begun to connect.
pub const CONNECTING: u32 = 2;

/// How many name servers a datagram socket may ask by turns and still see each one's own address in the answers.
pub const SERVERS: usize = 4;

/// A name server as the process knows it: network byte order; IPv4 as v4-mapped. Port 0: none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Server {
    pub words: [u32; 4],
    pub port: u32,
    pub zero: u32,
}

/// What a datagram socket bears that asked a name server.
#[repr(C)]
pub struct Asked {
    /// Who asked last, and which server.
    pub origin: Origin,
    /// Cookie of the socket's network namespace.
    pub netns: u64,
    /// The resolver's address as we wrote it last, network byte order; IPv4 as v4-mapped.
    pub target: [u32; 4],
    /// The resolver's port, network byte order; 0: nothing was written yet.
    pub target_port: u32,
    /// Counts the slots that were given out.
    pub next: u32,
    /// IPv4 servers; the resolver's last octet is the slot's number plus one.
    pub servers: [Server; SERVERS],
    /// The IPv6 server that was asked last: `::1` has no room to tell several apart.
    pub server6: Server,
}

/// Storage of a socket that accepted sockets inherit (`BPF_F_CLONE`), which aya's own type has no word for.
#[repr(C)]
pub struct Inherited<T> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: a description that the loader reads; the pointers are never followed.
unsafe impl<T> Sync for Inherited<T> {}

impl<T> Inherited<T> {
    const fn new() -> Self {
        use core::ptr::null;
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }

    /// What the socket bears; null if nothing.
    #[inline(always)]
    pub fn of(&self, sk: *mut bpf_sock) -> *mut T {
        // SAFETY: the verifier holds the caller to a socket that is one.
        unsafe {
            bpf_sk_storage_get((&raw const *self).cast_mut().cast(), sk.cast(), core::ptr::null_mut(), 0)
                .cast()
        }
    }

    /// What the socket bears, made and zeroed if there is nothing; null without memory.
    #[inline(always)]
    pub fn of_or_new(&self, sk: *mut bpf_sock) -> *mut T {
        let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        // SAFETY: as above.
        unsafe {
            bpf_sk_storage_get((&raw const *self).cast_mut().cast(), sk.cast(), core::ptr::null_mut(), create)
                .cast()
        }
    }
}

/// Where connections are led to. One entry.
#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();

/// Which tag this is, and how it is meant. One entry.
#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();

/// Indexed by [`Counter`].
#[btf_map]
pub static COUNTERS: PerCpuArray<u64, { COUNT as usize }> = PerCpuArray::new();

/// What the warden is told at once.
#[btf_map]
pub static EVENTS: RingBuf<Event, { EVENTS_BYTES as usize }> = RingBuf::new();

/// Cookies of the network namespaces in which our listeners stand.
#[btf_map]
pub static NAMESPACES: HashMap<u64, u32, { NAMESPACE_ENTRIES as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// What each taken socket bears.
#[btf_map]
pub static ORIGINS: SkStorage<Held> = SkStorage::new();

/// What each datagram socket bears that asked a name server.
#[btf_map]
pub static ASKED: SkStorage<Asked> = SkStorage::new();

/// What each socket bears that was made in a tag.
#[btf_map]
pub static BORN: Inherited<Born> = Inherited::new();

/// Established connections that the warden has not been asked for.
#[btf_map]
pub static WAITING: HashMap<Tuple, Waiting, { WAITING_ENTRIES as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// Who asked the resolver, by the question's addresses.
#[btf_map]
pub static ASKERS: LruHashMap<Tuple, Origin, { ASKER_ENTRIES as usize }> = LruHashMap::new();

/// Where datagrams may go.
#[btf_map]
pub static UDP_RULES: LpmTrie<UdpRule, u32, { UDP_RULE_ENTRIES as usize }> = LpmTrie::new();

/// Indexed by [`Counter`], on each CPU.
#[btf_map]
pub static PACE: PerCpuArray<Pace, { COUNT as usize }> = PerCpuArray::new();

/// Up to when the tag's questions to the resolver are accounted for, in nanoseconds since boot. One entry.
#[btf_map]
pub static DNS_PACE: Array<u64, 1> = Array::new();

/// The tag's number; 0, which no tag bears, cannot happen with an array of one.
#[inline(always)]
pub fn tag() -> u32 {
    SETTINGS.get(0).map_or(0, |settings| settings.tag)
}

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own slot.
        unsafe { *slot += 1 }
    }
}

/// Whether our listeners stand in this network namespace.
#[inline(always)]
pub fn is_known(netns: u64) -> bool {
    NAMESPACES.get_ptr(netns).is_some()
}

/// Whether a rule of the tag lets datagrams out to this address (four words, network byte order) and port (network byte
/// order).
#[inline(always)]
pub fn is_allowed(words: &[u32; 4], port: u16) -> bool {
    // SAFETY: four words are sixteen bytes.
    let address = unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(*words) };
    let here = Key::new(160, UdpRule { port, zero: 0, address });
    let every = Key::new(160, UdpRule { port: 0, zero: 0, address });
    UDP_RULES.get(&here).is_some() || UDP_RULES.get(&every).is_some()
}
