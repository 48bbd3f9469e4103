//! Programs that print a secret: no shell, a clean environment, a bound on time and on what they print.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zeroize::Zeroizing;

use super::file::{self, Want};
use crate::types::credential::SECRET_MAX;

/// A program takes no longer.
pub const WITHIN: Duration = Duration::from_secs(10);
/// What it may print: a secret, a byte order mark and a line's end.
const MOST: usize = SECRET_MAX + 5;

/// Why a program gave nothing. What it printed is never told, also not what it wrote to stderr: a secret may be in it.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It is not root's alone.
    #[error("it is not run: {0}")]
    Program(#[source] file::Refused),
    /// It does not run.
    #[error("it cannot be run: {0}")]
    Run(#[source] io::Error),
    /// It ended badly.
    #[error("the command failed: {0}")]
    Status(ExitStatus),
    /// It did not end.
    #[error("the command did not end within {} s", .0.as_secs())]
    Late(Duration),
    /// It printed too much.
    #[error("the command printed more than {SECRET_MAX} bytes: that is no secret")]
    Long,
}

/// Runs a program to its end.
///
/// # Errors
/// [`Failed`]; the program and what it started in its process group are ended.
pub fn run(words: &[String], within: Duration) -> Result<Vec<u8>, Failed> {
    let (program, arguments) = words.split_first().expect("the configuration has a program");
    file::find(Path::new(program), Want::Program).map_err(Failed::Program)?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(Failed::Run)?;
    let mut group = Group { child, ended: false };
    let until = Instant::now() + within;
    let printed = group.printed(until, within)?;
    let status = group.wait(until, within)?;
    if status.success() { Ok(printed) } else { Err(Failed::Status(status)) }
}

/// A child and its process group: ended when this goes.
struct Group {
    child: Child,
    ended: bool,
}

impl Group {
    fn printed(&mut self, until: Instant, within: Duration) -> Result<Vec<u8>, Failed> {
        let mut out = self.child.stdout.take().expect("it is piped");
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MOST + 1));
        let mut piece = Zeroizing::new([0; 4096]);
        loop {
            ready(out.as_fd(), until).map_err(Failed::Run)?.then_some(()).ok_or(Failed::Late(within))?;
            let read = out.read(&mut *piece).map_err(Failed::Run)?;
            if read == 0 {
                return Ok(std::mem::take(&mut *bytes));
            }
            if bytes.len() + read > MOST {
                return Err(Failed::Long);
            }
            bytes.extend_from_slice(&piece[..read]);
        }
    }

    fn wait(&mut self, until: Instant, within: Duration) -> Result<ExitStatus, Failed> {
        let pid = rustix::process::Pid::from_child(&self.child);
        let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
        let handle = handle.map_err(|error| Failed::Run(error.into()))?;
        ready(handle.as_fd(), until).map_err(Failed::Run)?.then_some(()).ok_or(Failed::Late(within))?;
        let status = self.child.wait().map_err(Failed::Run)?;
        self.ended = true;
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // Not waited for yet, so its number is still its own, and its group's.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a descriptor can be read before the time is up.
fn ready(fd: std::os::fd::BorrowedFd<'_>, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            // Rounded down to a millisecond.
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn said(words: &[&str], within: Duration) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match run(&words, within) {
            Ok(bytes) => String::from_utf8(bytes).expect("text"),
            Err(failed) => failed.to_string(),
        }
    }

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_command_prints_a_secret_or_says_why_not() {
        assert_eq!(
            said(&["/usr/bin/printf", "%s", "a $HOME; `x`"], LONG),
            "a $HOME; `x`",
            "there is no shell"
        );
        let environment = said(&["/usr/bin/env"], LONG);
        assert!(environment.lines().count() == 3 && environment.contains("HOME=/root"), "{environment}");
        for (words, wanted) in [
            (&["/bin/false"][..], "exit status: 1"),
            (&["/bin/sh", "-c", "echo canary >&2; exit 3"], "exit status: 3"),
            (&["/usr/bin/absent"], "No such file or directory"),
            (&["/usr/bin/yes"], "printed more than 32768 bytes"),
        ] {
            let said = said(words, LONG);
            assert!(said.contains(wanted) && !said.contains("canary"), "{words:?}: {said}");
        }
    }

    #[test]
    fn a_command_that_does_not_end_is_ended_with_its_children() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("pids");
        let script = format!("sleep 600 & echo $! > {0}; echo $$ >> {0}; wait", file.display());
        let begun = Instant::now();
        let said = said(&["/bin/sh", "-c", &script], Duration::from_secs(1));
        assert!(said.contains("did not end within 1 s") && begun.elapsed() < LONG, "{said}");
        let pids = fs::read_to_string(&file).expect("pids");
        let alive = |pid: &str| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        let until = Instant::now() + LONG;
        while pids.lines().any(alive) {
            assert!(Instant::now() < until, "{pids}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_that_others_can_change_is_not_run() {
        let dir = tempfile::tempdir().expect("directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("mode");
        let path = dir.path().join("program");
        fs::write(&path, "#!/bin/sh\necho hello\n").expect("file");
        let path = path.to_str().expect("text");
        fs::set_permissions(path, Permissions::from_mode(0o757)).expect("mode");
        assert!(said(&[path], LONG).contains("is writable for its group or others"));
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("mode");
        assert_eq!(said(&[path], LONG), "hello\n");
    }
}
