//! Tries one way out of a tag, by name, and says in one line of JSON how it ended. The marker that it carries tells
//! whoever listens which attempt arrived.
//!
//! ```text
//! sluice-escape list
//! sluice-escape WAY [--uid UID] --marker M [--to4 A] [--to6 A] [--port P] …     every option of `parse` below
//! sluice-escape helper [--uid UID] …                  the untagged process of the same user (helper.rs)
//! sluice-escape far …                                 the far end (far.rs)
//! sluice-escape before KIND … -- COMMAND …            opens a socket, then becomes COMMAND with `--fd 100` appended
//! ```
//!
//! Before its JSON line it may ask the test for something (`ask …`) and then reads one line. `ended` is `sent` (every
//! call went well), `answered`, or `refused` with the call and its errno. Bad usage panics: only tests call this.

mod compat;
mod far;
mod helper;
mod job;
mod kinds;
mod mapped;
mod options;
mod passed;
mod place;
mod ppp;
mod relayed;
mod sys;
mod tcp;
mod udp;
mod uring;
mod xdp;

use std::os::unix::process::CommandExt as _;

use self::job::{Helper, Job, Said};
use self::sys::Done;

type Walk = fn(&Job) -> Done<Said>;

/// Every way, as the table of `sluice_tests::escape` names it.
const WALKS: &[(&str, Walk)] = &[
    ("tcp4", tcp::tcp4),
    ("tcp6", tcp::tcp6),
    ("tcp-mapped", tcp::mapped),
    ("tcp-nonblocking", tcp::nonblocking),
    ("tcp-splice", tcp::splice),
    ("tcp-sendfile", tcp::sendfile),
    ("tcp-zerocopy", tcp::zero_copy),
    ("tcp-tls-ulp", tcp::ulp_tls),
    ("tfo4", tcp::fast_open_v4),
    ("tfo6", tcp::fast_open_v6),
    ("tfo-mapped", tcp::fast_open_mapped),
    ("tfo-connect", tcp::fast_open_connect),
    ("tfo-sendmmsg", tcp::fast_open_sendmmsg),
    ("tfo-uring", uring::fast_open),
    ("mptcp4", tcp::mptcp4),
    ("mptcp6", tcp::mptcp6),
    ("mptcp-tfo", tcp::fast_open_mptcp),
    ("uring-connect", uring::connect),
    ("uring-async", uring::connect_async),
    ("uring-sqpoll", uring::connect_polled),
    ("uring-socket", uring::socket),
    ("uring-sendmsg", uring::sendmsg_plain),
    ("uring-sendmsg-sqpoll", uring::sendmsg_polled),
    ("uring-send-zc", uring::send_zc),
    ("udp-connect", udp::connect4),
    ("udp6-connect", udp::connect6),
    ("udp-connect-mapped", udp::connect_mapped),
    ("udp6-connect-inet", udp::connect6_inet),
    ("udp-sendto", udp::sendto4),
    ("udp6-sendto", udp::sendto6),
    ("udp-sendto-mapped", udp::sendto_mapped),
    ("udp6-sendto-inet", udp::sendto6_inet),
    ("udp-sendmsg", udp::sendmsg4),
    ("udp-sendmmsg", udp::sendmmsg4),
    ("udp-elsewhere", udp::elsewhere),
    ("udp6-elsewhere", udp::elsewhere6),
    ("udp-again", udp::again),
    ("udp-cork", udp::cork),
    ("udp-cork-elsewhere", udp::cork_elsewhere),
    ("udp-segments", udp::segments),
    ("udp-fragments", udp::fragments),
    ("udp-zerocopy", udp::zero_copy),
    ("udp-splice", udp::splice),
    ("udp-addrform", udp::address_form),
    ("udp-broadcast", udp::broadcast),
    ("udp6-multicast", udp::multicast6),
    ("udp-mdns", udp::mdns),
    ("udp-linklocal", udp::link_local),
    ("udp-memory-full", udp::memory_full),
    ("udp-quic", udp::quic),
    ("igmp-join", udp::join_group),
    ("igmp-mcast-join", udp::join_group_anew),
    ("igmp-source-join", udp::join_source),
    ("mld-join", udp::join_group6),
    ("mld-mcast-join", udp::join_group6_anew),
    ("igmp-compat-join", compat::join_group),
    ("mld-compat-join", compat::join_group6),
    ("igmp-uring-join", uring::join_group),
    ("udp-unspec", udp::sendto_unspec),
    ("udplite4", kinds::udplite4),
    ("udplite6", kinds::udplite6),
    ("udplite-connect", kinds::udplite_connect),
    ("sctp", kinds::sctp),
    ("sctp-many", kinds::sctp_many),
    ("sctp-connectx", kinds::sctp_connectx),
    ("dccp", kinds::dccp),
    ("l2tp", kinds::l2tp),
    ("rxrpc", kinds::rxrpc),
    ("rds", kinds::rds),
    ("protocols", kinds::protocols),
    ("ping4", kinds::ping4),
    ("ping6", kinds::ping6),
    ("ping-connect", kinds::ping_connect),
    ("raw4", kinds::raw4),
    ("raw6", kinds::raw6),
    ("raw-connect", kinds::raw_connect),
    ("raw-hdrincl", kinds::header_included),
    ("packet-dgram", kinds::packet_datagram),
    ("packet-raw", kinds::packet_raw),
    ("packet-old", kinds::packet_old),
    ("packet-ring", kinds::packet_ring),
    ("xdp", xdp::send),
    ("vsock", kinds::vsock),
    ("vsock-socket", kinds::vsock_socket),
    ("families", kinds::families),
    ("pppol2tp", ppp::l2tp),
    ("pppoe", ppp::ethernet),
    ("smc", kinds::smc),
    ("smc-protocol", kinds::smc_protocol),
    ("smc-ulp", tcp::ulp_smc),
    ("kept-tcp-connected", passed::kept_tcp_connected),
    ("kept-tcp", passed::kept_tcp),
    ("kept-udp", passed::kept_udp),
    ("kept-packet", passed::kept_packet),
    ("moved-tcp-connected", passed::before_tcp_connected),
    ("moved-tcp", passed::before_tcp),
    ("moved-tfo", passed::before_fast_open),
    ("moved-udp-connected", passed::before_udp_connected),
    ("moved-udp", passed::before_udp),
    ("moved-udp-splice", passed::before_udp_splice),
    ("moved-listener", passed::before_listener),
    ("moved-ping", passed::before_ping),
    ("moved-raw", passed::before_raw),
    ("moved-packet", passed::before_packet),
    ("moved-ring", passed::before_ring),
    ("moved-ring-sqpoll", passed::before_ring_polled),
    ("pid-tcp-connected", passed::before_tcp_connected),
    ("pid-tcp", passed::before_tcp),
    ("pid-tfo", passed::before_fast_open),
    ("pid-udp-connected", passed::before_udp_connected),
    ("pid-udp", passed::before_udp),
    ("pid-listener", passed::before_listener),
    ("pid-ping", passed::before_ping),
    ("pid-raw", passed::before_raw),
    ("pid-packet", passed::before_packet),
    ("pid-ring", passed::before_ring),
    ("rights-tcp-connected", passed::rights_tcp_connected),
    ("rights-tcp", passed::rights_tcp),
    ("rights-udp-connected", passed::rights_udp_connected),
    ("rights-udp", passed::rights_udp),
    ("rights-listener", passed::rights_listener),
    ("rights-nested", passed::rights_nested),
    ("rights-raw", passed::rights_raw),
    ("rights-packet", passed::rights_packet),
    ("getfd-tcp", passed::taken_tcp),
    ("getfd-udp", passed::taken_udp),
    ("migrate", place::migrate),
    ("migrate-with-socket", place::migrate_with_socket),
    ("born-outside", place::born_outside),
    ("join-agent", place::join_agent),
    ("sub-cgroup-tcp", place::sub_cgroup_tcp),
    ("sub-cgroup-udp", place::sub_cgroup_udp),
    ("sub-cgroup-udplite", place::sub_cgroup_udplite),
    ("new-namespaces", place::new_namespaces),
    ("new-users", place::new_users),
    ("netns-tcp", place::other_tcp),
    ("netns-tcp6", place::other_tcp6),
    ("netns-udp", place::other_udp),
    ("netns-udplite", place::other_udplite),
    ("netns-socket", place::other_socket),
    ("inbound-tcp", tcp::inbound4),
    ("inbound-tcp6", tcp::inbound6),
    ("inbound-reuseport", tcp::reuse_port),
    ("inbound-udp", udp::reply),
    ("inbound-udp-connected", udp::reply_connected),
    ("unix-path", relayed::unix_path),
    ("unix-abstract", relayed::unix_abstract),
    ("unix-datagram", relayed::unix_datagram),
    ("unix-seqpacket", relayed::unix_sequenced),
    ("netlink", relayed::netlink),
    ("docker", relayed::docker),
    ("docker-var", relayed::docker_var),
    ("docker-relative", relayed::docker_relative),
    ("docker-root", relayed::docker_root),
    ("docker-symlink", relayed::docker_link),
    ("docker-hardlink", relayed::docker_hard_link),
    ("dbus", relayed::bus),
    ("systemd", relayed::systemd),
    ("user-bus", relayed::user_bus),
    ("device-tcp", options::device_tcp),
    ("device-udp", options::device_udp),
    ("ifindex-tcp", options::interface_tcp),
    ("unicast-if", options::unicast_interface),
    ("unicast-if6", options::unicast_interface6),
    ("pktinfo6", options::packet_info6),
    ("udp-pktinfo", udp::packet_info),
    ("tcp-bound-source", options::bound_source),
    ("udp-bound-source", udp::bound_source),
    ("tcp-linklocal", tcp::link_local),
    ("dontroute", options::no_route),
    ("route-loose", options::loose_route),
    ("route-strict", options::strict_route),
    ("route-hidden", options::hidden_route),
    ("route-mapped", options::mapped_route),
    ("route-uring", uring::loose_route),
    ("route-compat", compat::loose_route),
    ("route-compat-tfo", compat::loose_route_fast),
    ("route6-compat", compat::routing_header),
    ("device-compat-tcp", compat::device_tcp),
    ("route-cmsg", udp::route_in_message),
    ("route6", options::routing_header),
    ("route6-options", options::routing_options),
    ("route6-cmsg", udp::route_in_message6),
    ("mark", kinds::mark),
    ("transparent-tcp", options::transparent),
    ("transparent-udp", options::transparent_udp),
    ("agent-source", options::agent_source),
    ("agent-user-udp", place::agent_user),
    ("agent-user-tcp", place::agent_user_tcp),
    ("agent-listener", place::listener),
    ("agent-control", place::control_socket),
    ("untag", place::untag),
    ("take-listener", place::take_listener),
    ("dns-udp", udp::dns),
    ("dns-tcp", udp::dns_tcp),
    ("dns-junk", udp::not_dns),
    ("dns-dot", options::port853),
    ("dns-dtls", udp::dtls853),
    ("dns-doh", options::dns_over_https),
    ("metadata", options::metadata),
    ("metadata6", options::metadata6),
    ("metadata-mapped", options::metadata_mapped),
    ("tcp-again", tcp::again),
    ("tcp-taken-again", tcp::taken_again),
    ("tcp-simultaneous", tcp::simultaneous),
    ("tcp-race", tcp::race),
    ("tcp-memory-full", tcp::memory_full),
    ("tcp-repair", tcp::repair),
    ("kill-agent", place::kill_agent),
    ("ptrace", relayed::ptrace),
    ("proc-mem", relayed::process_memory),
    ("vm-writev", relayed::vm_writev),
    ("proc-pipe", relayed::process_pipe),
    ("orphan", place::orphan),
    ("deferred", relayed::deferred),
    ("fifo", relayed::fifo),
    ("loopback-tcp", relayed::loopback_tcp),
    ("loopback-udp", relayed::loopback_udp),
    ("own-udp", relayed::own_udp),
    ("tun", place::tun),
    ("reroute", place::reroute),
    ("unpin", place::unpin),
    ("detach", place::detach),
];

