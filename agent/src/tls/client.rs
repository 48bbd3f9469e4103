//! The client's leg: answered with a leaf of ours after the upstream was verified.

use std::io;
use std::sync::Arc;

use rustls::server::Accepted;
use rustls::{AlertDescription, Error, PeerIncompatible, ServerConfig};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::refused::{self, Failure, alert_name, tls_error, went_away};
use crate::stream::BoxStream;

/// What to do for a client that does not know our CA.
const TRUST: &str = "let the program trust Sluice's CA: `sluice trust install` for the host's stores, `sluice trust env` for \
                     runtimes with a bundle of their own; a program that pins its server's certificate cannot be read";

/// Finishes the client's handshake under `config`. On failure the client has been told.
pub(super) async fn answer(
    accepted: Accepted,
    client: BoxStream,
    config: Arc<ServerConfig>,
    deadline: Instant,
) -> Result<TlsStream<BoxStream>, Failure> {
    let handshake = StartHandshake::from_parts(accepted, client).into_stream(config).into_fallible();
    match timeout_at(deadline, Box::pin(handshake)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err((error, client))) => {
            // rustls has put its alert on the wire, if it had one to send.
            refused::linger(client).await;
            Err(explain(&error))
        }
        Err(_) => Err(Failure {
            alert: None,
            reason: "the client did not finish its TLS handshake in time".to_owned(),
            remedy: None,
        }),
    }
}

fn explain(error: &io::Error) -> Failure {
    use AlertDescription as Alert;
    let ended = |reason: String| Failure { alert: None, reason, remedy: None };
    match tls_error(error) {
        Some(Error::AlertReceived(
            alert @ (Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::UnsupportedCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::AccessDenied),
        )) => ended(format!(
            "the client does not accept the certificate of Sluice's CA: {}",
            alert_name(*alert)
        ))
        .remedy(TRUST),
        Some(Error::AlertReceived(alert)) => {
            ended(format!("the client ended the TLS handshake: {}", alert_name(*alert)))
        }
        Some(Error::PeerIncompatible(why)) => {
            let reason = format!("the client offers only TLS that is too old or too weak: {why:?}");
            let old =
                matches!(why, PeerIncompatible::Tls12NotOffered | PeerIncompatible::Tls12NotOfferedOrEnabled);
            let alert = if old { Alert::ProtocolVersion } else { Alert::HandshakeFailure };
            Failure::new(alert, reason).remedy("let the program use TLS 1.2 or 1.3")
        }
        Some(Error::NoApplicationProtocol) => Failure::new(
            Alert::NoApplicationProtocol,
            "the client does not offer the protocol that the upstream chose (ALPN)",
        ),
        Some(other) => {
            Failure::new(Alert::HandshakeFailure, format!("the client's TLS handshake is not valid: {other}"))
        }
        None if went_away(error) => ended(
            "the client closed after it saw the certificate of Sluice's CA, so it likely does not trust it"
                .to_owned(),
        )
        .remedy(TRUST),
        None => ended(format!("the client's TLS handshake failed: {error}")),
    }
}
