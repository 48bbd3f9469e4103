//! Identifying: `Accepted` to `Identified`. Nothing is read before the kernel's memory says whose connection it is.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, sockopt_impl};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Warden;
use super::accept::Accepted;
use super::later::Later;
use super::link::Followed;
use crate::types::{Caller, ClientAddr, Destination, NetnsCookie, Token};

/// How long a connection waits for what its caller's program is by its content, where a rule asks for that.
const PROGRAM_WITHIN: Duration = Duration::from_secs(5);

/// A connection whose caller and destination the kernel vouched for. Only [`who`] makes one.
pub(super) struct Identified {
    pub io: TcpStream,
    pub client: ClientAddr,
    pub destination: Destination,
    pub caller: Arc<Caller>,
    /// Where the upstream must be dialled from; `None`: from here.
    pub netns: Option<NetnsCookie>,
    /// What may prove who stands behind the caller.
    pub tokens: Option<Later<Vec<Token>>>,
    pub place: OwnedSemaphorePermit,
    /// To be held until the upstream's socket is there, which the warden may have to make.
    pub unsettled: TaskTrackerToken,
    _minted: (),
}

/// Asks the warden. `None`: the connection did not come through a kernel program of ours (somebody dialled the
/// listener), or its memory was full; it is closed unread.
pub(super) async fn who(accepted: Accepted, warden: &Warden) -> Option<Identified> {
    let Accepted { io, client, listener, netns, place, unsettled } = accepted;
    let (mut identity, Followed { tokens, program }) = warden.identify(client, listener, netns).await?;
    if let (Some(program), Some(exe)) = (program, &mut identity.caller.exe) {
        exe.sha256 = program.found(PROGRAM_WITHIN).await.flatten();
    }
    // A socket that was reset meanwhile may have given its ports to another's connection, whose identity this would be.
    if is_closed(&io) {
        return None;
    }
    Some(Identified {
        io,
        client,
        destination: identity.destination,
        caller: Arc::new(identity.caller),
        netns: identity.netns,
        tokens,
        place,
        unsettled,
        _minted: (),
    })
}

sockopt_impl!(
    /// The first byte of `TCP_INFO` (Linux 2.6): the state of a TCP socket. Only that byte: the kernel fills in as much as is
    /// asked for, and the whole has another size in each release.
    TcpState,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    u8
);

/// `TCP_CLOSE` of the kernel's `tcp_states.h`.
const CLOSED: u8 = 7;

/// Whether a TCP socket is dead: reset, or given up by keep-alive.
pub(super) fn is_closed(io: &impl AsFd) -> bool {
    getsockopt(io, TcpState).map_or(true, |state| state == CLOSED)
}
