//! What is taken, what is left alone, and what is known of it.

use std::io::Read;
use std::time::Duration;

use agent_ebpf::{Config, Counter};
use sluice::config::Loopback;
use sluice::warden::kernel::{TagOptions, boot_time};
use sluice_tests::host::Cgroup;

use crate::stage::{Stage, WORLD4, WORLD6, destination, field, tag};

#[test]
fn an_ipv4_connection_is_led_to_the_listener_and_says_whose_it_is() {
    let stage = Stage::tagged("v4");
    let before = boot_time().expect("clock");
    let answer = stage.dial(&["connect", WORLD4]);
    let stream = stage.accept(false);
    let origin = stage.origin(&stream).expect("remembered");
    assert_eq!(destination(&origin), WORLD4.parse().expect("address"));
    assert_eq!((origin.family, origin.tag, origin.uid, origin.gid), (2, 7, 0, 0));
    assert_eq!(origin.tgid.to_string(), field(&answer, "pid"));
    assert_eq!(origin.pid, origin.tgid, "its main thread");
    assert_eq!(&origin.comm[..12], b"sluice-dial\0");
    assert_eq!(origin.cgroup, stage.cgroup.id());
    let at = Duration::from_nanos(origin.connected_at);
    assert!(at > before && at < boot_time().expect("clock"));
    let local = stream.local_addr().expect("address").to_string();
    assert!(local.starts_with("127.83.7."), "the third octet is the tag's number: {local}");
    assert_eq!(stage.origin(&stream), None, "an answer is given once");
    assert_eq!(stage.count(Counter::Taken), 1);
}

#[test]
fn an_ipv6_connection_is_led_to_the_listener_and_says_whose_it_is() {
    let stage = Stage::tagged("v6");
    stage.dial(&["connect", WORLD6]);
    let stream = stage.accept(true);
    let origin = stage.origin(&stream).expect("remembered");
    assert_eq!(destination(&origin), WORLD6.parse().expect("address"));
    assert_eq!((origin.family, origin.tag), (10, 7));
}

#[test]
fn a_v4_mapped_connection_is_led_to_the_ipv4_listener() {
    let stage = Stage::tagged("mapped");
    stage.dial(&["connect", WORLD4, "mapped"]);
    let origin = stage.origin(&stage.accept(false)).expect("remembered");
    assert_eq!(destination(&origin), WORLD4.parse().expect("address"));
    assert_eq!(origin.family, 10, "an IPv6 socket");
}

#[test]
fn getpeername_shows_the_address_that_was_dialled() {
    let stage = Stage::tagged("peer");
    assert_eq!(field(&stage.dial(&["connect", WORLD4]), "peer"), WORLD4);
    assert_eq!(field(&stage.dial(&["connect", WORLD6]), "peer"), WORLD6);
    let mapped = stage.dial(&["connect", WORLD4, "mapped"]);
    assert_eq!(field(&mapped, "peer"), "[::ffff:203.0.113.10]:443");
}

#[test]
fn child_cgroups_inherit_the_tag() {
    let stage = Stage::tagged("child");
    let child = stage.cgroup.child("job");
    stage.dial_in(Some(&child), &["connect", WORLD4]);
    let origin = stage.origin(&stage.accept(false)).expect("remembered");
    assert_eq!((origin.tag, origin.cgroup), (7, child.id()));
}

#[test]
fn an_untagged_process_is_left_alone() {
    let stage = Stage::tagged("untagged");
    let _world = stage.world(WORLD4);
    let other = Cgroup::new("untagged-other");
    let answer = stage.dial_in(Some(&other), &["connect", WORLD4]);
    assert!(answer.starts_with("ok "), "{answer}");
    assert_eq!(field(&answer, "local").split(':').next(), Some("203.0.113.10"), "straight to the server");
    assert_eq!(stage.count(Counter::Taken), 0);
}

#[test]
fn loopback_is_left_alone() {
    let stage = Stage::tagged("lo");
    let _v4 = stage.world("127.0.0.1:4000");
    let _v6 = stage.world("[::1]:4000");
    for (address, more) in [
        ("127.0.0.1:4000", ""),
        ("[::1]:4000", ""),
        ("0.0.0.0:4000", ""),
        ("[::]:4000", ""),
        ("127.0.0.1:4000", "mapped"),
    ] {
        let words = ["connect", address, more];
        let answer = stage.dial(if more.is_empty() { &words[..2] } else { &words });
        assert!(answer.starts_with("ok "), "{address} {more}: {answer}");
    }
    assert_eq!((stage.count(Counter::Loopback), stage.count(Counter::Taken)), (5, 0));
}

