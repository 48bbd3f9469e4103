//! What the warden is told of a refusal in a tag, and of whom: the calling task, who made the socket, or who connected.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::SockAddrContext;

use agent_ebpf::{Born, Counter, Event, Origin};

use crate::address::Dialled;
use crate::maps::{PACE, count, tag};
use crate::told::{self, send, sign};

pub use crate::told::About;

/// As [`told::begin`], with the tag.
#[inline(always)]
fn begin(why: Counter, about: &About) -> Option<*mut Event> {
    let pace = PACE.get_ptr_mut(why as u32)?;
    // SAFETY: this CPU's own slot; room in the ring.
    unsafe {
        let event = told::begin(pace, why, about)?;
        (*event).tag = tag();
        Some(event)
    }
}

/// Counts, and tells of the calling task. For hooks that run in its system call and may ask who it is.
#[inline(always)]
pub fn of_task(why: Counter, about: &About) {
    count(why);
    let Some(event) = begin(why, about) else { return };
    // SAFETY: room in the ring, given once.
    unsafe {
        sign(event);
        send(event);
    }
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
        send(event);
    }
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
        send(event);
    }
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
            netns: bpf_get_netns_cookie(ctx.as_ptr()),
            detail: 0,
        }
    };
    of_task(why, &about);
}
