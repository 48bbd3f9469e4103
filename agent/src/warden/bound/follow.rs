//! What is found out of a caller beyond what the kernel remembered: it follows the answer, and nobody else waits for it.

use super::Bound;
use crate::warden::gate_process::Mailbox;
use crate::wire::Identity;

impl Bound {
    /// Begins to look for the caller's tokens, and to hash its program where a rule asks for that; says in `identity` what
    /// follows.
    pub fn look_further(&self, identity: &mut Identity, call: u64, gate: &Mailbox) {
        let caller = &identity.caller;
        if !self.config.issuers.is_empty() {
            let gate = gate.clone();
            identity.tokens_follow = self.tokens.look(&self.tags, &self.places, caller, call, gate);
        }
        if self.config.policy.asks_programs() {
            identity.program_follows = self.callers.programs.look(caller, call, gate.clone());
        }
    }
}
