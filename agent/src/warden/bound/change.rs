//! A new configuration takes the place of the old.

use super::Bound;
use super::parts::{apply, guard};
use crate::config::Config;
use crate::report::Chain;
use crate::warden::audit;
use crate::warden::tokens::Places;
use crate::wire::Piece;
use crate::wire::rules::{self, Unfit};

/// What a new configuration means for the gate that runs.
#[derive(Debug)]
pub enum Change {
    /// Nothing.
    None,
    /// New rules, which it can be told.
    Rules(Vec<Piece>),
    /// It must be started anew.
    Restart,
}

impl Bound {
    /// Takes a new configuration into force. Returns what the gate that runs has to be told (files that the configuration
    /// names count by what is in them).
    ///
    /// # Errors
    /// [`Unfit`]: the rules cannot be told to a gate, and the old configuration stays in force.
    pub async fn reconfigure(&mut self, config: Config) -> Result<Change, Unfit> {
        let pieces = rules::pieces(&config.policy)?;
        if config.paths != self.config.paths || config.user != self.config.user {
            tracing::warn!("[paths] and user take effect at the next restart");
        }
        self.config = Config { paths: self.config.paths.clone(), user: self.config.user.clone(), ..config };
        match audit::recipients(&self.config) {
            Ok(recipients) => self.recipients = recipients,
            Err(error) => tracing::error!("bodies are sealed for whom they were: {}", Chain(&error)),
        }
        self.places = Places::of(&self.config.issuers);
        self.secrets.configure(&self.config);
        guard(&mut self.kernel.lock(), &self.config);
        apply(&self.tags, &self.config).await;
        let settings = self.gate_settings();
        Ok(match &mut self.told {
            Some((told, rules)) if *told == settings => {
                if *rules == self.config.policy {
                    Change::None
                } else {
                    rules.clone_from(&self.config.policy);
                    Change::Rules(pieces)
                }
            }
            _ => Change::Restart,
        })
    }
}
