//! What a test of an unchanged client asserts. These panic, as tests do.

use std::fs;
use std::path::Path;
use std::process::Command;

use sluice::types::{Summary, Verdict};

use crate::harness::World;
use crate::process::{Ended, PATIENCE, run};

/// The tag of every client.
pub const TAG: &str = "job";

/// What the record must say of one exchange.
pub struct Wanted<'a> {
    protocol: &'a str,
    host: &'a str,
    method: &'a str,
    path: &'a str,
    status: u16,
}

/// See [`Wanted`].
pub const fn wanted<'a>(
    protocol: &'a str,
    host: &'a str,
    method: &'a str,
    path: &'a str,
    status: u16,
) -> Wanted<'a> {
    Wanted { protocol, host, method, path, status }
}

/// A world with the agent up.
pub fn world() -> World {
    World::start().expect("a world with the agent")
}

/// A command inside the tag [`TAG`].
pub fn job(world: &World, program: impl AsRef<std::ffi::OsStr>) -> Command {
    world.job(TAG, program).expect("a job")
}

/// Runs a command that must succeed.
#[track_caller]
pub fn ok(command: &mut Command) -> Ended {
    let ended = run(command, PATIENCE).expect("started");
    assert!(
        ended.good(),
        "{command:?}\n{:?}\nstdout: {}\nstderr: {}",
        ended.status,
        ended.stdout,
        ended.stderr
    );
    ended
}

/// Every exchange of `all` is recorded, by `exe`, and nothing reached the upstream past the agent.
#[track_caller]
pub fn recorded(world: &World, exe: &Path, all: &[Wanted<'_>]) -> Vec<Summary> {
    let exe = fs::canonicalize(exe).expect("the client's executable");
    let mut found = Vec::new();
    for w in all {
        let what = format!("{} {} {}{} {}", w.protocol, w.method, w.host, w.path, w.status);
        let same = |s: &Summary| {
            s.protocol == w.protocol
                && s.host == w.host
                && s.method.as_deref() == Some(w.method)
                && s.path.as_deref() == Some(w.path)
                && s.status == Some(w.status)
        };
        let summary = world.expect(&what, same).expect("recorded");
        if let Some(s) = &summary {
            assert_eq!((s.tag.as_str(), s.verdict, s.error.as_deref()), (TAG, Verdict::Allow, None), "{s:?}");
            assert_eq!(s.exe.as_deref(), exe.to_str(), "{s:?}");
            assert!(s.pid > 0 && s.duration_us.is_some() && s.rule.as_deref() == Some("observe"), "{s:?}");
        }
        found.extend(summary);
    }
    if !world.is_direct() {
        assert_eq!(world.seen().strangers(), [], "connections that the agent did not make");
    }
    found
}

/// A bare repository with one commit, below the directory that the upstream serves.
pub fn repository(world: &World) {
    let bare = world.space().dir().join("repositories/demo.git");
    let work = world.space().dir().join("work");
    let git = |dir: &Path, args: &[&str]| {
        let mut git = Command::new("/usr/bin/git");
        git.args([
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@example.test",
            "-c",
            "init.defaultBranch=main",
        ]);
        ok(git.args(args).current_dir(dir).env("HOME", dir).env_remove("GIT_DIR"));
    };
    for dir in [&bare, &work] {
        fs::create_dir_all(dir).expect("directory");
    }
    git(&bare, &["init", "-q", "--bare"]);
    git(&work, &["init", "-q"]);
    fs::write(work.join("README"), "cloned through the line\n".repeat(2000)).expect("file");
    git(&work, &["add", "README"]);
    git(&work, &["commit", "-q", "-m", "one"]);
    git(&work, &["push", "-q", bare.to_str().expect("UTF-8"), "HEAD:main"]);
}
