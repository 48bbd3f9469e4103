//! Signs what the gate asks for, and tells the journal: a copy of the store that was taken back to an earlier state does not
//! go with the checkpoints there.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};
use std::time::{Duration, Instant};

use super::journal::{Event, Journal};
use super::signer::Signer;
use crate::report::Chain;
use crate::wire::{Signed, Unsigned};

/// Under load so long lies between two checkpoints in the journal.
const EVERY: Duration = Duration::from_secs(10);

/// Checkpoints that wait for a file, such as one on another machine.
const WAITING: usize = 16;

/// See the module.
pub struct Notary {
    signer: Signer,
    journal: Journal,
    adder: Option<SyncSender<String>>,
    told: Option<Instant>,
    /// Why the last tree was not signed: said once.
    refused: Option<String>,
}

impl Notary {
    /// With keys in `directory`. What the journal is told is added to `files`, too.
    ///
    /// # Errors
    /// The thread that writes them cannot be made.
    pub fn new(directory: &Path, journal: &Journal, files: Vec<PathBuf>) -> io::Result<Self> {
        let adder = if files.is_empty() { None } else { Some(adder(files, journal.clone())?) };
        let signer = Signer::new(directory.to_owned());
        Ok(Self { signer, journal: journal.clone(), adder, told: None, refused: None })
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
                    if let Some(adder) = &self.adder {
                        // Full: a file does not take them, which the journal was told.
                        let _ = adder.try_send(note.clone());
                    }
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

/// A thread that adds checkpoints to files, each followed by an empty line: one may be slow, or not there.
fn adder(files: Vec<PathBuf>, journal: Journal) -> io::Result<SyncSender<String>> {
    let (sender, notes) = mpsc::sync_channel::<String>(WAITING);
    let add = move |note: &str, path: &Path| {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o644).open(path)?;
        file.write_all(format!("{note}\n").as_bytes())?;
        file.sync_data()
    };
    std::thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
        for note in notes {
            for path in &files {
                if let Err(error) = add(&note, path) {
                    let why = format!("a checkpoint cannot be added to {}: {error}", path.display());
                    journal.send(Event::Trouble(why));
                }
            }
        }
    })?;
    Ok(sender)
}
