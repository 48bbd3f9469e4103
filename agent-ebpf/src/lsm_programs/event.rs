//! What the warden is told of a refusal: at most [`EVENTS_A_SECOND`] of a kind for each tag and CPU. The counters stay
//! complete, and the next event says how many were not sent.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    bpf_ktime_get_boot_ns, bpf_ringbuf_reserve, bpf_ringbuf_submit,
};

use agent_ebpf::{Counter, EVENTS_A_SECOND, Event};

use crate::maps::{EVENTS, LSM_PACE, Pace, count};

const SECOND_NS: u64 = 1_000_000_000;
/// The hook fails with EPERM.
pub const REFUSE: i32 = -1;
/// The hook has nothing to object.
pub const PASS: i32 = 0;

/// What is known of what was refused.
#[derive(Clone, Copy)]
pub struct About {
    /// Network byte order; IPv4 as v4-mapped.
    pub words: [u32; 4],
    /// Host byte order.
    pub port: u16,
    pub family: u16,
    pub protocol: u16,
    pub kind: u16,
    /// For [`Counter::UnixPeer`] the rule's number, for [`Counter::Ptrace`] the other process.
    pub detail: u32,
}

impl About {
    pub const NOTHING: Self = Self { words: [0; 4], port: 0, family: 0, protocol: 0, kind: 0, detail: 0 };
}

/// Counts and tells; the answer of the hook.
#[inline(always)]
pub fn refuse(why: Counter, tag: u32, about: &About) -> i32 {
    count(why);
    tell(why, tag, about);
    REFUSE
}

#[inline(always)]
fn tell(why: Counter, tag: u32, about: &About) {
    let key = u64::from(tag) << 32 | u64::from(why as u32);
    let pace = match LSM_PACE.get_ptr_mut(key) {
        Some(pace) => pace,
        None => {
            let _no_room = LSM_PACE.insert(key, Pace { since: 0, sent: 0, suppressed: 0 }, 0);
            let Some(pace) = LSM_PACE.get_ptr_mut(key) else { return };
            pace
        }
    };
    // SAFETY: this CPU's own slot; the ring's entry, checked for null, is `Event`'s size and filled whole; helpers on the
    // current task.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        if (*pace).since == 0 || now.wrapping_sub((*pace).since) > SECOND_NS {
            (*pace).since = now;
            (*pace).sent = 0;
        }
        if (*pace).sent >= EVENTS_A_SECOND {
            (*pace).suppressed += 1;
            return;
        }
        let ring = (&raw const EVENTS).cast_mut().cast();
        let event = bpf_ringbuf_reserve(ring, size_of::<Event>() as u64, 0).cast::<Event>();
        if event.is_null() {
            (*pace).suppressed += 1;
            return;
        }
        (*pace).sent += 1;
        (*event).suppressed = (*pace).suppressed;
        (*pace).suppressed = 0;
        (*event).at = now;
        (*event).netns = 0;
        (*event).cgroup = bpf_get_current_cgroup_id();
        (&raw mut (*event).address).cast::<[u32; 4]>().write_unaligned(about.words);
        (*event).port = about.port;
        (*event).family = about.family;
        (*event).protocol = about.protocol;
        (*event).kind = about.kind;
        (*event).way = why as u32;
        (*event).tag = tag;
        let task = bpf_get_current_pid_tgid();
        (*event).tgid = (task >> 32) as u32;
        (*event).pid = task as u32;
        let user = bpf_get_current_uid_gid();
        (*event).uid = user as u32;
        (*event).gid = (user >> 32) as u32;
        (*event).detail = about.detail;
        bpf_get_current_comm((&raw mut (*event).comm).cast(), 16);
        bpf_ringbuf_submit(event.cast(), 0);
    }
}
