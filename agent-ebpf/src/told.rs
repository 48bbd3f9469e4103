//! What the warden is told at once, by the ring `EVENTS`: at most [`EVENTS_A_SECOND`] of a kind for each tag and CPU, so
//! that a job that provokes them cannot flood the journal. The counters stay complete, and the next event says how many
//! were not sent.
//!
//! Compiled into each of the two objects, with that object's maps. Whom an event tells of is the caller's part.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    bpf_ktime_get_boot_ns, bpf_ringbuf_reserve, bpf_ringbuf_submit,
};

use agent_ebpf::{Counter, EVENTS_A_SECOND, Event};

use crate::maps::EVENTS;

const SECOND_NS: u64 = 1_000_000_000;

/// What an event says of the socket and of where it wanted to go.
#[derive(Clone, Copy)]
pub struct About {
    /// Network byte order; IPv4 as v4-mapped.
    pub words: [u32; 4],
    /// Host byte order.
    pub port: u16,
    pub family: u16,
    pub protocol: u16,
    pub kind: u16,
    pub netns: u64,
    /// For [`Counter::UnixPeer`] the rule's number, for [`Counter::Ptrace`] the other process.
    pub detail: u32,
}

impl About {
    /// Nothing is known.
    pub const NOTHING: Self =
        Self { words: [0; 4], port: 0, family: 0, protocol: 0, kind: 0, netns: 0, detail: 0 };
}

/// How fast events of one kind go.
#[repr(C)]
pub struct Pace {
    /// When this second began, in nanoseconds since boot.
    pub since: u64,
    /// Events of this second.
    pub sent: u32,
    /// Events that were not sent.
    pub suppressed: u32,
}

/// Room in the ring for one event of this kind, all filled but the tag and the caller; `None` when there were enough of
/// them or the ring is full. To be given to [`send`] without fail.
///
/// # Safety
/// `pace` is this CPU's own.
#[inline(always)]
pub unsafe fn begin(pace: *mut Pace, why: Counter, about: &About) -> Option<*mut Event> {
    // SAFETY: helpers without arguments; the caller's word; the ring's entry, checked for null, is `Event`'s size.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        if (*pace).since == 0 || now.wrapping_sub((*pace).since) > SECOND_NS {
            (*pace).since = now;
            (*pace).sent = 0;
        }
        if (*pace).sent >= EVENTS_A_SECOND {
            (*pace).suppressed += 1;
            return None;
        }
        let ring = (&raw const EVENTS).cast_mut().cast();
        let event = bpf_ringbuf_reserve(ring, size_of::<Event>() as u64, 0).cast::<Event>();
        if event.is_null() {
            (*pace).suppressed += 1;
            return None;
        }
        (*pace).sent += 1;
        (*event).suppressed = (*pace).suppressed;
        (*pace).suppressed = 0;
        (*event).at = now;
        (*event).netns = about.netns;
        (&raw mut (*event).address).cast::<[u32; 4]>().write_unaligned(about.words);
        (*event).port = about.port;
        (*event).family = about.family;
        (*event).protocol = about.protocol;
        (*event).kind = about.kind;
        (*event).way = why as u32;
        (*event).detail = about.detail;
        Some(event)
    }
}

/// Writes down the calling task.
///
/// # Safety
/// `event` is what [`begin`] gave.
#[inline(always)]
pub unsafe fn sign(event: *mut Event) {
    // SAFETY: helpers on the current task; room in the ring.
    unsafe {
        (*event).cgroup = bpf_get_current_cgroup_id();
        let task = bpf_get_current_pid_tgid();
        (*event).tgid = (task >> 32) as u32;
        (*event).pid = task as u32;
        let user = bpf_get_current_uid_gid();
        (*event).uid = user as u32;
        (*event).gid = (user >> 32) as u32;
        bpf_get_current_comm((&raw mut (*event).comm).cast(), 16);
    }
}

/// Gives it to the warden.
///
/// # Safety
/// `event` is what [`begin`] gave, all filled, and given once.
#[inline(always)]
pub unsafe fn send(event: *mut Event) {
    // SAFETY: the caller's word.
    unsafe { bpf_ringbuf_submit(event.cast(), 0) }
}
