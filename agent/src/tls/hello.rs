//! The client's hello: what it asks for, read without committing to an answer.
//!
//! rustls reads it, over as many records and segments as it comes in, and holds at most 64 KiB of it; the deadline is
//! ours.

use std::io;

use rustls::server::{Accepted, Acceptor};
use rustls::{AlertDescription, InvalidMessage, PeerMisbehaved};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use super::refused::{self, Failure};
use crate::stream::BoxStream;
use crate::types::HostName;

/// A hello that was read; its connection waits for an answer.
pub(super) struct Hello {
    /// Continues the handshake.
    pub accepted: Accepted,
    /// The client.
    pub client: BoxStream,
    /// The name that the client asked for. An IP address in its place counts as none, as RFC 6066 §3 has it.
    pub name: Option<HostName>,
    /// The protocols that the client offers, in its order.
    pub alpn: Vec<Vec<u8>>,
}

/// Reads the hello. On failure the client has been told.
pub(super) async fn read(client: BoxStream, deadline: Instant) -> Result<Hello, Failure> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), client);
    let start = match timeout_at(deadline, &mut acceptor).await {
        Ok(Ok(start)) => start,
        Ok(Err(error)) => {
            let failure = unreadable(&error);
            match (acceptor.take_io(), failure.alert) {
                // rustls answers a hello that it could read with an alert of its own, and bytes that are none with
                // nothing; a second alert after the first does no harm.
                (Some(client), Some(alert)) => refused::alert(client, alert).await,
                (Some(client), None) => refused::linger(client).await,
                (None, _) => {}
            }
            return Err(failure);
        }
        Err(_) => {
            let failure = Failure::new(
                AlertDescription::UserCanceled,
                "the client did not finish its TLS hello in time",
            );
            return Err(told(acceptor.take_io(), failure).await);
        }
    };
    let hello = start.client_hello();
    let alpn = hello.alpn().map(|list| list.map(<[u8]>::to_vec).collect()).unwrap_or_default();
    let name = match hello.server_name().map(HostName::parse).transpose() {
        Ok(name) => name,
        Err(error) => {
            let reason = format!("the client asked TLS for a name that is no host name: {error}");
            let failure = Failure::new(AlertDescription::UnrecognisedName, reason);
            return Err(told(Some(start.io), failure).await);
        }
    };
    Ok(Hello { accepted: start.accepted, client: start.io, name, alpn })
}

/// Tells the client, then hands the failure on.
async fn told(client: Option<BoxStream>, failure: Failure) -> Failure {
    if let (Some(client), Some(alert)) = (client, failure.alert) {
        refused::alert(client, alert).await;
    }
    failure
}

fn unreadable(error: &io::Error) -> Failure {
    use rustls::Error;
    if refused::went_away(error) {
        return Failure {
            alert: None,
            reason: "the client closed within its TLS hello".to_owned(),
            remedy: None,
        };
    }
    match refused::tls_error(error) {
        Some(
            Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName)
            | Error::InvalidMessage(InvalidMessage::InvalidServerName),
        ) => Failure::new(
            AlertDescription::IllegalParameter,
            "the client asked TLS for a name that is no host name",
        ),
        Some(other) => Failure::new(
            AlertDescription::DecodeError,
            format!("the client's TLS hello is not valid: {other}"),
        ),
        None => Failure {
            alert: None,
            reason: format!("the client's TLS hello cannot be read: {error}"),
            remedy: None,
        },
    }
}
