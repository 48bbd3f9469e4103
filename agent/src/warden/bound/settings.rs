//! What a gate is told at its start.

use std::fs;

use super::Bound;
use crate::config::Sink;
use crate::paths;
use crate::wire::GateSettings;

impl Bound {
    /// How it is to work, and the PEM of the roots to trust besides the system's.
    pub(super) fn gate_settings(&self) -> (GateSettings, Vec<Vec<u8>>) {
        let roots = self.config.tls.extra_roots.iter().filter_map(|path| match fs::read(path) {
            Ok(pem) => Some(pem),
            Err(error) => {
                tracing::error!("extra_roots: {} is left out: {error}", path.display());
                None
            }
        });
        let urls = self.config.audit.checkpoints_to.iter().filter_map(|sink| match sink {
            Sink::Https(url) => Some(url),
            Sink::File(_) => None,
        });
        let settings = GateSettings {
            ca: self.ca.certificate_der().to_vec(),
            extra_roots: Vec::new(),
            uid: self.gate_user.0.as_raw(),
            gid: self.gate_user.1.as_raw(),
            store: self.config.paths.state.join(paths::STORE_DIR).to_string_lossy().into_owned(),
            body_limit: self.config.record.body_limit,
            store_bytes: self.config.record.max_bytes,
            store_age: self.config.record.max_age.map(|age| age.as_secs()),
            checkpoints_to: urls.cloned().collect(),
            recipients: self.recipients.clone(),
            durable: self.config.record.durable,
            max_sessions: self.config.limits.sessions,
            may_stand_aside: self.may_stand_aside(),
            name_servers: self.config.dns.upstream.clone(),
            lookups: self.config.dns.lookups.clone(),
            issuers: self.config.issuers.iter().map(|issuer| issuer.told.clone()).collect(),
        };
        (settings, roots.collect())
    }
}
