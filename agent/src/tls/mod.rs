//! TLS of one taken connection: read the client's hello, open and verify the upstream, then mint a leaf for the verified
//! name and answer the client with what the upstream chose. In this order, so that nothing is ever minted for an
//! upstream that was not verified, and the client never sees a good certificate in front of a bad server.
//!
//! Not here: which connections are TLS (detect), what flows in them (engine), the CA's key (warden).

mod client;
mod hello;
mod mint;
mod refused;
pub mod roots;
mod shown;
mod tags;
mod upstream;
pub mod verify;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CommonState, HandshakeKind};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::time::Instant;

pub use mint::Sign;
pub use refused::{Refused, Stage};
pub use shown::certificate;

use self::mint::{Mint, sha256};
use self::refused::Failure;
use self::roots::{Omitted, Roots};
use self::tags::{Offer, Tags};
use self::verify::UpstreamVerifier;
use crate::policy::{Denied, Passage};
use crate::record::{Leg, TlsFacts};
use crate::stream::BoxStream;
use crate::types::{Destination, HostName, TagName};

/// The name that the upstream's certificate was verified for, or none on a plain connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// A DNS name: Host/:authority must be this name.
    Name(HostName),
    /// An IP address: Host/:authority must be this address.
    Address(IpAddr),
    /// No TLS: Host/:authority is the caller's word only.
    Plain,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Plain => f.write_str("no TLS"),
        }
    }
}

/// The protocol inside TLS, the same on both legs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// `h2`.
    H2,
    /// `http/1.1`.
    Http1,
    /// None was negotiated: the first bytes tell.
    None,
    /// One that we do not speak.
    Other(String),
}

impl Alpn {
    fn from_wire(protocol: Option<&[u8]>) -> Self {
        match protocol {
            None => Self::None,
            Some(tags::H2) => Self::H2,
            Some(tags::HTTP1) => Self::Http1,
            Some(other) => Self::Other(printable(other)),
        }
    }
}

/// How TLS works in this gate.
#[derive(Clone, Debug)]
pub struct Settings {
    /// DER of our CA's certificate.
    pub ca: Vec<u8>,
    /// Whether the system's roots are trusted upstream; tests turn it off.
    pub system_roots: bool,
    /// PEM bundles to trust upstream besides.
    pub extra_roots: Vec<Vec<u8>>,
    /// How long each of the three steps may take.
    pub deadlines: Deadlines,
}

/// Bounds of the waits.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For the whole of the client's hello.
    pub hello: Duration,
    /// For the upstream's handshake.
    pub upstream: Duration,
    /// For the rest of the client's handshake.
    pub client: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Self { hello: ten, upstream: ten, client: ten }
    }
}

/// No TLS can be done at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing to verify upstreams with.
    #[error(
        "no root is left to verify upstreams with: install the package ca-certificates, or configure extra roots"
    )]
    NoRoots,
    /// Our own CA could not be read, so it could not be told from the roots.
    #[error("the CA's certificate cannot be read")]
    OwnCa,
}

/// TLS of this gate: built once, shared by all sessions.
pub struct Tls {
    verifier: Arc<UpstreamVerifier>,
    tags: Tags,
    mint: Mint,
    deadlines: Deadlines,
}

/// Both legs stand.
pub struct Opened {
    /// Plaintext of the client.
    pub client: BoxStream,
    /// Plaintext of the upstream.
    pub upstream: BoxStream,
    /// What flows in both.
    pub alpn: Alpn,
    /// For the record.
    pub facts: TlsFacts,
    /// What the upstream proved to be.
    pub verified: Verified,
    /// Whether the upstream asked for a client certificate and was shown one.
    pub shown: bool,
    /// Set when policy refuses the name: the client has been answered only to be told so, and there is no upstream.
    pub refusal: Option<Refusal>,
}

/// Gives the client certificate that may be shown to the host of a name.
pub type Certificate<'a> = dyn Fn(HostName) -> BoxFuture<'a, Option<Arc<CertifiedKey>>> + Sync + 'a;

/// A refusal that is to be told to an open client.
#[derive(Clone)]
pub struct Refusal {
    /// What policy says.
    pub denied: Denied,
    /// Keeps the upstream's side open: an end of it would be an answer.
    _nobody: Arc<tokio::io::DuplexStream>,
}

