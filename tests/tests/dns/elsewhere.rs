//! A job in another network namespace: the server that it chose is asked, from there.

use std::net::IpAddr;

use sluice::types::HostSource;
use sluice_tests::process::{PATIENCE, run};

use crate::rig::{Rig, server_address};

/// The far end of the veth.
const INNER: &str = "198.51.100.2";

const FAR: &str = "
ip netns add far
ip link add v0 type veth peer name out netns far
ip addr add 198.51.100.1/30 dev v0
ip link set v0 up
ip -n far addr add 198.51.100.2/30 dev out
ip -n far link set lo up
ip -n far link set out up
ip -n far route add default via 198.51.100.1";

fn far(rig: &Rig) {
    let mut setup = rig.world.untagged("sh").expect("a command");
    let ended = run(setup.args(["-ec", FAR]), PATIENCE).expect("it runs");
    assert!(ended.good(), "{ended:?}");
}

#[test]
fn the_server_that_a_container_chose_is_asked_from_there() {
    // The host's own name server is another, at which nobody answers.
    let rig = Rig::configured("");
    far(&rig);
    let server = format!("@{}", server_address().ip());
    for way in ["+notcp", "+tcp"] {
        let words = [
            "netns",
            "exec",
            "far",
            "dig",
            "+short",
            // The first datagram of a namespace may come before the resolver stands there.
            "+tries=3",
            "+time=5",
            way,
            &server,
            "db.dns.test",
            "A",
        ];
        let said = rig.says("ip", &words).stdout;
        assert!(said.ends_with("203.0.113.10\n"), "{way}: {said}");
    }
    let words =
        ["netns", "exec", "far", "dig", "+short", "+tries=1", "+time=10", &server, "many.dns.test", "A"];
    assert_eq!(rig.says("ip", &words).stdout.lines().count(), 80, "asked for over TCP");
    let inner: IpAddr = INNER.parse().expect("address");
    let asked = rig.server.asked();
    assert!(
        asked.iter().all(|asked| asked.from == inner) && asked.iter().any(|asked| asked.tcp),
        "{asked:?}"
    );
    // What was looked up there is what a connection from there bears, but not as a word of the host's servers.
    rig.says("ip", &["netns", "exec", "far", "curl", "-sS", "-m", "10", "http://203.0.113.10:9/"]);
    let refused = rig.world.expect("the refusal", |s| s.protocol == "tcp").expect("recorded");
    if let Some(refused) = refused {
        assert_eq!(
            (refused.host.as_str(), refused.host_source),
            ("db.dns.test", Some(HostSource::DnsCaller))
        );
    }
}

/// Servers that the operator lists are asked for all, from the host.
#[test]
fn the_configured_servers_are_asked_for_containers_too() {
    let rig = Rig::with("");
    far(&rig);
    let words =
        ["netns", "exec", "far", "dig", "+short", "+tries=1", "+time=10", "@192.0.2.77", "db.dns.test", "A"];
    assert_eq!(rig.says("ip", &words).stdout, "203.0.113.10\n");
    rig.says("ip", &["netns", "exec", "far", "curl", "-sS", "-m", "10", "http://203.0.113.10:9/"]);
    let refused = rig.world.expect("the refusal", |s| s.protocol == "tcp").expect("recorded");
    if let Some(refused) = refused {
        assert_eq!((refused.host.as_str(), refused.host_source), ("db.dns.test", Some(HostSource::Dns)));
    }
    let agent = IpAddr::from(sluice_tests::netns::AGENT_V4);
    assert!(rig.server.asked().iter().all(|asked| asked.from == agent), "{:?}", rig.server.asked());
}
