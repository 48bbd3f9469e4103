//! The command line and the reader in Python judge the same stores: made by hand and changed, and written by the agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sluice_tests::binary::{sluice_binary, workspace};
use sluice_tests::client::judged::{End, curl};
use sluice_tests::harness::{Options, World};
use sluice_tests::maker::small;

use super::files;

fn sluice(args: &[&str]) -> Output {
    Command::new(sluice_binary().expect("built")).arg("audit").args(args).output().expect("sluice")
}

fn python(dir: &Path, key: &str) -> (bool, Value) {
    let reader = workspace().join("tests/reader/verify.py");
    let out = Command::new("/usr/bin/python3").arg(reader).arg(dir).arg(key).output().expect("python3");
    let said = serde_json::from_slice(&out.stdout);
    (out.status.success(), said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr))))
}

fn ours(dir: &Path, key: &str) -> (bool, Value) {
    let out = sluice(&["verify", &dir.display().to_string(), "--key", key, "--json"]);
    let said = serde_json::from_slice(&out.stdout);
    (out.status.success(), said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr))))
}

/// Both verdicts, which must be one; gives it with ours.
#[track_caller]
fn both(dir: &Path, key: &str, what: &str) -> (bool, Value) {
    let ((good, ours), (theirs, python)) = (ours(dir, key), python(dir, key));
    assert_eq!(good, theirs, "{what}:\n{ours:#}\n{python:#}");
    let counts: &[&str] = match good {
        true => &["segments", "logs", "records", "proven", "outside", "checkpoints", "bodies", "keys"],
        false => &["segments"],
    };
    for count in counts {
        assert_eq!(ours[count], python[count], "{what}: {count}:\n{ours:#}\n{python:#}");
    }
    (good, ours)
}

#[test]
fn of_changed_stores_both_say_the_same() {
    let dir = tempfile::tempdir().expect("directory");
    let key = small(dir.path()).vkey();
    assert!(both(dir.path(), &key, "nothing changed").0);
    let mut seed = 7_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for path in files(dir.path()) {
        let good = fs::read(&path).expect("file");
        for kind in ["flip", "cut", "removed", "doubled", "flip", "flip"] {
            let (mut bad, at) = (good.clone(), random(good.len()));
            match kind {
                "flip" => bad[at] ^= 1 << random(8),
                "cut" => bad.truncate(at),
                "removed" => drop(bad.remove(at)),
                _ => bad.insert(at, good[at]),
            }
            fs::write(&path, &bad).expect("file");
            both(dir.path(), &key, &format!("{}: {kind} at {at}", path.display()));
            fs::write(&path, &good).expect("file");
        }
    }
}

/// Everything of a store of the agent's that is stopped.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("directory");
    for path in files(from) {
        let new = to.join(path.strip_prefix(from).expect("below"));
        fs::create_dir_all(new.parent().expect("directory")).expect("directory");
        fs::copy(&path, &new).expect("file");
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    files(dir).into_iter().filter(|p| p.extension().is_some_and(|e| e == "sluice")).collect()
}

#[test]
fn a_store_of_the_agent_is_proven_without_the_agent() {
    let mut world = World::with(Options::default()).expect("world");
    if world.is_direct() {
        return;
    }
    for size in [1, 100, 30_000] {
        let url = format!("https://www.example.test/bytes/{size}");
        assert_eq!(curl(&world, &[url.as_str()]).0, End::Whole(size));
    }
    world.daemon_mut().stop().expect("stop");
    world.daemon_mut().start().expect("start");
    assert_eq!(curl(&world, &["https://www.example.test/bytes/2"]).0, End::Whole(2));
    let session = world.sessions().expect("sessions")[0].session.clone();
    world.daemon_mut().stop().expect("stop");
    let copied = tempfile::tempdir().expect("directory");
    copy(&world.daemon().store(), copied.path());
    let dir = copied.path().display().to_string();
    let key = String::from_utf8(sluice(&["key", "--store", &dir]).stdout).expect("text").trim().to_owned();

    let (good, said) = both(copied.path(), &key, "the agent's");
    assert!(good, "{said:#}");
    assert_eq!((&said["outside"], &said["unsigned"]), (&Value::from(0), &Value::from(0)), "{said:#}");
    assert!(said["proven"] == said["records"] && said["logs"].as_u64() >= Some(2), "{said:#}");
    assert!(said["bodies"].as_u64() >= Some(3), "{said:#}");

    let proof = copied.path().join("session.proof").display().to_string();
    let made = sluice(&["prove", &format!("{session}/1"), "--store", &dir, "-o", &proof]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let held = sluice(&["verify", "--proof", &proof, "--key", &key]);
    let text = String::from_utf8_lossy(&held.stdout);
    assert!(held.status.success() && text.contains("/bytes/1") && text.contains("proven: "), "{text}");
    let bytes = fs::read_to_string(&proof).expect("proof");
    fs::write(&proof, bytes.replace("/bytes/1", "/bytes/9")).expect("proof");
    assert_eq!(sluice(&["verify", "--proof", &proof, "--key", &key]).status.code(), Some(1));

    let first = &segments(copied.path())[0];
    let mut bytes = fs::read(first).expect("segment");
    let at = bytes.windows(8).position(|part| part == b"/bytes/1").expect("the path");
    bytes[at + 7] = b'9';
    fs::write(first, bytes).expect("segment");
    let (good, said) = both(copied.path(), &key, "a byte changed");
    assert!(!good && said["findings"][0]["what"] == "changed", "{said:#}");
    assert_eq!(sluice(&["verify", &dir, "--key", "nonsense"]).status.code(), Some(2));
}
