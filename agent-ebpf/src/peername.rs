//! getpeername(): a taken socket shows the address that it dialled, not the listener that answers.

use aya_ebpf::programs::SockAddrContext;

use crate::connect::{address6, port};
use crate::maps::{Held, ORIGINS};

/// The call goes on; no other answer is allowed here.
const PASS: i32 = 1;

/// The hook of IPv4 sockets.
#[inline(always)]
pub fn v4(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    // SAFETY: fields of the context; the socket's own storage, checked for null.
    unsafe {
        let held: *mut Held = ORIGINS.get_ptr_mut(ctx);
        if !held.is_null()
            && (*held).target_port == port(sa)
            && (*held).target[3] == (&raw const (*sa).user_ip4).read_volatile()
        {
            let origin = &raw const (*held).waiting.origin;
            let words = (&raw const (*origin).address).cast::<[u32; 4]>();
            (&raw mut (*sa).user_ip4).write_volatile((*words)[3]);
            (&raw mut (*sa).user_port).write_volatile(u32::from((*origin).port.to_be()));
        }
    }
    PASS
}

/// The hook of IPv6 sockets.
#[inline(always)]
pub fn v6(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    let shown = address6(sa);
    // SAFETY: fields of the context; the socket's own storage, checked for null.
    unsafe {
        let held: *mut Held = ORIGINS.get_ptr_mut(ctx);
        if !held.is_null()
            && (*held).target_port == port(sa)
            && (*held).target[0] == shown[0]
            && (*held).target[1] == shown[1]
            && (*held).target[2] == shown[2]
            && (*held).target[3] == shown[3]
        {
            let origin = &raw const (*held).waiting.origin;
            let words = (&raw const (*origin).address).cast::<[u32; 4]>();
            (&raw mut (*sa).user_ip6[0]).write_volatile((*words)[0]);
            (&raw mut (*sa).user_ip6[1]).write_volatile((*words)[1]);
            (&raw mut (*sa).user_ip6[2]).write_volatile((*words)[2]);
            (&raw mut (*sa).user_ip6[3]).write_volatile((*words)[3]);
            (&raw mut (*sa).user_port).write_volatile(u32::from((*origin).port.to_be()));
        }
    }
    PASS
}
