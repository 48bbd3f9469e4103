//! What `[dns]` refuses: names, aliases, types, and the shapes of tunnels.

use sluice::types::Verdict;

use crate::rig::Rig;

fn denied(rig: &Rig, host: &str, kind: &str, rule: &str, status: u16) {
    let Some(record) = rig.question(host, kind) else { return };
    assert_eq!((record.verdict, record.rule.as_deref()), (Verdict::Deny, Some(rule)), "{record:?}");
    assert_eq!(record.status, Some(status));
    assert!(record.error.unwrap_or_default().contains(rule), "the error says which key");
}

#[test]
fn denied_names_do_not_exist() {
    let rig = Rig::with("deny = [\"*.evil.test\", \"exact.test\", \"*.tracker.test\"]\n");
    let out = rig.dig(&["a.b.EVIL.test", "A"]);
    assert!(out.contains("status: NXDOMAIN"), "{out}");
    assert!(out.contains("EDE: 15 (Blocked)") && out.contains("dns.deny"), "the reason is told: {out}");
    denied(&rig, "a.b.evil.test", "A", "dns.deny", 3);
    assert!(rig.dig(&["+tcp", "exact.test", "A"]).contains("status: NXDOMAIN"));
    assert!(!rig.says("getent", &["ahostsv4", "x.evil.test"]).good());
    assert_eq!(rig.server.asked(), [], "no name server heard of them");
    // An alias of a denied name is one.
    let out = rig.dig(&["cloaked.dns.test", "A"]);
    assert!(out.contains("status: NXDOMAIN") && !out.contains("203.0.113.66"), "{out}");
    denied(&rig, "cloaked.dns.test", "A", "dns.deny", 3);
    assert_eq!(rig.dig(&["+short", "www.exact.test", "A"]), "203.0.113.10\n", "not below it");
}

#[test]
fn denied_names_are_refused_where_that_is_chosen() {
    let rig = Rig::with("deny = [\"evil.test\"]\nanswer = \"refused\"\n");
    assert!(rig.dig(&["evil.test", "A"]).contains("status: REFUSED"));
    denied(&rig, "evil.test", "A", "dns.deny", 5);
}

#[test]
fn types_that_are_not_listed() {
    let rig = Rig::with("types = [\"A\", \"AAAA\"]\n");
    assert!(rig.dig(&["db.dns.test", "TXT"]).contains("status: REFUSED"));
    denied(&rig, "db.dns.test", "TXT", "dns.types", 5);
    assert!(rig.dig(&["db.dns.test", "TYPE65399"]).contains("status: REFUSED"));
    assert_eq!(rig.dig(&["+short", "db.dns.test", "A"]), "203.0.113.10\n");
    assert_eq!(rig.server.asked().len(), 1);
}

/// iodine, dnscat2 and their like put what they send into long labels.
#[test]
fn a_tunnel_with_long_labels() {
    let rig = Rig::with("max_label = 40\n");
    let long = format!("{}.t.dns.test", "a".repeat(60));
    for kind in ["NULL", "TXT", "A"] {
        assert!(rig.dig(&[&long, kind]).contains("status: REFUSED"));
        denied(&rig, &long, kind, "dns.max_label", 5);
    }
    assert_eq!(rig.server.asked(), []);
    let fits = format!("{}.t.dns.test", "a".repeat(40));
    assert_eq!(rig.dig(&["+short", &fits, "A"]), "203.0.113.10\n");
}

/// A tunnel that keeps its labels short needs many of them.
#[test]
fn a_tunnel_with_many_names() {
    let rig = Rig::with("new_names = 30\nrate = 1000\n");
    let (passed, refused) = tunnel(&rig, "t.dns.test");
    assert_eq!((passed, refused), (30, 170));
    assert_eq!(rig.server.asked().len(), 30, "bytes that left are bounded");
    assert_eq!(rig.dig(&["+short", "www.other.test", "A"]), "203.0.113.10\n", "another domain");
    denied(&rig, "d30.t.dns.test", "A", "dns.new_names", 5);
}

#[test]
fn a_tunnel_that_asks_often() {
    let rig = Rig::with("rate = 5\n");
    let (passed, _) = tunnel(&rig, "dns.test");
    assert!((15..60).contains(&passed), "three seconds' worth at once, then five a second: {passed}");
    assert_eq!(rig.server.asked().len(), passed);
}

/// Asks for 200 different names below `zone`, one after the other; how many were answered, and how many refused.
fn tunnel(rig: &Rig, zone: &str) -> (usize, usize) {
    const ASK: &str = "
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
s.connect(('198.51.100.9', 53))
codes = []
for n in range(200):
    name = b''.join(bytes([len(l)]) + l for l in (b'd%d.' % n + sys.argv[1].encode()).split(b'.')) + b'\\0'
    s.send(struct.pack('>6H', n, 256, 1, 0, 0, 0) + name + b'\\x00\\x01\\x00\\x01')
    codes.append(s.recv(512)[3] & 15)
print(codes.count(0), codes.count(5))
";
    let ended = rig.says("/usr/bin/python3", &["-c", ASK, zone]);
    let counts: Vec<usize> = ended.stdout.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    match counts[..] {
        [passed, refused] => (passed, refused),
        _ => panic!("{ended:?}"),
    }
}
