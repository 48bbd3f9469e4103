//! Reload: the configuration is read anew; the gate that runs is told new rules, or gives way to one that is told all.

use super::Daemon;
use crate::config;
use crate::report::Chain;
use crate::warden::bound::Change;
use crate::warden::notify;

impl Daemon {
    /// Applies the configuration anew; a bad one leaves the old in force and says so.
    pub(super) async fn reload(&mut self) {
        notify::reloading();
        match config::load(&self.directory) {
            Ok(_) if !config::is_there(&self.directory) => {
                let gone = self.directory.display();
                self.trouble(format!("the old configuration stays in force: there is none in {gone}"));
            }
            Ok(config) => self.apply(config).await,
            Err(problems) => {
                for problem in problems {
                    self.trouble(format!("the old configuration stays in force: {problem}"));
                }
            }
        }
        notify::ready();
    }

    async fn apply(&mut self, config: config::Config) {
        for warning in &config.warnings {
            self.trouble(format!("warning: {warning}"));
        }
        let rules = config.policy.rules.len();
        let restart = match self.bound.reconfigure(config).await {
            Ok(Change::None) => false,
            Ok(Change::Restart) => true,
            Ok(Change::Rules(pieces)) => {
                let told = self.gate.as_ref().map(|gate| gate.rules(pieces));
                tracing::info!(rules, "new rules");
                // A gate that does not read would go on by the old ones.
                matches!(told, Some(Err(_)))
            }
            Err(unfit) => {
                self.trouble(format!("the old configuration stays in force: {}", Chain(&unfit)));
                false
            }
        };
        self.live.mode(self.bound.config.policy.mode);
        // Without a gate there is nothing to drain: the next one starts with what is in force.
        if restart && self.gate.is_some() {
            self.drain(false);
        }
    }
}
