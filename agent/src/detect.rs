//! Detection: what a taken connection speaks, from the first bytes of either side. Nothing is consumed: the bytes are
//! given back to the next stage.
//!
//! The upstream is open already, so a server that speaks first is heard at once and SSH, SMTP or MySQL wait for
//! nothing. Silence is no finding: a silent connection is waited for and then closed, never turned into a tunnel.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until};

use crate::codec::sniff::{self, Maybe, Step, Why};
use crate::stream::{BoxStream, Replay};

/// How long detection waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the first byte of either side; then the connection is closed.
    pub silent: Duration,
    /// From the client's first byte to a finding.
    pub unfinished: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { silent: Duration::from_secs(300), unfinished: Duration::from_secs(10) }
    }
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TLS: a ClientHello has begun.
    Tls,
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Not read, and why.
    Opaque(Why),
}

/// A connection whose protocol is known; both streams still give every byte.
pub struct Detected {
    /// What is spoken.
    pub protocol: Protocol,
    /// The tagged process's side.
    pub client: BoxStream,
    /// The side that was dialled.
    pub upstream: BoxStream,
}

/// Why a connection ended before its protocol was known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client closed without a word: nothing is wrong.
    #[error("the client closed the connection without sending anything")]
    ClientClosed,
    /// The upstream closed without a word.
    #[error("the upstream closed the connection without sending anything")]
    UpstreamClosed,
    /// Nobody spoke for [`Limits::silent`].
    #[error("neither side sent anything for {} seconds", .0.as_secs())]
    Silent(Duration),
    /// The client began a TLS record and did not go on.
    #[error("the client sent an incomplete ClientHello")]
    IncompleteHello,
    /// The client's socket failed.
    #[error("reading from the client")]
    Client(#[source] io::Error),
    /// The upstream's socket failed.
    #[error("reading from the upstream")]
    Upstream(#[source] io::Error),
}

impl Error {
    /// Whether this is how connections end in peace.
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::ClientClosed)
    }
}

/// Listens to both sides until one has said enough.
///
/// # Errors
/// [`Error`]: close both sides.
pub async fn listen(
    mut client: BoxStream,
    mut upstream: BoxStream,
    limits: Limits,
) -> Result<Detected, Error> {
    let mut seen = BytesMut::new();
    let mut early = BytesMut::new();
    // An HTTP/2 server need not wait for the client's preface (RFC 9113 §3.4): what follows is the client's to say.
    let mut greeted = false;
    let mut deadline = Instant::now() + limits.silent;
    let protocol = loop {
        let need = match sniff::sniff(&seen) {
            Step::Found(found) => break found.into(),
            Step::Opaque(why) => break Protocol::Opaque(why),
            Step::Need(maybe) => maybe,
        };
        if seen.capacity() == seen.len() {
            seen.reserve(if seen.is_empty() { 512 } else { 4096 });
        }
        let begun = !seen.is_empty();
        tokio::select! {
            biased;
            read = client.read_buf(&mut seen) => match read.map_err(Error::Client)? {
                0 => break ended(begun, need)?,
                _ if !begun => deadline = Instant::now() + limits.unfinished,
                _ => (),
            },
            read = upstream.read_buf(&mut early), if !greeted => match read.map_err(Error::Upstream)? {
                0 => return Err(Error::UpstreamClosed),
                _ => match sniff::greets_http2(&early) {
                    Some(true) => greeted = true,
                    Some(false) => break Protocol::Opaque(Why::ServerSpeaksFirst),
                    None => (),
                },
            },
            () = sleep_until(deadline) => {
                if !begun {
                    return Err(Error::Silent(limits.silent));
                }
                break ended(begun, need)?;
            }
        }
    };
    Ok(Detected { protocol, client: replay(seen, client), upstream: replay(early, upstream) })
}

/// The client says no more (or not in time). What looks like HTTP is the HTTP engine's to answer.
fn ended(begun: bool, looks_like: Maybe) -> Result<Protocol, Error> {
    match looks_like {
        _ if !begun => Err(Error::ClientClosed),
        Maybe::Tls => Err(Error::IncompleteHello),
        Maybe::Http => Ok(Protocol::Http1),
        Maybe::Anything => Ok(Protocol::Opaque(Why::TooShort)),
    }
}

fn replay(seen: BytesMut, stream: BoxStream) -> BoxStream {
    if seen.is_empty() { stream } else { Box::new(Replay::new(seen.freeze(), stream)) }
}

