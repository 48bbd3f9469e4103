//! Datagrams: DNS is led to the resolver and comes back as if from the server, the rest is refused or let out by a rule.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use agent_ebpf::{Counter, DNS_A_SECOND, DNS_BURST};
use sluice::config::Loopback;
use sluice::warden::kernel::TagOptions;
use sluice_tests::host::{Cgroup, Held, run};

use crate::stage::{PATIENCE, Stage, destination, field, tag};

const DNS4: u16 = 5300;
const DNS6: u16 = 5301;

/// A stage whose resolver is told to the programs.
fn stage(label: &str) -> Stage {
    let mut stage = Stage::tagged(label);
    let mut config = stage.config();
    (config.dns4, config.dns6) = (DNS4, DNS6);
    stage.kernel.configure(config).expect("configure");
    stage
}

fn socket(stage: &Stage, address: &str) -> UdpSocket {
    let socket = stage.namespace.enter(|| UdpSocket::bind(address).expect("bind"));
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// What arrives, and from where.
fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut text = [0; 64];
    let (length, from) = socket.recv_from(&mut text).expect("a datagram");
    (String::from_utf8_lossy(&text[..length]).into_owned(), from)
}

/// Whether nothing arrives. What was sent over loopback has arrived when sendto() returns.
fn is_silent(socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    socket.recv_from(&mut [0; 64]).is_err()
}

#[test]
fn questions_go_to_the_resolver_which_knows_who_asks() {
    let stage = stage("dns");
    let resolver4 = socket(&stage, "127.83.7.1:5300");
    let resolver6 = socket(&stage, "[::1]:5301");
    for (address, options, resolver) in [
        ("203.0.113.10:53", vec![], &resolver4),
        ("203.0.113.10:53", vec!["connect"], &resolver4),
        ("203.0.113.10:53", vec!["unspec"], &resolver4),
        ("203.0.113.10:53", vec!["mapped"], &resolver4),
        ("203.0.113.10:53", vec!["mapped", "connect"], &resolver4),
        ("127.0.0.53:53", vec![], &resolver4),
        ("169.254.169.254:53", vec![], &resolver4),
        ("[2001:db8::10]:53", vec![], &resolver6),
        ("[2001:db8::10]:53", vec!["connect"], &resolver6),
        ("[::1]:53", vec![], &resolver6),
    ] {
        let mut words = vec!["send", address, "answer"];
        words.extend(&options);
        let mut asking = stage.socketeer(Some(&stage.cgroup));
        asking.args(&words).stdout(std::process::Stdio::piped());
        let asking = asking.spawn().expect("it runs");
        let (text, from) = receive(resolver);
        assert_eq!(text, "marker", "{address} {options:?}");
        let own = resolver.local_addr().expect("address");
        let origin = stage.kernel.asker(stage.netns, from, own).expect("map").expect("remembered");
        assert_eq!(destination(&origin), address.parse().expect("address"));
        assert_eq!((origin.tag, origin.tgid), (7, asking.id()));
        resolver.send_to(b"answer", from).expect("sent");
        let said = String::from_utf8(asking.wait_with_output().expect("its end").stdout).expect("text");
        let mut shown = address.to_owned();
        if options.contains(&"mapped") {
            shown = format!("[::ffff:{}]:53", address.trim_end_matches(":53"));
        }
        assert_eq!(
            (field(&said, "from"), field(&said, "text")),
            (&*shown, "answer"),
            "{address} {options:?}"
        );
        if options.contains(&"connect") {
            assert_eq!(field(&said, "peer"), shown);
        }
    }
    assert_eq!((stage.count(Counter::Dns), stage.events().len()), (10, 0));
}

#[test]
fn a_socket_that_asks_two_servers_hears_each_by_its_own_address() {
    let stage = stage("dns-two");
    let (first, second) = (socket(&stage, "127.83.7.1:5300"), socket(&stage, "127.83.7.2:5300"));
    let mut asking = stage.socketeer(Some(&stage.cgroup));
    asking.args(["send", "203.0.113.10:53", "then=203.0.113.11:53", "answer"]);
    let asking = asking.stdout(std::process::Stdio::piped()).spawn().expect("it runs");
    let (to_first, to_second) = (receive(&first).1, receive(&second).1);
    assert_eq!(to_first, to_second, "one socket");
    second.send_to(b"two", to_second).expect("sent");
    first.send_to(b"one", to_first).expect("sent");
    let said = String::from_utf8(asking.wait_with_output().expect("its end").stdout).expect("text");
    assert_eq!(said.trim(), "ok from=203.0.113.11:53 text=two from=203.0.113.10:53 text=one");
}

#[test]
fn without_a_resolver_nothing_is_asked() {
    let stage = Stage::tagged("nodns");
    let world = socket(&stage, "203.0.113.10:53");
    assert_eq!(stage.socket(&["send", "203.0.113.10:53"]), "refused EPERM");
    assert_eq!(stage.socket(&["send", "203.0.113.10:53", "connect"]), "refused EPERM");
    assert_eq!(stage.ways(), [Counter::NoResolver, Counter::NoResolver]);
    assert!(is_silent(&world));
}

