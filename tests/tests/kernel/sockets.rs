//! What kinds of sockets a tag may make, where it may bind them and what it may set on them.

use agent_ebpf::Counter;
use sluice::config::Loopback;
use sluice::warden::kernel::TagOptions;
use sluice_tests::host::run;

use crate::stage::{Stage, WORLD4};

#[test]
fn only_tcp_and_udp_sockets_can_be_made() {
    let stage = Stage::tagged("make");
    let everybody = "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range";
    run(stage.namespace.command(None, "sh").args(["-c", everybody]));
    for family in ["2", "10"] {
        for (kind, protocol) in [("1", "0"), ("1", "6"), ("1", "262"), ("2", "0"), ("2", "17")] {
            assert_eq!(stage.socket(&["make", family, kind, protocol]), "ok", "{kind} {protocol}");
        }
        // UDP-Lite, a ping socket, raw, raw with a header of its own.
        for (kind, protocol) in
            [("2", "136"), ("2", if family == "2" { "1" } else { "58" }), ("3", "6"), ("3", "255")]
        {
            assert_eq!(stage.socket(&["make", family, kind, protocol]), "refused EPERM", "{kind} {protocol}");
        }
    }
    assert_eq!(stage.count(Counter::Protocol), 8);
    let told = stage.events();
    assert_eq!((told.len(), told[0].protocol, told[0].kind, told[0].tag), (8, 136, 2, 7));
    assert!(told[0].comm.starts_with(b"sluice-socket") && told[0].tgid != 0 && told[0].netns == stage.netns);
}

#[test]
fn multipath_tcp_is_refused_in_a_tag_that_does_not_want_it() {
    let mut stage = Stage::new("nomptcp");
    stage.attach(TagOptions { mptcp: false, ..TagOptions::default() });
    assert_eq!(stage.socket(&["make", "2", "1", "262"]), "refused EPERM");
    assert_eq!(stage.socket(&["make", "2", "1", "6"]), "ok");
    assert_eq!(stage.ways(), [Counter::Mptcp]);
}

#[test]
fn the_agents_ports_cannot_be_bound() {
    let stage = Stage::tagged("bind");
    let mut config = stage.config();
    (config.dns4, config.dns6) = (55, 56);
    let mut stage = stage;
    stage.kernel.configure(config).expect("configure");
    let (port4, port6) = (config.port4, config.ports6[2]);
    for address in [
        format!("127.0.0.1:{port4}"),
        format!("0.0.0.0:{port4}"),
        format!("[::1]:{port6}"),
        format!("[::]:{port4}"),
        "127.83.7.1:55".to_owned(),
        "[::1]:56".to_owned(),
    ] {
        assert_eq!(stage.socket(&["bind", "tcp", &address]), "refused EPERM", "{address}");
        assert_eq!(stage.socket(&["bind", "udp", &address]), "refused EPERM", "{address}");
    }
    for address in ["127.0.0.1:0", "0.0.0.0:4000", "[::]:4000", "203.0.113.10:0"] {
        assert_eq!(stage.socket(&["bind", "tcp", address]), "ok", "{address}");
    }
    assert_eq!(stage.count(Counter::Bind), 12);
}

#[test]
fn options_that_lead_past_us_are_refused() {
    let stage = Stage::tagged("option");
    // SO_MARK, IP_TRANSPARENT, TCP_REPAIR, IPV6_TRANSPARENT
    for (version, level, name) in [("4", "1", "36"), ("4", "0", "19"), ("4", "6", "19"), ("6", "41", "75")] {
        assert_eq!(stage.socket(&["option", version, level, name, "1"]), "refused EPERM", "{level} {name}");
        assert_eq!(
            stage.socket(&["option", version, level, name, "0"]),
            "ok",
            "switched off: {level} {name}"
        );
    }
    let told = stage.events();
    assert_eq!((told.len(), told[0].detail), (4, 1 << 16 | 36));
    assert!(told[0].comm.starts_with(b"sluice-socket") && told[0].tag == 7);
    // SO_BINDTODEVICE, SO_BINDTOIFINDEX, IP_UNICAST_IF, IPV6_UNICAST_IF
    for (version, level, name, value) in [
        ("4", "1", "25", "eth0"),
        ("4", "1", "62", "2"),
        ("4", "0", "50", "33554432"),
        ("6", "41", "76", "33554432"),
    ] {
        assert_eq!(stage.socket(&["option", version, level, name, value]), "refused EPERM", "{level} {name}");
    }
    for (version, level, name, value) in
        [("4", "1", "25", "lo"), ("4", "1", "62", "1"), ("4", "0", "50", "16777216"), ("4", "1", "9", "1")]
    {
        assert_eq!(stage.socket(&["option", version, level, name, value]), "ok", "{level} {name}");
    }
    assert_eq!((stage.count(Counter::Disguise), stage.count(Counter::BoundDevice)), (4, 4));
}

#[test]
fn loopback_is_refused_in_a_tag_that_denies_it() {
    let mut stage = Stage::new("denylo");
    stage.attach(TagOptions::with_loopback(Loopback::Deny));
    let _servers = (stage.world("127.0.0.1:4000"), stage.world("[::1]:4000"));
    for address in ["127.0.0.1:4000", "[::1]:4000", "0.0.0.0:4000"] {
        assert_eq!(stage.dial(&["connect", address]), "refused EPERM", "{address}");
        assert_eq!(stage.socket(&["send", address]), "refused EPERM", "{address}");
    }
    assert_eq!(stage.count(Counter::LoopbackDenied), 6);
    assert!(stage.dial(&["connect", WORLD4]).starts_with("ok "), "what is taken is");
}

#[test]
fn metadata_addresses_and_dns_over_tls_are_refused() {
    let mut stage = Stage::tagged("metadata");
    for address in ["169.254.169.254:80", "[fd00:ec2::254]:80", "100.100.100.200:80", "168.63.129.16:80"] {
        assert_eq!(stage.dial(&["connect", address]), "refused EPERM", "{address}");
    }
    assert_eq!(stage.dial(&["connect", "169.254.169.254:80", "mapped"]), "refused EPERM");
    assert_eq!(stage.dial(&["connect", "203.0.113.10:853"]), "refused EPERM");
    assert_eq!((stage.count(Counter::Metadata), stage.count(Counter::DnsOverTls)), (5, 1));
    let told = stage.events();
    let address = sluice::warden::kernel::address(&told[0]).expect("known").to_string();
    assert_eq!(address, "169.254.169.254:80");
    stage.attach(TagOptions { metadata: true, ..TagOptions::default() });
    assert!(stage.dial(&["connect", "169.254.169.254:80"]).starts_with("ok "), "taken");
}
