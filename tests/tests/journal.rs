//! The journal, against a stand-in for journald: one native entry an exchange, as the contract has it.

use sluice_tests::client::judged::{End, curl};
use sluice_tests::harness::{Options, World};
use sluice_tests::journal::Entry;
use sluice_tests::process::{PATIENCE, eventually};

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
