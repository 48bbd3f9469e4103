//! A connection that TLS ends: why, what to do about it, and the alert that tells the client.

use std::io;
use std::time::Duration;

use rustls::AlertDescription;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::policy::Denied;
use crate::record::TlsFacts;
use crate::stream::BoxStream;

/// Bytes that are read and thrown away after an alert, at most.
const LINGER_BYTES: u64 = 128 * 1024;
/// How long we wait for the client to read the alert and close.
const LINGER: Duration = Duration::from_secs(1);

/// Where it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the client's hello: nothing was sent to either side.
    Hello,
    /// The handshake with the upstream, its certificate's verification included: nothing was minted.
    Upstream,
    /// Getting a leaf signed.
    Mint,
    /// The handshake with the client.
    Client,
}

/// Why there is no connection. The client has been told by an alert.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// Where it ended.
    pub stage: Stage,
    /// The alert that the client was sent; `None` when the client itself ended the handshake.
    pub alert: Option<AlertDescription>,
    /// One sentence for the record.
    pub reason: String,
    /// What somebody can do about it.
    pub remedy: Option<&'static str>,
    /// What was known of the two legs by then.
    pub facts: Box<TlsFacts>,
    /// Set when policy refused it.
    pub denied: Option<Denied>,
}

/// A failure on its way to [`Refused`].
#[derive(Debug)]
pub(super) struct Failure {
    pub alert: Option<AlertDescription>,
    pub reason: String,
    pub remedy: Option<&'static str>,
}

impl Failure {
    pub fn new(alert: AlertDescription, reason: impl Into<String>) -> Self {
        Self { alert: Some(alert), reason: reason.into(), remedy: None }
    }

    pub fn remedy(self, remedy: &'static str) -> Self {
        Self { remedy: Some(remedy), ..self }
    }

    pub fn at(self, stage: Stage, facts: &TlsFacts) -> Refused {
        let Self { alert, reason, remedy } = self;
        Refused { stage, alert, reason, remedy, facts: Box::new(facts.clone()), denied: None }
    }
}

/// Sends a fatal alert in a plaintext record (RFC 8446 §5.1 and §6), which a client that waits for a ServerHello
/// reads, then [`linger`]s.
pub(super) async fn alert(mut client: BoxStream, alert: AlertDescription) {
    let record = [21, 3, 3, 0, 2, 2, u8::from(alert)];
    let sent = async {
        client.write_all(&record).await?;
        client.flush().await
    };
    if let Ok(Ok(())) = tokio::time::timeout(LINGER, sent).await {
        linger(client).await;
    }
}

/// Closes our direction and reads what the client still sends, within bounds: closing over unread bytes would send a
/// reset, which overtakes the alert.
pub(super) async fn linger(mut client: BoxStream) {
    let rest = async {
        client.shutdown().await?;
        let mut sink = tokio::io::sink();
        tokio::io::copy(&mut (&mut client).take(LINGER_BYTES), &mut sink).await
    };
    // Whatever the client does now, the connection is over.
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// The TLS error inside an I/O error of tokio-rustls.
pub(super) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether the other side went away without a word.
pub(super) fn went_away(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

/// An alert's name and number: `unknown_ca (48)` as OpenSSL and curl print it.
pub(super) fn alert_name(alert: AlertDescription) -> String {
    let camel = format!("{alert:?}");
    let mut snake = String::new();
    let mut lower = false;
    for c in camel.chars() {
        if c.is_ascii_uppercase() && lower {
            snake.push('_');
        }
        lower = c.is_ascii_lowercase();
        snake.push(c.to_ascii_lowercase());
    }
    format!("{snake} ({})", u8::from(alert))
}
