//! Packets of a tagged socket, in and out: the last net below all other hooks.
//!
//! Runs for every packet, so what is most frequent comes first: what goes to or comes from loopback by the loopback
//! device is told by the first few bytes. Which socket sends is told by its storage, not by the current task: packets are
//! sent from timers and interrupts too. The kernel asks for the full socket behind a half-open one; its resets and
//! acknowledgements for sockets that are gone belong to a socket of its own, and pass by.
//!
//! Nothing is taken on trust but the device: a packet that leaves by another one than loopback is judged whatever its
//! address says (`IP_UNICAST_IF` sends 127.0.0.1 to the wire).

use aya_ebpf::bindings::bpf_sock as Sock;
use aya_ebpf::helpers::generated::{
    bpf_map_update_elem, bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id,
};
use aya_ebpf::programs::SkBuffContext;

use agent_ebpf::{Born, Config, Counter, Settings, Tuple};

use crate::address::{MAPPED, is_listeners, is_loopback, is_resolvers};
use crate::connect::DNS;
use crate::datagram::refusal;
use crate::event::{self, About};
use crate::head::{Packet, TCP, UDP, Unreadable, is_by_loopback, is_under_way, read};
use crate::maps::{ASKED, ASKERS, Asked, BORN, CONFIG, Held, ORIGINS, SETTINGS, count, is_allowed, is_known};
use crate::pace;
use crate::task::DEPTH;

/// The packet is dropped; on the way out the sender sees EPERM.
const STOP: i32 = 0;
/// The packet goes on.
const PASS: i32 = 1;
/// The packet is dropped as by a full queue (on the way out only): TCP sends it again after half a second, and a
/// sender of datagrams sees no error.
const LATER: i32 = 2;

/// A packet that does not go on, unless the agent sent it.
struct Halted {
    why: Counter,
    answer: i32,
    about: About,
}

/// A packet on its way out.
#[inline(always)]
pub fn egress(ctx: &SkBuffContext) -> i32 {
    if is_under_way(ctx) {
        return PASS;
    }
    let Some(sk) = socket(ctx) else { return STOP };
    // One place for all that is rare: the verifier follows each way to it.
    match judge(ctx, sk) {
        Ok(()) => PASS,
        Err(_) if is_agents(ctx, sk) => PASS,
        Err(halted) => {
            if halted.answer == LATER {
                count(Counter::HeldBack);
            }
            tell(halted.why, &halted.about, sk);
            halted.answer
        }
    }
}

#[inline(always)]
fn judge(ctx: &SkBuffContext, sk: *mut Sock) -> Result<(), Halted> {
    let packet = read(ctx).map_err(|Unreadable(why)| Halted { why, answer: STOP, about: About::NOTHING })?;
    let halted = |why| Halted { why, answer: STOP, about: about(&packet) };
    // Both are arrays of one: neither lookup can miss.
    let (Some(config), Some(settings)) = (CONFIG.get(0), SETTINGS.get(0)) else {
        return Err(halted(Counter::Egress));
    };
    let near = is_by_loopback(ctx);
    if near && is_loopback(&packet.target) {
        let left_alone = settings.flags & (Settings::TAKE_LOOPBACK | Settings::DENY_LOOPBACK) == 0;
        let v4 = packet.target[2] == MAPPED;
        if packet.protocol == TCP {
            if !packet.is_first() {
                return Ok(());
            }
            if is_listeners(config, v4, packet.target_port) {
                return first(&packet, sk);
            }
            if left_alone {
                return Ok(());
            }
        } else if packet.protocol == UDP {
            if is_resolvers(config, v4, packet.target_port) {
                return question(ctx, &packet, sk);
            }
            if left_alone {
                return Ok(());
            }
        }
    }
    last(settings, &packet, sk, near).map_err(halted)
}

/// What goes neither to loopback nor to us.
#[inline(always)]
fn last(settings: &Settings, packet: &Packet, sk: *mut Sock, near: bool) -> Result<(), Counter> {
    match packet.protocol {
        // Of a connection that was let in: by the tag's option, or because it came from this host. One that a tagged
        // process opened bears an origin, whatever it says of itself by now.
        TCP if !packet.is_first()
            && (near || settings.flags & Settings::INBOUND != 0)
            && !BORN.of(sk).is_null()
            && origin(sk).is_null() =>
        {
            Ok(())
        }
        UDP if packet.target_port != DNS && is_allowed(&packet.target, packet.target_port.to_be()) => Ok(()),
        UDP => Err(refusal(settings, &packet.target, packet.target_port)),
        TCP if is_loopback(&packet.target) => Err(Counter::LoopbackDenied),
        _ => Err(Counter::Egress),
    }
}

/// The first packet of a connection to a listener of ours: waits until there is one in its namespace.
#[inline(always)]
fn first(packet: &Packet, sk: *mut Sock) -> Result<(), Halted> {
    let held = origin(sk);
    if held.is_null() {
        return Err(Halted { why: Counter::OwnListener, answer: STOP, about: about(packet) });
    }
    // SAFETY: the socket's own storage.
    let netns = unsafe { (*held).netns };
    if is_known(netns) {
        return Ok(());
    }
    Err(Halted { why: Counter::NewNamespace, answer: LATER, about: About { netns, ..about(packet) } })
}

