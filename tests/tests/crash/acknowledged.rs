//! What a recorder said, and whether the store has it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_tests::process::PATIENCE;
use sluice_tests::recorder::{Kept, Key};

/// What was acknowledged of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its head.
    Head,
    /// Its head, on disk.
    Durable,
    /// Its end, and a body of so many bytes.
    End(u64),
}

/// One word of a recorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub of: Key,
    pub what: What,
    /// Nanoseconds of `CLOCK_MONOTONIC`: it was true before this.
    pub at: u64,
}

impl Word {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let (id, number, what, at) = match words[..] {
            ["E", id, number, at] => (id, number, What::Head, at),
            ["D", id, number, at] => (id, number, What::Durable, at),
            ["F", id, number, length, at] => (id, number, What::End(length.parse().ok()?), at),
            _ => return None,
        };
        Some(Self { of: (id.to_owned(), number.parse().ok()?), what, at: at.parse().ok()? })
    }

    /// Whether the store has what was acknowledged.
    pub fn holds(&self, kept: &Kept) -> bool {
        let Some(exchange) = kept.exchanges.get(&self.of) else { return false };
        match self.what {
            What::Head | What::Durable => true,
            What::End(length) => {
                (exchange.status, exchange.bytes_down, &exchange.error) == (Some(200), length, &None)
                    && kept.bodies.get(&self.of).copied().unwrap_or(0) == length
            }
        }
    }
}

/// A recorder at work.
pub struct Recording {
    child: Child,
    first: Receiver<()>,
    words: JoinHandle<(Vec<Word>, Vec<String>)>,
}

impl Recording {
    /// Starts one on the store in `dir`.
    pub fn start(dir: &Path, seed: u64, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluice-recorder"))
            .arg(dir)
            .arg(seed.to_string())
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let said = BufReader::new(child.stderr.take().expect("piped"));
        let (begun, first) = mpsc::sync_channel(1);
        let words = std::thread::spawn(move || {
            let (mut words, mut other) = (Vec::new(), Vec::new());
            for line in said.lines().map_while(Result::ok) {
                match Word::parse(&line) {
                    Some(word) => words.push(word),
                    None => other.push(line),
                }
                let _ = begun.try_send(());
            }
            (words, other)
        });
        Self { child, first, words }
    }

    /// Waits for the first word.
    pub fn speaks(&self) {
        self.first.recv_timeout(PATIENCE).expect("it records");
    }

    /// Waits so long, or until it has ended by itself.
    pub fn goes_on(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Kills it; gives what it said, and whatever else: refusals, a panic.
    pub fn kill(mut self) -> (Vec<Word>, Vec<String>) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited");
        self.words.join().expect("read")
    }

    /// Waits for its end; gives what it said.
    pub fn end(mut self) -> (Vec<Word>, Vec<String>) {
        let status = self.child.wait().expect("waited");
        let said = self.words.join().expect("read");
        assert!(status.success(), "{status}: {:#?}", said.1);
        said
    }
}
