//! The tests' own eye: what it must see, it sees.

use std::time::Duration;

use sluice_tests::capture::Capture;
use sluice_tests::harness::{Options, World, address};
use sluice_tests::netns::{AGENT_V4, OTHERS_V4, Place};
use sluice_tests::process::run;

#[test]
fn the_far_end_of_the_veth_sees_who_sends_what() {
    let options = Options { place: Place::Far, ..Options::default() };
    let world = World::with(options).expect("world");
    let from = |who| {
        let whole = move |frame: &sluice_tests::capture::Frame| {
            frame.packet().is_some_and(|packet| packet.source == std::net::IpAddr::from(who))
        };
        Capture::start(&world.space().outside(), whole).expect("capture")
    };
    let (agent, others) = (from(AGENT_V4), from(OTHERS_V4));
    let ask = |mut curl: std::process::Command| {
        let ended = run(curl.args(["-sS", "http://www.example.test/bytes/4"]), Duration::from_secs(30));
        assert_eq!(ended.expect("started").stdout, "xxxx");
    };
    ask(world.untagged("curl").expect("command"));
    if !world.is_direct() {
        ask(world.job("seen", "curl").expect("job"));
        assert_eq!(world.seen().strangers().len(), 1, "the untagged curl");
    }
    let (agent, others) = (agent.end().expect("capture"), others.end().expect("capture"));
    assert!(others.seen >= 10 && others.seen == agent.seen, "{others:?}, {agent:?}");
    let upstream = address("www.example.test");
    for (name, captured) in [("agent", agent), ("others", others)] {
        if name == "agent" && world.is_direct() {
            continue;
        }
        assert!(captured.kept.iter().any(|frame| frame.contains(b"GET /bytes/4")), "{name}: {captured:?}");
        let to_it = |frame: &sluice_tests::capture::Frame| {
            frame.packet().is_some_and(|p| p.target == upstream && p.ports.is_some_and(|(_, to)| to == 80))
        };
        assert!(captured.kept.iter().all(to_it), "{name}: {captured:?}");
    }
}
