//! What is reached from another namespace, and from where.

use std::time::Duration;

use sluice_tests::netns::AGENT_V4;
use sluice_tests::process::{PATIENCE, eventually};

use crate::rig::{descriptors, held_namespaces, job, peers, setup, until, veth, world};

/// Unchanged curl inside is taken, recorded, and dialled from there.
#[test]
fn a_named_namespace_is_taken_and_dialled_from() {
    let Some(world) = world() else { return };
    let (warden, gate) =
        (world.daemon().warden_pid().expect("warden"), world.daemon().gate_pid().expect("gate"));
    let warm = job(&world, "ci", "exec curl -sS https://www.example.test/bytes/4");
    assert_eq!(warm.stdout, "xxxx", "{}", warm.stderr);
    world.expect("the first exchange", |s| s.tag == "ci").expect("recorded");
    let before = (descriptors(warden), descriptors(gate));
    let inner = veth(&world, "far", 1);
    let curl = "exec ip netns exec far curl -sS https://www.example.test/bytes/4 http://www.example.test/bytes/4";
    let ended = job(&world, "ci", curl);
    assert_eq!(ended.stdout, "xxxxxxxx", "{}", ended.stderr);
    world
        .expect("the exchange", |s| s.tag == "ci" && s.path.as_deref() == Some("/bytes/4"))
        .expect("recorded");
    assert_eq!(peers(&world), [AGENT_V4.into(), inner.parse().expect("address")].into());
    // And nobody holds it when it is over.
    setup(&world, "ip netns del far");
    until("the namespace is given up", Duration::from_secs(15), || held_namespaces(warden).is_empty());
    let mut now = before;
    let few = eventually(PATIENCE, || {
        now = (descriptors(warden), descriptors(gate));
        Ok((now.0 <= before.0 && now.1 <= before.1).then_some(()))
    });
    assert!(
        few.expect("no error").is_some(),
        "descriptors of warden and gate: {before:?} before, {now:?} after"
    );
}
