//! Unchanged clients of every kind look names up as they always do.

use std::path::Path;

use sluice::types::{HostSource, Verdict};
use sluice_tests::client;

use crate::rig::{Rig, server_address};

#[test]
fn getent_and_the_record_of_it() {
    let rig = Rig::with("");
    let ended = rig.says("getent", &["ahostsv4", "db.dns.test"]);
    assert!(ended.good() && ended.stdout.starts_with("203.0.113.10 "), "{ended:?}");
    let Some(record) = rig.question("db.dns.test", "A") else { return };
    assert_eq!((record.status, record.verdict), (Some(0), Verdict::Allow));
    assert_eq!(record.host_source, Some(HostSource::Request));
    assert_eq!(record.address, server_address().to_string(), "the server that was asked");
    assert_eq!(record.exe.as_deref().map(Path::new), Some(Path::new("/usr/bin/getent")));
    assert_eq!((record.tag.as_str(), record.rule.as_deref()), ("ci", Some("observe")));
    assert!(record.bytes_up > 0 && record.bytes_down > record.bytes_up, "{record:?}");
    let from = rig.server.asked()[0].from;
    assert_eq!(from, std::net::IpAddr::from(sluice_tests::netns::AGENT_V4), "the agent asked, not the job");
}

#[test]
fn dig_over_udp_keeps_letter_case_and_id() {
    let rig = Rig::with("");
    let out = rig.dig(&["+nostats", "wWw.DnS.tEsT", "A"]);
    assert!(out.contains(";wWw.DnS.tEsT.\t\t\tIN\tA"), "{out}");
    assert!(out.contains("status: NOERROR") && out.contains("203.0.113.10"), "{out}");
    assert_eq!(rig.server.names(), ["wWw.DnS.tEsT."]);
    // dig's cookie option stays here: what goes upstream is the question and a bare OPT record.
    assert_eq!(rig.server.asked()[0].bytes, 12 + 14 + 4 + 11);
    rig.question("www.dns.test", "A");
}

#[test]
fn dig_over_tcp_several_questions_on_one_connection() {
    let rig = Rig::with("");
    let out = rig.dig(&[
        "+tcp",
        "+keepopen",
        "+short",
        "one.dns.test",
        "A",
        "two.dns.test",
        "A",
        "missing.dns.test",
        "A",
    ]);
    assert_eq!(out, "203.0.113.10\n203.0.113.10\n");
    let first = rig.question("one.dns.test", "A");
    let third = rig.question("missing.dns.test", "A");
    if let (Some(first), Some(third)) = (first, third) {
        assert_eq!(third.status, Some(3), "NXDOMAIN");
        assert_eq!(first.session, third.session, "one connection is one session");
    }
    assert!(rig.server.asked().iter().all(|asked| !asked.tcp), "upstream is asked over UDP first");
}

#[test]
fn a_long_answer_is_cut_for_small_clients_and_whole_for_others() {
    let rig = Rig::with("");
    let small = rig.dig(&["+noedns", "+ignore", "many.dns.test", "A"]);
    assert!(small.contains("flags: qr tc rd ra") && small.contains("ANSWER: 0"), "{small}");
    let large = rig.dig(&["+bufsize=4096", "+ignore", "many.dns.test", "A"]);
    assert!(large.contains("ANSWER: 80") && !large.contains(" tc "), "{large}");
    // dig turns to TCP by itself.
    let turned = rig.dig(&["+noedns", "+short", "many.dns.test", "A"]);
    assert_eq!(turned.lines().count(), 80, "{turned}");
    assert!(rig.server.asked().iter().any(|asked| asked.tcp), "the cut answer was asked for over TCP");
}

#[test]
fn an_alias_is_followed() {
    let rig = Rig::with("");
    assert_eq!(rig.dig(&["+short", "alias.dns.test", "A"]), "target.dns.test.\n203.0.113.10\n");
}

#[test]
fn any_server_that_is_asked_is_answered_for() {
    let rig = Rig::with("");
    for server in ["@198.51.100.53", "@127.0.0.53", "@2001:db8::53", "@::1"] {
        assert_eq!(rig.dig(&["+short", server, "db.dns.test", "A"]), "203.0.113.10\n", "{server}");
    }
}

#[test]
fn python() {
    let rig = Rig::with("");
    const LOOK_UP: &str =
        "import socket; print(sorted({a[4][0] for a in socket.getaddrinfo('db.dns.test', 443)}))";
    let ended = rig.says("/usr/bin/python3", &["-c", LOOK_UP]);
    assert_eq!(ended.stdout, "['203.0.113.10']\n", "{ended:?}");
    rig.question("db.dns.test", "AAAA");
}

#[test]
fn go() {
    let resolve = client::go_resolver().expect("the Go program");
    let rig = Rig::with("");
    let ended = rig.says(resolve, &["db.dns.test", "many.dns.test"]);
    assert!(ended.good() && ended.stdout.starts_with("db.dns.test [203.0.113.10]\n"), "{ended:?}");
    assert!(ended.stdout.contains("198.51.100.80"), "over TCP: {ended:?}");
}

/// musl asks all of its servers at once from one socket and drops what comes from any other address.
#[test]
fn musl() {
    let resolve = client::musl_resolver().expect("the musl program");
    let rig = Rig::with("");
    let servers =
        format!("nameserver {}\nnameserver 198.51.100.1\nnameserver 198.51.100.2\n", server_address().ip());
    rig.world.space().resolv_conf(&servers).expect("resolv.conf");
    let ended = rig.says(resolve, &["db.dns.test"]);
    assert_eq!(ended.stdout, "db.dns.test 203.0.113.10\n", "{ended:?}");
}

/// The host's own name servers, as they are now.
#[test]
fn the_hosts_resolv_conf_is_followed() {
    let rig = Rig::configured("");
    let found = sluice_tests::process::eventually(sluice_tests::process::PATIENCE, || {
        let ended = rig.says("dig", &["+short", "+tries=1", "+time=3", "db.dns.test", "A"]);
        Ok((ended.stdout == "203.0.113.10\n").then_some(()))
    });
    assert!(found.expect("dig runs").is_some(), "{:?}", rig.server.asked());
}
