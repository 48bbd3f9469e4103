//! bind() of a tagged process: any address, but none of the ports on which our listeners and the resolver stand. While
//! the agent is away, a job that runs as root would otherwise be handed other jobs' connections.

use aya_ebpf::programs::SockAddrContext;

use agent_ebpf::{Config, Counter};

use crate::address::{Dialled, address4, address6, is_listeners, is_resolvers, port};
use crate::connect::{AF_INET, AF_INET6, PASS, REFUSE};
use crate::event::refused;
use crate::maps::CONFIG;
use crate::task;

/// The hook of IPv4 sockets.
#[inline(always)]
pub fn v4(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    judge(ctx, &Dialled { words: address4(sa), port: port(sa), family: AF_INET })
}

/// The hook of IPv6 sockets. One on `[::]` has IPv4's ports too.
#[inline(always)]
pub fn v6(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    judge(ctx, &Dialled { words: address6(sa), port: port(sa), family: AF_INET6 })
}

#[inline(always)]
fn judge(ctx: &SockAddrContext, asked: &Dialled) -> i32 {
    let Some(config) = CONFIG.get(0) else { return REFUSE };
    if !is_ours(config, asked.port()) || task::is_agent(config) {
        return PASS;
    }
    refused(ctx, asked, Counter::Bind);
    REFUSE
}

#[inline(always)]
fn is_ours(config: &Config, port: u16) -> bool {
    is_listeners(config, true, port)
        || is_listeners(config, false, port)
        || is_resolvers(config, true, port)
        || is_resolvers(config, false, port)
}
