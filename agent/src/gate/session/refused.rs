//! Refusals that come before any exchange.

use std::borrow::Cow;

use super::{Error, Line};
use crate::policy::Denied;
use crate::record::ExchangeHead;
use crate::report::Chain;
use crate::types::identity::Recognised;
use crate::types::{self, HostSource};

impl Line {
    /// Records a refusal by policy that came before any exchange.
    pub(super) fn denied(&self, protocol: &'static str, sni: Option<String>, denied: Denied) -> Error {
        let (host, host_source) = match sni {
            Some(name) => (name, HostSource::Tls),
            None => self.name(),
        };
        let reason = format!("{} (rule {})", denied.reason, denied.rule);
        self.session.refused(
            ExchangeHead { rule: Some(denied.rule.clone()), ..self.head(host, host_source, protocol) },
            reason,
        );
        Error::Denied(denied)
    }

    /// Records a refusal that came before any exchange.
    pub(super) fn refused(&self, protocol: &'static str, error: &Error) {
        let (host, source) = self.name();
        self.refused_for(host, source, protocol, error);
    }

    /// The best name of the other side before any is proved.
    fn name(&self) -> (String, HostSource) {
        match &self.looked_up {
            Some(found) => (found.name.to_string(), found.by),
            None => (self.destination.to_string(), HostSource::Address),
        }
    }

    pub(super) fn refused_for(
        &self,
        host: String,
        host_source: HostSource,
        protocol: &'static str,
        error: &Error,
    ) {
        self.session.refused(self.head(host, host_source, protocol), Chain(error).to_string());
    }

    /// What a refusal before any exchange begins with.
    fn head(&self, host: String, host_source: HostSource, protocol: &'static str) -> ExchangeHead<'static> {
        let names = self.services.policy.borrow().claims().to_vec();
        ExchangeHead {
            identity: self.who.standing().shared().map(|identity| Recognised::new(identity, &names)),
            credential: None,
            caller_keys: Vec::new(),
            protocol,
            host,
            host_source,
            method: None,
            path: None,
            headers: Cow::default(),
            rule: None,
            verdict: types::Verdict::Deny,
        }
    }
}
