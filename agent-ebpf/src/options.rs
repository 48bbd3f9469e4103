//! setsockopt() of a tagged process: nothing that leads packets past the listener or makes them look like somebody
//! else's.
//!
//! * A source route: the kernel sends the first packet to the route's first hop, whatever address connect() was given or
//!   rewritten to: the SYN, and with it the data of TCP Fast Open, would leave the host past the listener. Any user may
//!   ask for one (RFC 791 loose source route; IPv6 routing header). Seen on 6.18 with a SYN on the wire.
//! * A device other than loopback: the rewritten address cannot be reached by it.
//! * A mark, a foreign source address, a connection made out of nothing (`TCP_REPAIR`): with the privilege that they take,
//!   packets would meet other rules of the host than the process's own.
//! * A multicast group: the kernel reports it to the neighbours from a socket of its own, with up to 14 bytes of the
//!   job's choice in each report (RFC 3376, RFC 3810), past every other hook. Any user may join one. Nobody needs it: what
//!   is sent to groups is refused in both directions anyway.
//!
//! The kernel does not ask here about calls of the 32-bit kind, which 64-bit programs can make too (`in_compat_syscall()` in
//! net/socket.c). What they would gain by the others is stopped by other hooks; by a group, by the LSM's only.

use aya_ebpf::programs::SockoptContext;

use agent_ebpf::{Born, Counter, joins_group};

use crate::connect::{LOOPBACK_INTERFACE, PASS, REFUSE};
use crate::event::{self, About};
use crate::maps::BORN;

const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;
const SO_MARK: i32 = 36;
const SO_BINDTOIFINDEX: i32 = 62;
const IPPROTO_IP: i32 = 0;
const IP_OPTIONS: i32 = 4;
const IP_IPSEC_POLICY: i32 = 16;
const IP_XFRM_POLICY: i32 = 17;
const IP_TRANSPARENT: i32 = 19;
const IP_UNICAST_IF: i32 = 50;
const IPPROTO_TCP: i32 = 6;
const TCP_REPAIR: i32 = 19;
const IPPROTO_IPV6: i32 = 41;
const IPV6_2292RTHDR: i32 = 5;
const IPV6_2292PKTOPTIONS: i32 = 6;
const IPV6_IPSEC_POLICY: i32 = 34;
const IPV6_XFRM_POLICY: i32 = 35;
const IPV6_RTHDR: i32 = 57;
const IPV6_TRANSPARENT: i32 = 75;
const IPV6_UNICAST_IF: i32 = 76;
/// The smallest page: what the kernel shows to programs at most.
const SHOWN: i32 = 4096;

/// What is said with an option.
enum Meaning {
    /// A source route; an empty one is welcome: it clears what there was.
    Route,
    /// The number of a device, in host or network byte order; 0 is none.
    Device,
    /// The name of a device; an empty one is none.
    DeviceName,
    /// Refused unless it is switched off with 0.
    Disguise,
    /// Refused whatever its value.
    Group,
}

/// The hook.
#[inline(always)]
pub fn guard(ctx: &SockoptContext) -> i32 {
    let so = ctx.sockopt;
    // SAFETY: fields of the context, read whole.
    let (level, name, length) = unsafe {
        (
            (&raw const (*so).level).read_volatile(),
            (&raw const (*so).optname).read_volatile(),
            (&raw const (*so).optlen).read_volatile(),
        )
    };
    if let Some(why) = meaning(level, name).and_then(|meaning| refusal(ctx, meaning, length)) {
        // SAFETY: the context's own socket, checked for null.
        unsafe {
            let sk = (*so).__bindgen_anon_1.sk;
            let mut about = About { detail: (level as u32) << 16 | (name as u32) & 0xffff, ..About::NOTHING };
            if sk.is_null() {
                event::of_born(why, &about, core::ptr::null());
                return REFUSE;
            }
            let born: *const Born = BORN.of(sk);
            if !born.is_null() && (*born).flags & Born::AGENT != 0 {
                return PASS;
            }
            about.family = (&raw const (*sk).family).read_volatile() as u16;
            about.kind = (&raw const (*sk).type_).read_volatile() as u16;
            about.protocol = (&raw const (*sk).protocol).read_volatile() as u16;
            event::of_born(why, &about, born);
        }
        return REFUSE;
    }
    if length > SHOWN {
        // SAFETY: the field that says whose buffer counts: 0 is the caller's own. The kernel's copy is cut to a page,
        // and some kernels fail the call if a program leaves a longer length standing.
        unsafe { (&raw mut (*so).optlen).write_volatile(0) }
    }
    PASS
}

