//! What the kernel programs and the warden share: keys and values of the maps, byte for byte.
//!
//! No logic here. Every struct is `repr(C)`, has no padding and asserts its size, because the kernel compares
//! keys as bytes and both sides must agree on every one of them.
#![no_std]

pub mod lsm;

/// Version of everything below, and of what the pinned maps hold. It is part of the pins' names, so that a warden never
/// reads the maps of programs that another version left behind. Raise it with any change of a layout here.
pub const ABI: u32 = 2;

/// Network namespaces in which our listeners may stand at once.
pub const NAMESPACE_ENTRIES: u32 = 1_024;

/// Questions of one tag whose asker is remembered; the oldest goes first. Each is asked for within milliseconds.
pub const ASKER_ENTRIES: u32 = 512;

/// Rules of one tag for datagrams.
pub const UDP_RULE_ENTRIES: u32 = 256;

/// Size of the ring of [`Event`]s in bytes: about 9,000 of them.
pub const EVENTS_BYTES: u32 = 1 << 20;

/// How many events of one [`Counter`] a tag may send in a second on each CPU. The others are counted in
/// [`Event::suppressed`] of the next.
pub const EVENTS_A_SECOND: u32 = 10;

/// How many questions a second one tag may put to the resolver over UDP. Beyond it, and beyond a burst of [`DNS_BURST`],
/// they are refused ([`Counter::DnsPace`]).
pub const DNS_A_SECOND: u32 = 2_000;

/// How many questions a tag that was quiet may put to the resolver at once.
pub const DNS_BURST: u32 = 4_000;

/// The first version of [`ABI`] in which [`Tuple`] and [`Waiting`] had the layout that they have now: what programs of
/// versions from then on remembered can be read. Raise it to [`ABI`] with any change of one of them.
pub const WAITING_SINCE: u32 = 1;

/// How many connections of one tag may wait to be asked for. A listener's backlog bounds them in practice; beyond this
/// a connection is closed by the gate, since nobody remembers it.
pub const WAITING_ENTRIES: u32 = 32_768;

/// Which connection: the kernel's key for what it remembers once the four-tuple is known.
///
/// The network namespace is part of the key, so equal tuples in two namespaces never meet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// `bpf_get_netns_cookie` / `SO_NETNS_COOKIE` (kernel 5.14) of the socket.
    pub netns: u64,
    /// The tagged socket's own address; IPv4 as v4-mapped IPv6.
    pub source: [u8; 16],
    /// The listener's address that the connection was led to; IPv4 as v4-mapped IPv6.
    pub target: [u8; 16],
    /// Host byte order.
    pub source_port: u16,
    /// Host byte order.
    pub target_port: u16,
    /// Always zero: keeps the struct free of padding.
    pub zero: u32,
}

/// Where a tagged process wanted to go and who it was, as the kernel saw it in connect().
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The socket's cookie (`bpf_get_socket_cookie`).
    pub cookie: u64,
    /// Nanoseconds since boot (`bpf_ktime_get_boot_ns`): a process that started later is another one.
    pub connected_at: u64,
    /// `bpf_get_current_cgroup_id` of the calling task.
    pub cgroup: u64,
    /// The address that the process dialled; IPv4 as v4-mapped IPv6.
    pub address: [u8; 16],
    /// Host byte order.
    pub port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10): the family of the hook, never the caller's word.
    pub family: u16,
    /// Number of the tag whose program took the connection (`Settings::tag`).
    pub tag: u32,
    /// Process id (thread group) in the initial pid namespace.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub pid: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Real group id in the initial user namespace.
    pub gid: u32,
    /// Command name, NUL-padded.
    pub comm: [u8; 16],
}

/// A taken connection that is established and that nobody has asked for yet: the value of a tag's map `WAITING`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What was remembered in connect().
    pub origin: Origin,
    /// When the tagged process's end was closed, in nanoseconds since boot; 0 while it is open. What it had written
    /// may still wait for the gate, so the entry stays until it is asked for or swept.
    pub closed_at: u64,
}

/// How many TCP ports the listeners on `[::1]` may have: IPv6 has one loopback address, so ports spread it.
pub const PORTS6: usize = 8;

/// Where connections are led to, written by the warden, one entry at index 0 of `CONFIG`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cgroup of the agent itself: its own connections are never taken. 0: none.
    pub agent_cgroup: u64,
    /// First two octets of the IPv4 loopback range that the listener answers on, host byte order: 0x7f53 is
    /// 127.83.0.0/16.
    pub prefix4: u16,
    /// The IPv4 listener's port, host byte order; 0 refuses every connection.
    pub port4: u16,
    /// How many of `ports6` are in use; 0 refuses every IPv6 connection.
    pub count6: u32,
    /// The IPv6 listeners' ports, host byte order.
    pub ports6: [u16; PORTS6],
    /// The resolver's UDP port on every address of the IPv4 range, host byte order; 0: none, DNS over IPv4 is refused.
    pub dns4: u16,
    /// The resolver's UDP port on `[::1]`, host byte order; 0: none, DNS over IPv6 is refused.
    pub dns6: u16,
    /// Always zero: keeps the struct free of padding.
    pub zero: u32,
}

