//! A host that fails underneath: the agent says so and refuses new exchanges; it does not pass them unrecorded.

use std::fs;
use std::time::Duration;

use sluice_tests::client::judged::{End, curl, record};
use sluice_tests::harness::{Options, World};
use sluice_tests::process::{PATIENCE, eventually, run};

/// The store keeps two segments of 64 MiB ahead: the rest of the tmpfs is what the filler takes and gives back.
#[test]
fn disk_full() {
    let world = World::with(Options { store_kib: Some(256 * 1024), ..Options::default() }).expect("world");
    if world.is_direct() {
        return;
    }
    assert_eq!(curl(&world, &["https://www.example.test/bytes/10"]).0, End::Whole(10));
    let filler = world.daemon().store().join("filler");
    let mut fill = world.space().command("", "dd").expect("command");
    let full = run(fill.args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler.display())), PATIENCE)
        .expect("started");
    assert!(!full.good(), "the tmpfs should be full: {full:?}");
    // What was set aside before may still be used; then it must end, long before 400 MiB more are recorded.
    let mut many = world.job("bad", "curl").expect("job");
    many.args(["-sS", "-o", "/dev/null", "-f", "--fail-early", "-w", "%{http_code}\\n"]);
    let ended =
        run(many.arg("https://www.example.test/noise/1000000?n=[1-400]"), PATIENCE * 2).expect("started");
    let passed = ended.stdout.lines().filter(|l| *l == "200").count();
    assert!(!ended.good() && passed < 300, "exchanges go on unrecorded on a full disk: {passed} passed");
    assert!(
        world.daemon().log().to_lowercase().contains("space"),
        "the daemon does not say that the disk is full"
    );
    // It stays so, and whatever did reach the upstream is recorded: a small one may still have found room.
    for n in 0..10 {
        let (end, _) = curl(&world, &[&format!("https://www.example.test/noise/1000000?full={n}")]);
        assert!(!matches!(end, End::Whole(_)), "request {n} after the first refusal passed on a full disk");
    }
    let recorded = world.sessions().expect("sessions");
    for request in world.seen().requests() {
        let known = recorded.iter().any(|s| s.path.as_deref() == Some(&request.path));
        assert!(known, "{} reached the upstream unrecorded", request.path);
    }
    // Space again: the agent goes on by itself.
    let mut free = world.space().command("", "rm").expect("command");
    assert!(run(free.arg(&filler), PATIENCE).expect("started").good());
    let back = eventually(PATIENCE, || {
        Ok((curl(&world, &["https://www.example.test/bytes/12"]).0 == End::Whole(12)).then_some(()))
    });
    assert!(back.expect("no error").is_some(), "refused although there is space again");
}

#[test]
fn store_unreadable() {
    let mut world = World::start().expect("world");
    if world.is_direct() {
        return;
    }
    assert_eq!(curl(&world, &["https://www.example.test/bytes/10"]).0, End::Whole(10));
    world.daemon_mut().stop().expect("stopped");
    let store = world.daemon().store();
    fs::rename(&store, store.with_extension("away")).expect("moved");
    fs::write(&store, "no directory").expect("file");
    let start = world.daemon_mut().start_within(Duration::from_secs(5));
    if start.is_ok() {
        let (end, _) = curl(&world, &["https://www.example.test/bytes/1?without=store"]);
        assert!(matches!(end, End::Refused | End::Closed), "passed without a store: {end:?}");
    } else {
        assert!(world.daemon().log().contains("store"), "{}", world.daemon().log());
    }
    assert!(world.seen().requests().iter().all(|r| !r.path.contains("without=store")));
    let _ = world.daemon_mut().stop();
    fs::remove_file(&store).expect("removed");
    fs::rename(store.with_extension("away"), &store).expect("moved back");
    world.daemon_mut().start().expect("started again");
    assert_eq!(curl(&world, &["https://www.example.test/bytes/13"]).0, End::Whole(13));
    record(&world, "www.example.test", Some("/bytes/10"));
}
