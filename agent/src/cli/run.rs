//! `sluice run`: this very process is put into a tag and becomes the command, so exit code, signals, terminal and
//! standard streams are the command's own.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::{DaemonAt, Failure, strange};
use crate::control::{Answer, Request};
use crate::trust;
use crate::types::issuer::TOKEN_MAX;
use crate::types::{TagName, Token};

/// Arguments of `sluice run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sluice run -- curl https://example.com\n  sluice run --tag build -- make -j8\n  \
    sluice run --identity-token-file token.jwt -- ./train.sh\n\n\
    The exit code is the command's; 126: it cannot be executed, 127: it is not there, 1: it was not started."
)]
pub struct RunArgs {
    /// Name of the tag; a random one if absent. It must not be in use.
    #[arg(long, value_name = "NAME", value_parser = TagName::parse)]
    tag: Option<TagName>,
    /// A file with an OpenID Connect token: it may prove who stands behind the command, if an issuer of the
    /// configuration made it. Read now, by you; inside the tag, run again with a new one to replace it.
    #[arg(long, value_name = "FILE")]
    identity_token_file: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl RunArgs {
    /// Becomes the command; returns only when that fails.
    ///
    /// # Errors
    /// [`Failure`]: the command was not started.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        let identity_token = self.identity_token_file.as_deref().map(token).transpose()?;
        let request = Request::Run { tag: self.tag, identity_token };
        let Answer::Run { mut environment, .. } = daemon.ask(&request)? else {
            return Err(strange().into());
        };
        #[expect(clippy::disallowed_methods, reason = "the caller's environment, which the command inherits")]
        let inherited = std::env::var(trust::JAVA_OPTIONS).unwrap_or_default();
        if let Some(ours) = environment.get_mut(trust::JAVA_OPTIONS) {
            *ours = trust::keep_java_options(ours, &inherited);
        }
        close_ways_out()?;
        let (program, arguments) = self.command.split_first().ok_or_else(strange)?;
        let error = Command::new(program).args(arguments).envs(environment).exec();
        let program = program.to_string_lossy();
        let (why, remedy, code) = match error.kind() {
            io::ErrorKind::NotFound => ("is not there", "check its name and PATH", 127),
            io::ErrorKind::PermissionDenied => {
                ("may not be executed", "check its mode and its file system's", 126)
            }
            _ => ("cannot be executed", "check that it is a program for this machine", 126),
        };
        Err(Failure { why: format!("{program} {why}: {error}"), remedy: remedy.into(), code }.into())
    }
}

fn token(file: &Path) -> Result<Token, Failure> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        fs::File::open(file)?.take(2 * TOKEN_MAX as u64).read_to_string(&mut text)?;
        Ok(text)
    };
    let why = match read() {
        Ok(text) => match Token::parse(&text) {
            Ok(token) => return Ok(token),
            Err(error) => format!("{} holds no token: {error}", file.display()),
        },
        Err(error) => format!("{} cannot be read: {error}", file.display()),
    };
    Err(Failure { why, remedy: "name a file with one JWT as its issuer gave it".into(), code: 2 })
}

/// Closes descriptors above the standard streams that could lead past the tag: sockets that were made outside of it
/// are not taken, tunnels and io_uring instances neither. Files, pipes and terminals stay, so that `<(…)`, jobservers and
/// lock files work as without us.
fn close_ways_out() -> io::Result<()> {
    let numbers: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .filter(|n| *n > 2)
        .collect();
    for number in numbers {
        let harmless = match fs::metadata(format!("/proc/self/fd/{number}")) {
            Ok(meta) => is_harmless(&meta),
            Err(_) => continue, // the listing's own descriptor, closed since
        };
        if !harmless {
            nix::unistd::close(number)?;
        }
    }
    Ok(())
}

fn is_harmless(meta: &fs::Metadata) -> bool {
    let kind = meta.file_type();
    if kind.is_char_device() {
        // Documentation/admin-guide/devices.txt: memory devices (null, zero, random), terminals and their kin.
        let major = nix::sys::stat::major(meta.rdev());
        return matches!(major, 1 | 4 | 5 | 136..=143);
    }
    kind.is_file() || kind.is_dir() || kind.is_fifo() || kind.is_block_device()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_anonymous_inodes_are_ways_out() {
        use std::os::fd::{AsRawFd as _, OwnedFd};
        let socket: OwnedFd = std::net::TcpListener::bind("127.0.0.1:0").expect("socket").into();
        let events: OwnedFd = nix::sys::eventfd::EventFd::new().expect("eventfd").into();
        let file: OwnedFd = fs::File::open("/dev/null").expect("device").into();
        let (pipe, _other) = nix::unistd::pipe().expect("pipe");
        let directory: OwnedFd = fs::File::open("/").expect("directory").into();
        for (fd, want) in
            [(&socket, false), (&events, false), (&file, true), (&pipe, true), (&directory, true)]
        {
            let meta = fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("metadata");
            assert_eq!(is_harmless(&meta), want, "{fd:?}");
        }
    }
}
