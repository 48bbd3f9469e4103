//! The journal, against a stand-in for journald: one native entry an exchange, as the contract has it.

use std::ops::ControlFlow;
use std::path::Path;

use sluice::evidence::chain::Chain;
use sluice::evidence::checkpoint::Checkpoint;
use sluice::evidence::note::{Note, Piece, split};
use sluice::evidence::tree::{Frontier, record};
use sluice::record::frame::Kind;
use sluice::record::payload::SegmentHead;
use sluice::record::read::Reader;
use sluice::record::trees;
use sluice_tests::client::judged::{End, curl};
use sluice_tests::harness::{Options, World};
use sluice_tests::journal::Entry;
use sluice_tests::process::{PATIENCE, eventually};
use sluice_tests::provider;

fn world() -> Option<World> {
    let world = World::with(Options { journal: true, ..Options::default() }).expect("world");
    (!world.is_direct()).then_some(world)
}

/// Waits for the entry of the exchange with this path.
#[track_caller]
fn entry(world: &mut World, path: &str) -> Entry {
    let mut all = Vec::new();
    let found = eventually(PATIENCE, || {
        all = world.journal_mut().as_ref().map(|j| j.entries()).unwrap_or_default();
        Ok(all.iter().find(|e| e.get("SLUICE_PATH").is_some_and(|p| p == path)).cloned())
    });
    found.expect("no error").unwrap_or_else(|| panic!("no entry for {path}: {all:#?}"))
}

#[test]
fn one_entry_an_exchange() {
    let Some(mut world) = world() else { return };
    assert_eq!(curl(&world, &["-d", "abc", "https://www.example.test/echo"]).0, End::Whole(3));
    let e = entry(&mut world, "/echo");
    for (name, value) in [
        ("SYSLOG_IDENTIFIER", "sluice"),
        ("PRIORITY", "6"),
        ("SLUICE_HOST", "www.example.test"),
        ("SLUICE_METHOD", "POST"),
        ("SLUICE_STATUS", "200"),
        ("SLUICE_PROTOCOL", "h2"),
        ("SLUICE_TAG", "bad"),
        ("SLUICE_EXE", "/usr/bin/curl"),
        ("SLUICE_VERDICT", "allow"),
        ("SLUICE_BYTES_UP", "3"),
        ("SLUICE_BYTES_DOWN", "3"),
    ] {
        assert_eq!(e.get(name).map(String::as_str), Some(value), "{name}: {e:#?}");
    }
    assert!(e["MESSAGE"].starts_with("POST www.example.test/echo 200 "), "{e:#?}");
    assert!(e["MESSAGE_ID"].len() == 32 && e["MESSAGE_ID"].bytes().all(|b| b.is_ascii_hexdigit()), "{e:#?}");
    assert_eq!(e["OBJECT_PID"], e["SLUICE_PID"], "{e:#?}");
    assert!(!e.values().any(|v| v.contains("abc")), "a body in the journal: {e:#?}");
    let same = |s: &sluice::types::Summary| s.path.as_deref() == Some("/echo");
    let s = world.expect("the same in the store", same).expect("recorded").expect("an agent");
    assert_eq!(
        (e["SLUICE_SESSION"].as_str(), e["SLUICE_TIME"].as_str()),
        (s.session.as_str(), s.time.as_str())
    );
    let echoes = |world: &mut World| {
        let all = world.journal_mut().as_ref().map(|j| j.entries()).unwrap_or_default();
        all.iter().filter(|e| e.get("SLUICE_PATH").is_some_and(|p| p == "/echo")).count()
    };
    assert_eq!(echoes(&mut world), 1);
}

#[test]
fn journal_gone() {
    let Some(mut world) = world() else { return };
    assert_eq!(curl(&world, &["https://www.example.test/bytes/1?with=journal"]).0, End::Whole(1));
    entry(&mut world, "/bytes/1?with=journal");
    *world.journal_mut() = None;
    // The line is not lost: it goes to standard error instead, or the exchange is refused.
    let (end, _) = curl(&world, &["https://www.example.test/bytes/2?without=journal"]);
    let said = eventually(PATIENCE, || Ok(world.daemon().log().contains("journal").then_some(())));
    assert!(said.expect("no error").is_some(), "the daemon does not say that the journal is gone");
    match end {
        End::Whole(2) => {
            let there = || Ok(world.daemon().log().contains("/bytes/2?without=journal").then_some(()));
            assert!(eventually(PATIENCE, there).expect("no error").is_some(), "{}", world.daemon().log());
        }
        End::Refused | End::Closed => {}
        other => panic!("{other:?}"),
    }
}

