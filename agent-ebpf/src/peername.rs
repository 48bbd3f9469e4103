//! getpeername(): a taken socket shows the address that it dialled, not the listener or the resolver that answers.

use aya_ebpf::programs::SockAddrContext;

use crate::address::{address4, address6, port, write4, write6};
use crate::connect::PASS;
use crate::datagram;
use crate::maps::{Held, ORIGINS};

/// The hook of IPv4 sockets.
#[inline(always)]
pub fn v4(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    let shown = address4(sa);
    // SAFETY: the socket's own storage, checked for null.
    unsafe {
        let held: *mut Held = ORIGINS.get_ptr_mut(ctx);
        if held.is_null() {
            let server = datagram::server((*sa).__bindgen_anon_1.sk, &shown, port(sa));
            if !server.is_null() {
                write4(sa, &(*server).words, (*server).port);
            }
        } else if (*held).target_port == port(sa) && (*held).target[3] == shown[3] {
            let origin = &raw const (*held).waiting.origin;
            let words = (&raw const (*origin).address).cast::<[u32; 4]>();
            write4(sa, &*words, u32::from((*origin).port.to_be()));
        }
    }
    PASS
}

/// The hook of IPv6 sockets.
#[inline(always)]
pub fn v6(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    let shown = address6(sa);
    // SAFETY: the socket's own storage, checked for null.
    unsafe {
        let held: *mut Held = ORIGINS.get_ptr_mut(ctx);
        if held.is_null() {
            let server = datagram::server((*sa).__bindgen_anon_1.sk, &shown, port(sa));
            if !server.is_null() {
                write6(sa, &(*server).words, (*server).port);
            }
        } else if (*held).target_port == port(sa)
            && (*held).target[0] == shown[0]
            && (*held).target[1] == shown[1]
            && (*held).target[2] == shown[2]
            && (*held).target[3] == shown[3]
        {
            let origin = &raw const (*held).waiting.origin;
            let words = (&raw const (*origin).address).cast::<[u32; 4]>();
            write6(sa, &*words, u32::from((*origin).port.to_be()));
        }
    }
    PASS
}
