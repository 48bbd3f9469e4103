//! Bodies at rest, end to end: nobody reads them out of the store's files, root does and it is recorded, any age tool opens
//! the keys, and what is erased nobody reads while heads remain.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sluice::record::frame::Kind;
use sluice::record::read::Reader;
use sluice_tests::harness::World;
use sluice_tests::process::{Ended, PATIENCE, run};

const WORDS: &str = "words-that-are-nobody-elses-0123456789";

fn sluice(world: &World, args: &[&str]) -> Ended {
    let mut command = world.daemon().cli(world.space(), args).expect("command");
    run(&mut command, PATIENCE).expect("started")
}

/// The JSON frames of a kind.
fn frames(store: &Path, kind: Kind) -> Vec<Value> {
    let reader = Reader::open(store).expect("readable");
    let mut found = Vec::new();
    reader
        .frames(0..reader.segments(), |frame| {
            if frame.kind == Some(kind) {
                found.push(serde_json::from_slice(frame.payload).expect("JSON"));
            }
            ControlFlow::Continue(())
        })
        .expect("frames");
    found
}

fn keys(store: &Path) -> Vec<std::path::PathBuf> {
    let all = fs::read_dir(store).expect("store").map(|entry| entry.expect("entry").path());
    let named = |path: &std::path::PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(".key") && !name.starts_with("spare.")
    };
    let mut found: Vec<_> = all.filter(named).collect();
    found.sort();
    found
}

#[test]
fn bodies_are_sealed_read_on_record_and_erased() {
    let mut world = World::start().expect("world");
    if world.is_direct() {
        return;
    }
    let mut job = world.job("ci", "curl").expect("job");
    let ended =
        run(job.args(["-sS", "--data", WORDS, "https://www.example.test/echo"]), PATIENCE).expect("started");
    assert_eq!(ended.stdout, WORDS, "{ended:?}");
    let sessions = world.sessions().expect("sessions");
    let session =
        sessions.iter().find(|s| s.path.as_deref() == Some("/echo")).expect("recorded").session.clone();
    let store = world.daemon().store();
    let place = store.display().to_string();

    // Root reads, and it is recorded who did.
    let shown = sluice(&world, &["show", &session, "--store", &place]);
    assert!(shown.good() && shown.stdout.matches(WORDS).count() == 2, "{shown:?}");
    assert_eq!(shown.stderr, "", "{shown:?}");
    let read = frames(&store, Kind::Read);
    assert_eq!(read.len(), 1, "{read:?}");
    assert_eq!((&read[0]["uid"], &read[0]["user"]), (&Value::from(0), &Value::from("root")));
    assert_eq!(read[0]["what"], format!("show {session}"));
    let heads = sluice(&world, &["show", &session, "--headers-only", "--store", &place]);
    assert!(heads.good() && !heads.stdout.contains(WORDS), "{heads:?}");
    assert_eq!(frames(&store, Kind::Read).len(), 1, "heads are no reading of bodies");

    copied(&mut world, &session);
    erased(&mut world, &session);
}

/// A store at rest, and a copy of it.
fn copied(world: &mut World, session: &str) {
    let store = world.daemon().store();
    let place = store.display().to_string();
    // Who has a copy and no identity learns how long they are; the host's opens it, and any age tool its keys.
    world.daemon_mut().stop().expect("stopped");
    let copy = tempfile::tempdir().expect("directory");
    let copied = Command::new("cp").arg("-a").arg(&store).arg(copy.path()).status().expect("cp");
    assert!(copied.success());
    for entry in fs::read_dir(copy.path().join("store")).expect("copy") {
        let path = entry.expect("entry").path();
        if path.is_file() {
            let bytes = fs::read(&path).expect("file");
            assert!(memchr::memmem::find(&bytes, WORDS.as_bytes()).is_none(), "{}", path.display());
        }
    }
    let there = copy.path().join("store").display().to_string();
    let sealed = sluice(world, &["show", session, "--store", &there]);
    let length = WORDS.len();
    assert!(
        sealed.stdout.contains(&format!("(body sealed: {length} bytes; give --identity FILE)")),
        "{sealed:?}"
    );
    let identity = store.parent().expect("state").join("audit/identity").display().to_string();
    let opened = sluice(world, &["show", session, "--store", &there, "--identity", &identity]);
    assert_eq!(opened.stdout.matches(WORDS).count(), 2, "{opened:?}");
    let key = &keys(&store)[0];
    let age = Command::new("age").args(["-d", "-i", &identity]).arg(key).output();
    let age = age.unwrap_or_else(|error| panic!("age cannot be run ({error}): apt-get install age"));
    assert!(age.status.success() && age.stdout.len() == 32, "{age:?}");
    // The daemon is down: the host's store is read, and it is said that nothing notes it.
    let unnoted = sluice(world, &["show", session, "--store", &place]);
    assert!(unnoted.stdout.contains(WORDS) && unnoted.stderr.contains("not recorded"), "{unnoted:?}");
}

fn erased(world: &mut World, session: &str) {
    let (store, length) = (world.daemon().store(), WORDS.len());
    let place = store.display().to_string();
    let key = keys(&store)[0].clone();
    world.daemon_mut().start().expect("started");
    let in_use = keys(&store).len().to_string();
    let refused = sluice(world, &["store", "erase", "--segment", &in_use]);
    assert!(!refused.good() && refused.stderr.contains("in use"), "{refused:?}");
    let erased = sluice(world, &["store", "erase", "--segment", "1", "--why", "asked to"]);
    assert!(erased.good() && erased.stdout.contains("1 key(s) destroyed: 1"), "{erased:?}");
    assert!(!key.exists());
    let noted = frames(&store, Kind::Erased);
    assert_eq!((&noted[0]["keys"], &noted[0]["why"]), (&serde_json::json!([1]), &Value::from("asked to")));
    let shown = sluice(world, &["show", session, "--store", &place]);
    assert!(shown.good() && !shown.stdout.contains(WORDS) && shown.stdout.contains("/echo"), "{shown:?}");
    assert!(
        shown.stdout.contains(&format!("(body erased: {length} bytes; their key was destroyed)")),
        "{shown:?}"
    );
    let stat = sluice(world, &["store", "stat", "--json", "--store", &place]);
    let stat: Value = serde_json::from_str(&stat.stdout).expect("JSON");
    assert_eq!(stat["erased"], 1, "{stat}");
    let rebuilt = sluice(world, &["store", "rebuild-index", "--store", &place]);
    assert!(rebuilt.good() && rebuilt.stdout.contains(" records: "), "{rebuilt:?}");
}
