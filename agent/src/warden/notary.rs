//! Signs what the gate asks for, and tells the journal and the files that the configuration names: a copy of the store that
//! was taken back to an earlier state does not go with the checkpoints there.
//!
//! On a thread of its own: keys and what they signed are synced to disk, which the daemon's loop must not wait for.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use super::gate_process::Mailbox;
use super::journal::{Event, Journal};
use super::signer::Signer;
use crate::report::Chain;
use crate::wire::{Signed, ToGate, Unsigned};

/// Under load so long lies between two checkpoints in the journal.
const EVERY: Duration = Duration::from_secs(10);
/// Trees that wait to be signed, and checkpoints that wait for a file, such as one on another machine.
const WAITING: usize = 16;

/// See the module.
pub struct Notary(SyncSender<Question>);

/// What is to be signed, and whom to answer.
struct Question {
    call: u64,
    unsigned: Box<Unsigned>,
    mailbox: Mailbox,
}

impl Notary {
    /// With keys in `directory`. What the journal is told is added to `files`, too.
    ///
    /// # Errors
    /// A thread cannot be made.
    pub fn start(directory: &Path, journal: &Journal, files: Vec<PathBuf>) -> io::Result<Self> {
        let adder = if files.is_empty() { None } else { Some(adder(files, journal.clone())?) };
        let signer = Signer::new(directory.to_owned());
        let signing = Signing { signer, journal: journal.clone(), adder, told: None, refused: None };
        let (sender, questions) = mpsc::sync_channel(WAITING);
        std::thread::Builder::new().name("notary".to_owned()).spawn(move || signing.run(&questions))?;
        Ok(Self(sender))
    }

    /// Has a tree signed; the answer goes to the gate. Never waits: a question too many has no answer, and is asked again.
    pub fn ask(&self, call: u64, unsigned: Box<Unsigned>, mailbox: Mailbox) {
        if self.0.try_send(Question { call, unsigned, mailbox }).is_err() {
            tracing::warn!("a tree is not signed: too many wait");
        }
    }
}

struct Signing {
    signer: Signer,
    journal: Journal,
    adder: Option<SyncSender<String>>,
    told: Option<Instant>,
    /// Why the last tree was not signed: said once.
    refused: Option<String>,
}

impl Signing {
    fn run(mut self, questions: &Receiver<Question>) {
        for Question { call, unsigned, mailbox } in questions {
            let signed = self.sign(&unsigned);
            // A gate that is gone wants no answer.
            let _ = mailbox.post(vec![(ToGate::Checkpoint { call, signed }, None)]);
        }
    }

    fn sign(&mut self, unsigned: &Unsigned) -> Result<Signed, String> {
        let signed = self.signer.sign(unsigned).map_err(|refused| Chain(&refused).to_string());
        match &signed {
            Ok(Signed::Note { note, .. }) => {
                self.refused = None;
                if unsigned.last || self.told.is_none_or(|told| told.elapsed() >= EVERY) {
                    self.tell(unsigned, note);
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

    fn tell(&mut self, unsigned: &Unsigned, note: &str) {
        self.told = Some(Instant::now());
        if let Some(adder) = &self.adder {
            // Full: a file does not take them, which the journal was told.
            let _ = adder.try_send(note.to_owned());
        }
        let (size, log) = (unsigned.growth.new.size, unsigned.log.clone());
        self.journal.send(Event::Checkpoint { log, size, note: note.to_owned() });
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
