//! A taken connection becomes known to the warden at the moment in which it is established: the four-tuple is final,
//! and the last packet of the handshake is not sent yet, so the entry stands before accept() can return. A connection
//! that is never established (backlog full, listener gone) leaves no entry at all.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_ANY, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
    BPF_SOCK_OPS_TIMEOUT_INIT, BPF_TCP_CLOSE, BPF_TCP_ESTABLISHED, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_map_update_elem,
    bpf_sk_storage_get,
};
use aya_ebpf::programs::SockOpsContext;

use agent_ebpf::{Counter, Tuple};

use crate::event::{self, About};
use crate::maps::{CONNECTING, Held, ORIGINS, WAITING, is_known, tag};

/// What this hook answers always: nothing to object.
const DONE: u32 = 1;
/// `::ffff:0:0/96`, third word, network byte order.
const MAPPED: u32 = 0xffff_u32.to_be();
const AF_INET: u32 = 2;

/// The hook.
#[inline(always)]
pub fn on(ctx: &SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TIMEOUT_INIT => hurry(ctx),
        BPF_SOCK_OPS_TCP_CONNECT_CB => watch(ctx),
        BPF_SOCK_OPS_STATE_CB => match state(ctx) {
            BPF_TCP_ESTABLISHED => announce(ctx),
            BPF_TCP_CLOSE => mark_closed(ctx),
            _ => {}
        },
        _ => {}
    }
    DONE
}

/// Jiffies after which a first packet that is held back is sent again: 10 to 100 ms, by the kernel's clock. The listeners
/// stand some milliseconds after the socket was made; TCP by itself would wait for a second. It is sent ten times or so, at
/// growing distances, and connect() fails after a few seconds.
const SOON: u32 = 10;

/// How long TCP waits before it sends the first packet again; without a reply as long as ever.
#[inline(always)]
fn hurry(ctx: &SockOpsContext) {
    let Some(held) = held(ctx) else { return };
    // SAFETY: the socket's own storage; the field of the context for replies.
    unsafe {
        if !is_known((*held).netns) {
            (&raw mut (*ctx.ops).__bindgen_anon_1.reply).write_volatile(SOON);
        }
    }
}

/// The state that TCP goes to.
#[inline(always)]
fn state(ctx: &SockOpsContext) -> u32 {
    // SAFETY: a field of the context, read whole.
    unsafe { (&raw const (*ctx.ops).__bindgen_anon_1.args[1]).read_volatile() }
}

/// What the socket bears, if this tag took it.
#[inline(always)]
fn held(ctx: &SockOpsContext) -> Option<*mut Held> {
    // SAFETY: the context's socket, checked for null, and its own storage.
    unsafe {
        let sk = (*ctx.ops).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let held =
            bpf_sk_storage_get((&raw const ORIGINS).cast_mut().cast(), sk.cast(), core::ptr::null_mut(), 0)
                .cast::<Held>();
        (!held.is_null() && (*held).waiting.origin.tag == tag()).then_some(held)
    }
}

/// Asks to be called at this socket's changes of state, keeping what other programs asked for.
#[inline(always)]
fn watch(ctx: &SockOpsContext) {
    if let Some(held) = held(ctx) {
        // SAFETY: the socket's own storage.
        unsafe { (*held).phase = CONNECTING }
        let _cannot_fail_on_a_full_socket =
            ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
    }
}

#[inline(always)]
fn announce(ctx: &SockOpsContext) {
    let Some(held) = held(ctx) else { return };
    let key = tuple(ctx);
    // SAFETY: key on the stack, value at the head of the socket's storage: `Held` begins with it.
    let failed = unsafe {
        bpf_map_update_elem(
            (&raw const WAITING).cast_mut().cast(),
            (&raw const key).cast(),
            held.cast_const().cast(),
            u64::from(BPF_ANY),
        )
    };
    if failed != 0 {
        // SAFETY: the socket's own storage.
        let origin = unsafe { &raw const (*held).waiting.origin };
        let about = About { netns: key.netns, kind: 1, protocol: 6, ..About::NOTHING };
        event::of_origin(Counter::MapFull, &about, origin);
    }
}

/// Marks the entry, if nobody asked for it yet: the warden sweeps it some time later.
#[inline(always)]
fn mark_closed(ctx: &SockOpsContext) {
    let key = tuple(ctx);
    if let Some(waiting) = WAITING.get_ptr_mut(&key) {
        // SAFETY: helpers on the context; the entry may be replaced meanwhile, its memory stays until this returns.
        unsafe {
            if (*waiting).origin.cookie == bpf_get_socket_cookie(ctx.as_ptr()) {
                (*waiting).closed_at = bpf_ktime_get_boot_ns();
            }
        }
    }
}

/// The connection as the warden will ask for it.
#[inline(always)]
fn tuple(ctx: &SockOpsContext) -> Tuple {
    let ops: *mut bpf_sock_ops = ctx.ops;
    // SAFETY: fields of the context, read whole; the helper takes the context.
    unsafe {
        let mut remote = [
            (&raw const (*ops).remote_ip6[0]).read_volatile(),
            (&raw const (*ops).remote_ip6[1]).read_volatile(),
            (&raw const (*ops).remote_ip6[2]).read_volatile(),
            (&raw const (*ops).remote_ip6[3]).read_volatile(),
        ];
        let mut local = [
            (&raw const (*ops).local_ip6[0]).read_volatile(),
            (&raw const (*ops).local_ip6[1]).read_volatile(),
            (&raw const (*ops).local_ip6[2]).read_volatile(),
            (&raw const (*ops).local_ip6[3]).read_volatile(),
        ];
        let mapped = remote[0] == 0 && remote[1] == 0 && remote[2] == MAPPED;
        if ctx.family() == AF_INET || mapped {
            remote = [0, 0, MAPPED, (&raw const (*ops).remote_ip4).read_volatile()];
            local = [0, 0, MAPPED, (&raw const (*ops).local_ip4).read_volatile()];
        }
        let remote_port = (&raw const (*ops).remote_port).read_volatile();
        Tuple {
            netns: bpf_get_netns_cookie(ctx.as_ptr()),
            source: core::mem::transmute::<[u32; 4], [u8; 16]>(local),
            target: core::mem::transmute::<[u32; 4], [u8; 16]>(remote),
            source_port: (&raw const (*ops).local_port).read_volatile() as u16,
            target_port: u32::from_be(remote_port) as u16,
            zero: 0,
        }
    }
}
