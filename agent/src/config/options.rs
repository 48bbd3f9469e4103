//! What a tag lets through besides the connections that it takes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What happens to loopback destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loopback {
    /// Left alone: they do not leave the host.
    #[default]
    Pass,
    /// Connections are taken like any other; datagrams are refused.
    Take,
    /// Refused.
    Deny,
}

impl FromStr for Loopback {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pass" | "allow" => Ok(Self::Pass),
            "take" => Ok(Self::Take),
            "deny" => Ok(Self::Deny),
            _ => Err("write \"pass\", \"take\" or \"deny\""),
        }
    }
}

/// The options of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// What happens to loopback destinations.
    pub loopback: Loopback,
    /// Cloud metadata addresses are taken like any other; otherwise they are refused.
    pub metadata: bool,
    /// Other hosts may connect; otherwise nobody but this host may.
    pub inbound: bool,
    /// Multipath TCP is taken; otherwise it is refused.
    pub mptcp: bool,
    /// Where datagrams may go besides the resolver.
    pub udp: Vec<UdpRule>,
}

impl Default for Options {
    fn default() -> Self {
        Self { loopback: Loopback::Pass, metadata: false, inbound: false, mptcp: true, udp: Vec::new() }
    }
}

impl Options {
    /// The defaults but for loopback.
    pub fn with_loopback(loopback: Loopback) -> Self {
        Self { loopback, ..Self::default() }
    }
}

/// Where datagrams may go: `10.0.0.5:123`, `10.0.0.0/8:123`, `[2001:db8::/32]:123`, with `*` for every port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UdpRule {
    /// The network's address, or a host's.
    pub address: IpAddr,
    /// How many bits of it count.
    pub prefix: u8,
    /// `None`: every port but 53, which goes to the resolver.
    pub port: Option<u16>,
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct BadUdpRule {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub remedy: &'static str,
}

const FORM: &str = "write \"10.0.0.5:123\", \"10.0.0.0/8:123\" or \"[2001:db8::/32]:123\"; * is every port";

impl FromStr for UdpRule {
    type Err = BadUdpRule;

    fn from_str(text: &str) -> Result<Self, BadUdpRule> {
        let bad = |remedy| BadUdpRule { what: format!("{text:?} is no rule for datagrams"), remedy };
        let (network, port) = text.rsplit_once(':').ok_or_else(|| bad(FORM))?;
        let port = match port {
            "*" => None,
            "53" => return Err(bad("port 53 goes to the resolver: see [dns]")),
            port => Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(|| bad(FORM))?),
        };
        let inner = network.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        let (address, prefix) = match inner.unwrap_or(network).split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (inner.unwrap_or(network), None),
        };
        let address: IpAddr = if inner.is_some() {
            address.parse::<Ipv6Addr>().map_err(|_| bad(FORM))?.into()
        } else {
            address.parse::<Ipv4Addr>().map_err(|_| bad(FORM))?.into()
        };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|p| *p <= longest).ok_or_else(|| bad(FORM))?,
            None => longest,
        };
        if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return Err(bad("write a v4-mapped address as the IPv4 address that it is"));
        }
        Ok(Self { address, prefix, port })
    }
}

impl fmt::Display for UdpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}/{}:", self.prefix)?,
            IpAddr::V6(address) => write!(f, "[{address}/{}]:", self.prefix)?,
        }
        match self.port {
            Some(port) => write!(f, "{port}"),
            None => f.write_str("*"),
        }
    }
}

impl TryFrom<String> for UdpRule {
    type Error = BadUdpRule;

    fn try_from(text: String) -> Result<Self, BadUdpRule> {
        text.parse()
    }
}

impl From<UdpRule> for String {
    fn from(rule: UdpRule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_written() {
        for (text, shown) in [
            ("10.0.0.5:123", "10.0.0.5/32:123"),
            ("10.0.0.0/8:*", "10.0.0.0/8:*"),
            ("[2001:db8::/32]:123", "[2001:db8::/32]:123"),
            ("[::1]:443", "[::1/128]:443"),
            ("0.0.0.0/0:443", "0.0.0.0/0:443"),
        ] {
            let rule: UdpRule = text.parse().expect(text);
            assert_eq!(rule.to_string(), shown);
            assert_eq!(shown.parse::<UdpRule>(), Ok(rule));
        }
        for text in [
            "10.0.0.5",
            "10.0.0.5:0",
            "10.0.0.5:53",
            "10.0.0.5/33:1",
            "10.0.0.5:x",
            "2001:db8::1:123",
            "[10.0.0.5]:1",
            "[::ffff:10.0.0.1]:1",
            "host:1",
            ":1",
            "",
        ] {
            assert!(text.parse::<UdpRule>().is_err(), "{text}");
        }
    }
}