#[test]
fn other_datagrams_are_refused_in_every_way_of_sending_them() {
    let stage = stage("udp");
    let (world4, world6) = (socket(&stage, "203.0.113.10:4000"), socket(&stage, "[2001:db8::10]:4000"));
    let mut count = 0;
    for (address, options) in [
        ("203.0.113.10:4000", vec![]),
        ("203.0.113.10:4000", vec!["unspec"]),
        ("203.0.113.10:4000", vec!["mapped"]),
        ("203.0.113.10:4000", vec!["connect"]),
        ("203.0.113.10:4000", vec!["connect", "mapped"]),
        ("203.0.113.10:4000", vec!["interface=1"]),
        ("[2001:db8::10]:4000", vec![]),
        ("[2001:db8::10]:4000", vec!["connect"]),
    ] {
        let other = Cgroup::new("udp-other");
        let mut untagged = stage.socketeer(Some(&other));
        assert!(run(untagged.args(["send", address]).args(&options)).starts_with("ok"), "a positive control");
        let world = if address.starts_with('[') { &world6 } else { &world4 };
        assert_eq!(receive(world).0, "marker");
        let mut words = vec!["send", address];
        words.extend(&options);
        assert_eq!(stage.socket(&words), "refused EPERM", "{address} {options:?}");
        count += 1;
        assert!(is_silent(world), "{address} {options:?}");
        world.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }
    assert_eq!(stage.count(Counter::Udp), count);
    let told = stage.events();
    assert!(
        !told.is_empty()
            && told.iter().all(|e| e.tag == 7 && e.tgid != 0 && e.port == 4000 && e.protocol == 17)
    );
}

#[test]
fn quic_and_dns_over_quic_have_ways_of_their_own() {
    let stage = stage("quic");
    for (address, options, way) in [
        ("203.0.113.10:443", "", Counter::Quic),
        ("203.0.113.10:443", "connect", Counter::Quic),
        ("[2001:db8::10]:443", "connect", Counter::Quic),
        ("203.0.113.10:853", "connect", Counter::DnsOverTls),
        ("169.254.169.254:80", "connect", Counter::Metadata),
        ("203.0.113.10:123", "", Counter::Udp),
    ] {
        let words = ["send", address, options];
        let words = if options.is_empty() { &words[..2] } else { &words };
        // The namespace has no route to 169.254/16, and loopback's is by "the world".
        if address.starts_with("169") {
            continue;
        }
        assert_eq!(stage.socket(words), "refused EPERM", "{address}");
        assert_eq!(stage.ways(), [way], "{address} {options}");
    }
}

#[test]
fn a_rule_lets_datagrams_out() {
    let mut stage = Stage::new("rule");
    let rules = ["203.0.113.0/24:4000", "[2001:db8::10/128]:*"].map(|rule| rule.parse().expect("a rule"));
    stage.attach(TagOptions { udp: rules.to_vec(), ..TagOptions::default() });
    let (world4, world6) = (socket(&stage, "203.0.113.10:4000"), socket(&stage, "[2001:db8::10]:4001"));
    for (address, options) in
        [("203.0.113.10:4000", ""), ("203.0.113.10:4000", "connect"), ("203.0.113.10:4000", "mapped")]
    {
        assert!(stage.socket(&["send", address, options]).starts_with("ok"), "{address} {options}");
        assert_eq!(receive(&world4).0, "marker");
    }
    assert!(stage.socket(&["send", "[2001:db8::10]:4001"]).starts_with("ok"));
    assert_eq!(receive(&world6).0, "marker");
    assert_eq!(stage.socket(&["send", "203.0.113.10:4001"]), "refused EPERM", "another port");
    assert_eq!(stage.socket(&["send", "[2001:db8::11]:4001"]), "refused EPERM", "another host");
    assert_eq!(stage.socket(&["send", "[2001:db8::10]:53"]), "refused EPERM", "port 53 is the resolver's");
    stage.attach(TagOptions::default());
    assert_eq!(stage.socket(&["send", "203.0.113.10:4000"]), "refused EPERM", "the rule is gone");
    assert!(is_silent(&world4));
}

#[test]
fn datagrams_on_loopback_are_left_alone_unless_the_tag_says_otherwise() {
    let mut stage = stage("udplo");
    let near = socket(&stage, "127.0.0.1:4000");
    for options in ["", "connect", "mapped"] {
        assert!(stage.socket(&["send", "127.0.0.1:4000", options]).starts_with("ok"), "{options}");
        assert_eq!(receive(&near).0, "marker");
    }
    assert_eq!(stage.socket(&["send", "127.0.0.1:5300"]), "refused EPERM", "the resolver itself");
    assert_eq!(stage.ways(), [Counter::OwnListener]);
    for loopback in [Loopback::Take, Loopback::Deny] {
        stage.attach(TagOptions::with_loopback(loopback));
        for options in ["", "connect"] {
            assert_eq!(stage.socket(&["send", "127.0.0.1:4000", options]), "refused EPERM", "{loopback:?}");
        }
    }
    assert!(is_silent(&near));
}

