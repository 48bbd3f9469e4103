//! The upstream's leg: opened and verified before the client gets an answer.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, InvalidMessage};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::refused::{Failure, alert_name, tls_error, went_away};
use super::tags::{ASKED, Wish};
use super::verify::{Refusal, Staple, UpstreamVerifier};
use super::{Verified, leg};
use crate::record::Leg;
use crate::stream::{BoxStream, Replay};

/// What to do when the upstream wants a certificate of the client.
const CLIENT_CERTIFICATE: &str = "an upstream that authenticates clients by certificate cannot be read: exempt the \
                                  destination from interception, or run the job outside the tag";
/// What to do when it does not like the one that it was shown.
const OTHER_CERTIFICATE: &str = "look at the credential's certificate: its authority, its end, its name";
/// What to do about an upstream that is too old.
const MODERN: &str = "let the server offer TLS 1.2 or 1.3 with ECDHE and AES-GCM or ChaCha20-Poly1305";
/// Bounds of the wait for an upstream's word on the certificate that it asked for.
const WORD: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A verified upstream.
pub(super) struct Upstream {
    pub stream: BoxStream,
    /// Its certificate.
    pub leaf: CertificateDer<'static>,
    /// The protocol that it chose.
    pub alpn: Option<Vec<u8>>,
    pub leg: Leg,
    /// Whether it asked for a certificate and was shown one.
    pub shown: bool,
}

/// Opens TLS to `name` over `stream`, with one of the configurations of [`super::tags`].
pub(super) async fn open(
    config: Arc<ClientConfig>,
    verifier: &UpstreamVerifier,
    name: &Verified,
    stream: BoxStream,
    deadline: Instant,
) -> Result<Upstream, Failure> {
    let name = server_name(name).map_err(|why| Failure::new(AlertDescription::InternalError, why))?;
    let begun = Instant::now();
    let handshake = async {
        let done = TlsConnector::from(config).connect(name.clone(), stream).await;
        (done, ASKED.with(std::cell::Cell::get))
    };
    let handshake = ASKED.scope(std::cell::Cell::new(Wish::None), handshake);
    let (done, wish) = timeout_at(deadline, Box::pin(handshake)).await.map_err(|_| {
        Failure::new(AlertDescription::InternalError, "the upstream did not finish its TLS handshake in time")
    })?;
    let stream = done.map_err(|error| explain(&error, wish))?;
    let session = stream.get_ref().1;
    let leaf = reverified(session, verifier, &name)?;
    let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    let leg = leg(session);
    let stream = match wish {
        Wish::None => Box::new(stream),
        wish => await_word(stream, begun.elapsed(), wish).await?,
    };
    Ok(Upstream { stream, leaf, alpn, leg, shown: wish == Wish::Met })
}

/// The upstream's certificate. rustls verified it in a full handshake; a resumed one rests on an earlier verification,
/// which may be days old: done anew here, so that an end of validity or a change of the roots counts at once.
fn reverified(
    session: &ClientConnection,
    verifier: &UpstreamVerifier,
    name: &ServerName<'_>,
) -> Result<CertificateDer<'static>, Failure> {
    let chain = session.peer_certificates().unwrap_or_default();
    let (leaf, intermediates) = chain.split_first().ok_or_else(|| {
        Failure::new(AlertDescription::InternalError, "the upstream's TLS session has no certificate")
    })?;
    if session.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        verifier
            .verify(leaf, intermediates, name, Staple::Resumed, UnixTime::now())
            .map_err(|refusal| refused_certificate(&refusal))?;
    }
    Ok(leaf.clone())
}

fn server_name(name: &Verified) -> Result<ServerName<'static>, String> {
    match name {
        Verified::Name(host) => {
            ServerName::try_from(host.as_str().to_owned()).map_err(|e| format!("{host}: {e}"))
        }
        Verified::Address(address) => Ok(ServerName::from(IpAddr::to_canonical(address))),
        Verified::Plain => Err("no name to verify".to_owned()),
    }
}

fn refused_certificate(refusal: &Refusal) -> Failure {
    Failure::new(refusal.alert(), refusal.to_string()).remedy(refusal.remedy())
}