impl Tls {
    /// Loads the roots and prepares both legs. The second value is what was left out of the roots, for the log.
    ///
    /// # Errors
    /// [`Error`]: the gate must not start.
    pub fn new(settings: &Settings, sign: Sign) -> Result<(Self, Vec<Omitted>), Error> {
        let ca = CertificateDer::from(settings.ca.clone());
        let (mut candidates, mut omitted) =
            if settings.system_roots { roots::system() } else { Default::default() };
        for (at, pem) in settings.extra_roots.iter().enumerate() {
            let (more, out) = roots::bundle(&format!("extra roots {}", at + 1), pem);
            candidates.extend(more);
            omitted.extend(out);
        }
        let (roots, out) = Roots::new(candidates, Some(&ca), UnixTime::now());
        omitted.extend(out);
        if !roots.knows_own() {
            return Err(Error::OwnCa);
        }
        if roots.is_empty() {
            return Err(Error::NoRoots);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Arc::new(UpstreamVerifier::new(roots));
        let tags = Tags::new(Arc::clone(&provider), Arc::clone(&verifier));
        let mint = Mint::new(provider, ca, sign);
        Ok((Self { verifier, tags, mint, deadlines: settings.deadlines }, omitted))
    }

    /// Opens both legs of one connection. `client` gives the client's hello (replayed, if it was read before); `upstream`
    /// is connected to `destination`, with nothing sent.
    ///
    /// The upstream is verified for the name that the client asked for, or, when it asked for none, for the
    /// destination's address. `certificate` gives what to show to the host of a name, if that asks for a certificate and has
    /// been verified.
    ///
    /// # Errors
    /// [`Refused`]: the client has been told by an alert; both connections are over.
    pub async fn open(
        &self,
        tag: &TagName,
        destination: Destination,
        client: BoxStream,
        upstream: BoxStream,
        may: &(dyn Fn(Option<&HostName>) -> Result<Passage, Denied> + Sync),
        certificate: &Certificate<'_>,
    ) -> Result<Opened, Refused> {
        let mut facts = TlsFacts::default();
        let hello = Box::pin(hello::read(client, Instant::now() + self.deadlines.hello)).await;
        let hello = hello.map_err(|failure| failure.at(Stage::Hello, &facts))?;
        facts.sni = hello.name.as_ref().map(ToString::to_string);
        // The name must not reach whom it was not allowed for: a job may have put anything into it.
        if let Err(denied) = may(hello.name.as_ref()) {
            return Box::pin(self.refuse(tag, hello, denied, facts)).await;
        }
        let certificate = match &hello.name {
            Some(name) => certificate(name.clone()).await,
            None => None,
        };
        let verified = match hello.name {
            Some(name) => Verified::Name(name),
            None => Verified::Address(destination.ip()),
        };
        let prepared = self.prepare(tag, &verified, &hello.alpn, (upstream, certificate), &mut facts);
        let prepared = Box::pin(prepared).await;
        let (upstream, ready) = match prepared {
            Ok(prepared) => prepared,
            Err((stage, failure)) => {
                if let Some(alert) = failure.alert {
                    refused::alert(hello.client, alert).await;
                }
                return Err(failure.at(stage, &facts));
            }
        };
        let deadline = Instant::now() + self.deadlines.client;
        let client = client::answer(hello.accepted, hello.client, ready.config, deadline).await;
        let client = client.map_err(|failure| failure.at(Stage::Client, &facts))?;
        facts.client = leg(client.get_ref().1);
        let alpn = Alpn::from_wire(upstream.alpn.as_deref());
        Ok(Opened {
            client: Box::new(client),
            upstream: upstream.stream,
            alpn,
            facts,
            verified,
            shown: upstream.shown,
            refusal: None,
        })
    }

    /// Opens TLS for an errand of the gate's own (an issuer's keys, a provider of credentials), verified as every upstream
    /// is; `certificate` is shown when the other side asks for one.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn errand(
        &self,
        to: &Verified,
        certificate: Option<Arc<CertifiedKey>>,
        stream: BoxStream,
    ) -> Result<BoxStream, String> {
        let config = self.tags.own(certificate).map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let deadline = Instant::now() + self.deadlines.upstream;
        let opened = Box::pin(upstream::open(config, &self.verifier, to, stream, deadline)).await;
        opened.map(|opened| opened.stream).map_err(|failure| failure.reason)
    }

