//! connect() of a tagged process: leave it alone, refuse it, or remember where it goes and lead it to a listener.
//!
//! The kernel calls this for the cgroup in which the *socket* was created; who is calling is the *task*. The same
//! connect() may run through here twice: systemd attaches these programs to a unit before its first process, the warden
//! attaches its link later, and tags may be nested. The first run decides; a later one sees its work and lets it be.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie,
    bpf_ktime_get_boot_ns,
};
use aya_ebpf::programs::SockAddrContext;

use agent_ebpf::{Config, Counter, Origin, PORTS6, Settings};

use crate::address::{
    Dialled, MAPPED, address4, address6, is_listeners, is_loopback, is_metadata, port, write4, write6,
};
use crate::event::refused;
use crate::maps::{CONFIG, Held, ORIGINS, REWRITTEN, SETTINGS, count};
use crate::{datagram, task};

/// What the kernel takes for an answer: the call fails with EPERM.
pub const REFUSE: i32 = 0;
/// The call goes on, with whatever address the context holds now.
pub const PASS: i32 = 1;

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;
/// DNS.
pub const DNS: u16 = 53;
/// DNS over TLS (TCP) and over QUIC (UDP).
pub const DNS_OVER_TLS: u16 = 853;
/// `LOOPBACK_IFINDEX`: the same in every network namespace.
pub const LOOPBACK_INTERFACE: u32 = 1;

/// Where a call is led to: network byte order.
pub struct Target {
    pub words: [u32; 4],
    pub port: u32,
}

/// What is not led anywhere.
pub enum Otherwise {
    /// What a program of ours has led already, and what sends nothing yet: untouched.
    Untouched,
    /// Left alone on purpose.
    Left(Counter),
    /// Refused.
    Refused(Counter),
}

/// The hook of IPv4 sockets.
#[inline(always)]
pub fn v4(ctx: &SockAddrContext) -> i32 {
    let judged = judge(ctx, &dialled4(ctx));
    lead4(ctx, judged)
}

/// The hook of IPv6 sockets.
#[inline(always)]
pub fn v6(ctx: &SockAddrContext) -> i32 {
    let judged = judge(ctx, &dialled6(ctx));
    lead6(ctx, judged)
}

/// The IPv4 address that a call was made with.
#[inline(always)]
pub fn dialled4(ctx: &SockAddrContext) -> Dialled {
    Dialled { words: address4(ctx.sock_addr), port: port(ctx.sock_addr), family: AF_INET }
}

/// The IPv6 address that a call was made with.
#[inline(always)]
pub fn dialled6(ctx: &SockAddrContext) -> Dialled {
    Dialled { words: address6(ctx.sock_addr), port: port(ctx.sock_addr), family: AF_INET6 }
}

/// Leads a call with an IPv4 address where it was judged to go; the answer of the hook.
#[inline(always)]
pub fn lead4(ctx: &SockAddrContext, judged: Result<Target, i32>) -> i32 {
    match judged {
        Ok(target) => {
            write4(ctx.sock_addr, &target.words, target.port);
            PASS
        }
        Err(answer) => answer,
    }
}

/// Leads a call with an IPv6 address where it was judged to go; the answer of the hook.
#[inline(always)]
pub fn lead6(ctx: &SockAddrContext, judged: Result<Target, i32>) -> i32 {
    match judged {
        Ok(target) => {
            write6(ctx.sock_addr, &target.words, target.port);
            PASS
        }
        Err(answer) => answer,
    }
}

/// Where the connection shall go, or what to answer at once.
#[inline(always)]
fn judge(ctx: &SockAddrContext, dialled: &Dialled) -> Result<Target, i32> {
    // SAFETY: a field of the context.
    let kind = unsafe { (&raw const (*ctx.sock_addr).type_).read_volatile() };
    let led = match kind {
        SOCK_STREAM => stream(ctx, dialled).inspect(|_| count(Counter::Taken)),
        SOCK_DGRAM => datagram::connect(ctx, dialled),
        _ => Err(Otherwise::Refused(Counter::Protocol)),
    };
    if let Err(Otherwise::Left(_)) = led {
        forget(ctx);
    }
    answer(ctx, dialled, led)
}

/// Counts what is not led anywhere, and says what to answer.
#[inline(always)]
pub fn answer(
    ctx: &SockAddrContext,
    dialled: &Dialled,
    led: Result<Target, Otherwise>,
) -> Result<Target, i32> {
    match led {
        Ok(target) => Ok(target),
        Err(Otherwise::Untouched) => Err(PASS),
        Err(Otherwise::Left(why)) => {
            count(why);
            Err(PASS)
        }
        Err(Otherwise::Refused(why)) => {
            refused(ctx, dialled, why);
            Err(REFUSE)
        }
    }
}

#[inline(always)]
fn stream(ctx: &SockAddrContext, dialled: &Dialled) -> Result<Target, Otherwise> {
    // SAFETY: a field of the context.
    let protocol = unsafe { (&raw const (*ctx.sock_addr).protocol).read_volatile() };
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
    match protocol {
        IPPROTO_TCP => {}
        IPPROTO_MPTCP if settings.flags & Settings::NO_MPTCP == 0 => {}
        IPPROTO_MPTCP => return Err(Otherwise::Refused(Counter::Mptcp)),
        _ => return Err(Otherwise::Refused(Counter::Protocol)),
    }
    if let Some(otherwise) = exception(config, settings, dialled) {
        return Err(otherwise);
    }
    let Some(target) = listener(config, settings, dialled) else {
        return Err(Otherwise::Refused(Counter::NoListener));
    };
    if is_bound_elsewhere(ctx) {
        return Err(Otherwise::Refused(Counter::BoundDevice));
    }
    if !remember(ctx, dialled, &target, settings) {
        return Err(Otherwise::Refused(Counter::MapFull));
    }
    Ok(target)
}