#[test]
fn loopback_is_taken_from_a_tag_that_asks_for_it() {
    let mut stage = Stage::new("takelo");
    stage.attach(TagOptions::with_loopback(Loopback::Take));
    stage.dial(&["connect", "127.0.0.1:4000"]);
    let origin = stage.origin(&stage.accept(false)).expect("remembered");
    assert_eq!(destination(&origin).to_string(), "127.0.0.1:4000");
    stage.dial(&["connect", "[::1]:4000"]);
    let origin = stage.origin(&stage.accept(true)).expect("remembered");
    assert_eq!(destination(&origin).to_string(), "[::1]:4000");
    stage.attach(TagOptions::default());
    assert_eq!(
        stage.dial(&["connect", "127.0.0.1:4000"]),
        "refused ECONNREFUSED",
        "no longer, and no server there"
    );
    assert_eq!(stage.count(Counter::Loopback), 1);
}

#[test]
fn the_agents_own_connections_are_left_alone() {
    let mut stage = Stage::tagged("agent");
    let agent = stage.cgroup.child("agent");
    let gate = agent.child("gate");
    stage.kernel.configure(Config { agent_cgroup: agent.id(), ..stage.config() }).expect("configure");
    let _world = stage.world(WORLD4);
    assert!(stage.dial_in(Some(&agent), &["connect", WORLD4]).starts_with("ok "));
    assert!(stage.dial_in(Some(&gate), &["connect", WORLD4]).starts_with("ok "));
    assert_eq!((stage.count(Counter::Agent), stage.count(Counter::Taken)), (2, 0));
    stage.dial(&["connect", WORLD4]);
    assert_eq!(stage.count(Counter::Taken), 1, "a job beside the agent is taken");
}

#[test]
fn a_socket_with_a_bound_source_address_is_taken() {
    let stage = Stage::tagged("source");
    assert!(stage.dial(&["connect", WORLD4, "source=203.0.113.10"]).starts_with("ok "));
    assert!(stage.origin(&stage.accept(false)).is_some());
    assert!(stage.dial(&["connect", WORLD6, "source=2001:db8::10"]).starts_with("ok "));
    assert!(stage.origin(&stage.accept(true)).is_some());
}

/// getpeername() of such a socket shows the listener: the kernel asks for the outer socket, and what was dialled stands
/// beside the inner one.
#[test]
fn multipath_tcp_is_taken() {
    let stage = Stage::tagged("mptcp");
    assert!(stage.dial(&["connect", WORLD4, "mptcp"]).starts_with("ok "));
    assert_eq!(destination(&stage.origin(&stage.accept(false)).expect("remembered")).to_string(), WORLD4);
    assert!(stage.dial(&["connect", WORLD6, "mptcp"]).starts_with("ok "));
    assert_eq!(destination(&stage.origin(&stage.accept(true)).expect("remembered")).to_string(), WORLD6);
}

#[test]
fn tcp_fast_open_is_taken() {
    let stage = Stage::tagged("fastopen");
    assert!(stage.dial(&["connect", WORLD4, "fastopen"]).starts_with("ok "));
    let mut stream = stage.accept(false);
    assert_eq!(destination(&stage.origin(&stream).expect("remembered")).to_string(), WORLD4);
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read");
    assert_eq!(text, "fast");
}

#[test]
fn a_socket_that_connects_again_is_remembered_anew() {
    let stage = Stage::tagged("again");
    let answer = stage.dial(&["connect", WORLD4, "again=203.0.113.11:80"]);
    assert_eq!(field(&answer, "peer"), "203.0.113.11:80");
    let dead = stage.accept(false);
    assert!(dead.peer_addr().is_err(), "the first connection was reset");
    assert_eq!(
        destination(&stage.origin(&stage.accept(false)).expect("remembered")).to_string(),
        "203.0.113.11:80"
    );

    let _server = stage.world("127.0.0.1:4000");
    let answer = stage.dial(&["connect", WORLD4, "again=127.0.0.1:4000"]);
    assert_eq!(field(&answer, "peer"), "127.0.0.1:4000", "what was left alone is not disguised");
}

#[test]
fn programs_that_run_twice_on_one_connection_take_it_once() {
    let mut stage = Stage::tagged("twice");
    let child = stage.cgroup.child("job");
    stage
        .kernel
        .attach(&tag("ci"), 7, child.path(), &TagOptions::default())
        .expect("same tag, as by systemd");
    for address in [WORLD4, WORLD6] {
        let answer = stage.dial_in(Some(&child), &["connect", address]);
        assert_eq!(field(&answer, "peer"), address);
        let stream = stage.accept(address == WORLD6);
        assert_eq!(destination(&stage.origin(&stream).expect("remembered")).to_string(), address);
    }
    assert_eq!((stage.count(Counter::Taken), stage.kernel.waiting().expect("map")), (2, 0));
}

#[test]
fn of_nested_tags_the_inner_one_takes() {
    let mut stage = Stage::tagged("nested");
    let child = stage.cgroup.child("job");
    stage.kernel.attach(&tag("inner"), 8, child.path(), &TagOptions::default()).expect("attach");
    stage.dial_in(Some(&child), &["connect", WORLD4]);
    assert_eq!(stage.origin(&stage.accept(false)).expect("remembered").tag, 8);
    assert_eq!((stage.count(Counter::Taken), stage.kernel.waiting().expect("map")), (1, 0));
}
