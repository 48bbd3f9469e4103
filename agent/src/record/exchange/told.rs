//! What becomes known of an exchange on its way, for its end.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Exchange;

impl Exchange {
    /// The protocol that the exchange became (`websocket` after 101).
    pub fn became(&self, protocol: &'static str) {
        if let Some(own) = &mut self.0.state().own {
            own.protocol = Cow::Borrowed(protocol);
        }
    }

    /// What was masked of it: counts by detector, in place of what was said before.
    pub fn masked(&self, counts: BTreeMap<String, u64>) {
        if let Some(own) = &mut self.0.state().own {
            own.masked = counts;
        }
    }

    /// It was refused after all, by `rule`: what came back from upstream was not passed on.
    pub fn denied(&self, rule: &str) {
        if let Some(own) = &mut self.0.state().own {
            own.verdict = crate::types::Verdict::Deny;
            own.rule = Some(rule.to_owned());
        }
    }
}
