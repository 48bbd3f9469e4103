//! Name servers that lie, and clients that flood.

use crate::rig::Rig;
use crate::server::EVIL;

#[test]
fn lies_do_not_arrive() {
    let rig = Rig::with("");
    for name in ["wrongid", "wrongname", "garbage", "oversized", "foreign"] {
        let host = format!("{name}.dns.test");
        let out = rig.dig(&["+noall", "+answer", "+additional", &host, "A"]);
        assert!(out.contains("203.0.113.10") && !out.contains(&EVIL.to_string()), "{name}: {out}");
        assert!(!out.contains("bank"), "{out}");
    }
}

#[test]
fn what_cannot_be_used_is_a_failure_with_its_reason() {
    let rig = Rig::with("");
    for (name, reason) in [
        ("circle", "aliases that lead in a circle"),
        ("pointer", "no name server answered"),
        ("silent", "no name server answered"),
        ("servfail", ""),
    ] {
        let out = rig.dig(&[&format!("{name}.dns.test"), "A"]);
        assert!(out.contains("status: SERVFAIL") && out.contains(reason), "{name}: {out}");
        let Some(record) = rig.question(&format!("{name}.dns.test"), "A") else { continue };
        assert_eq!(record.status, Some(2));
        assert!(record.error.unwrap_or_default().contains(reason));
    }
}

/// What is no question is answered so, recorded, and goes nowhere.
#[test]
fn malformed_questions_do_not_travel() {
    let rig = Rig::with("");
    const SEND: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
for what in [b'x', b'\\x12\\x34\\x01\\x00\\x00\\x02' + bytes(6) + b'smuggled data here', b'\\x12\\x34' + b'\\x80' * 40]:
    s.sendto(what, ('198.51.100.9', 53))
s.sendto(b'\\x12\\x34\\x01\\x00\\x00\\x01' + bytes(6) + b'\\xc0\\x0c\\x00\\x01\\x00\\x01', ('198.51.100.9', 53))
codes = sorted(s.recv(512)[3] & 15 for _ in range(2))
print(codes, s.getsockname()[0] != '')
";
    let ended = rig.says("/usr/bin/python3", &["-c", SEND]);
    assert_eq!(ended.stdout, "[1, 1] True\n", "FORMERR, twice: {ended:?}");
    assert_eq!(rig.server.asked(), []);
    let refused =
        rig.world.expect("the refusal", |s| s.protocol == "dns" && s.status == Some(1)).expect("recorded");
    if let Some(refused) = refused {
        assert_eq!(refused.host, "198.51.100.9");
        assert!(refused.error.is_some());
    }
}

/// A job that floods the resolver is dropped beyond its share; another tag's question is answered meanwhile.
#[test]
fn a_flood_of_one_tag_does_not_silence_another() {
    let rig = Rig::with("");
    const FLOOD: &str = "
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(6000):
    label = b'silent.n%d' % n
    name = b'\\x06silent' + bytes([len(b'n%d' % n)]) + b'n%d' % n + b'\\x03dns\\x04test\\x00'
    try: s.sendto(struct.pack('>6H', n, 256, 1, 0, 0, 0) + name + b'\\x00\\x01\\x00\\x01', ('198.51.100.9', 53))
    except OSError: pass
print('sent')
sys.stdout.flush()
sys.stdin.read()
";
    let mut flood = rig.job("/usr/bin/python3");
    let mut flood = flood
        .args(["-c", FLOOD])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut said = [0; 4];
    std::io::Read::read_exact(flood.stdout.as_mut().expect("piped"), &mut said).expect("it sent");
    let mut other = rig.world.job("other", "dig").expect("a job");
    let ended = sluice_tests::process::run(
        other.args(["+short", "+tries=3", "+time=5", "db.dns.test", "A"]),
        sluice_tests::process::PATIENCE,
    );
    drop(flood.stdin.take());
    flood.wait().expect("ended");
    let ended = ended.expect("dig runs");
    // It says so when it asked twice.
    assert_eq!(ended.stdout.lines().last(), Some("203.0.113.10"), "{ended:?}");
}
