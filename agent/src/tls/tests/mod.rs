//! Both legs in memory and over loopback: a CA of the warden's, upstreams with good and bad certificates, clients that
//! trust us or do not.

mod bad;
mod denied;
mod hello;
mod line;
mod peers;
mod pki;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use self::pki::Pki;
use super::*;
use crate::policy::{self, Asked, Policy};
use crate::types::{Action, Caller};

/// One gate's TLS with an upstream PKI that it trusts and a count of what it had signed.
pub(super) struct Fixture {
    pub tls: Tls,
    pub pki: Pki,
    pub ca: Vec<u8>,
    pub signed: Arc<AtomicUsize>,
    /// Observes, until a test says otherwise.
    pub policy: Policy,
    /// What is shown to upstreams that ask; none, until a test says otherwise.
    pub certificate: Option<Arc<CertifiedKey>>,
}

impl Fixture {
    pub fn new() -> Self {
        Self::trusting(None)
    }

    /// Trusts the roots in `pem` besides its own PKI.
    pub fn trusting(pem: Option<String>) -> Self {
        let (pki, own) = (Pki::new("Upstream Root"), Arc::new(Pki::new("Sluice CA test 0000")));
        let ca = own.root.to_vec();
        let signed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&signed);
        let sign: Sign = Arc::new(move |request| {
            let own = Arc::clone(&own);
            count.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move { Ok(own.sign_request(&request)) })
        });
        let settings = Settings {
            ca: ca.clone(),
            system_roots: false,
            extra_roots: [pki.root_pem()].into_iter().chain(pem).map(String::into_bytes).collect(),
            deadlines: Deadlines::default(),
        };
        let (tls, omitted) = Tls::new(&settings, sign).expect("TLS");
        assert_eq!(omitted, []);
        Self { tls, pki, ca, signed, policy: Policy::default(), certificate: None }
    }

    pub fn signed(&self) -> usize {
        self.signed.load(Ordering::SeqCst)
    }

    /// Runs one connection of `tag` to `upstream`, which `client` made; all three ends.
    pub async fn open(&self, tag: &str, client: BoxStream, upstream: BoxStream) -> Result<Opened, Refused> {
        let destination = Destination::new("192.0.2.7".parse().expect("address"), 443);
        let tag = TagName::parse(tag).expect("tag");
        let caller = Caller::unknown(tag.clone(), 1);
        let may = |host: Option<&HostName>| {
            let action = Action::Name { destination, host };
            let asked = Asked { caller: &caller, identity: None, action, now: OffsetDateTime::now_utc() };
            policy::decide(&self.policy, &asked).passage()
        };
        let certificate = |_: HostName| -> BoxFuture<'_, _> {
            let certificate = self.certificate.clone();
            Box::pin(async move { certificate })
        };
        self.tls.open(&tag, destination, client, upstream, &may, &certificate).await
    }

    /// A client that trusts our CA and offers `alpn`.
    pub fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        trusting(&self.ca, alpn)
    }
}

pub(super) fn trusting(ca: &[u8], alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.to_vec())).expect("root");
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    Arc::new(config)
}

pub(super) fn pipe() -> (BoxStream, BoxStream) {
    let (a, b) = tokio::io::duplex(32 * 1024);
    (Box::new(a), Box::new(b))
}

pub(super) fn name(text: &str) -> ServerName<'static> {
    ServerName::try_from(text.to_owned()).expect("name")
}

/// What became of one connection: the client's end, ours, and the upstream's.
pub(super) struct Ends {
    pub client: std::io::Result<tokio_rustls::client::TlsStream<BoxStream>>,
    pub opened: Result<Opened, Refused>,
    pub upstream: std::io::Result<tokio_rustls::server::TlsStream<BoxStream>>,
}

/// Puts client, agent and upstream together.
pub(super) async fn connect(
    fixture: &Fixture,
    tag: &str,
    client: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    upstream: Arc<rustls::ServerConfig>,
) -> Ends {
    let (client_end, agent_client) = pipe();
    let (agent_upstream, upstream_end) = pipe();
    let client = TlsConnector::from(client).connect(server_name, client_end);
    let upstream = tokio_rustls::TlsAcceptor::from(upstream).accept(upstream_end);
    let (client, opened, upstream) =
        tokio::join!(client, fixture.open(tag, agent_client, agent_upstream), upstream);
    Ends { client, opened, upstream }
}

/// `bytes` goes in at one end and comes out at the other.
pub(super) async fn flows(
    from: &mut (impl AsyncWrite + Unpin),
    to: &mut (impl AsyncRead + Unpin),
    bytes: &[u8],
) {
    from.write_all(bytes).await.expect("write");
    from.flush().await.expect("flush");
    let mut seen = vec![0; bytes.len()];
    to.read_exact(&mut seen).await.expect("read");
    assert_eq!(seen, bytes);
}
