//! The hooks of the LSM object, each with what it closes.

use super::btf::Btf;

/// A hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LsmHook {
    /// Marks Unix sockets with their tag.
    Created,
    /// Families that are not followed.
    Create,
    /// Foreign sockets: connect().
    Connect,
    /// Foreign sockets: listen().
    Listen,
    /// Foreign sockets: accept().
    Accept,
    /// Foreign sockets: sending.
    Send,
    /// Foreign sockets: receiving.
    Receive,
    /// Multicast groups, joined by calls that no cgroup program is asked about.
    Option,
    /// Foreign sockets: sendfile() and splice(), which ask nothing else before Linux 6.5.
    Splice,
    /// Sockets handed over by others.
    FileReceive,
    /// Helpers outside of the tag: connect() of Unix sockets.
    UnixConnect,
    /// Helpers outside of the tag: datagrams of Unix sockets.
    UnixSend,
    /// Processes outside of the tag.
    Ptrace,
}

impl LsmHook {
    /// In the order in which they are attached: what marks comes before what asks for the mark.
    pub const ALL: [Self; 13] = [
        Self::Created,
        Self::Create,
        Self::Connect,
        Self::Listen,
        Self::Accept,
        Self::Send,
        Self::Receive,
        Self::Option,
        Self::Splice,
        Self::FileReceive,
        Self::UnixConnect,
        Self::UnixSend,
        Self::Ptrace,
    ];

    /// The program's name in the object.
    pub fn program(self) -> &'static str {
        match self {
            Self::Created => "lsm_created",
            Self::Create => "lsm_create",
            Self::Connect => "lsm_connect",
            Self::Listen => "lsm_listen",
            Self::Accept => "lsm_accept",
            Self::Send => "lsm_sendmsg",
            Self::Receive => "lsm_recvmsg",
            Self::Option => "lsm_option",
            Self::Splice => "lsm_spliced",
            Self::FileReceive => "lsm_receive",
            Self::UnixConnect => "lsm_unix_connect",
            Self::UnixSend => "lsm_unix_send",
            Self::Ptrace => "lsm_ptrace",
        }
    }

    /// The kernel's name of the hook (include/linux/lsm_hook_defs.h).
    pub fn name(self) -> &'static str {
        self.layer().trim_start_matches("lsm ")
    }

    /// Its name among the layers.
    pub fn layer(self) -> &'static str {
        match self {
            Self::Created => "lsm socket_post_create",
            Self::Create => "lsm socket_create",
            Self::Connect => "lsm socket_connect",
            Self::Listen => "lsm socket_listen",
            Self::Accept => "lsm socket_accept",
            Self::Send => "lsm socket_sendmsg",
            Self::Receive => "lsm socket_recvmsg",
            Self::Option => "lsm socket_setsockopt",
            Self::Splice => "lsm file_permission",
            Self::FileReceive => "lsm file_receive",
            Self::UnixConnect => "lsm unix_stream_connect",
            Self::UnixSend => "lsm unix_may_send",
            Self::Ptrace => "lsm ptrace_access_check",
        }
    }

    /// What it is for.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Created => "tells Unix sockets of the tag from others",
            Self::Create => "families that are not followed (packet, XDP, VSOCK, TIPC, …)",
            Self::Connect | Self::Listen | Self::Accept | Self::Send | Self::Receive => {
                "sockets that were not made in the tag"
            }
            Self::Option => "multicast groups by 32-bit calls",
            Self::Splice => "sendfile() and splice() to sockets that were not made in the tag",
            Self::FileReceive => "sockets handed over by a process outside",
            Self::UnixConnect | Self::UnixSend => "helpers outside of the tag (docker, D-Bus, systemd, …)",
            Self::Ptrace => "processes outside of the tag",
        }
    }

    /// Whether this kernel needs it. `file_permission` runs at every read() and write() of the host, so it is left out
    /// where sendfile() asks `socket_sendmsg`: since Linux 6.5, which has no `proto_ops.sendpage` any more.
    pub(super) fn is_needed(self, btf: &Btf) -> bool {
        self != Self::Splice || btf.member("proto_ops", "sendpage").is_some()
    }
}