#[inline(always)]
fn meaning(level: i32, name: i32) -> Option<Meaning> {
    match (level, name) {
        (IPPROTO_IP, IP_OPTIONS) | (IPPROTO_IPV6, IPV6_RTHDR | IPV6_2292RTHDR | IPV6_2292PKTOPTIONS) => {
            Some(Meaning::Route)
        }
        (SOL_SOCKET, SO_BINDTODEVICE) => Some(Meaning::DeviceName),
        (SOL_SOCKET, SO_BINDTOIFINDEX) | (IPPROTO_IP, IP_UNICAST_IF) | (IPPROTO_IPV6, IPV6_UNICAST_IF) => {
            Some(Meaning::Device)
        }
        (SOL_SOCKET, SO_MARK)
        | (IPPROTO_IP, IP_TRANSPARENT | IP_IPSEC_POLICY | IP_XFRM_POLICY)
        | (IPPROTO_TCP, TCP_REPAIR)
        | (IPPROTO_IPV6, IPV6_TRANSPARENT | IPV6_IPSEC_POLICY | IPV6_XFRM_POLICY) => Some(Meaning::Disguise),
        _ if joins_group(level, name) => Some(Meaning::Group),
        _ => None,
    }
}

/// Why the call is refused, if it is.
#[inline(always)]
fn refusal(ctx: &SockoptContext, meaning: Meaning, length: i32) -> Option<Counter> {
    match meaning {
        Meaning::Route if length == 0 => None,
        Meaning::Route => Some(Counter::SourceRoute),
        Meaning::Device => match number(ctx) {
            Some(0 | LOOPBACK_INTERFACE) => None,
            Some(device) if device == LOOPBACK_INTERFACE.to_be() => None,
            _ => Some(Counter::BoundDevice),
        },
        Meaning::DeviceName if length == 0 || is_loopback_or_none(ctx) => None,
        Meaning::DeviceName => Some(Counter::BoundDevice),
        Meaning::Disguise if number(ctx) == Some(0) => None,
        Meaning::Disguise | Meaning::Group => Some(Counter::Disguise),
    }
}

/// The value as a number: its first four bytes, or its only one.
#[inline(always)]
fn number(ctx: &SockoptContext) -> Option<u32> {
    let so = ctx.sockopt;
    // SAFETY: the kernel's copy of the value, read within its end.
    unsafe {
        let value = (*so).__bindgen_anon_2.optval as usize;
        let end = (*so).__bindgen_anon_3.optval_end as usize;
        if value + 4 <= end {
            return Some((value as *const u32).read_unaligned());
        }
        if value + 1 <= end {
            return Some(u32::from((value as *const u8).read()));
        }
    }
    None
}

/// Whether the value is `lo` or an empty name.
#[inline(always)]
fn is_loopback_or_none(ctx: &SockoptContext) -> bool {
    let so = ctx.sockopt;
    // SAFETY: the kernel's copy of the value, read within its end.
    unsafe {
        let value = (*so).__bindgen_anon_2.optval as usize;
        let end = (*so).__bindgen_anon_3.optval_end as usize;
        let name = value as *const u8;
        if value + 1 > end {
            return false;
        }
        if name.read() == 0 {
            return true;
        }
        if value + 2 > end || name.read() != b'l' || name.add(1).read() != b'o' {
            return false;
        }
        value + 3 > end || name.add(2).read() == 0
    }
}
