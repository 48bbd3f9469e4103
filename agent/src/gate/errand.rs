//! Errands of the gate's own: an issuer's discovery document and keys, over TLS that is verified like every upstream's, by
//! the host's name servers. Only what the configuration names, and what a document from there names, is reached; nothing
//! that a job says comes this way.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{ACCEPT, CACHE_CONTROL, HOST, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Warden, dns};
use crate::credential::{Errand, Reply};
use crate::identity::keys::JWKS_MAX;
use crate::identity::{Fetch, Fetched};
use crate::report::Chain;
use crate::tls::{Tls, Verified};
use crate::types::HostName;

/// For one address to accept.
const DIAL: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 4;
/// Octets of an answer's head.
const HEAD_MAX: usize = 16 * 1024;

/// Fetching as `identity` wants it.
pub(super) fn fetch(tls: Arc<Tls>, dns: Arc<dns::Resolver>, warden: Warden) -> Fetch {
    Arc::new(move |url| {
        let (tls, dns, warden) = (Arc::clone(&tls), Arc::clone(&dns), warden.clone());
        async move { get(&url, &tls, &dns, &warden).await }.boxed()
    })
}

async fn get(url: &str, tls: &Tls, dns: &dns::Resolver, warden: &Warden) -> Result<Fetched, String> {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    let (method, body) = (Method::GET, Zeroizing::default());
    let errand = Errand { method, url: url.to_owned(), headers, body, certificate: None };
    fetched(run(errand, tls, dns, warden).await?)
}

fn fetched(reply: Reply) -> Result<Fetched, String> {
    // No redirect is followed: who may say where keys are is the issuer, by name.
    if reply.status != StatusCode::OK.as_u16() {
        return Err(format!("it answered {}", reply.status));
    }
    Ok(Fetched { body: reply.body.to_vec(), max_age: max_age(&reply.headers) })
}

/// Runs one errand. No redirect is followed.
pub(super) async fn run(
    errand: Errand,
    tls: &Tls,
    dns: &dns::Resolver,
    warden: &Warden,
) -> Result<Reply, String> {
    if errand.certificate.is_some() {
        return Err("client certificates of errands are not there yet".to_owned());
    }
    let url: Uri = errand.url.parse().map_err(|_| "it is no URL".to_owned())?;
    let authority = url.authority().filter(|_| url.scheme_str() == Some("https"));
    let authority =
        authority.filter(|authority| !authority.as_str().contains('@')).ok_or("it is no https URL")?;
    let port = authority.port_u16().unwrap_or(443);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let (to, addresses) = match host.parse::<IpAddr>() {
        Ok(address) => (Verified::Address(address), vec![address]),
        Err(_) => {
            let name = HostName::parse(host).map_err(|error| error.to_string())?;
            let addresses = dns.own_addresses(&name, warden).await;
            let addresses = addresses.map_err(|why| format!("{name} cannot be looked up: {why}"))?;
            (Verified::Name(name), addresses)
        }
    };
    let addresses: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    let stream = dial(&addresses).await?;
    let stream = tls.errand(&to, Box::new(stream)).await?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder().method(errand.method).uri(path).header(HOST, authority.as_str());
    let body = Whole(Some(Bytes::from_owner(errand.body)));
    let mut request = request.body(body).map_err(|error| error.to_string())?;
    request.headers_mut().extend(errand.headers);
    ask(stream, request).await
}

/// One question and its answer.
async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin, request: Request<Whole>) -> Result<Reply, String> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Chain(&error).to_string())?;
    let mut exchange = std::pin::pin!(async {
        let response = sender.send_request(request).await.map_err(|error| Chain(&error).to_string())?;
        let (head, body) = response.into_parts();
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body: whole(body).await? })
    });
    // Both ends of one conversation in one task: it ends with it.
    let ended = tokio::select! {
        biased;
        replied = &mut exchange => return replied,
        ended = connection => ended,
    };
    // A server that answers and closes at once (gunicorn does) ends the connection before its answer was looked at; what
    // came of it is kept for us, and what did not is an error there.
    match (exchange.await, ended) {
        (Err(_), Err(error)) => Err(Chain(&error).to_string()),
        (replied, _) => replied,
    }
}

async fn whole(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut read = Zeroizing::new(Vec::new());
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| format!("its answer broke off: {}", Chain(&error)))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > JWKS_MAX {
                return Err(format!("its answer is longer than {JWKS_MAX} bytes"));
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read)
}

/// A body that is there.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Dials the first of these that accepts.
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
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Asks a server that writes `answer` whole and closes.
    async fn answered(answer: &'static str) -> Result<Fetched, String> {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let server = async move {
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                theirs.read_buf(&mut question).await.expect("a question");
            }
            theirs.write_all(answer.as_bytes()).await.expect("it fits");
        };
        let request = Request::get("/jwks").header(HOST, "id.example.com").body(Whole(None));
        tokio::join!(ask(ours, request.expect("a request")), server).0.and_then(fetched)
    }

    #[tokio::test]
    async fn a_server_may_close_as_soon_as_it_has_answered() {
        for answer in [
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.0 200 OK\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ] {
            assert_eq!(answered(answer).await.map(|fetched| fetched.body), Ok(b"{}".to_vec()), "{answer}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_not_whole_is_none() {
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
            "HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert!(answered(answer).await.is_err(), "{answer}");
        }
    }

    #[test]
    fn how_long_an_answer_may_be_kept() {
        for (value, wanted) in [
            ("max-age=600", Some(600)),
            ("public, max-age=21600, must-revalidate, no-transform", Some(21600)),
            ("Max-Age=\"60\"", Some(60)),
            ("max-age=600, no-store", Some(0)),
            ("no-cache", Some(0)),
            ("max-age=-1", None),
            ("private", None),
        ] {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, value.parse().expect("a value"))]);
            assert_eq!(max_age(&headers), wanted.map(Duration::from_secs), "{value}");
        }
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
