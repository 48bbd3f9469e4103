//! What the LSM object and the warden share. One object serves all tags of the host.

/// How many cgroups may be tagged at once, over all tags.
pub const TAGGED_ENTRIES: u32 = 16_384;

/// A tagged cgroup lies at most this deep below the root of the hierarchy. What lies below it may be as deep as it likes.
pub const TAGGED_DEPTH: i32 = 16;

/// How many rules the deny list of Unix sockets may have.
pub const UNIX_RULES: u32 = 1024;

/// Octets of a Unix socket's name that count (`sun_path`).
pub const UNIX_NAME: usize = 108;

/// `socket(AF_UNIX, …, PROBE_PROTOCOL)` fails with EPERM where the programs are at work, and with EPROTONOSUPPORT where the
/// kernel takes them and never asks them (no `bpf` in its `lsm=`).
pub const PROBE_PROTOCOL: i32 = 0x534c_5543;

/// Version of what is pinned below `lsm/`: `TAGGED`, `LSM_STATE` and `UNIX_BORN`, which programs of two wardens use at the
/// same time while one replaces the other.
pub const LSM_ABI: u32 = 1;

/// What the programs are told, one entry at index 0 of `LSM_STATE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LsmState {
    /// Raised after each change of `TAGGED`: what was concluded before holds no longer.
    pub generation: u64,
    /// How many cgroups are tagged; 0: nobody is looked at.
    pub tagged: u64,
}

/// Which tag a cgroup belongs to, as it was found out: the value of `LSM_VERDICTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LsmVerdict {
    /// [`LsmState::generation`] at that time.
    pub generation: u64,
    /// The innermost tag; 0: none.
    pub tag: u32,
    /// Always zero: keeps the struct free of padding.
    pub zero: u32,
}

/// Where members lie in the structs of the running kernel, in octets; read from its BTF. Members whose place is the same
/// in every kernel are checked instead, see [`FIXED`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.cgroups`, a `css_set *`.
    pub task_cgroups: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `css_set.dfl_cgrp`, a `cgroup *`.
    pub css_set_cgroup: u32,
    /// `cgroup.kn`, a `kernfs_node *`.
    pub cgroup_kn: u32,
    /// `cgroup.self.parent`, which points to the parent's `self`, the first member of its `cgroup`.
    pub cgroup_parent: u32,
    /// `kernfs_node.id`.
    pub kn_id: u32,
    /// `unix_sock.addr`, a `unix_address *`.
    pub unix_addr: u32,
    /// `unix_sock.peer`, a `sock *`.
    pub unix_peer: u32,
    /// `unix_address.len`.
    pub address_len: u32,
    /// `unix_address.name`, a `sockaddr_un`.
    pub address_name: u32,
    /// `sock_common.skc_v6_daddr`.
    pub sock_daddr6: u32,
    /// Always zero.
    pub zero: u32,
}

/// Struct, member, and where the programs take it to lie: `socket.file` and so on are followed as typed pointers, which
/// needs their place at compile time.
pub const FIXED: [(&str, &str, u32); 8] = [
    ("socket", "type", 4),
    ("socket", "file", SOCKET_FILE as u32),
    ("socket", "sk", SOCKET_SK as u32),
    ("sock", "__sk_common", 0),
    ("sock_common", "skc_daddr", 0),
    ("sock_common", "skc_dport", 12),
    ("sock_common", "skc_family", SOCK_FAMILY as u32),
    ("cgroup", "self", 0),
];
/// `socket.type`.
pub const SOCKET_TYPE: usize = 4;
/// `socket.file`: null for the kernel's own sockets.
pub const SOCKET_FILE: usize = 16;
/// `socket.sk`.
pub const SOCKET_SK: usize = 24;
/// `sock.__sk_common.skc_family`.
pub const SOCK_FAMILY: usize = 16;
/// `sock.__sk_common.skc_dport`, network byte order.
pub const SOCK_DPORT: usize = 12;

const _: () = assert!(size_of::<LsmState>() == 16);
const _: () = assert!(size_of::<LsmVerdict>() == 16);
const _: () = assert!(size_of::<Offsets>() == 48);

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "plain old data without padding: sizes asserted above")]
mod user {
    // SAFETY: `repr(C)`, only integers, no padding (the asserts above add up the fields).
    unsafe impl aya::Pod for super::LsmState {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::LsmVerdict {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Offsets {}
}
