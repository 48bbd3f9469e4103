//! What is refused, and what a bound does at its limit.

use std::net::TcpListener;
use std::process::Command;

use agent_ebpf::{Config, Counter};
use sluice::warden::kernel::{Sizes, TagOptions, way};
use sluice::warden::listen::Listeners;
use sluice_tests::host::{Cgroup, Namespace, run};

use crate::stage::{Stage, WORLD, WORLD4, WORLD6, tag};

#[test]
fn without_a_listener_nothing_leaves() {
    let mut stage = Stage::tagged("nolisten");
    let _world = (stage.world(WORLD4), stage.world(WORLD6));
    let mut config = stage.config();
    (config.port4, config.count6) = (0, 0);
    stage.kernel.configure(config).expect("configure");
    assert_eq!(stage.dial(&["connect", WORLD4]), "refused EPERM");
    assert_eq!(stage.dial(&["connect", WORLD6]), "refused EPERM");
    assert_eq!(stage.count(Counter::NoListener), 2);

    let (port4, port6) = (stage.config().port4, stage.config().ports6[0]);
    stage.kernel.configure(Config { count6: 1, ..stage.config() }).expect("configure");
    stage.listeners = stage.namespace.enter(|| Listeners::open().expect("others, on other ports"));
    assert_ne!((stage.config().port4, stage.config().ports6[0]), (port4, port6));
    assert_eq!(stage.dial(&["connect", WORLD4]), "refused ECONNREFUSED", "the agent is down");
    assert_eq!(stage.dial(&["connect", WORLD6]), "refused ECONNREFUSED", "the agent is down");
}

#[test]
fn our_listeners_cannot_be_dialled_from_a_tag() {
    let stage = Stage::tagged("own");
    let port4 = stage.config().port4;
    for address in [format!("127.83.7.1:{port4}"), format!("127.0.0.1:{port4}"), format!("0.0.0.0:{port4}")] {
        assert_eq!(stage.dial(&["connect", &address]), "refused EPERM", "{address}");
        assert_eq!(stage.dial(&["connect", &address, "mapped"]), "refused EPERM", "{address} mapped");
    }
    let own6 = format!("[::1]:{}", stage.config().ports6[3]);
    assert_eq!(stage.dial(&["connect", &own6]), "refused EPERM");
    assert_eq!(stage.count(Counter::OwnListener), 7);
}

#[test]
fn a_socket_bound_to_a_device_is_refused() {
    let stage = Stage::tagged("device");
    stage.namespace.enter(|| {
        run(Command::new("ip").args(["link", "add", "out0", "type", "veth", "peer", "name", "out1"]));
        run(Command::new("ip").args(["link", "set", "out0", "up"]));
    });
    assert_eq!(stage.dial(&["connect", WORLD4, "device=out0"]), "refused EPERM");
    assert_eq!(stage.dial(&["connect", WORLD6, "device=out0"]), "refused EPERM");
    assert_eq!(stage.count(Counter::BoundDevice), 2);
    assert!(stage.dial(&["connect", WORLD4, "device=lo"]).starts_with("ok "), "loopback reaches us");
}

#[test]
fn a_tagged_process_in_a_network_namespace_of_its_own_reaches_nothing() {
    let stage = Stage::tagged("netns");
    let own = Namespace::new("netns-own", &WORLD);
    let _world =
        own.enter(|| (TcpListener::bind(WORLD4).expect("bind"), TcpListener::bind(WORLD6).expect("bind")));
    for address in [WORLD4, WORLD6] {
        let mut dial = own.command(Some(&stage.cgroup), env!("CARGO_BIN_EXE_sluice-dial"));
        assert_eq!(run(dial.args(["connect", address])).trim(), "refused ETIMEDOUT", "{address}");
    }
    assert!(stage.count(Counter::HeldBack) > 1, "tried again");
    let told = stage.events();
    assert!(told.iter().any(|event| way(event) == Some(Counter::NewNamespace) && event.netns != stage.netns));
}

/// How many IPv4 packets the namespace has sent (`OutRequests` of /proc/net/snmp).
fn sent(namespace: &Namespace) -> u64 {
    let table = run(namespace.command(None, "cat").arg("/proc/net/snmp"));
    let mut rows = table.lines().filter(|line| line.starts_with("Ip:")).map(|line| line.split(' '));
    let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
    let sent = names.zip(values).find(|(name, _)| *name == "OutRequests").expect("the counter");
    sent.1.parse().expect("a number")
}

#[test]
fn a_source_route_cannot_lead_past_the_listener() {
    let stage = Stage::tagged("route");
    stage.namespace.enter(|| {
        let ip = |words: &str| run(Command::new("ip").args(words.split(' ')));
        ip("link add out0 type veth peer name out1");
        ip("link set out1 up");
        ip("link set out0 up");
        ip("addr add 192.0.2.1/24 dev out0");
        ip("neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev out0 nud permanent");
    });
    let other = Cgroup::new("route-other");
    let before = sent(&stage.namespace);
    let mut untagged = stage.dialler(Some(&other));
    untagged.args(["connect", WORLD4, "route=192.0.2.9", "nonblocking"]);
    assert_eq!(run(&mut untagged).trim(), "refused EINPROGRESS");
    assert!(sent(&stage.namespace) > before, "untagged, its SYN goes to the hop: this is what must not be");

    let before = sent(&stage.namespace);
    assert_eq!(stage.dial(&["connect", WORLD4, "route=192.0.2.9", "nonblocking"]), "refused EPERM");
    assert_eq!((sent(&stage.namespace), stage.count(Counter::SourceRoute)), (before, 1));
}

#[test]
fn long_socket_options_still_work_in_a_tag() {
    let stage = Stage::tagged("sockopt");
    let answer = stage.dial(&["connect", WORLD4, "filter"]);
    assert!(answer.starts_with("ok "), "{answer}");
}

#[test]
fn a_full_map_forgets_the_newcomer_and_evicts_nobody() {
    let mut stage = Stage::sized("full", Sizes { waiting: Some(4), ..Sizes::default() });
    stage.attach(TagOptions::default());
    for _ in 0..6 {
        assert!(stage.dial(&["connect", WORLD4]).starts_with("ok "));
    }
    let known: Vec<bool> = (0..6).map(|_| stage.origin(&stage.accept(false)).is_some()).collect();
    assert_eq!(known, [true, true, true, true, false, false], "the last two will be closed");
    assert_eq!(stage.count(Counter::MapFull), 2);
    stage.dial(&["connect", WORLD4]);
    assert!(stage.origin(&stage.accept(false)).is_some(), "there is room again");
}

#[test]
fn one_tags_flood_leaves_room_for_another() {
    let mut stage = Stage::sized("fair", Sizes { waiting: Some(4), ..Sizes::default() });
    stage.attach(TagOptions::default());
    let quiet = Cgroup::new("fair-quiet");
    stage.kernel.attach(&tag("quiet"), 8, quiet.path(), &TagOptions::default()).expect("attach");
    assert!(stage.dial(&["many", WORLD4, "20"]).starts_with("ok "));
    stage.dial_in(Some(&quiet), &["connect", WORLD6]);
    assert_eq!(stage.origin(&stage.accept(true)).expect("remembered").tag, 8);
}
