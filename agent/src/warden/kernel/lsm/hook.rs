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
    pub const ALL: [Self; 12] = [
        Self::Created,
        Self::Create,
        Self::Connect,
        Self::Listen,
        Self::Accept,
        Self::Send,
        Self::Receive,
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
            Self::Splice => "lsm_spliced",
            Self::FileReceive => "lsm_receive",
            Self::UnixConnect => "lsm_unix_connect",
            Self::UnixSend => "lsm_unix_send",
            Self::Ptrace => "lsm_ptrace",
        }
    }

    /// The kernel's name of the hook (include/linux/lsm_hook_defs.h).
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "socket_post_create",
            Self::Create => "socket_create",
            Self::Connect => "socket_connect",
            Self::Listen => "socket_listen",
            Self::Accept => "socket_accept",
            Self::Send => "socket_sendmsg",
            Self::Receive => "socket_recvmsg",
            Self::Splice => "file_permission",
            Self::FileReceive => "file_receive",
            Self::UnixConnect => "unix_stream_connect",
            Self::UnixSend => "unix_may_send",
            Self::Ptrace => "ptrace_access_check",
        }
    }

    /// Whether this kernel needs it. `file_permission` runs at every read() and write() of the host, so it is left out
    /// where sendfile() asks `socket_sendmsg`: since Linux 6.5, which has no `proto_ops.sendpage` any more.
    pub(super) fn is_needed(self, btf: &Btf) -> bool {
        self != Self::Splice || btf.member("proto_ops", "sendpage").is_some()
    }
}
