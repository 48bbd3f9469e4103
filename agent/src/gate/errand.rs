//! Errands of the gate's own: an issuer's discovery document and keys, and what credentials are fetched with, over TLS that
//! is verified like every upstream's, by the host's name servers. Only what the configuration names, and what an issuer's
//! document names, is reached: no job says where an errand goes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, StatusCode, Uri};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Warden, dns};
use crate::credential::{Errand, Reply};
use crate::identity::keys::JWKS_MAX;
use crate::identity::{Fetch, Fetched};
use crate::stream::Once;
use crate::tls::{self, Tls, Verified};
use crate::types::HostName;

/// For one address to accept.
const DIAL: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 4;

/// Bytes of what a provider of credentials answers: a secret in JSON, where each byte of it can take six.
const ANSWER_MAX: usize = 256 * 1024;
/// For one errand to a provider of credentials: some need two or three.
const WITHIN: Duration = Duration::from_secs(7);

/// Fetching as `identity` wants it.
pub(super) fn fetch(tls: Arc<Tls>, dns: Arc<dns::Resolver>, warden: Warden) -> Fetch {
    Arc::new(move |url| {
        let (tls, dns, warden) = (Arc::clone(&tls), Arc::clone(&dns), warden.clone());
        async move {
            let target = Target::of(&url)?;
            let addresses = target.addresses(&dns, &warden).await?;
            let get = Errand {
                method: Method::GET,
                url,
                headers: HeaderMap::new(),
                body: Zeroizing::default(),
                certificate: None,
            };
            fetched(converse(get, target, &addresses, &tls, None, JWKS_MAX).await?)
        }
        .boxed()
    })
}

fn fetched(reply: Reply) -> Result<Fetched, String> {
    // No redirect is followed: who may say where keys are is the issuer, by name.
    if reply.status != StatusCode::OK.as_u16() {
        return Err(format!("it answered {}", reply.status));
    }
    Ok(Fetched { body: reply.body.to_vec(), max_age: max_age(&reply.headers) })
}

/// Runs an errand to a provider of credentials.
///
/// # Errors
/// Why there is no answer, in a sentence without secrets.
pub(super) async fn run(
    errand: Errand,
    tls: &Tls,
    dns: &dns::Resolver,
    warden: &Warden,
) -> Result<Reply, String> {
    let target = Target::of(&errand.url)?;
    let all = async {
        let addresses = target.addresses(dns, warden).await?;
        let shown = errand.certificate.as_ref().map(|pem| tls::certificate(pem.secret().expose()));
        converse(errand, target, &addresses, tls, shown.transpose()?, ANSWER_MAX).await
    };
    let late = |_| Err(format!("it did not answer within {} s", WITHIN.as_secs()));
    timeout(WITHIN, all).await.unwrap_or_else(late)
}

/// Where an errand goes.
struct Target {
    to: Verified,
    port: u16,
    authority: HeaderValue,
    path: String,
}

impl Target {
    fn of(url: &str) -> Result<Self, String> {
        let url: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let authority = url.authority().filter(|_| url.scheme_str() == Some("https"));
        let authority = authority.filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or("it is no https URL")?;
        let port = authority.port_u16().unwrap_or(443);
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let to = match host.parse::<IpAddr>() {
            Ok(address) => Verified::Address(address),
            Err(_) => Verified::Name(HostName::parse(host).map_err(|error| error.to_string())?),
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| "it is no URL".to_owned())?;
        Ok(Self { to, port, authority, path })
    }

    async fn addresses(&self, dns: &dns::Resolver, warden: &Warden) -> Result<Vec<SocketAddr>, String> {
        let addresses = match &self.to {
            Verified::Address(address) => vec![*address],
            Verified::Name(name) => {
                let addresses = dns.own_addresses(name, warden).await;
                addresses.map_err(|why| format!("{name} cannot be looked up: {why}"))?
            }
            Verified::Plain => Vec::new(),
        };
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, self.port)).collect())
    }
}

/// One request and its answer. The error never has anything of the body or of a header field.
async fn converse(
    errand: Errand,
    target: Target,
    addresses: &[SocketAddr],
    tls: &Tls,
    shown: Option<Arc<CertifiedKey>>,
    most: usize,
) -> Result<Reply, String> {
    let stream = dial(addresses).await?;
    let stream = tls.errand(&target.to, shown, Box::new(stream)).await?;
    let mut request = Request::new(Once::of(Bytes::from_owner(errand.body)));
    *request.method_mut() = errand.method;
    *request.uri_mut() = target.path.parse().map_err(|_| "it is no URL".to_owned())?;
    *request.headers_mut() = errand.headers;
    let headers = request.headers_mut();
    for framing in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(framing);
    }
    headers.insert(HOST, target.authority);
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    ask(stream, request, most).await
}

/// One question and its answer.
async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Once>,
    most: usize,
) -> Result<Reply, String> {
    let (head, body) = crate::stream::ask(stream, request, most).await?.into_parts();
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
}

/// Dials one of these.
pub(super) async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut why = "there is no address".to_owned();
    for at in addresses.iter().take(ADDRESSES) {
        #[expect(clippy::disallowed_methods, reason = "the gate's own errands are dialled here only")]
        match timeout(DIAL, TcpStream::connect(at)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = format!("{at}: {error}"),
            Err(_) => why = format!("{at}: it did not accept within {} s", DIAL.as_secs()),
        }
    }
    Err(why)
}

/// How long an answer may be kept (RFC 9111 §5.2.2).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut said = None;
    for directive in values.flat_map(|value| value.split(',')) {
        let directive = directive.trim().to_ascii_lowercase();
        if directive == "no-store" || directive == "no-cache" {
            return Some(Duration::ZERO);
        }
        let seconds = directive.strip_prefix("max-age=").map(|text| text.trim_matches('"').parse::<u64>());
        if let Some(Ok(seconds)) = seconds {
            said = Some(Duration::from_secs(seconds));
        }
    }
    said
}

#[cfg(test)]
mod tests;
