//! What the warden is told at once, by the ring `EVENTS`: at most [`EVENTS_A_SECOND`] of a kind for each tag and CPU, so
//! that a job that provokes them cannot flood the journal. The counters stay complete, and the next event says how many
//! were not sent.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    bpf_ktime_get_boot_ns, bpf_ringbuf_reserve, bpf_ringbuf_submit,
};
use aya_ebpf::programs::SockAddrContext;

use agent_ebpf::{Born, Counter, EVENTS_A_SECOND, Event, Origin};

use crate::address::Dialled;
use crate::maps::{EVENTS, PACE, count, tag};

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
    pub detail: u32,
}

impl About {
    /// Nothing is known.
    pub const NOTHING: Self =
        Self { words: [0; 4], port: 0, family: 0, protocol: 0, kind: 0, netns: 0, detail: 0 };
}

/// Room in the ring for one event of this kind, all filled but the caller; `None` when there were enough of them or the
/// ring is full. To be given to [`send`] without fail.
#[inline(always)]
fn begin(why: Counter, about: &About) -> Option<*mut Event> {
    let pace = PACE.get_ptr_mut(why as u32)?;
    // SAFETY: helpers without arguments; this CPU's own slot; the ring's entry, checked for null, is `Event`'s size.
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
        (*event).tag = tag();
        (*event).detail = about.detail;
        Some(event)
    }
}

#[inline(always)]
fn send(event: *mut Event) {
    // SAFETY: what `begin` reserved, once.
    unsafe { bpf_ringbuf_submit(event.cast(), 0) }
}

/// Counts, and tells of the calling task. For hooks that run in its system call and may ask who it is.
#[inline(always)]
pub fn of_task(why: Counter, about: &About) {
    count(why);
    let Some(event) = begin(why, about) else { return };
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
    send(event);
}

/// Counts, and tells of whoever made the socket; `born` may be null: then nobody knows.
#[inline(always)]
pub fn of_born(why: Counter, about: &About, born: *const Born) {
    count(why);
    let Some(event) = begin(why, about) else { return };
    // SAFETY: room in the ring; the socket's storage, checked for null.
    unsafe {
        if born.is_null() {
            (*event).cgroup = 0;
            (*event).tgid = 0;
            (*event).pid = 0;
            (*event).uid = 0;
            (*event).gid = 0;
            (*event).comm = [0; 16];
        } else {
            (*event).netns = (*born).netns;
            (*event).cgroup = (*born).cgroup;
            (*event).tgid = (*born).tgid;
            (*event).pid = (*born).pid;
            (*event).uid = (*born).uid;
            (*event).gid = (*born).gid;
            (*event).comm = (*born).comm;
        }
    }
    send(event);
}

/// Counts, and tells of whoever connected.
#[inline(always)]
pub fn of_origin(why: Counter, about: &About, origin: *const Origin) {
    count(why);
    let Some(event) = begin(why, about) else { return };
    // SAFETY: room in the ring; the socket's storage.
    unsafe {
        (*event).address = (*origin).address;
        (*event).port = (*origin).port;
        (*event).cgroup = (*origin).cgroup;
        (*event).tgid = (*origin).tgid;
        (*event).pid = (*origin).pid;
        (*event).uid = (*origin).uid;
        (*event).gid = (*origin).gid;
        (*event).comm = (*origin).comm;
    }
    send(event);
}

/// Counts, and tells of the calling task and the address that it gave.
#[inline(always)]
pub fn refused(ctx: &SockAddrContext, dialled: &Dialled, why: Counter) {
    // SAFETY: fields of the context, read whole; the helper takes the context.
    let about = unsafe {
        About {
            words: dialled.words,
            port: u16::from_be(dialled.port as u16),
            family: (&raw const (*ctx.sock_addr).family).read_volatile() as u16,
            protocol: (&raw const (*ctx.sock_addr).protocol).read_volatile() as u16,
            kind: (&raw const (*ctx.sock_addr).type_).read_volatile() as u16,
            netns: aya_ebpf::helpers::generated::bpf_get_netns_cookie(ctx.as_ptr()),
            detail: 0,
        }
    };
    of_task(why, &about);
}
