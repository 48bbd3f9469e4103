//! Datagrams of a tagged process: questions to name servers are led to the resolver, the rest is refused unless a rule of
//! the tag lets it out.
//!
//! connect() on a datagram socket sends nothing, and the resolvers of glibc, musl and Go call it on every address of a
//! host to sort them (RFC 6724), whatever protocol follows. So it passes, and what is sent on such a socket is stopped
//! as a packet ([`crate::packet`]): no sendmsg hook runs for it.
//!
//! Nothing here looks at the address family that the caller gave: a sendto() with `AF_UNSPEC` is one to an IPv4 address.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sk_storage_get};
use aya_ebpf::programs::SockAddrContext;

use agent_ebpf::{Config, Counter, Settings};

use crate::address::{
    Dialled, MAPPED, address4, address6, is_loopback, is_metadata, is_resolvers, is_v4, port, write4, write6,
};
use crate::connect::{
    DNS, DNS_OVER_TLS, Otherwise, PASS, Target, answer, dialled4, dialled6, lead4, lead6, note,
};
use crate::maps::{ASKED, Asked, CONFIG, SERVERS, SETTINGS, Server, count, is_allowed};
use crate::task;

/// HTTP/3 and whatever else speaks QUIC.
const QUIC: u16 = 443;

/// sendmsg() with an address on an IPv4 socket, or to a v4-mapped address.
#[inline(always)]
pub fn send4(ctx: &SockAddrContext) -> i32 {
    let judged = judge(ctx, &dialled4(ctx));
    lead4(ctx, judged)
}

/// sendmsg() with an address on an IPv6 socket.
#[inline(always)]
pub fn send6(ctx: &SockAddrContext) -> i32 {
    let judged = judge(ctx, &dialled6(ctx));
    lead6(ctx, judged)
}

#[inline(always)]
fn judge(ctx: &SockAddrContext, dialled: &Dialled) -> Result<Target, i32> {
    answer(ctx, dialled, lead(ctx, dialled))
}

/// connect(): led to the resolver, refused if it dials that by itself, and nothing else.
#[inline(always)]
pub fn connect(ctx: &SockAddrContext, dialled: &Dialled) -> Result<Target, Otherwise> {
    match lead(ctx, dialled) {
        Err(Otherwise::Refused(why @ (Counter::OwnListener | Counter::NoResolver | Counter::MapFull))) => {
            Err(Otherwise::Refused(why))
        }
        Err(_) => Err(Otherwise::Untouched),
        led => led,
    }
}

#[inline(always)]
fn lead(ctx: &SockAddrContext, dialled: &Dialled) -> Result<Target, Otherwise> {
    if already_led(ctx, dialled) {
        return Err(Otherwise::Untouched);
    }
    // Both are arrays of one: neither lookup can miss.
    let (Some(config), Some(settings)) = (CONFIG.get(0), SETTINGS.get(0)) else {
        return Err(Otherwise::Refused(Counter::NoListener));
    };
    if task::is_agent(config) {
        return Err(Otherwise::Left(Counter::Agent));
    }
    if dialled.port() == DNS {
        return ask(ctx, config, settings, dialled);
    }
    if is_loopback(&dialled.words) && is_resolvers(config, dialled.is_v4(), dialled.port()) {
        return Err(Otherwise::Refused(Counter::OwnListener));
    }
    if is_allowed(&dialled.words, dialled.port as u16) {
        return Err(Otherwise::Left(Counter::UdpAllowed));
    }
    if is_loopback(&dialled.words)
        && settings.flags & (Settings::DENY_LOOPBACK | Settings::TAKE_LOOPBACK) == 0
    {
        return Err(Otherwise::Left(Counter::Loopback));
    }
    Err(Otherwise::Refused(refusal(settings, &dialled.words, dialled.port())))
}

/// Why datagrams to this address and port (host byte order) are refused.
#[inline(always)]
pub fn refusal(settings: &Settings, words: &[u32; 4], port: u16) -> Counter {
    if is_loopback(words) {
        return Counter::LoopbackDenied;
    }
    if settings.flags & Settings::METADATA == 0 && is_metadata(words) {
        return Counter::Metadata;
    }
    match port {
        QUIC => Counter::Quic,
        DNS_OVER_TLS => Counter::DnsOverTls,
        _ => Counter::Udp,
    }
}

/// Whether this call went through one of our programs already. A process that sends to that address by itself gets what
/// it had before: its question answered.
#[inline(always)]
fn already_led(ctx: &SockAddrContext, dialled: &Dialled) -> bool {
    // SAFETY: the storage of the context's own socket; null when it has none.
    unsafe {
        let asked = ASKED.get_ptr_mut(ctx);
        !asked.is_null() && (*asked).target_port != 0 && dialled.is(&(*asked).target, (*asked).target_port)
    }
}

