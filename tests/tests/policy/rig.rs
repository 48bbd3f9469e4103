//! A world whose rules are in a file of their own, and requests out of it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use sluice::types::{Summary, Verdict};
use sluice_tests::harness::{Options, World};
use sluice_tests::process::{Ended, PATIENCE, eventually, run};

/// The tag of every job that names no other.
pub const TAG: &str = "job";

/// A world with `config` in sluice.toml and `rules` in policy.d.
pub fn world(config: &str, rules: &str) -> World {
    // The agent is started with what `config` says; its rules come before the first job does.
    let options = Options { config: format!("{config}\n{rules}"), no_roots: true, ..Options::default() };
    World::with(options).expect("a world with the agent")
}

/// The file of rules that [`write`] writes.
fn file(world: &World) -> PathBuf {
    world.space().dir().join("etc/policy.d/rules.toml")
}

/// Writes rules beside those that the world began with.
pub fn write(world: &World, rules: &str) {
    let path = file(world);
    fs::create_dir_all(path.parent().expect("a folder")).expect("policy.d");
    fs::write(&path, rules).expect("rules");
}

/// Has the daemon read its configuration again.
pub fn reload(world: &World) {
    let daemon = world.daemon();
    daemon.signal(daemon.warden_pid().expect("warden"), Signal::SIGHUP).expect("told");
}

/// A command in the tag [`TAG`] with `curl -sS` and more.
pub fn curl(world: &World, tag: &str, args: &[&str]) -> Command {
    let mut command = world.job(tag, "curl").expect("a job");
    command.args(["-sS", "--max-time", "20", "-w", "\n%{http_code}"]).args(args);
    command
}

/// Runs it; the status that curl saw (000 for none) and what was printed before.
pub fn fetched(command: &mut Command) -> (String, String, Ended) {
    let ended = run(command, PATIENCE).expect("started");
    let (body, status) = ended.stdout.rsplit_once('\n').unwrap_or(("", &ended.stdout));
    (status.to_owned(), body.to_owned(), ended)
}

/// The only record that passes.
#[track_caller]
pub fn record(world: &World, what: &str, wanted: impl Fn(&Summary) -> bool) -> Summary {
    world.expect(what, wanted).expect("recorded").expect("an agent")
}

/// Rule and verdict of a record.
pub fn judged(summary: &Summary) -> (Option<&str>, Verdict) {
    (summary.rule.as_deref(), summary.verdict)
}

/// A job that goes on, with its output in a file.
pub struct Running {
    pub child: Child,
    path: PathBuf,
}

impl Running {
    /// Starts it; `name` is the file's.
    pub fn start(world: &World, name: &str, command: &mut Command) -> Self {
        let path = world.space().dir().join(name);
        let out = fs::File::create(&path).expect("file");
        let errors = out.try_clone().expect("file");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(errors).spawn().expect("started");
        Self { child, path }
    }

    /// What it has written.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.path).unwrap_or_default()).into_owned()
    }

    /// Waits until it has written more than `than` bytes, and `mark` among them.
    #[track_caller]
    pub fn says(&self, mark: &str, than: usize) {
        let said = eventually(PATIENCE, || {
            let said = self.said();
            Ok((said.len() > than && said.contains(mark)).then_some(()))
        });
        assert!(said.expect("read").is_some(), "waited for {mark:?}: {:?}", self.said());
    }

    /// Waits for its end by itself.
    #[track_caller]
    pub fn ends(&mut self) {
        let ended = eventually(PATIENCE, || Ok(self.child.try_wait()?)).expect("waiting");
        assert!(ended.is_some(), "it goes on: {:?}", self.said());
    }

    /// Whether it goes on.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().expect("waiting").is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ours, and perhaps ended already: either way it is over after this.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}
