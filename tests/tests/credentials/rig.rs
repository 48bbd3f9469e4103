//! A world with credentials: their files, and requests out of a job that has none of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use sluice::types::Summary;
use sluice_tests::harness::{Options, World};
use sluice_tests::process::{Ended, PATIENCE, run};
use sluice_tests::upstream::Request;

/// The tag of every job.
pub const TAG: &str = "job";
/// A host that answers HTTP/2 and 1.1 over TLS.
pub const WWW: &str = "www.example.test";

/// A directory of root's for files with secrets.
pub struct Keys(tempfile::TempDir);

impl Keys {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("directory"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes one as root should: whole, and for nobody else.
    pub fn put(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let (path, new) = (self.path(name), self.path(&format!(".{name}.new")));
        fs::write(&new, text).expect("written");
        fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("mode");
        fs::rename(&new, &path).expect("renamed");
        path.display().to_string()
    }
}

/// One `[[credential]]` of a file.
pub fn credential(name: &str, file: &str, more: &str) -> String {
    format!("[[credential]]\nname = \"{name}\"\nsource.file = \"{file}\"\n{more}\n")
}

/// A rule that gives a credential to requests with `is=CREDENTIAL`.
pub fn rule(credential: &str) -> String {
    format!(
        "[[rule]]\nname = \"for-{credential}\"\nquery = {{ is = \"{credential}\" }}\nverdict = \"allow\"\ncredential = \"{credential}\"\n"
    )
}

pub fn world(config: &str) -> World {
    with(Options { config: format!("mode = \"enforce\"\n{config}"), no_roots: true, ..Options::default() })
}

pub fn with(options: Options) -> World {
    World::with(options).expect("a world with the agent")
}

/// `curl` in the tag with its own credentials in every place; the status and what was printed before.
pub fn curl(world: &World, args: &[&str]) -> (String, String, Ended) {
    let mut command = world.job(TAG, "curl").expect("a job");
    command.args(["-sS", "--max-time", "20", "-w", "\n%{http_code}"]).args(args);
    let ended = run(&mut command, PATIENCE).expect("started");
    let (body, status) = ended.stdout.rsplit_once('\n').unwrap_or(("", &ended.stdout));
    (status.to_owned(), body.to_owned(), ended)
}

/// A verb of the command line, as root outside of every tag.
pub fn sluice(world: &World, args: &[&str]) -> Ended {
    let mut command: Command = world.daemon().cli(world.space(), args).expect("sluice");
    run(&mut command, PATIENCE).expect("started")
}

/// Requests that the upstreams have seen whose path begins so.
pub fn seen(world: &World, path: &str) -> Vec<Request> {
    world.seen().requests().into_iter().filter(|request| request.path.starts_with(path)).collect()
}

/// Values of a field of a request.
pub fn field<'r>(request: &'r Request, name: &str) -> Vec<&'r str> {
    let named = request.headers.iter().filter(|(other, _)| other == name);
    named.map(|(_, value)| value.as_str()).collect()
}

#[track_caller]
pub fn record(world: &World, what: &str, wanted: impl Fn(&Summary) -> bool) -> Summary {
    world.expect(what, wanted).expect("recorded").expect("an agent")
}
