//! connect() of a tagged process: leave it alone, refuse it, or remember where it goes and lead it to a listener.
//!
//! The kernel calls this for the cgroup in which the *socket* was created; who is calling is the *task*. The same
//! connect() may run through here twice: systemd attaches these programs to a unit before its first process, the warden
//! attaches its link later, and tags may be nested. The first run decides; a later one sees its work and lets it be.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_current_comm,
    bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_get_prandom_u32, bpf_get_socket_cookie,
    bpf_ktime_get_boot_ns,
};
use aya_ebpf::programs::SockAddrContext;

use agent_ebpf::{Config, Counter, Origin, PORTS6};

use crate::event::refused;
use crate::maps::{CONFIG, Held, ORIGINS, REWRITTEN, TAG, TAKE_LOOPBACK, count};

/// What the kernel takes for an answer: connect() fails with EPERM.
const REFUSE: i32 = 0;
/// connect() goes on, to whatever address the context holds now.
const PASS: i32 = 1;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;
/// `LOOPBACK_IFINDEX`: the same in every network namespace.
const LOOPBACK_INTERFACE: u32 = 1;
/// `::ffff:0:0/96`, third word, network byte order.
const MAPPED: u32 = 0xffff_u32.to_be();
/// The agent's cgroup is looked for down to this depth below the root.
const DEPTH: i32 = 12;

/// A socket address as the context has it: four words in network byte order (IPv4 as v4-mapped), port in network byte
/// order in the low half.
struct Dialled {
    words: [u32; 4],
    port: u32,
    family: u16,
}

impl Dialled {
    #[inline(always)]
    fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// 127/8, `::1`, and the unspecified addresses, which Linux takes for loopback.
    #[inline(always)]
    fn is_loopback(&self) -> bool {
        if self.is_v4() {
            let v4 = u32::from_be(self.words[3]);
            v4 >> 24 == 127 || v4 == 0
        } else {
            self.words[0] == 0 && self.words[1] == 0 && self.words[2] == 0 && u32::from_be(self.words[3]) <= 1
        }
    }

    /// A listener of ours, dialled by the process itself.
    #[inline(always)]
    fn is_ours(&self, config: &Config) -> bool {
        let port = u16::from_be(self.port as u16);
        if self.is_v4() {
            return port == config.port4;
        }
        let mut i = 0;
        while i < PORTS6 {
            if port == config.ports6[i] {
                return true;
            }
            i += 1;
        }
        false
    }
}

/// The hook of IPv4 sockets.
#[inline(always)]
pub fn v4(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    // SAFETY: fields of the context, read whole (a narrowed read would be refused by older verifiers).
    let dialled = unsafe {
        Dialled {
            words: [0, 0, MAPPED, (&raw const (*sa).user_ip4).read_volatile()],
            port: (&raw const (*sa).user_port).read_volatile(),
            family: AF_INET,
        }
    };
    match judge(ctx, &dialled) {
        Ok(target) => {
            // SAFETY: the fields that this hook may write.
            unsafe {
                (&raw mut (*sa).user_ip4).write_volatile(target.words[3]);
                (&raw mut (*sa).user_port).write_volatile(target.port);
            }
            PASS
        }
        Err(answer) => answer,
    }
}

/// The hook of IPv6 sockets.
#[inline(always)]
pub fn v6(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    let dialled = Dialled { words: address6(sa), port: port(sa), family: AF_INET6 };
    match judge(ctx, &dialled) {
        Ok(target) => {
            // SAFETY: the fields that this hook may write.
            unsafe {
                (&raw mut (*sa).user_ip6[0]).write_volatile(target.words[0]);
                (&raw mut (*sa).user_ip6[1]).write_volatile(target.words[1]);
                (&raw mut (*sa).user_ip6[2]).write_volatile(target.words[2]);
                (&raw mut (*sa).user_ip6[3]).write_volatile(target.words[3]);
                (&raw mut (*sa).user_port).write_volatile(target.port);
            }
            PASS
        }
        Err(answer) => answer,
    }
}

/// Reads `user_ip6`.
#[inline(always)]
pub fn address6(sa: *mut bpf_sock_addr) -> [u32; 4] {
    // SAFETY: fields of the context, read whole.
    unsafe {
        [
            (&raw const (*sa).user_ip6[0]).read_volatile(),
            (&raw const (*sa).user_ip6[1]).read_volatile(),
            (&raw const (*sa).user_ip6[2]).read_volatile(),
            (&raw const (*sa).user_ip6[3]).read_volatile(),
        ]
    }
}

/// Reads `user_port`.
#[inline(always)]
pub fn port(sa: *mut bpf_sock_addr) -> u32 {
    // SAFETY: a field of the context, read whole.
    unsafe { (&raw const (*sa).user_port).read_volatile() }
}