impl From<sniff::Protocol> for Protocol {
    fn from(found: sniff::Protocol) -> Self {
        match found {
            sniff::Protocol::Tls => Self::Tls,
            sniff::Protocol::Http1 => Self::Http1,
            sniff::Protocol::Http2 => Self::Http2,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own task, joined by it")]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    struct Ends {
        client: DuplexStream,
        upstream: DuplexStream,
        found: tokio::task::JoinHandle<Result<Detected, Error>>,
    }

    fn start() -> Ends {
        let (client, ours) = duplex(64 * 1024);
        let (upstream, theirs) = duplex(64 * 1024);
        let found = tokio::spawn(listen(Box::new(ours), Box::new(theirs), Limits::default()));
        Ends { client, upstream, found }
    }

    async fn found(bytes: &[u8]) -> Result<Protocol, Error> {
        let mut ends = start();
        ends.client.write_all(bytes).await.expect("write");
        ends.found.await.expect("task").map(|d| d.protocol)
    }

    #[tokio::test(start_paused = true)]
    async fn client_first() {
        let hello = b"\x16\x03\x01\x02\x00\x01\x00";
        assert_eq!(found(hello).await.expect("found"), Protocol::Tls);
        assert_eq!(found(b"GET / HTTP/1.1\r\n").await.expect("found"), Protocol::Http1);
        assert_eq!(found(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("found"), Protocol::Http2);
        assert_eq!(found(b"\0\0").await.expect("found"), Protocol::Opaque(Why::NoMatch));
    }

    #[tokio::test(start_paused = true)]
    async fn begun_and_not_finished() {
        let started = Instant::now();
        assert!(matches!(found(b"\x16\x03").await, Err(Error::IncompleteHello)));
        assert_eq!(started.elapsed().as_secs(), 10);
        assert_eq!(found(b"GET / HT").await.expect("found"), Protocol::Http1);
        assert_eq!(found(b"hello").await.expect("found"), Protocol::Opaque(Why::TooShort));
    }

    #[tokio::test(start_paused = true)]
    async fn server_first_is_heard_at_once_and_both_sides_keep_their_bytes() {
        let mut ends = start();
        let started = Instant::now();
        ends.client.write_all(b"x").await.expect("write");
        tokio::task::yield_now().await;
        ends.upstream.write_all(b"SSH-2.0-x\r\n").await.expect("write");
        let mut detected = ends.found.await.expect("task").expect("found");
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert_eq!(detected.protocol, Protocol::Opaque(Why::ServerSpeaksFirst));
        let mut bytes = [0; 11];
        detected.upstream.read_exact(&mut bytes).await.expect("read");
        assert_eq!(&bytes, b"SSH-2.0-x\r\n");
        detected.client.read_exact(&mut bytes[..1]).await.expect("read");
        assert_eq!(bytes[0], b'x');
    }

    #[tokio::test(start_paused = true)]
    async fn an_http2_server_may_speak_first() {
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        for (says, client, want) in [
            (&settings[..], &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], Protocol::Http2),
            (settings, b"GET / HTTP/1.1\r\n", Protocol::Http1),
            (settings, b"\0\0\0\0", Protocol::Opaque(Why::NoMatch)),
            (b"\0\0\x05\x04\0\0\0\0\0", b"PRI", Protocol::Opaque(Why::ServerSpeaksFirst)),
        ] {
            let mut ends = start();
            for piece in says.chunks(4) {
                ends.upstream.write_all(piece).await.expect("write");
                tokio::task::yield_now().await;
            }
            ends.client.write_all(client).await.expect("write");
            let mut detected = ends.found.await.expect("task").expect("found");
            assert_eq!(detected.protocol, want, "{says:?}");
            let mut bytes = vec![0; says.len()];
            detected.upstream.read_exact(&mut bytes).await.expect("read");
            assert_eq!(bytes, says);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_closing() {
        let ends = start();
        let started = Instant::now();
        assert!(matches!(ends.found.await.expect("task"), Err(Error::Silent(_))));
        assert_eq!(started.elapsed().as_secs(), 300);
        let ends = start();
        drop(ends.client);
        assert!(ends.found.await.expect("task").is_err_and(|e| e.is_clean()));
        let ends = start();
        drop(ends.upstream);
        assert!(matches!(ends.found.await.expect("task"), Err(Error::UpstreamClosed)));
    }

    #[tokio::test(start_paused = true)]
    async fn every_byte_is_given_back_however_it_came() {
        let request = b"GET /path HTTP/1.1\r\nHost: a\r\n\r\nbody";
        for size in 1..request.len() {
            let mut ends = start();
            for piece in request.chunks(size) {
                ends.client.write_all(piece).await.expect("write");
                tokio::task::yield_now().await;
            }
            drop(ends.client);
            let mut detected = ends.found.await.expect("task").expect("found");
            let mut all = Vec::new();
            detected.client.read_to_end(&mut all).await.expect("read");
            assert_eq!((detected.protocol, &all[..]), (Protocol::Http1, &request[..]), "pieces of {size}");
        }
    }
}
