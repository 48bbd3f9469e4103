//! setsockopt(): a tagged socket gets no source route.
//!
//! With one, the kernel sends the first packet to the route's first hop, whatever address connect() was given or
//! rewritten to: the SYN, and with it the data of TCP Fast Open, would leave the host past the listener. Any user may
//! ask for one (RFC 791 loose source route; IPv6 routing header). Seen on 6.18 with a SYN on the wire.

use aya_ebpf::programs::SockoptContext;

use agent_ebpf::Counter;

use crate::event::refused;

/// setsockopt() fails with EPERM.
const REFUSE: i32 = 0;
/// setsockopt() goes on.
const PASS: i32 = 1;

const IPPROTO_IP: i32 = 0;
const IP_OPTIONS: i32 = 4;
const IPPROTO_IPV6: i32 = 41;
const IPV6_2292RTHDR: i32 = 5;
const IPV6_2292PKTOPTIONS: i32 = 6;
const IPV6_RTHDR: i32 = 57;
/// The smallest page: what the kernel shows to programs at most.
const SHOWN: i32 = 4096;

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
    let routes = (level == IPPROTO_IP && name == IP_OPTIONS)
        || (level == IPPROTO_IPV6
            && (name == IPV6_RTHDR || name == IPV6_2292RTHDR || name == IPV6_2292PKTOPTIONS));
    if routes && length != 0 {
        refused(ctx, Counter::SourceRoute);
        return REFUSE; // Clearing them (length 0) is welcome.
    }
    if length > SHOWN {
        // SAFETY: the field that says whose buffer counts: 0 is the caller's own. The kernel's copy is cut to a page,
        // and some kernels fail the call if a program leaves a longer length standing.
        unsafe { (&raw mut (*so).optlen).write_volatile(0) }
    }
    PASS
}