/// What a tag's programs are told, one entry at index 0 of its `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The tag's number.
    pub tag: u32,
    /// `Settings::TAKE_LOOPBACK` and the others; none: loopback is left alone, all else is closed.
    pub flags: u32,
}

impl Settings {
    /// Connections to loopback destinations are taken too; datagrams to them are refused.
    pub const TAKE_LOOPBACK: u32 = 1;
    /// Loopback destinations are refused.
    pub const DENY_LOOPBACK: u32 = 2;
    /// Cloud metadata addresses are like any other.
    pub const METADATA: u32 = 4;
    /// Connections from other hosts are let in.
    pub const INBOUND: u32 = 8;
    /// Multipath TCP is refused.
    pub const NO_MPTCP: u32 = 16;
}

/// What a socket bears from its creation in a tag on, in the socket storage `BORN`; accepted sockets inherit it. It is
/// also how the programs that run without a calling process (packets) or cannot ask for it (setsockopt on 5.15) know
/// whose socket it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Born {
    /// `bpf_get_netns_cookie` of the socket.
    pub netns: u64,
    /// `bpf_get_current_cgroup_id` of the task that made it.
    pub cgroup: u64,
    /// Number of the tag, the innermost where tags are nested; 0 for the agent's own sockets.
    pub tag: u32,
    /// [`Born::AGENT`] or 0.
    pub flags: u32,
    /// Process that made it (thread group), in the initial pid namespace.
    pub tgid: u32,
    /// Thread that made it.
    pub pid: u32,
    /// Real user id, in the initial user namespace.
    pub uid: u32,
    /// Real group id, in the initial user namespace.
    pub gid: u32,
    /// Command name, NUL-padded.
    pub comm: [u8; 16],
}

impl Born {
    /// The agent itself made the socket: nothing of it is looked at.
    pub const AGENT: u32 = 1;
}

/// One attempt that was refused, or one thing that the warden must know at once: what stands in the ring `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since boot (`bpf_ktime_get_boot_ns`).
    pub at: u64,
    /// Cookie of the socket's network namespace; 0: not known in this hook.
    pub netns: u64,
    /// Cgroup of the calling task, or of the one that made the socket; 0: not known.
    pub cgroup: u64,
    /// Where it wanted to go (or came from, for [`Counter::Inbound`]); IPv4 as v4-mapped IPv6; zero: nowhere yet.
    pub address: [u8; 16],
    /// Host byte order.
    pub port: u16,
    /// The socket's address family (`AF_INET` 2, `AF_INET6` 10, …).
    pub family: u16,
    /// The protocol (`IPPROTO_TCP` 6, …); 0: not known.
    pub protocol: u16,
    /// The socket's type (`SOCK_STREAM` 1, …); 0: not known.
    pub kind: u16,
    /// Number of a [`Counter`].
    pub way: u32,
    /// The tag's number; 0: not known.
    pub tag: u32,
    /// The process (thread group) that tried, or that made the socket; 0: not known.
    pub tgid: u32,
    /// Its thread.
    pub pid: u32,
    /// Its real user id, in the initial user namespace.
    pub uid: u32,
    /// Its real group id, in the initial user namespace.
    pub gid: u32,
    /// How many of this kind were not sent since the last one.
    pub suppressed: u32,
    /// What else there is to say: level << 16 | name for setsockopt(); 0 otherwise.
    pub detail: u32,
    /// Its command name, NUL-padded; empty: not known.
    pub comm: [u8; 16],
}

/// Key of a tag's map `UDP_RULES` behind the prefix length (32 + the bits of the address that count): longest prefix
/// match on port and address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpRule {
    /// Network byte order; 0 stands for every port and is looked up second.
    pub port: u16,
    /// Always zero.
    pub zero: u16,
    /// IPv4 as v4-mapped IPv6: its prefix counts 96 more bits.
    pub address: [u8; 16],
}

