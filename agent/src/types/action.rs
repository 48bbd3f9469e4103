//! What an exchange wants, in words that no protocol owns: the only thing that policy looks at, with the caller.
//!
//! The same exchange is judged several times while more of it becomes known: where it connects, which name it asks
//! for, the head of its request, at last its body. What is not known yet is said to be so, never guessed.

use super::{Destination, HostName};

/// What somebody wants to do. Borrowed: it lives as long as the decision.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// Open a connection, before a byte was read.
    Connect {
        /// Where to.
        destination: Destination,
    },
    /// Go on under a name, before anything is sent to whom bears it: the name in a ClientHello, or a CONNECT's.
    Name {
        /// Where to.
        destination: Destination,
        /// The name; `None` when none was given.
        host: Option<&'a HostName>,
    },
    /// Pass bytes that we cannot read.
    Tunnel {
        /// Where to.
        destination: Destination,
        /// The name that was verified, or that the host's own name servers gave the address for.
        host: Option<&'a HostName>,
        /// Why they are not read: the `Why` of detection in words.
        why: &'a str,
    },
    /// One HTTP request.
    Http(Http<'a>),
}

/// One HTTP request, as it is forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Http<'a> {
    /// Where to.
    pub destination: Destination,
    /// The host that the request names; `None` when it names an IP address only.
    pub host: Option<&'a HostName>,
    /// `http/1.1`, `h2`, `websocket`, `grpc`.
    pub protocol: &'a str,
    /// Method, as sent.
    pub method: &'a str,
    /// Path without the query, as sent.
    pub path: &'a str,
    /// Query without the question mark, as sent.
    pub query: Option<&'a str>,
    /// Header fields in order.
    pub headers: &'a http::HeaderMap,
    /// The body.
    pub body: Body<'a>,
}

/// What is known of a request's body.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Nothing yet; it can be read.
    Unread,
    /// All of it: content codings undone, the bytes that are forwarded otherwise.
    Whole(&'a [u8]),
    /// It cannot be known, and why: longer than the bound, an unknown content coding.
    Unknowable(&'a str),
}

impl Action<'_> {
    /// Where it goes.
    pub fn destination(&self) -> Destination {
        match self {
            Self::Connect { destination }
            | Self::Name { destination, .. }
            | Self::Tunnel { destination, .. }
            | Self::Http(Http { destination, .. }) => *destination,
        }
    }

    /// The name that it goes to: `None` when that is not known yet, `Some(None)` when there is none.
    pub fn host(&self) -> Option<Option<&HostName>> {
        match self {
            Self::Connect { .. } | Self::Name { host: None, .. } => None,
            Self::Name { host, .. } | Self::Tunnel { host, .. } | Self::Http(Http { host, .. }) => {
                Some(*host)
            }
        }
    }
}
