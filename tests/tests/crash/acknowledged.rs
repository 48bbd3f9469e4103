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

const RECORDER: &str = env!("CARGO_BIN_EXE_sluice-recorder");

/// A recorder at work.
pub struct Recording {
    child: Child,
    first: Receiver<()>,
    words: JoinHandle<(Vec<Word>, Vec<String>)>,
}

impl Recording {
    /// Starts one on the store in `dir`.
    pub fn start(dir: &Path, seed: u64, options: &[&str]) -> Self {
        Self::of(Command::new(RECORDER), dir, seed, options)
    }

    /// Starts one that dies at a system call: just before it makes the call of this name for the n-th time.
    pub fn dies_at(dir: &Path, call: &str, n: u64, seed: u64, options: &[&str]) -> Self {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=SIGKILL:when={n}"));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, RECORDER]);
        Self::of(strace, dir, seed, options)
    }

    fn of(mut command: Command, dir: &Path, seed: u64, options: &[&str]) -> Self {
        let mut child = command
            .arg(dir)
            .arg(seed.to_string())
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started (strace: apt-get install strace)");
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

    /// Lets it work so long: the test's dice, it waits for nothing.
    pub fn goes_on(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Kills it; gives what it said, and whatever else: refusals, a panic.
    pub fn kill(mut self) -> (Vec<Word>, Vec<String>) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited");
        self.words.join().expect("read")
    }

    /// Waits for its end, however it comes; gives what it said, and whatever else.
    pub fn end(mut self) -> (Vec<Word>, Vec<String>) {
        self.child.wait().expect("waited");
        self.words.join().expect("read")
    }
}
