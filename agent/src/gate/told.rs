//! What the warden says before the gate enters its sandbox.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use super::Error;
use crate::policy::rule::Source;
use crate::types::NetnsCookie;
use crate::wire::rules::Together;
use crate::wire::{self, GateSettings, ToGate};

/// What the warden says before the start.
pub(super) struct Told {
    pub settings: GateSettings,
    pub rules: Source,
    pub listeners: Vec<(NetnsCookie, OwnedFd)>,
    /// The resolver's sockets, each with its network namespace.
    pub resolvers: Vec<(NetnsCookie, OwnedFd)>,
    /// The host's name servers.
    pub servers: Vec<SocketAddr>,
}

/// Listens until the start.
///
/// # Errors
/// The warden is gone, or says what it must not.
pub(super) fn hear(channel: &OwnedFd) -> Result<Told, Error> {
    let mut settings: Option<GateSettings> = None;
    let (mut together, mut rules) = (Together::default(), None);
    let (mut listeners, mut resolvers, mut servers) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let (message, fd) =
            wire::receive_blocking(channel.as_fd()).map_err(Error::Channel)?.ok_or(Error::Abandoned)?;
        match (message, fd, &mut settings) {
            (ToGate::Settings(said), None, none @ None) => *none = Some(*said),
            (ToGate::Roots(pem), None, Some(settings)) => settings.extra_roots.push(pem),
            (ToGate::Issuer(said), None, Some(settings)) => settings.issuers.push(*said),
            (ToGate::Listener { netns }, Some(fd), Some(_)) => listeners.push((netns, fd)),
            (ToGate::Resolver { netns }, Some(fd), Some(_)) => resolvers.push((netns, fd)),
            (ToGate::Servers(said), None, Some(_)) => servers = said,
            (ToGate::Policy(piece), None, Some(_)) => {
                rules = together.take(&piece).map_err(Error::Rules)?;
            }
            (ToGate::Start, None, Some(_)) => break,
            _ => return Err(Error::Abandoned),
        }
    }
    let settings = settings.ok_or(Error::Abandoned)?;
    // Without a word on rules nothing would be refused.
    let rules = rules.ok_or(Error::Abandoned)?;
    Ok(Told { settings, rules, listeners, resolvers, servers })
}
