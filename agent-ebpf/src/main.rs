//! The kernel programs: entry points only, one line each. What they do stands in the modules, in the order of a socket's
//! life: [`create`] marks it, [`options`] and [`bind`] guard what is done to it, [`connect`] takes its connection and
//! [`datagram`] its questions, [`established`] makes a connection known to the warden, [`packet`] looks at all that it
//! sends and receives, [`peername`] keeps up appearances. Compiled for `bpfel-unknown-none` by `cargo xtask ebpf`, never
//! for the host.
//!
//! They attach to tags' cgroups only. Kernel 5.15 is the oldest that they load on: every helper used here is there.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the atomic add of the target has no stable name")]
#![expect(missing_docs, reason = "the attribute macros wrap each entry point in a bare function of its name")]
#![expect(
    unsafe_code,
    reason = "kernel contexts and maps are raw pointers; the verifier checks every access"
)]

mod address;
mod bind;
mod connect;
mod create;
mod datagram;
mod established;
mod event;
mod head;
mod maps;
mod options;
mod pace;
mod packet;
mod peername;
mod task;
mod told;

use aya_ebpf::macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, cgroup_sockopt, sock_ops};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockContext, SockOpsContext, SockoptContext};

/// socket() for IPv4 and IPv6.
#[cgroup_sock(sock_create)]
pub fn create(ctx: SockContext) -> i32 {
    create::on(&ctx)
}

/// setsockopt() on any socket.
#[cgroup_sockopt(setsockopt)]
pub fn options(ctx: SockoptContext) -> i32 {
    options::guard(&ctx)
}

/// bind() on an IPv4 socket.
#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    bind::v4(&ctx)
}

/// bind() on an IPv6 socket.
#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    bind::v6(&ctx)
}

/// connect() on an IPv4 socket.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    connect::v4(&ctx)
}

/// connect() on an IPv6 socket, to IPv6 and to v4-mapped addresses.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    connect::v6(&ctx)
}

/// sendmsg() with an address, on an IPv4 socket or to a v4-mapped address.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    datagram::send4(&ctx)
}

/// sendmsg() with an address, on an IPv6 socket.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    datagram::send6(&ctx)
}

/// recvmsg() on an IPv4 datagram socket.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    datagram::receive4(&ctx)
}

/// recvmsg() on an IPv6 datagram socket.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    datagram::receive6(&ctx)
}

/// getpeername() on an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    peername::v4(&ctx)
}

/// getpeername() on an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    peername::v6(&ctx)
}

/// TCP's own milestones.
#[sock_ops]
pub fn established(ctx: SockOpsContext) -> u32 {
    established::on(&ctx)
}

/// Every packet that a socket sends.
#[cgroup_skb(egress)]
pub fn outward(ctx: SkBuffContext) -> i32 {
    packet::egress(&ctx)
}

/// Every packet that a socket receives.
#[cgroup_skb(ingress)]
pub fn inward(ctx: SkBuffContext) -> i32 {
    packet::ingress(&ctx)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// GPL-compatible, as the kernel demands for some helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
