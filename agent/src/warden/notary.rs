//! Signs what the gate asks for, and tells the journal: a copy of the store that was taken back to an earlier state does not
//! go with the checkpoints there.

use std::path::Path;
use std::time::{Duration, Instant};

use super::journal::{Event, Journal};
use super::signer::Signer;
use crate::report::Chain;
use crate::wire::{Signed, Unsigned};

/// Under load so long lies between two checkpoints in the journal.
const EVERY: Duration = Duration::from_secs(10);

/// See the module.
pub struct Notary {
    signer: Signer,
    journal: Journal,
    told: Option<Instant>,
    /// Why the last tree was not signed: said once.
    refused: Option<String>,
}

impl Notary {
    /// With keys in `directory`.
    pub fn new(directory: &Path, journal: &Journal) -> Self {
        Self {
            signer: Signer::new(directory.to_owned()),
            journal: journal.clone(),
            told: None,
            refused: None,
        }
    }

    /// Signs a tree.
    ///
    /// # Errors
    /// Why not, in words; the journal was told.
    pub fn sign(&mut self, unsigned: &Unsigned) -> Result<Signed, String> {
        let signed = self.signer.sign(unsigned).map_err(|refused| Chain(&refused).to_string());
        match &signed {
            Ok(Signed::Note { note, .. }) => {
                self.refused = None;
                if unsigned.last || self.told.is_none_or(|told| told.elapsed() >= EVERY) {
                    self.told = Some(Instant::now());
                    let (size, log) = (unsigned.growth.new.size, unsigned.log.clone());
                    self.journal.send(Event::Checkpoint { log, size, note: note.clone() });
                }
            }
            Ok(_) => {}
            Err(why) if self.refused.as_ref() != Some(why) => {
                self.refused = Some(why.clone());
                let why = format!("what is recorded is not signed: {why}");
                tracing::error!("{why}");
                self.journal.send(Event::Trouble(why));
            }
            Err(_) => {}
        }
        signed
    }
}