    /// Answers a client whom policy refuses, so that it can be told in its own protocol. The upstream is left alone.
    async fn refuse(
        &self,
        tag_name: &TagName,
        hello: hello::Hello,
        denied: Denied,
        mut facts: TlsFacts,
    ) -> Result<Opened, Refused> {
        let ready = match &hello.name {
            Some(name) => self.refusing(tag_name, name, &hello.alpn).await,
            None => Err(Failure::new(AlertDescription::AccessDenied, denied.reason.clone())),
        };
        let ready = match ready {
            Ok(ready) => ready,
            Err(failure) => {
                refused::alert(hello.client, AlertDescription::AccessDenied).await;
                return Err(Refused { denied: Some(denied), ..failure.at(Stage::Hello, &facts) });
            }
        };
        facts.issued_leaf_sha256 = hex(&ready.leaf);
        let deadline = Instant::now() + self.deadlines.client;
        let client = client::answer(hello.accepted, hello.client, ready.config, deadline).await;
        let client = client.map_err(|failure| Refused {
            denied: Some(denied.clone()),
            ..failure.at(Stage::Client, &facts)
        })?;
        facts.client = leg(client.get_ref().1);
        let alpn = Alpn::from_wire(client.get_ref().1.alpn_protocol());
        // Nobody is behind this side: it takes what it is given and says nothing.
        let (upstream, nobody) = tokio::io::duplex(4096);
        let opened = Opened {
            client: Box::new(client),
            upstream: Box::new(upstream),
            alpn,
            facts,
            verified: Verified::Plain,
            shown: false,
            refusal: Some(Refusal { denied, _nobody: Arc::new(nobody) }),
        };
        Ok(opened)
    }

    async fn refusing(
        &self,
        tag_name: &TagName,
        name: &HostName,
        alpn: &[Vec<u8>],
    ) -> Result<mint::Ready, Failure> {
        let unready =
            |error| Failure::new(AlertDescription::InternalError, format!("TLS cannot be set up: {error}"));
        let tag = self.tags.tag(tag_name).map_err(unready)?;
        if !tag.may_refuse_in_words() {
            let reason = "refused; too many refusals in a short time for each to be told in words";
            return Err(Failure::new(AlertDescription::AccessDenied, reason));
        }
        // What can be answered in; HTTP/1.1 first, since a refusal needs nothing more.
        let spoken =
            [&b"http/1.1"[..], b"h2"].into_iter().find(|is| alpn.iter().any(|offered| offered == is));
        let now = UnixTime::now().as_secs().cast_signed();
        self.mint.refusing(tag_name, &tag, name, spoken, now).await
    }

    /// The upstream, verified, and what to answer the client with.
    async fn prepare(
        &self,
        tag_name: &TagName,
        verified: &Verified,
        alpn: &[Vec<u8>],
        (stream, certificate): (BoxStream, Option<Arc<CertifiedKey>>),
        facts: &mut TlsFacts,
    ) -> Result<(upstream::Upstream, mint::Ready), (Stage, Failure)> {
        let unready = |error| {
            let reason = format!("TLS cannot be set up: {error}");
            (Stage::Upstream, Failure::new(AlertDescription::InternalError, reason))
        };
        let tag = self.tags.tag(tag_name).map_err(unready)?;
        let deadline = Instant::now() + self.deadlines.upstream;
        let offer = Offer::from_client(alpn);
        let config = match certificate {
            Some(certificate) => self.tags.showing(&offer, certificate),
            None => self.tags.upstream(&tag, &offer),
        };
        let config = config.map_err(unready)?;
        let upstream = upstream::open(config, &self.verifier, verified, stream, deadline).await;
        let upstream = upstream.map_err(|failure| (Stage::Upstream, failure))?;
        facts.verified_name = verified.to_string();
        facts.upstream = upstream.leg.clone();
        facts.upstream_leaf_sha256 = hex(&sha256(&upstream.leaf));
        let now = UnixTime::now().as_secs().cast_signed();
        let source = mint::Source { leaf: &upstream.leaf, alpn: upstream.alpn.as_deref() };
        let ready =
            self.mint.ready(tag_name, &tag, verified, source, now).await.map_err(|f| (Stage::Mint, f))?;
        facts.issued_leaf_sha256 = hex(&ready.leaf);
        Ok((upstream, ready))
    }
}

/// The parameters of one finished handshake.
fn leg(session: &CommonState) -> Leg {
    let debug = |value: Option<&dyn fmt::Debug>| value.map(|v| format!("{v:?}")).unwrap_or_default();
    let suite = session.negotiated_cipher_suite().map(|suite| suite.suite());
    let group = session.negotiated_key_exchange_group().map(|group| group.name());
    Leg {
        version: debug(session.protocol_version().as_ref().map(|v| v as _)),
        suite: debug(suite.as_ref().map(|v| v as _)),
        group: debug(group.as_ref().map(|v| v as _)),
        alpn: session.alpn_protocol().map(printable),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}

/// A protocol's name, escaped: it comes from a stranger.
fn printable(protocol: &[u8]) -> String {
    protocol.escape_ascii().to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