/// The number that `before` puts its socket at.
const KEPT: i32 = 100;

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    assert!(!words.is_empty(), "usage: see the head of sluice-escape/main.rs");
    let word = words.remove(0);
    match word.as_str() {
        "list" => WALKS.iter().for_each(|(name, _)| println!("{name}")),
        "before" => before(words),
        "far" => {
            if let Err(stop) = far::run(&parse(&words)) {
                panic!("far end: {stop:?}");
            }
        }
        "helper" => {
            let job = parse(&words);
            if let Err(stop) = helper::run(job) {
                panic!("helper: {stop:?}");
            }
        }
        way => {
            let walk = WALKS.iter().find(|(name, _)| *name == way);
            let (name, walk) = walk.unwrap_or_else(|| panic!("no way {way:?}"));
            report(name, walk(&parse(&words)));
        }
    }
}

fn report(way: &str, done: Done<Said>) {
    let said = match done {
        Ok(Said::Sent) => serde_json::json!({ "way": way, "ended": "sent" }),
        Ok(Said::Answered) => serde_json::json!({ "way": way, "ended": "answered" }),
        Err(stop) => serde_json::json!({
            "way": way, "ended": "refused", "step": stop.step, "errno": format!("{:?}", stop.errno),
        }),
    };
    println!("{said}");
}

