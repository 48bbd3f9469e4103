//! Identifying: `Accepted` to `Identified`. Nothing is read before the kernel's memory says whose connection it is.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::Warden;
use super::accept::Accepted;
use crate::types::{Caller, ClientAddr, Destination};

/// A connection whose caller and destination the kernel vouched for. Only [`who`] makes one.
pub(super) struct Identified {
    pub io: TcpStream,
    pub client: ClientAddr,
    pub destination: Destination,
    pub caller: Arc<Caller>,
    pub place: OwnedSemaphorePermit,
    _minted: (),
}

/// Asks the warden. `None`: the connection did not come through a kernel program of ours (somebody dialled the
/// listener), or its memory was full; it is closed unread.
pub(super) async fn who(accepted: Accepted, warden: &Warden) -> Option<Identified> {
    let Accepted { io, client, listener, place } = accepted;
    let identity = *warden.identify(client, listener).await?;
    Some(Identified {
        io,
        client,
        destination: identity.destination,
        caller: Arc::new(identity.caller),
        place,
        _minted: (),
    })
}
