//! The agent's processes die or are restarted while a tagged process lives in another namespace.

use nix::sys::signal::Signal;

use crate::rig::{Inside, peers, veth, world};

#[test]
fn a_new_gate_serves_the_namespaces_that_live() {
    let Some(world) = world() else { return };
    let inner = veth(&world, "lives", 1);
    let inside = Inside::start(&world, "ci", "lives");
    assert_eq!(inside.curl(), "xxxx");
    // More often in a row within seconds, and the supervisor has connections refused.
    for _ in 0..2 {
        let gate = world.daemon().gate_pid().expect("gate");
        world.daemon().signal(gate, Signal::SIGKILL).expect("killed");
        assert_eq!(inside.curl(), "xxxx", "it waits for the next gate");
        world.daemon().gate_pid_other_than(gate).expect("another gate");
    }
    assert_eq!(peers(&world), [inner.parse().expect("address")].into());
}

#[test]
fn a_new_daemon_finds_the_namespaces_that_live() {
    let Some(mut world) = world() else { return };
    let inner = veth(&world, "lives", 1);
    let inside = Inside::start(&world, "ci", "lives");
    assert_eq!(inside.curl(), "xxxx");
    for killed in [false, true] {
        if killed {
            world.daemon_mut().kill_warden().expect("killed");
        } else {
            world.daemon_mut().stop().expect("stopped");
        }
        let down = inside.curl();
        assert!(
            down.contains("curl: (7)") || down.contains("curl: (28)"),
            "nothing passes while it is down: {down}"
        );
        world.daemon_mut().start().expect("started");
        assert_eq!(inside.curl(), "xxxx");
    }
    assert_eq!(peers(&world), [inner.parse().expect("address")].into());
}