fn before(mut words: Vec<String>) {
    let at = words.iter().position(|word| word == "--").expect("-- before the command");
    let command = words.split_off(at);
    let kind = words.remove(0);
    let fd = passed::open(&parse(&words), &kind).unwrap_or_else(|stop| panic!("before {kind}: {stop:?}"));
    sys::put_at(fd, KEPT).unwrap_or_else(|stop| panic!("before {kind}: {stop:?}"));
    let [_, program, arguments @ ..] = command.as_slice() else { panic!("no command") };
    let error = std::process::Command::new(program).args(arguments).arg("--fd").arg(KEPT.to_string()).exec();
    panic!("{program}: {error}");
}

/// Options in pairs; absent ones keep a value that leads nowhere.
fn parse(words: &[String]) -> Job {
    let value = |key: &str| {
        let mut pairs = words.chunks_exact(2);
        pairs.find_map(|pair| (pair[0].strip_prefix("--") == Some(key)).then(|| pair[1].as_str()))
    };
    let text = |key: &str| value(key).unwrap_or_default().to_owned();
    let number = |key: &str| value(key).map_or(0_u64, |v| v.parse().expect("a number"));
    let v4 = |key: &str| value(key).map_or(std::net::Ipv4Addr::LOCALHOST, |v| v.parse().expect("IPv4"));
    let v6 = |key: &str| value(key).map_or(std::net::Ipv6Addr::LOCALHOST, |v| v.parse().expect("IPv6"));
    let mut link = [0xff; 6];
    for (octet, hex) in link.iter_mut().zip(text("link").split(':')) {
        *octet = u8::from_str_radix(hex, 16).unwrap_or(0xff);
    }
    let listeners = text("listeners");
    let job = Job {
        to4: v4("to4"),
        to6: v6("to6"),
        port: u16::try_from(number("port")).expect("a port"),
        marker: text("marker"),
        device: text("device"),
        link,
        own4: v4("own4"),
        own6: v6("own6"),
        agent4: v4("agent4"),
        listeners: listeners.split(',').filter_map(|a| a.parse().ok()).collect(),
        dir: text("dir").into(),
        fd: value("fd").map(|v| v.parse().expect("a descriptor")),
        helper: Helper {
            pid: number("helper") as i32,
            buffer: number("buffer") as usize,
            tcp: number("tcp") as i32,
            udp: number("udp") as i32,
            pipe: number("pipe") as i32,
            tcp_port: number("tcp-port") as u16,
            udp_port: number("udp-port") as u16,
        },
        untagged: text("untagged").into(),
        agent_cgroup: text("agent-cgroup").into(),
        sluice: text("sluice").into(),
        runtime: text("runtime").into(),
        tag: text("tag"),
        bpf: text("bpf").into(),
        namespace: text("namespace").into(),
    };
    let uid = number("uid") as u32;
    if uid != 0 {
        sys::become_user(uid).expect("another user");
    }
    job
}
