//! What the kernel programs and the warden share: keys and values of the maps, byte for byte.
//!
//! No logic here. Every struct is `repr(C)`, has no padding and asserts its size, because the kernel compares
//! keys as bytes and both sides must agree on every one of them.
#![no_std]

/// Version of everything below, and of what the pinned maps hold. It is part of the pins' names, so that a warden never
/// reads the maps of programs that another version left behind. Raise it with any change of a layout here.
pub const ABI: u32 = 1;

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
}

/// What a tag's programs are told, one entry at index 0 of its `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The tag's number.
    pub tag: u32,
    /// 1: loopback destinations are taken too; 0: they are left alone.
    pub take_loopback: u32,
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
    /// setsockopt() refused because it asked for a source route, which would lead past the listener.
    SourceRoute = 8,
}

/// How many counters there are.
pub const COUNTERS: u32 = 9;

const _: () = assert!(size_of::<Tuple>() == 48);
const _: () = assert!(size_of::<Origin>() == 80);
const _: () = assert!(size_of::<Waiting>() == 88);
const _: () = assert!(size_of::<Config>() == 32);
const _: () = assert!(size_of::<Settings>() == 8);

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
}
