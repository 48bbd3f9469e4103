//! socket() of a tagged process: TCP, multipath TCP where the tag has it, UDP; nothing else of IPv4 and IPv6, since
//! nothing else passes the hooks that lead connections (UDP-Lite, SCTP, DCCP, ping and raw sockets do not). Other
//! families have no hook here: the LSM refuses them, where there is one.
//!
//! Every socket is marked as born in the tag.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::SockContext;

use agent_ebpf::{Born, Counter, Origin, Settings};

use crate::connect::{PASS, REFUSE};
use crate::event::{self, About};
use crate::maps::{BORN, CONFIG, SETTINGS, is_known};
use crate::task;

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_MPTCP: u32 = 262;

/// The hook.
#[inline(always)]
pub fn on(ctx: &SockContext) -> i32 {
    let sk = ctx.sock;
    // SAFETY: fields of the context, read whole; the helper takes the context.
    let (kind, protocol, family, netns) = unsafe {
        (
            (&raw const (*sk).type_).read_volatile(),
            (&raw const (*sk).protocol).read_volatile(),
            (&raw const (*sk).family).read_volatile(),
            bpf_get_netns_cookie(ctx.as_ptr()),
        )
    };
    let about = About {
        family: family as u16,
        protocol: protocol as u16,
        kind: kind as u16,
        netns,
        ..About::NOTHING
    };
    // Both are arrays of one: neither lookup can miss.
    let (Some(config), Some(settings)) = (CONFIG.get(0), SETTINGS.get(0)) else { return REFUSE };
    let agent = task::is_agent(config);
    if !agent && let Err(why) = judge(kind, protocol, settings) {
        event::of_task(why, &about);
        return REFUSE;
    }
    if !mark(sk, netns, settings, agent) {
        event::of_task(Counter::MapFull, &about);
        return REFUSE;
    }
    if !agent && !is_known(netns) {
        event::of_task(Counter::NewNamespace, &about);
    }
    PASS
}

#[inline(always)]
fn judge(kind: u32, protocol: u32, settings: &Settings) -> Result<(), Counter> {
    match (kind, protocol) {
        (SOCK_STREAM, IPPROTO_TCP) | (SOCK_DGRAM, IPPROTO_UDP) => Ok(()),
        (SOCK_STREAM, IPPROTO_MPTCP) if settings.flags & Settings::NO_MPTCP == 0 => Ok(()),
        (SOCK_STREAM, IPPROTO_MPTCP) => Err(Counter::Mptcp),
        _ => Err(Counter::Protocol),
    }
}

/// Marks the socket, unless the program of an inner tag did. False without memory.
#[inline(always)]
fn mark(sk: *mut bpf_sock, netns: u64, settings: &Settings, agent: bool) -> bool {
    let born: *mut Born = BORN.of_or_new(sk);
    if born.is_null() {
        return false;
    }
    // SAFETY: the socket's own storage.
    unsafe {
        if (*born).netns != 0 {
            return true;
        }
        let mut caller = core::mem::MaybeUninit::<Origin>::uninit();
        let caller = caller.as_mut_ptr();
        task::sign(caller);
        (*born).cgroup = (*caller).cgroup;
        (*born).tgid = (*caller).tgid;
        (*born).pid = (*caller).pid;
        (*born).uid = (*caller).uid;
        (*born).gid = (*caller).gid;
        (*born).comm = (*caller).comm;
        (*born).tag = if agent { 0 } else { settings.tag };
        (*born).flags = if agent { Born::AGENT } else { 0 };
        (*born).netns = netns;
    }
    true
}
