//! The kernel programs: entry points only, one line each. What they do stands in the modules, in the order of a
//! connection's life: [`connect`] takes it, [`established`] makes it known to the warden, [`peername`] keeps up
//! appearances. Compiled for `bpfel-unknown-none` by `cargo xtask ebpf`, never for the host.
//!
//! They attach to tags' cgroups only. Kernel 5.15 is the oldest that they load on: every helper used here is there.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the attribute macros wrap each entry point in a bare function of its name")]
#![expect(
    unsafe_code,
    reason = "kernel contexts and maps are raw pointers; the verifier checks every access"
)]

mod connect;
mod established;
mod event;
mod maps;
mod peername;

use aya_ebpf::macros::{cgroup_sock_addr, sock_ops};
use aya_ebpf::programs::{SockAddrContext, SockOpsContext};

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

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// GPL-compatible, as the kernel demands for some helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