struct Target {
    words: [u32; 4],
    port: u32,
}

/// Where the connection shall go, or what to answer at once.
#[inline(always)]
fn judge(ctx: &SockAddrContext, dialled: &Dialled) -> Result<Target, i32> {
    // SAFETY: fields of the context.
    let (kind, protocol) = unsafe {
        (
            (&raw const (*ctx.sock_addr).type_).read_volatile(),
            (&raw const (*ctx.sock_addr).protocol).read_volatile(),
        )
    };
    if kind != SOCK_STREAM {
        return Err(PASS); // Datagrams are not this hook's business.
    }
    if protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP {
        refused(ctx, Counter::Protocol);
        return Err(REFUSE);
    }
    if already_led(ctx, dialled) {
        return Err(PASS);
    }
    let Some(config) = CONFIG.get(0) else { return Err(REFUSE) };
    if dialled.is_loopback() {
        if dialled.is_ours(config) {
            refused(ctx, Counter::OwnListener);
            return Err(REFUSE);
        }
        if TAKE_LOOPBACK.load() == 0 {
            count(Counter::Loopback);
            return Err(leave_alone(ctx));
        }
    }
    if is_agent(config) {
        count(Counter::Agent);
        return Err(leave_alone(ctx));
    }
    let Some(target) = listener(config, dialled) else {
        refused(ctx, Counter::NoListener);
        return Err(REFUSE);
    };
    if is_bound_elsewhere(ctx) {
        refused(ctx, Counter::BoundDevice);
        return Err(REFUSE);
    }
    if !remember(ctx, dialled, &target) {
        refused(ctx, Counter::MapFull);
        return Err(REFUSE);
    }
    count(Counter::Taken);
    Ok(target)
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
            && (*held).target_port == dialled.port
            && (*held).target[0] == dialled.words[0]
            && (*held).target[1] == dialled.words[1]
            && (*held).target[2] == dialled.words[2]
            && (*held).target[3] == dialled.words[3]
            && (*held).waiting.origin.pid == bpf_get_current_pid_tgid() as u32
    }
}

/// Lets the connection be, and forgets what an earlier connect() of the same socket left behind.
#[inline(always)]
fn leave_alone(ctx: &SockAddrContext) -> i32 {
    // SAFETY: the context's own socket.
    unsafe {
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        let _nothing_to_forget = ORIGINS.delete(sk);
    }
    PASS
}

/// Whether the calling task runs in the agent's cgroup or below it.
#[inline(always)]
fn is_agent(config: &Config) -> bool {
    if config.agent_cgroup == 0 {
        return false;
    }
    // SAFETY: helpers on the current task.
    unsafe {
        if bpf_get_current_cgroup_id() == config.agent_cgroup {
            return true;
        }
        let mut level = 1; // 0 is the root, above everybody.
        while level <= DEPTH {
            let id = bpf_get_current_ancestor_cgroup_id(level);
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

/// The listener for a connection: 127.83.T.n for IPv4, with T the tag's number modulo 256 so that tags do not share
/// addresses, and n at random; `[::1]` at a random port for IPv6, which has one loopback address only.
#[inline(always)]
fn listener(config: &Config, dialled: &Dialled) -> Option<Target> {
    // SAFETY: helper without arguments.
    let random = unsafe { bpf_get_prandom_u32() };
    if dialled.is_v4() {
        if config.port4 == 0 {
            return None;
        }
        let v4 = u32::from(config.prefix4) << 16 | (TAG.load() & 0xff) << 8 | (1 + random % 254);
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
fn remember(ctx: &SockAddrContext, dialled: &Dialled, target: &Target) -> bool {
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
        let origin: *mut Origin = &raw mut (*held).waiting.origin;
        (*origin).cookie = bpf_get_socket_cookie(ctx.as_ptr());
        (*origin).connected_at = bpf_ktime_get_boot_ns();
        (*origin).cgroup = bpf_get_current_cgroup_id();
        (&raw mut (*origin).address).cast::<[u32; 4]>().write_unaligned(dialled.words);
        (*origin).port = u16::from_be(dialled.port as u16);
        (*origin).family = dialled.family;
        (*origin).tag = TAG.load();
        let task = bpf_get_current_pid_tgid();
        (*origin).tgid = (task >> 32) as u32;
        (*origin).pid = task as u32;
        let user = bpf_get_current_uid_gid();
        (*origin).uid = user as u32;
        (*origin).gid = (user >> 32) as u32;
        let comm = &raw mut (*origin).comm;
        bpf_get_current_comm(comm.cast(), 16);
        (*held).phase = REWRITTEN;
    }
    true
}
