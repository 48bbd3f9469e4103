//! A world with masks, and what to look for in it.

use std::path::{Path, PathBuf};

use sluice::types::Summary;
use sluice_tests::harness::{Options, World};
use sluice_tests::process::{Ended, PATIENCE, run};

/// The tag of every job.
pub const TAG: &str = "job";
/// A host that answers HTTP/2 and 1.1 over TLS.
pub const WWW: &str = "https://www.example.test";
/// Values that nobody but the job may see.
pub const EMAIL: &str = "jane.roe@corp-mail.net";
/// A card of a test range that passes Luhn.
pub const CARD: &str = "5105105105105100";
/// IBAN from the standard's own examples.
pub const IBAN: &str = "GB82WEST12345698765432";

/// Masks of several kinds, and rules by path that name them.
pub const RULES: &str = r#"mode = "enforce"

[[mask]]
name = "pii"
detect = ["email", "credit_card", "iban"]
fields = ["*.password"]
headers = ["x-customer"]
query = ["customer"]
form = ["pin"]

[[mask]]
name = "plain"
detect = ["email"]
with = "redact"
binary = "refuse"

[[rule]]
name = "open"
paths = ["/sink", "/open/**"]
verdict = "allow"

[[rule]]
name = "redacted"
query = { how = "redact" }
verdict = "allow"
mask = ["plain"]

[[rule]]
name = "masked"
verdict = "allow"
mask = ["pii"]
"#;

pub fn world() -> World {
    with(RULES)
}

pub fn with(config: &str) -> World {
    let options = Options { config: config.to_owned(), no_roots: true, ..Options::default() };
    World::with(options).expect("a world with the agent")
}

/// `curl` in the tag: the status, what was printed before it, and all.
pub fn curl(world: &World, args: &[&str]) -> (String, String, Ended) {
    let mut command = world.job(TAG, "curl").expect("a job");
    command.args(["-sS", "--max-time", "60", "-w", "\n%{http_code}"]).args(args);
    let ended = run(&mut command, PATIENCE * 2).expect("started");
    let (body, status) = ended.stdout.rsplit_once('\n').unwrap_or(("", &ended.stdout));
    (status.to_owned(), body.to_owned(), ended)
}

/// What the upstreams were sent in bodies.
pub fn sent(world: &World) -> String {
    String::from_utf8_lossy(&world.seen().bodies()).into_owned()
}

#[track_caller]
pub fn record(world: &World, what: &str, wanted: impl Fn(&Summary) -> bool) -> Summary {
    world.expect(what, wanted).expect("recorded").expect("an agent")
}

/// A file for a request's body.
pub fn file(world: &World, name: &str, bytes: &[u8]) -> PathBuf {
    let path = world.space().dir().join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

/// Asserts that none of these stands in any file of the store, nor in what a verb shows.
#[track_caller]
pub fn kept_nowhere(world: &World, values: &[&str]) {
    let shown = world.sessions().expect("sessions");
    let shown = format!("{shown:?}");
    let mut files = Vec::new();
    walk(&world.space().dir().join("state"), &mut files);
    assert!(!files.is_empty(), "a store");
    for value in values {
        assert!(!shown.contains(value), "{value} is shown");
        let finder = memchr::memmem::Finder::new(value);
        for (path, bytes) in &files {
            assert!(finder.find(bytes).is_none(), "{value} is in {}", path.display());
        }
    }
}

fn walk(dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            let bytes = std::fs::read(&path).unwrap_or_default();
            files.push((path, bytes));
        }
    }
}
