//! What an exchange wants, in words that no protocol owns: the only thing that policy looks at.

use super::{Destination, HostName};

/// What somebody wants to do. Borrowed: it lives as long as the decision.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// Open a connection, before a byte was read.
    Connect {
        /// Where to.
        destination: Destination,
    },
    /// Pass bytes that we cannot read.
    Tunnel {
        /// Where to.
        destination: Destination,
        /// Why they are not read: the `Why` of detection in words.
        why: &'a str,
    },
    /// One HTTP request.
    Http {
        /// Where to.
        destination: Destination,
        /// The host that the request names; `None` when it names an IP address only.
        host: Option<&'a HostName>,
        /// Method, as sent.
        method: &'a str,
        /// Path without the query, as sent.
        path: &'a str,
    },
}
