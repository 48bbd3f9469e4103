//! The HTTP engine: one client connection, one upstream connection, every request decided and recorded before its
//! first byte goes upstream. It is hyper on both sides, behind a strict gate of ours for HTTP/1 ([`strict`]).
//!
//! It is no cache, no pool and no load balancer: nothing is shared between two connections, nothing is added to a
//! message, and what the upstream does to its connection is done to the client's.

use std::io;
use std::time::Duration;

use crate::engine::Context;
use crate::report::Chain;
use crate::stream::BoxStream;

mod body;
mod came;
mod clean;
mod exchange;
mod fault;
mod frames;
mod h1;
mod h2;
mod masked;
mod messages;
mod meter;
mod names;
mod parked;
mod refusal;
mod shared;
mod source;
mod strict;
mod tasks;
mod together;
mod upgrade;
mod upstream_answer;

/// The version that both sides speak: what ALPN negotiated, or what detection found. Never guessed again here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Why a connection ended but in peace. Exchanges say what happened to them in their own records.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The upstream's side.
    #[error("the upstream's connection")]
    Upstream(#[source] hyper::Error),
    /// The client's side.
    #[error("the client's connection")]
    Client(#[source] hyper::Error),
}

/// Passes the exchanges of one connection.
///
/// # Errors
/// [`Error`]; both streams are closed.
pub async fn serve(
    client: BoxStream,
    upstream: BoxStream,
    version: Version,
    cx: Context,
) -> Result<(), Error> {
    match version {
        Version::Http1 => h1::serve(client, upstream, cx).await,
        Version::Http2 => h2::serve(client, upstream, cx).await,
    }
}

/// How long the upstream's side may take to say goodbye once the client's has ended.
const GOODBYE: Duration = Duration::from_secs(1);

/// Octets of heads and frames that hyper holds a direction and connection at most: a head of the largest size, twice.
const BUFFER_MAX: usize = 128 * 1024;

/// How a connection of the client's ended: its going away is no error.
fn client_end(error: hyper::Error) -> Result<(), Error> {
    let mut source = std::error::Error::source(&error);
    let mut gone =
        error.is_incomplete_message() || error.is_closed() || error.is_user() || error.is_shutdown();
    while let Some(cause) = source {
        gone |= cause.downcast_ref::<io::Error>().is_some_and(|e| {
            use io::ErrorKind::{
                BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
            };
            matches!(
                e.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
            )
        });
        source = cause.source();
    }
    if gone {
        tracing::debug!(error = %Chain(&error), "the client's connection ended");
        return Ok(());
    }
    Err(Error::Client(error))
}
