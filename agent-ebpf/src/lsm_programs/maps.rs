//! Maps of the LSM object, with who writes and who reads each.
//!
//! | map | kernel | warden |
//! |---|---|---|
//! | `TAGGED` | reads | writes |
//! | `LSM_STATE` | reads | writes |
//! | `LSM_VERDICTS` | writes, reads | – |
//! | `UNIX_DENY` | reads | writes |
//! | `UNIX_BORN` | writes, reads | – |
//! | `LSM_PACE` | writes, reads | – |
//! | `BORN`, `COUNTERS`, `EVENTS` | shared with the tags' programs, which own them | |

use aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE;
use aya_ebpf::bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{
    Array, HashMap, LpmTrie, LruHashMap, LruPerCpuHashMap, PerCpuArray, RingBuf, SkStorage,
};
use aya_ebpf::macros::btf_map;

use agent_ebpf::lsm::{LsmState, LsmVerdict, TAGGED_ENTRIES, UNIX_NAME, UNIX_RULES};
use agent_ebpf::{Born, COUNTERS as COUNT, Counter, EVENTS_BYTES, Event};

use crate::told::Pace;

/// Cgroup id → number of its tag; 0: the agent itself, which is in no tag wherever it lies.
#[btf_map]
pub static TAGGED: HashMap<u64, u32, { TAGGED_ENTRIES as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// One entry.
#[btf_map]
pub static LSM_STATE: Array<LsmState, 1> = Array::new();

/// Cgroup id → what was found out last. Only saves time: an entry that is evicted is found out again.
#[btf_map]
pub static LSM_VERDICTS: LruHashMap<u64, LsmVerdict, 4096> = LruHashMap::new();

/// Names of Unix sockets that no tag may talk to, see [`crate::unix`] → number of the rule.
#[btf_map]
pub static UNIX_DENY: LpmTrie<[u8; UNIX_NAME], u32, { UNIX_RULES as usize }> = LpmTrie::new();

/// The tag in which a Unix socket was made.
#[btf_map]
pub static UNIX_BORN: SkStorage<u32> = SkStorage::new();

/// What is told of one kind (tag << 32 | way) in the current second, on each CPU.
#[btf_map]
pub static LSM_PACE: LruPerCpuHashMap<u64, Pace, 1024> = LruPerCpuHashMap::new();

/// Indexed by [`Counter`].
#[btf_map]
pub static COUNTERS: PerCpuArray<u64, { COUNT as usize }> = PerCpuArray::new();

/// Refusals, for the warden.
#[btf_map]
pub static EVENTS: RingBuf<Event, { EVENTS_BYTES as usize }> = RingBuf::new();

/// Socket storage that accepted sockets inherit: what [`SkStorage`] has no flag for.
#[repr(C)]
pub struct Inherited<T> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: describes a map; nothing is ever read through it.
unsafe impl<T> Sync for Inherited<T> {}

/// In which tag an IP socket was made; none: in no tag.
#[btf_map]
pub static BORN: Inherited<Born> = Inherited {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own slot.
        unsafe { *slot += 1 }
    }
}