/// Indices of the per-CPU array `COUNTERS`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connections led to a listener.
    Taken = 0,
    /// Not remembered because memory or a map ran out: refused in connect(), or closed by the gate as unknown.
    MapFull = 1,
    /// Refused because the socket is bound to a device (`SO_BINDTODEVICE`): the rewrite could not reach us.
    BoundDevice = 2,
    /// Refused because the warden has no listener (configuration missing).
    NoListener = 3,
    /// Loopback destinations that were left alone.
    Loopback = 4,
    /// Refused because a tagged process dialled a listener of ours by itself.
    OwnListener = 5,
    /// Refused because the stream socket speaks neither TCP nor MPTCP.
    Protocol = 6,
    /// Connections of the agent itself that were left alone.
    Agent = 7,
    /// setsockopt() refused because it asked for a source route, or a packet that bore one: it would lead past the
    /// listener.
    SourceRoute = 8,
    /// A socket was made in a network namespace that `NAMESPACES` does not have, or a connection waits there. Not
    /// refused: the warden shall open listeners in it.
    NewNamespace = 9,
    /// First packets held back until listeners stand in their network namespace. Counted only.
    HeldBack = 10,
    /// Datagrams refused.
    Udp = 11,
    /// Datagrams to port 443 refused: clients of HTTP/3 turn to TCP.
    Quic = 12,
    /// DNS over TLS or QUIC (port 853) refused.
    DnsOverTls = 13,
    /// DNS refused because there is no resolver to lead it to.
    NoResolver = 14,
    /// Datagrams led to the resolver. Counted only.
    Dns = 15,
    /// Datagrams let out by a rule of the tag. Counted only.
    UdpAllowed = 16,
    /// Loopback destinations refused by the tag's option.
    LoopbackDenied = 17,
    /// Cloud metadata addresses refused.
    Metadata = 18,
    /// bind() refused because the port is one of our listeners'.
    Bind = 19,
    /// setsockopt() refused because it would take the socket's packets past our rules, or make them look like somebody
    /// else's: `SO_MARK`, `IP_TRANSPARENT`, `TCP_REPAIR` and their like, and joining a multicast group, which the kernel
    /// tells the neighbours.
    Disguise = 20,
    /// Packets from outside refused: the tag takes no connections from there.
    Inbound = 21,
    /// Packets that no other hook had accounted for, stopped on their way out.
    Egress = 22,
    /// Multipath TCP refused by the tag's option.
    Mptcp = 23,
    /// A socket of a family that is not followed (packet, VSOCK, …), refused by the LSM.
    Family = 24,
    /// A socket that was not made in the tag was used, refused by the LSM.
    ForeignSocket = 25,
    /// A socket that was not made in the tag was handed over, refused by the LSM.
    PassedSocket = 26,
    /// A Unix socket on the deny list was dialled, refused by the LSM.
    UnixPeer = 27,
    /// A process outside of the tag was to be traced or read, refused by the LSM.
    Ptrace = 28,
    /// Questions to the resolver refused: more of them than a tag may ask ([`DNS_A_SECOND`]).
    DnsPace = 29,
}

/// Whether an option of setsockopt() joins a multicast or anycast group: linux/in.h, linux/in6.h.
#[inline(always)]
pub const fn joins_group(level: i32, name: i32) -> bool {
    const IPPROTO_IP: i32 = 0;
    const IPPROTO_IPV6: i32 = 41;
    const IP_ADD_MEMBERSHIP: i32 = 35;
    const IP_ADD_SOURCE_MEMBERSHIP: i32 = 39;
    const IPV6_JOIN_GROUP: i32 = 20;
    const IPV6_JOIN_ANYCAST: i32 = 27;
    // The same at both levels (RFC 3678).
    const MCAST_JOIN_GROUP: i32 = 42;
    const MCAST_JOIN_SOURCE_GROUP: i32 = 46;
    match level {
        IPPROTO_IP => matches!(
            name,
            IP_ADD_MEMBERSHIP | IP_ADD_SOURCE_MEMBERSHIP | MCAST_JOIN_GROUP | MCAST_JOIN_SOURCE_GROUP
        ),
        IPPROTO_IPV6 => {
            matches!(name, IPV6_JOIN_GROUP | IPV6_JOIN_ANYCAST | MCAST_JOIN_GROUP | MCAST_JOIN_SOURCE_GROUP)
        }
        _ => false,
    }
}

impl Counter {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 30] = [
        Self::Taken,
        Self::MapFull,
        Self::BoundDevice,
        Self::NoListener,
        Self::Loopback,
        Self::OwnListener,
        Self::Protocol,
        Self::Agent,
        Self::SourceRoute,
        Self::NewNamespace,
        Self::HeldBack,
        Self::Udp,
        Self::Quic,
        Self::DnsOverTls,
        Self::NoResolver,
        Self::Dns,
        Self::UdpAllowed,
        Self::LoopbackDenied,
        Self::Metadata,
        Self::Bind,
        Self::Disguise,
        Self::Inbound,
        Self::Egress,
        Self::Mptcp,
        Self::Family,
        Self::ForeignSocket,
        Self::PassedSocket,
        Self::UnixPeer,
        Self::Ptrace,
        Self::DnsPace,
    ];
}

/// Entries of `COUNTERS`: those that there are, and room.
pub const COUNTERS: u32 = 32;

const _: () = assert!(Counter::ALL.len() <= COUNTERS as usize);
const _: () = assert!(size_of::<Tuple>() == 48);
const _: () = assert!(size_of::<Origin>() == 80);
const _: () = assert!(size_of::<Waiting>() == 88);
const _: () = assert!(size_of::<Config>() == 40);
const _: () = assert!(size_of::<Settings>() == 8);
const _: () = assert!(size_of::<Born>() == 56);
const _: () = assert!(size_of::<Event>() == 96);
const _: () = assert!(size_of::<UdpRule>() == 20);

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "plain old data without padding: sizes asserted above")]
mod user {
    // SAFETY: `repr(C)`, only integers and arrays of them, no padding (the asserts above add up the fields).
    unsafe impl aya::Pod for super::Tuple {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Origin {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Waiting {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Settings {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Born {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::UdpRule {}
}