#[test]
fn a_storm_of_refusals_is_told_ten_times_a_second_and_counted() {
    let stage = stage("storm");
    let mut work = stage.namespace.command(Some(&stage.cgroup), "python3");
    work.args(["-c", "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\nfor i in range(5000):\n  try: s.sendto(b'x',('203.0.113.10',4000))\n  except PermissionError: pass\nprint('done',flush=True)\nimport time\ntime.sleep(1.1)\ntry: s.sendto(b'x',('203.0.113.10',4000))\nexcept PermissionError: pass\nprint('again',flush=True)\nimport sys\nsys.stdin.read()"]);
    let (held, line) = Held::start(&mut work);
    assert_eq!(line, "done");
    let cpus = std::thread::available_parallelism().expect("cpus").get();
    let first = stage.events();
    assert!((1..=20 * cpus).contains(&first.len()), "{}", first.len());
    held.release();
    assert_eq!(stage.count(Counter::Udp), 5001);
    let told = first.iter().chain(&stage.events()).map(|e| 1 + e.suppressed).sum::<u32>();
    assert!(told <= 5001 && (told == 5001 || cpus > 1), "{told}");
}

/// Asks as fast as it can: says how many datagrams went and how many seconds it took, and goes on until it is released.
const FLOOD: &str = "
import select, socket, sys, time
size, times, segment = map(int, sys.argv[1:])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if segment: s.setsockopt(17, 103, segment)  # SOL_UDP, UDP_SEGMENT
s.connect(('203.0.113.10', 53))
def ask(times):
    went = 0
    for i in range(times):
        try: went += s.send(b'x' * size) == size
        except PermissionError: pass
    return went
began = time.monotonic()
went = ask(times)
print(f'went={went} seconds={time.monotonic() - began}', flush=True)
while not select.select([sys.stdin], [], [], 0)[0]: ask(256)
";

fn flood(stage: &Stage, cgroup: &Cgroup, words: [&str; 3]) -> (Held, f64, f64) {
    let mut work = stage.namespace.command(Some(cgroup), "python3");
    let (held, line) = Held::start(work.args(["-c", FLOOD]).args(words));
    let number = |key| field(&line, key).parse().expect("a number");
    (held, number("went"), number("seconds"))
}

#[test]
fn a_flood_of_one_tag_leaves_the_questions_of_another() {
    let mut stage = stage("dns-flood");
    let other = Cgroup::new("dns-other");
    stage.kernel.attach(&tag("other"), 8, other.path(), &TagOptions::default()).expect("attach");
    // One queue for both, as the agent's resolver has it.
    let resolver = socket(&stage, "0.0.0.0:5300");
    resolver.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    let (alive, (heard, hears)) = (Arc::new(()), mpsc::channel());
    let watch = Arc::downgrade(&alive);
    std::thread::spawn(move || {
        let mut text = [0; 64];
        while watch.strong_count() > 0 {
            if resolver.recv_from(&mut text).is_ok_and(|(length, _)| &text[..length] == b"marker") {
                let _nobody_waits_any_more = heard.send(());
            }
        }
    });
    let (flooding, went, seconds) = flood(&stage, &stage.cgroup, ["11", "50000", "0"]);
    let (burst, rate) = (f64::from(DNS_BURST), f64::from(DNS_A_SECOND));
    let most = burst + rate * seconds + 64.0;
    assert!((burst..=most).contains(&went), "{went} in {seconds} s, at most {most}");
    assert!(stage.ways().iter().all(|way| *way == Counter::DnsPace));
    assert!(stage.count(Counter::DnsPace) as f64 >= 50_000.0 - went);
    for nth in 0..20 {
        let mut asking = stage.socketeer(Some(&other));
        assert!(run(asking.args(["send", "203.0.113.10:53"])).starts_with("ok"), "{nth}");
        assert!(hears.recv_timeout(PATIENCE).is_ok(), "question {nth} of the other tag is lost");
    }
    flooding.release();
}

#[test]
fn datagrams_that_weigh_more_take_more_turns() {
    let mut stage = stage("dns-weight");
    let _resolver = socket(&stage, "0.0.0.0:5300");
    // Long ones; and one call that is sixty datagrams from the device on.
    for (number, words, turns) in [(11, ["60000", "2000", "0"], 118.0), (12, ["660", "2000", "11"], 62.0)] {
        let cgroup = Cgroup::new("dns-weight");
        let name = tag(&format!("heavy{number}"));
        stage.kernel.attach(&name, number, cgroup.path(), &TagOptions::default()).expect("attach");
        let (flooding, went, seconds) = flood(&stage, &cgroup, words);
        let most = (f64::from(DNS_BURST) + f64::from(DNS_A_SECOND) * seconds) / turns + 8.0;
        assert!((1.0..=most).contains(&went), "{words:?}: {went} in {seconds} s, at most {most}");
        flooding.release();
    }
}