/// Remembers who asks which server, and leads the question to the resolver.
#[inline(always)]
fn ask(
    ctx: &SockAddrContext,
    config: &Config,
    settings: &Settings,
    dialled: &Dialled,
) -> Result<Target, Otherwise> {
    let v4 = dialled.is_v4();
    let own = if v4 { config.dns4 } else { config.dns6 };
    if own == 0 {
        return Err(Otherwise::Refused(Counter::NoResolver));
    }
    // SAFETY: the storage of the context's own socket, checked for null; helpers on the current task and context.
    unsafe {
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        let asked = bpf_sk_storage_get(
            (&raw const ASKED).cast_mut().cast(),
            sk.cast(),
            core::ptr::null_mut(),
            create,
        )
        .cast::<Asked>();
        if asked.is_null() {
            return Err(Otherwise::Refused(Counter::MapFull));
        }
        (*asked).target_port = 0;
        let words = if v4 {
            let slot = slot(asked, dialled);
            let v4 = u32::from(config.prefix4) << 16 | (settings.tag & 0xff) << 8 | (1 + slot);
            [0, 0, MAPPED, v4.to_be()]
        } else {
            (*asked).server6 = Server { words: dialled.words, port: dialled.port, zero: 0 };
            [0, 0, 0, 1_u32.to_be()]
        };
        (*asked).netns = bpf_get_netns_cookie(ctx.as_ptr());
        note(ctx, &raw mut (*asked).origin, dialled, settings);
        (*asked).target = words;
        (*asked).target_port = u32::from(own.to_be());
        count(Counter::Dns);
        Ok(Target { words, port: u32::from(own.to_be()) })
    }
}

/// The slot of an IPv4 server: its own, or the one that was given out longest ago.
///
/// # Safety
/// `asked` is valid.
#[inline(always)]
unsafe fn slot(asked: *mut Asked, dialled: &Dialled) -> u32 {
    // SAFETY: the caller's word; indices below `SERVERS`.
    unsafe {
        let mut i = 0;
        while i < SERVERS {
            let server = &raw const (*asked).servers[i];
            if (*server).port == dialled.port && (*server).words[3] == dialled.words[3] {
                return i as u32;
            }
            i += 1;
        }
        let slot = (*asked).next & (SERVERS as u32 - 1);
        (*asked).next = slot + 1;
        let server = &raw mut (*asked).servers[slot as usize];
        *server = Server { words: dialled.words, port: dialled.port, zero: 0 };
        slot
    }
}

/// The name server that a socket asked, if `words` and `port` (network byte order) are the resolver's that answers in its
/// place; null otherwise.
#[inline(always)]
pub fn server(sk: *mut bpf_sock, words: &[u32; 4], port: u32) -> *const Server {
    let Some(config) = CONFIG.get(0) else { return core::ptr::null() };
    let v4 = is_v4(words);
    if !is_resolvers(config, v4, u16::from_be(port as u16)) {
        return core::ptr::null();
    }
    // SAFETY: the socket's own storage, checked for null.
    unsafe {
        let asked =
            bpf_sk_storage_get((&raw const ASKED).cast_mut().cast(), sk.cast(), core::ptr::null_mut(), 0)
                .cast::<Asked>();
        if asked.is_null() {
            return core::ptr::null();
        }
        let server = if v4 {
            let address = u32::from_be(words[3]);
            if address >> 16 != u32::from(config.prefix4) {
                return core::ptr::null();
            }
            let slot = (address & 0xff).wrapping_sub(1) & (SERVERS as u32 - 1);
            &raw const (*asked).servers[slot as usize]
        } else {
            &raw const (*asked).server6
        };
        if (*server).port == 0 { core::ptr::null() } else { server }
    }
}

/// recvmsg() on an IPv4 socket: the answer comes from the server that was asked.
#[inline(always)]
pub fn receive4(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    // SAFETY: the context's socket; a pointer into its storage, checked for null.
    unsafe {
        let server = server((*sa).__bindgen_anon_1.sk, &address4(sa), port(sa));
        if !server.is_null() {
            write4(sa, &(*server).words, (*server).port);
        }
    }
    PASS
}

/// recvmsg() on an IPv6 socket.
#[inline(always)]
pub fn receive6(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    // SAFETY: the context's socket; a pointer into its storage, checked for null.
    unsafe {
        let server = server((*sa).__bindgen_anon_1.sk, &address6(sa), port(sa));
        if !server.is_null() {
            write6(sa, &(*server).words, (*server).port);
        }
    }
    PASS
}
