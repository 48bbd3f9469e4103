//! Addresses, each under the name of its role, so that none can stand where another belongs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The tagged socket's end of a taken connection, as `accept` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientAddr(pub SocketAddr);

/// Our end of a taken connection: the loopback address that the kernel program chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ListenerAddr(pub SocketAddr);

/// Where the tagged process wanted to go. v4-mapped addresses are held as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Destination(SocketAddr);

impl Destination {
    /// The destination at `ip` and `port`; a v4-mapped IPv6 address becomes the IPv4 address that it stands for.
    pub fn new(ip: IpAddr, port: u16) -> Self {
        Self(SocketAddr::new(ip.to_canonical(), port))
    }

    /// As a socket address, to dial or to print.
    pub fn socket(&self) -> SocketAddr {
        self.0
    }

    /// The address without its port.
    pub fn ip(&self) -> IpAddr {
        self.0.ip()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0.port()
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A DNS name as TLS and HTTP carry it: ASCII, lower case, no trailing dot, labels of letters, digits, `-` and `_`,
/// each 1 to 63 octets, 253 in all (RFC 1123 §2.1, with the underscore that real names bear). Never an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// A text that is no host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host name")]
pub struct NotAHostName(pub String);

impl HostName {
    /// Reads a name, folding case and dropping one trailing dot.
    ///
    /// # Errors
    /// [`NotAHostName`] for anything outside the grammar above, IP addresses included.
    pub fn parse(text: &str) -> Result<Self, NotAHostName> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A last label of digits only is how an IPv4 address is told from a name (WHATWG URL, "ends in a number").
        let numeric_end = name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if name.len() <= 253 && !numeric_end && name.split('.').all(label) {
            Ok(Self(name))
        } else {
            Err(NotAHostName(text.chars().take(300).collect()))
        }
    }

    /// The name in lower case without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostName {
    type Error = NotAHostName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        for (text, want) in [
            ("API.OpenAI.com", Some("api.openai.com")),
            ("localhost", Some("localhost")),
            ("a_b.example.", Some("a_b.example")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-a.example", None),
            ("127.0.0.1", None),
            ("::1", None),
            ("exa mple.com", None),
            ("bücher.example", None),
            ("a\0.example", None),
        ] {
            assert_eq!(HostName::parse(text).ok().as_ref().map(HostName::as_str), want, "{text:?}");
        }
        assert!(HostName::parse(&"a.".repeat(127)).is_ok());
        assert!(HostName::parse(&"a.".repeat(128)).is_err());
    }

    #[test]
    fn mapped_destinations_are_ipv4() {
        let mapped = Destination::new("::ffff:192.0.2.7".parse().expect("address"), 443);
        assert_eq!(mapped.to_string(), "192.0.2.7:443");
    }
}