/// A datagram to our resolver, however it was sent: who asks is written down, now that both addresses are known.
#[inline(always)]
fn question(ctx: &SkBuffContext, packet: &Packet, sk: *mut Sock) -> Result<(), Halted> {
    let halted = |why, answer, netns| Halted { why, answer, about: About { netns, ..about(packet) } };
    // SAFETY: the socket's own storage, checked for null; key on the stack.
    unsafe {
        let asked =
            bpf_sk_storage_get((&raw const ASKED).cast_mut().cast(), sk.cast(), core::ptr::null_mut(), 0)
                .cast::<Asked>();
        if asked.is_null() {
            return Err(halted(Counter::OwnListener, STOP, 0));
        }
        let netns = (*asked).netns;
        if !is_known(netns) {
            return Err(halted(Counter::NewNamespace, LATER, netns));
        }
        if !pace::may_ask(ctx) {
            return Err(halted(Counter::DnsPace, STOP, netns));
        }
        let key = Tuple {
            netns,
            source: core::mem::transmute::<[u32; 4], [u8; 16]>(packet.source),
            target: core::mem::transmute::<[u32; 4], [u8; 16]>(packet.target),
            source_port: packet.source_port,
            target_port: packet.target_port,
            zero: 0,
        };
        let map = (&raw const ASKERS).cast_mut().cast();
        let origin = &raw const (*asked).origin;
        if bpf_map_update_elem(map, (&raw const key).cast(), origin.cast(), 0) != 0 {
            return Err(halted(Counter::MapFull, STOP, netns));
        }
    }
    Ok(())
}

/// A packet on its way in.
#[inline(always)]
pub fn ingress(ctx: &SkBuffContext) -> i32 {
    if is_by_loopback(ctx) {
        return PASS; // From this host.
    }
    let Some(settings) = SETTINGS.get(0) else { return STOP };
    if settings.flags & Settings::INBOUND != 0 {
        return PASS;
    }
    let Some(sk) = socket(ctx) else { return STOP };
    if is_agents(ctx, sk) {
        return PASS;
    }
    let Ok(packet) = read(ctx) else {
        count(Counter::Inbound);
        return STOP;
    };
    if packet.protocol == UDP && is_allowed(&packet.source, packet.source_port.to_be()) {
        return PASS;
    }
    if packet.protocol == TCP && packet.is_first() {
        let about = About {
            words: packet.source,
            port: packet.source_port,
            kind: 1,
            protocol: 6,
            detail: u32::from(packet.target_port),
            ..About::NOTHING
        };
        tell(Counter::Inbound, &about, sk);
        return STOP;
    }
    count(Counter::Inbound); // What broadcasts reach is worth no journal entry.
    STOP
}

/// The socket that the kernel asks for; it is never without.
#[inline(always)]
fn socket(ctx: &SkBuffContext) -> Option<*mut Sock> {
    // SAFETY: a field of the context, checked for null, as is the helper's answer.
    unsafe {
        let sk = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() { None } else { Some(sk) }
    }
}

/// What connect() left beside the socket; null if nothing.
#[inline(always)]
fn origin(sk: *mut Sock) -> *mut Held {
    // SAFETY: a full socket.
    unsafe {
        bpf_sk_storage_get((&raw const ORIGINS).cast_mut().cast(), sk.cast(), core::ptr::null_mut(), 0).cast()
    }
}

/// Whether the socket is the agent's own, which may lie inside a tag: by its mark, or, made before the tag was, by its
/// cgroup.
#[inline(always)]
fn is_agents(ctx: &SkBuffContext, sk: *mut Sock) -> bool {
    let born: *mut Born = BORN.of(sk);
    // SAFETY: the socket's own storage, checked for null; helpers on the packet.
    unsafe {
        if !born.is_null() {
            return (*born).flags & Born::AGENT != 0;
        }
        let Some(config) = CONFIG.get(0) else { return false };
        lies_in(ctx, config)
    }
}

#[inline(always)]
fn lies_in(ctx: &SkBuffContext, config: &Config) -> bool {
    if config.agent_cgroup == 0 {
        return false;
    }
    let skb = ctx.skb.skb;
    // SAFETY: helpers on the packet, whose socket is known.
    unsafe {
        if bpf_skb_cgroup_id(skb) == config.agent_cgroup {
            return true;
        }
        let mut level = 1;
        while level <= DEPTH {
            let id = bpf_skb_ancestor_cgroup_id(skb, level);
            if id == config.agent_cgroup {
                return true;
            }
            if id == 0 {
                return false;
            }
            level += 1;
        }
    }
    false
}

#[inline(always)]
fn about(packet: &Packet) -> About {
    About {
        words: packet.target,
        port: packet.target_port,
        protocol: u16::from(packet.protocol),
        ..About::NOTHING
    }
}

/// Tells of a packet that is stopped.
#[inline(always)]
fn tell(why: Counter, about: &About, sk: *mut Sock) {
    // SAFETY: fields of a full socket, read whole.
    let about = unsafe {
        About {
            family: (&raw const (*sk).family).read_volatile() as u16,
            kind: (&raw const (*sk).type_).read_volatile() as u16,
            ..*about
        }
    };
    event::of_born(why, &about, BORN.of(sk));
}