/// A failed handshake in words.
fn explain(error: &io::Error, wish: Wish) -> Failure {
    use AlertDescription as Alert;
    if let Some(wanted) = wants_certificate(error, wish) {
        return wanted;
    }
    match tls_error(error) {
        Some(Error::InvalidCertificate(CertificateError::Other(other))) => {
            match other.0.downcast_ref::<Refusal>() {
                Some(refusal) => refused_certificate(refusal),
                None => Failure::new(
                    Alert::BadCertificate,
                    format!("the upstream's certificate is not valid: {other}"),
                ),
            }
        }
        Some(Error::InvalidCertificate(CertificateError::BadSignature)) => {
            let reason = "the upstream's handshake is not signed by the key of its certificate";
            Failure::new(Alert::DecryptError, reason)
        }
        Some(Error::InvalidCertificate(fault)) => {
            Failure::new(Alert::BadCertificate, format!("the upstream's certificate is not valid: {fault}"))
        }
        Some(Error::AlertReceived(alert)) => {
            let failure = Failure::new(
                *alert,
                format!("the upstream refused the TLS handshake: {}", alert_name(*alert)),
            );
            let weak = matches!(
                alert,
                Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity
            );
            if weak { failure.remedy(MODERN) } else { failure }
        }
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            Failure::new(Alert::InternalError, "the upstream does not speak TLS on this port")
        }
        Some(Error::PeerIncompatible(why)) => {
            let reason = format!("the upstream offers only TLS that is too old or too weak: {why:?}");
            Failure::new(Alert::HandshakeFailure, reason).remedy(MODERN)
        }
        Some(Error::NoApplicationProtocol) => Failure::new(
            Alert::NoApplicationProtocol,
            "the upstream speaks none of the offered protocols (ALPN)",
        ),
        Some(other) => Failure::new(
            Alert::HandshakeFailure,
            format!("the upstream's TLS handshake is not valid: {other}"),
        ),
        None if went_away(error) => Failure::new(
            Alert::InternalError,
            format!("the upstream closed within its TLS handshake: {error}"),
        ),
        None => Failure::new(Alert::InternalError, format!("the upstream's TLS handshake failed: {error}")),
    }
}

/// The failure of a connection whose upstream asked for a client certificate, when that is why it failed.
fn wants_certificate(error: &io::Error, wish: Wish) -> Option<Failure> {
    use AlertDescription as Alert;
    if wish == Wish::None {
        return None;
    }
    let alert = match tls_error(error) {
        Some(Error::AlertReceived(
            alert @ (Alert::CertificateRequired
            | Alert::HandshakeFailure
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::UnknownCA
            | Alert::NoCertificate
            | Alert::AccessDenied),
        )) => *alert,
        None if went_away(error) => Alert::CertificateRequired,
        _ => return None,
    };
    let (reason, remedy) = match wish {
        Wish::Met => ("the upstream refuses the client certificate that it was shown", OTHER_CERTIFICATE),
        _ => ("the upstream demands a client certificate, and there is none to show", CLIENT_CERTIFICATE),
    };
    Some(Failure::new(alert, format!("{reason} ({})", alert_name(alert))).remedy(remedy))
}

/// In TLS 1.3 a client's handshake is over before the server judges its certificate. An upstream that asked for one is
/// given one more round trip to say no, or to say yes by its tickets or data; silence is taken for yes, and a later no
/// is put into words by [`Asked`].
async fn await_word(
    mut stream: TlsStream<BoxStream>,
    handshake: Duration,
    wish: Wish,
) -> Result<BoxStream, Failure> {
    let mut byte = [0u8; 1];
    let word = std::future::poll_fn(|cx| {
        let mut buffer = ReadBuf::new(&mut byte);
        match Pin::new(&mut stream).poll_read(cx, &mut buffer) {
            Poll::Ready(done) => Poll::Ready(done.map(|()| buffer.filled().len())),
            Poll::Pending if stream.get_ref().1.tls13_tickets_received() > 0 => Poll::Ready(Ok(usize::MAX)),
            Poll::Pending => Poll::Pending,
        }
    });
    let seen = match timeout((handshake * 2).clamp(WORD.0, WORD.1), word).await {
        Ok(Ok(1)) => Bytes::copy_from_slice(&byte),
        Ok(Ok(_)) | Err(_) => Bytes::new(),
        Ok(Err(error)) => return Err(explain(&error, wish)),
    };
    Ok(Box::new(Replay::new(seen, Asked(stream, wish))))
}

/// An upstream that asked for a client certificate: says so when it ends the connection for want of one.
struct Asked(TlsStream<BoxStream>, Wish);

impl AsyncRead for Asked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wish = self.1;
        let done = ready!(Pin::new(&mut self.0).poll_read(cx, buffer));
        Poll::Ready(done.map_err(
            |error| match tls_error(&error).and_then(|_| wants_certificate(&error, wish)) {
                Some(Failure { reason, remedy, .. }) => {
                    io::Error::new(error.kind(), format!("{reason}: {}", remedy.unwrap_or_default()))
                }
                None => error,
            },
        ))
    }
}

impl AsyncWrite for Asked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
