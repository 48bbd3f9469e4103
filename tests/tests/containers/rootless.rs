//! The network of rootless containers: a process of the user (slirp4netns) reads a namespace's packets and makes the
//! connections itself. It is the job's own, so what it dials is taken: a request leaves as the agent's or not at all.

use sluice_tests::netns::AGENT_V4;

use crate::rig::{job, peers, world};

/// As user 65534: a namespace of its own with slirp4netns behind it, and a command in there.
fn behind_slirp(command: &str) -> String {
    format!(
        "exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '
           d=$(mktemp -d); trap \"rm -r $d\" EXIT
           unshare -Urn sh -c \"echo \\$\\$ > $d/pid; until [ -e $d/go ]; do sleep 0.02; done; ip link set lo up; {command}\" &
           inner=$!
           until [ -s $d/pid ]; do sleep 0.02; done
           slirp4netns --configure --ready-fd=3 $(cat $d/pid) tap0 3> $d/up > $d/log 2>&1 &
           slirp=$!
           until [ -s $d/up ] || ! kill -0 $slirp; do sleep 0.02; done
           touch $d/go
           wait $inner; ended=$?
           kill $slirp; wait $slirp; cat $d/log >&2; exit $ended'"
    )
}

#[test]
fn requests_through_slirp4netns_are_the_agents_or_none() {
    let Some(world) = world() else { return };
    let plain = job(&world, "rootless", &behind_slirp("curl -sS -m 20 http://203.0.113.10/bytes/4"));
    println!("plain: {plain:?}");
    let tls = job(&world, "rootless", &behind_slirp("curl -sS -m 20 https://www.example.test/bytes/4 2>&1"));
    println!("tls: {tls:?}");
    let datagram = "timeout 5 python3 -c \\\"import socket; socket.socket(2, 2).sendto(b\\\\\\\"marker\\\\\\\", (\\\\\\\"203.0.113.10\\\\\\\", 4000))\\\" 2>&1";
    let udp = job(&world, "rootless", &behind_slirp(datagram));
    println!("udp: {udp:?}");
    println!("{:#?}", world.sessions().expect("sessions"));
    assert!(peers(&world).is_subset(&[AGENT_V4.into()].into()), "{:?}", peers(&world));
    assert_eq!(world.seen().strangers(), [], "left past the agent");
}
