//! Whether a request names the host that the connection was verified for, and what it is recorded as.

use std::net::IpAddr;

use http::header::HOST;
use http::{HeaderMap, Method, StatusCode, Uri};

use super::refusal::Refusal;
use crate::engine::Verified;
use crate::types::{Destination, HostName};

/// The host that a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// As text for the record: a name, or an address without brackets.
    pub(super) text: String,
    /// When it is a name.
    pub(super) name: Option<HostName>,
}

/// Reads the host of a request and compares it with what was verified; a port must be the destination's. On a plain
/// connection, or when the request `tunnels` elsewhere, it is the caller's word only.
///
/// # Errors
/// The refusal to answer with: 400 for what is no host, 421 for another host's (RFC 9110 §15.5.20).
pub(super) fn host(
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
    tunnels: bool,
    verified: &Verified,
    destination: Destination,
) -> Result<Host, Refusal> {
    let bad = |what: &str| Refusal::new(StatusCode::BAD_REQUEST, what);
    let mut named = headers.get_all(HOST).iter();
    let header = named.next().map(|v| v.to_str().map_err(|_| bad("Host is not ASCII"))).transpose()?;
    if named.next().is_some() {
        return Err(bad("the request has more than one Host"));
    }
    let authority = uri.authority().map(http::uri::Authority::as_str);
    if method != Method::CONNECT
        && let (Some(a), Some(h)) = (authority, header)
        && !a.eq_ignore_ascii_case(h)
    {
        return Err(bad("Host and the request target name different hosts"));
    }
    let Some(text) = authority.or(header) else {
        return Ok(unnamed(verified, destination));
    };
    let (host, port) =
        split(text).ok_or_else(|| bad("Host is no host name or address with an optional port"))?;
    let found = match host.parse::<IpAddr>() {
        Ok(ip) => Host { text: ip.to_string(), name: None },
        Err(_) => {
            let name = HostName::parse(host).map_err(|e| bad(&e.to_string()))?;
            Host { text: name.to_string(), name: Some(name) }
        }
    };
    let agrees = tunnels
        || match verified {
            Verified::Plain => true,
            Verified::Name(verified) => found.name.as_ref() == Some(verified),
            Verified::Address(verified) => host.parse() == Ok(*verified),
        } && (*verified == Verified::Plain || port.is_none_or(|p| p == destination.port()));
    if agrees {
        return Ok(found);
    }
    let verified = unnamed(verified, destination).text;
    let reason = format!(
        "the request is for {text}, but the connection was verified for {verified}:{}",
        destination.port()
    );
    Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, reason))
}

/// The host of a request that names none.
pub(super) fn unnamed(verified: &Verified, destination: Destination) -> Host {
    match verified {
        Verified::Name(name) => Host { text: name.to_string(), name: Some(name.clone()) },
        Verified::Address(ip) => Host { text: ip.to_string(), name: None },
        Verified::Plain => Host { text: destination.ip().to_string(), name: None },
    }
}

fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    match port {
        None | Some("") => Some((host, None)),
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some((host, Some(port.parse().ok()?))),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn status(uri: &str, host_field: &str, verified: &str) -> u16 {
        let verified = match verified {
            "" => Verified::Plain,
            v => v
                .parse()
                .map_or_else(|_| Verified::Name(HostName::parse(v).expect("name")), Verified::Address),
        };
        let mut headers = HeaderMap::new();
        if !host_field.is_empty() {
            headers.insert(HOST, HeaderValue::from_str(host_field).expect("value"));
        }
        let destination = Destination::new([192, 0, 2, 1].into(), 443);
        let uri = uri.parse().expect("URI");
        host((&Method::GET, &uri, &headers), false, &verified, destination)
            .map_or_else(|r| r.status.as_u16(), |_| 200)
    }

    #[test]
    fn agreement() {
        for (uri, host_field, verified, want) in [
            ("/", "A.example", "a.example", 200),
            ("/", "a.example.", "a.example", 200),
            ("/", "a.example:443", "a.example", 200),
            ("/", "a.example:444", "a.example", 421),
            ("/", "b.example", "a.example", 421),
            ("/", "192.0.2.1", "a.example", 421),
            ("/", "192.0.2.1", "192.0.2.1", 200),
            ("/", "[2001:db8::1]:443", "2001:db8::1", 200),
            ("/", "[2001:db8::2]", "2001:db8::1", 421),
            ("/", "anything.example:99", "", 200),
            ("/", "", "a.example", 200),
            ("/", "", "", 200),
            ("/", "a b", "", 400),
            ("https://a.example/", "", "a.example", 200),
            ("https://b.example/", "", "a.example", 421),
            ("https://a.example/", "b.example", "a.example", 400),
        ] {
            assert_eq!(status(uri, host_field, verified), want, "{uri} {host_field:?} {verified:?}");
        }
    }
}
