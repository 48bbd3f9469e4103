//! Running programs to their end, and waiting for things, always with a deadline.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Longest wait for anything that should happen at once; generous, since the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Whether this runs in the guest of `cargo xtask vm`, whose processor is emulated: some ten times slower than the
/// machine's own. What a guest does less of says so where it does.
pub fn in_guest() -> bool {
    std::env::var_os("SLUICE_VM").is_some()
}

/// By how much longer than on the machine's own processor a test waits for what may come or not.
pub fn slowness() -> u32 {
    if in_guest() { 2 } else { 1 }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status; `None` when it had to be killed at its deadline.
    pub status: Option<ExitStatus>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Whether it ended by itself with 0.
    pub fn good(&self) -> bool {
        self.status.is_some_and(|s| s.success())
    }
}

/// Runs a command to its end with nothing on standard input, or kills it at the deadline.
///
/// # Errors
/// It cannot be started.
pub fn run(command: &mut Command, patience: Duration) -> Result<Ended> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    finish(child.with_context(|| format!("starting {command:?}"))?, patience)
}

/// Waits for a child whose output is piped, or kills it at the deadline.
///
/// # Errors
/// Waiting failed.
pub fn finish(mut child: Child, patience: Duration) -> Result<Ended> {
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    let status = eventually(patience, || Ok(child.try_wait()?))?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
    };
    // A killed child's own children may hold the pipes: what they wrote is not worth a wait.
    if status.is_none() && !(stdout.is_finished() && stderr.is_finished()) {
        return Ok(Ended { status, stdout: String::new(), stderr: "killed at its deadline".to_owned() });
    }
    Ok(Ended { status, stdout: text(stdout), stderr: text(stderr) })
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Asks `level` until it says `Some`, or the time is over. The wait between two questions bounds their number, it
/// synchronises nothing.
///
/// # Errors
/// The first of `level`'s.
pub fn eventually<T>(patience: Duration, mut level: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let end = Instant::now() + patience;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(value) = level()? {
            return Ok(Some(value));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
