//! What an exchange wants, in words that no protocol owns: the only thing that policy looks at, with the caller.
//!
//! The same exchange is judged several times while more of it becomes known: where it connects, which name it asks
//! for, the head of its request, at last its body. What is not known yet is said to be so, never guessed.

use std::borrow::Cow;

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
    /// A WebSocket's handshake: it has no body, messages will follow.
    Handshake,
    /// What is judged is one message on that WebSocket.
    Message(Message<'a>),
}

/// A side of a WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaker {
    /// The caller.
    #[default]
    Client,
    /// The upstream.
    Server,
}

impl Speaker {
    /// As rules and tests name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// By that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Client, Self::Server].into_iter().find(|speaker| speaker.as_str() == name)
    }
}

/// A message on a WebSocket, its fragments joined.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Who sent it.
    pub from: Speaker,
    /// Binary, not text.
    pub binary: bool,
    /// All of it; or why it cannot be known.
    pub data: Result<&'a [u8], &'a str>,
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

/// One HTTP request's facts, kept for as long as the request lives or without there being one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// See [`Http`].
    pub destination: Destination,
    /// See [`Http`].
    pub host: Option<HostName>,
    /// See [`Http`].
    pub protocol: Cow<'static, str>,
    /// See [`Http`].
    pub method: String,
    /// See [`Http`].
    pub path: String,
    /// See [`Http`].
    pub query: Option<String>,
    /// See [`Http`].
    pub headers: http::HeaderMap,
    /// See [`Http`].
    pub body: KeptBody,
}

/// See [`Body`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptBody {
    /// It was not asked for, and has gone by.
    Unread,
    /// All of it.
    Whole(Vec<u8>),
    /// See [`Body::Unknowable`].
    Unknowable(String),
    /// See [`Body::Handshake`].
    Handshake,
    /// See [`Message`].
    Message {
        /// See [`Message`].
        from: Speaker,
        /// See [`Message`].
        binary: bool,
        /// See [`Message`].
        data: Result<Vec<u8>, String>,
    },
}

impl Http<'_> {
    /// A copy of its own. `protocol`: [`Http::protocol`].
    pub fn keep(&self, protocol: &'static str) -> Kept {
        Kept {
            destination: self.destination,
            host: self.host.cloned(),
            protocol: protocol.into(),
            method: self.method.to_owned(),
            path: self.path.to_owned(),
            query: self.query.map(ToOwned::to_owned),
            headers: self.headers.clone(),
            body: self.body.keep(),
        }
    }
}

impl Body<'_> {
    /// A copy of its own.
    pub fn keep(&self) -> KeptBody {
        match *self {
            Self::Unread => KeptBody::Unread,
            Self::Whole(bytes) => KeptBody::Whole(bytes.to_owned()),
            Self::Unknowable(why) => KeptBody::Unknowable(why.to_owned()),
            Self::Handshake => KeptBody::Handshake,
            Self::Message(Message { from, binary, data }) => {
                KeptBody::Message { from, binary, data: data.map(<[u8]>::to_vec).map_err(ToOwned::to_owned) }
            }
        }
    }
}

impl Kept {
    /// What is judged.
    pub fn http(&self) -> Http<'_> {
        Http {
            destination: self.destination,
            host: self.host.as_ref(),
            protocol: &self.protocol,
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            body: match &self.body {
                KeptBody::Unread => Body::Unread,
                KeptBody::Whole(bytes) => Body::Whole(bytes),
                KeptBody::Unknowable(why) => Body::Unknowable(why),
                KeptBody::Handshake => Body::Handshake,
                KeptBody::Message { from, binary, data } => Body::Message(Message {
                    from: *from,
                    binary: *binary,
                    data: data.as_deref().map_err(String::as_str),
                }),
            },
        }
    }
}
