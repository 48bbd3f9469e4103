//! All maps and globals, with who writes and who reads each.
//!
//! | map | shared by | kernel | warden |
//! |---|---|---|---|
//! | `CONFIG` | all tags | reads | writes |
//! | `COUNTERS` | all tags | adds | reads |
//! | `ORIGINS` | all tags | writes, reads | – |
//! | `WAITING` | one tag | inserts, marks closed | looks up and deletes, sweeps |
//! | `LAST_EVENT` | one tag | writes, reads | – |
//! | `AYA_LOGS` (aya-log) | all tags | writes | reads |
//!
//! `ORIGINS` is storage that the kernel frees with its socket: open connections need no bound of ours and no clean-up,
//! and one job cannot use up another's room. `WAITING` is a map per tag for the same reason.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, SkStorage};
use aya_ebpf::macros::btf_map;

use agent_ebpf::{COUNTERS as COUNT, Config, Counter, Tuple, WAITING_ENTRIES, Waiting};

/// Number of the tag that this instance serves, set by the loader.
#[unsafe(no_mangle)]
pub static TAG: Global<u32> = Global::new(0);

/// Whether loopback destinations are taken too (1) or left alone (0), set by the loader.
#[unsafe(no_mangle)]
pub static TAKE_LOOPBACK: Global<u8> = Global::new(0);

/// What a socket bears from connect() to its end.
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
}

/// The address was rewritten in the connect() that is under way.
pub const REWRITTEN: u32 = 1;
/// TCP has begun to connect.
pub const CONNECTING: u32 = 2;

/// Where connections are led to. One entry.
#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();

/// Indexed by [`Counter`].
#[btf_map]
pub static COUNTERS: PerCpuArray<u64, { COUNT as usize }> = PerCpuArray::new();

/// What each taken socket bears.
#[btf_map]
pub static ORIGINS: SkStorage<Held> = SkStorage::new();

/// Established connections that the warden has not been asked for.
#[btf_map]
pub static WAITING: HashMap<Tuple, Waiting, { WAITING_ENTRIES as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// Nanoseconds since boot of the last logged event of each kind on this CPU.
#[btf_map]
pub static LAST_EVENT: PerCpuArray<u64, { COUNT as usize }> = PerCpuArray::new();

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own slot.
        unsafe { *slot += 1 }
    }
}