/// Destinations of TCP that are not led to a listener.
#[inline(always)]
fn exception(config: &Config, settings: &Settings, dialled: &Dialled) -> Option<Otherwise> {
    let dns = dialled.port() == DNS;
    if is_loopback(&dialled.words) {
        if is_listeners(config, dialled.is_v4(), dialled.port()) {
            return Some(Otherwise::Refused(Counter::OwnListener));
        }
        if dns && (config.dns4 != 0 || config.dns6 != 0) {
            return None; // systemd-resolved's stub and its like would ask the world in our place.
        }
        if settings.flags & Settings::DENY_LOOPBACK != 0 {
            return Some(Otherwise::Refused(Counter::LoopbackDenied));
        }
        if settings.flags & Settings::TAKE_LOOPBACK == 0 {
            return Some(Otherwise::Left(Counter::Loopback));
        }
        return None;
    }
    if dialled.port() == DNS_OVER_TLS {
        return Some(Otherwise::Refused(Counter::DnsOverTls));
    }
    // The metadata addresses of some clouds are name servers too, and port 53 goes to our resolver.
    if !dns && settings.flags & Settings::METADATA == 0 && is_metadata(&dialled.words) {
        return Some(Otherwise::Refused(Counter::Metadata));
    }
    None
}

/// Whether this very connect() went through one of our programs already: same task, same socket, and the address is the
/// one that we wrote.
#[inline(always)]
fn already_led(ctx: &SockAddrContext, dialled: &Dialled) -> bool {
    // SAFETY: the storage of the context's own socket; null when it has none.
    unsafe {
        let held = ORIGINS.get_ptr_mut(ctx);
        !held.is_null()
            && (*held).phase == REWRITTEN
            && dialled.is(&(*held).target, (*held).target_port)
            && (*held).waiting.origin.pid == bpf_get_current_pid_tgid() as u32
    }
}

/// Forgets what an earlier connect() of the same socket left behind.
#[inline(always)]
fn forget(ctx: &SockAddrContext) {
    // SAFETY: the context's own socket.
    unsafe {
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        let _nothing_to_forget = ORIGINS.delete(sk);
    }
}

/// The listener for a connection: 127.83.T.n for IPv4, with T the tag's number modulo 256 so that tags do not share
/// addresses, and n at random; `[::1]` at a random port for IPv6, which has one loopback address only.
#[inline(always)]
fn listener(config: &Config, settings: &Settings, dialled: &Dialled) -> Option<Target> {
    // SAFETY: helper without arguments.
    let random = unsafe { bpf_get_prandom_u32() };
    if dialled.is_v4() {
        if config.port4 == 0 {
            return None;
        }
        let v4 = u32::from(config.prefix4) << 16 | (settings.tag & 0xff) << 8 | (1 + random % 254);
        return Some(Target { words: [0, 0, MAPPED, v4.to_be()], port: u32::from(config.port4.to_be()) });
    }
    if config.count6 == 0 {
        return None;
    }
    let index = (random % config.count6) as usize & (PORTS6 - 1);
    let port = config.ports6[index];
    if port == 0 {
        return None;
    }
    Some(Target { words: [0, 0, 0, 1_u32.to_be()], port: u32::from(port.to_be()) })
}

/// Whether the socket is tied to an interface from which the listener cannot be reached.
#[inline(always)]
fn is_bound_elsewhere(ctx: &SockAddrContext) -> bool {
    // SAFETY: the context's own socket, never null in this hook.
    let device = unsafe {
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        if sk.is_null() {
            return true;
        }
        (&raw const (*sk).bound_dev_if).read_volatile()
    };
    device != 0 && device != LOOPBACK_INTERFACE
}

/// Writes down destination and caller beside the socket. False when there is no memory for it.
#[inline(always)]
fn remember(ctx: &SockAddrContext, dialled: &Dialled, target: &Target, settings: &Settings) -> bool {
    // SAFETY: the storage of the context's own socket, checked for null; helpers on the current task and context.
    unsafe {
        let held: *mut Held = ORIGINS.get_or_insert_ptr_mut(ctx, None);
        if held.is_null() {
            return false;
        }
        (*held).phase = 0;
        (*held).waiting.closed_at = 0;
        (*held).target = target.words;
        (*held).target_port = target.port;
        (*held).netns = bpf_get_netns_cookie(ctx.as_ptr());
        note(ctx, &raw mut (*held).waiting.origin, dialled, settings);
        (*held).phase = REWRITTEN;
    }
    true
}

/// Writes down socket, time, destination and caller.
///
/// # Safety
/// `origin` is valid for writes.
#[inline(always)]
pub unsafe fn note(ctx: &SockAddrContext, origin: *mut Origin, dialled: &Dialled, settings: &Settings) {
    // SAFETY: helpers on the current task and context; the caller's word for the pointer.
    unsafe {
        (*origin).cookie = bpf_get_socket_cookie(ctx.as_ptr());
        (*origin).connected_at = bpf_ktime_get_boot_ns();
        (&raw mut (*origin).address).cast::<[u32; 4]>().write_unaligned(dialled.words);
        (*origin).port = dialled.port();
        (*origin).family = dialled.family;
        (*origin).tag = settings.tag;
        task::sign(origin);
    }
}