/// The journal's last checkpoint is the store's last, and over every record in it.
#[test]
fn what_is_recorded_is_signed_to_its_last_record() {
    let Some(mut world) = world() else { return };
    assert_eq!(curl(&world, &["https://www.example.test/bytes/10"]).0, End::Whole(10));
    world.daemon_mut().stop().expect("stopped");
    let store = world.daemon().store();
    let note = |text: &str| Note::parse(text).expect("a note");
    let read =
        |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let keys = read(&store.join(trees::KEYS));
    let mut certificates = split(&keys).map(|(at, piece)| match piece {
        Piece::Note(text) => note(text),
        Piece::Torn(_) => panic!("byte {at} of the keys"),
    });
    let mut chain =
        Chain::begin(&certificates.next().expect("the first key"), None).expect("its certificate");
    certificates.for_each(|note| chain.add(&note).expect("the next key"));

    let (mut tree, mut log) = (Frontier::default(), String::new());
    let reader = Reader::open(&store).expect("the store");
    let damage = reader.frames(0..reader.segments(), |frame| {
        let kind = frame.kind.expect("a kind of this version");
        if kind == Kind::Segment {
            let head: SegmentHead = serde_json::from_slice(frame.payload).expect("a head");
            log = head.log.expect("a log").id;
        }
        tree.push(record(kind as u8, frame.payload));
        ControlFlow::Continue(())
    });
    assert_eq!(damage.expect("read"), []);

    let last = read(&trees::directory(&store, &log).join(trees::CHECKPOINT));
    let last = String::from_utf8(last).expect("text");
    assert_eq!(chain.open(&note(&last)).expect("signed").1.tree, tree.head());
    let all = world.journal_mut().as_ref().map(|j| j.entries()).unwrap_or_default();
    let told = all.iter().rev().find_map(|entry| entry.get("SLUICE_CHECKPOINT")).expect("a checkpoint");
    assert_eq!(*told, last);
}

/// What is elsewhere cannot be taken back by whoever takes this host.
#[test]
fn checkpoints_go_to_a_file_and_to_another_host() {
    let kept = tempfile::tempdir().expect("directory");
    let file = kept.path().join("checkpoints");
    let config = format!(
        "[audit]\ncheckpoints_to = [{:?}, \"https://203.0.113.10:8447/of/this-host\"]\n",
        file.display().to_string()
    );
    let mut world = World::with(Options { journal: true, config, ..Options::default() }).expect("world");
    if world.is_direct() {
        return;
    }
    let log = kept.path().join("posted");
    let text = log.to_str().expect("UTF-8");
    let server = provider::serve(&world, Path::new("python3"), "collect.py", (8447, &[text]), &[]);
    let _server = server.expect("a taker of checkpoints");
    let posted = eventually(PATIENCE, || {
        let told = if log.exists() { provider::told(&log)? } else { Vec::new() };
        Ok(told.into_iter().next())
    });
    let posted = posted.expect("no error").expect("a checkpoint is posted");
    assert_eq!(posted["path"], "/of/this-host");
    let note =
        |text: &str| Note::parse(text).expect("a note").text().parse::<Checkpoint>().expect("a checkpoint");
    let origin = note(posted["body"].as_str().expect("text")).origin;
    world.daemon_mut().stop().expect("stopped");
    let added = std::fs::read(&file).expect("the file");
    let added: Vec<_> = split(&added)
        .map(|(_, piece)| match piece {
            Piece::Note(text) => note(text),
            Piece::Torn(torn) => panic!("{torn:?}"),
        })
        .collect();
    assert!(added.iter().all(|checkpoint| checkpoint.origin == origin) && added.len() >= 2, "{added:?}");
    assert!(added.is_sorted_by_key(|checkpoint| checkpoint.tree.size));
}
