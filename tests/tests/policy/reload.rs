//! Rules that change while jobs are under way.

use sluice::types::Verdict;
use sluice_tests::harness::World;
use sluice_tests::process::{PATIENCE, eventually};

use crate::rig::{Running, TAG, curl, fetched, judged, record, reload, world, write};

const ALL: &str = "[[rule]]\nname = \"all\"\nverdict = \"allow\"\n";
/// What is left after the change: requests with keep=1, and whatever is no stream.
const FEWER: &str = r#"
[[rule]]
name = "kept"
query = { keep = "1" }
verdict = "allow"
[[rule]]
name = "no-streams"
paths = ["/sse", "/ws", "/slow"]
verdict = "deny"
[[rule]]
name = "no-tunnels"
protocol = "tunnel"
verdict = "deny"
[[rule]]
name = "rest"
verdict = "allow"
"#;

/// Opens a WebSocket and prints what comes.
pub const WEBSOCKET: &str = r#"
import socket, ssl
name = "www.example.test"
s = ssl.create_default_context().wrap_socket(socket.create_connection((name, 443)), server_hostname=name)
s.sendall(b"GET /ws HTTP/1.1\r\nHost: www.example.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
while True:
    came = s.recv(4096)
    if not came:
        break
    print(came.decode("latin1"), flush=True)
"#;

fn starting() -> World {
    let world = world("mode = \"enforce\"", "");
    write(&world, ALL);
    reload(&world);
    let opened = eventually(PATIENCE, || {
        let (status, _, _) = fetched(&mut curl(&world, TAG, &["https://www.example.test/"]));
        Ok((status == "200").then_some(()))
    });
    assert!(opened.expect("asked").is_some(), "the rules are not in force:\n{}", world.daemon().log());
    world
}

#[test]
fn what_is_no_longer_allowed_is_cut_and_the_rest_lives_on() {
    let world = starting();
    let gate = world.daemon().gate_pid().expect("gate");
    let start = |name: &str, args: &[&str]| {
        let mut command = world.job(name, "curl").expect("a job");
        Running::start(&world, name, command.args(["-sSN", "--max-time", "60"]).args(args))
    };
    let sse = |more: &str| format!("https://www.example.test/sse?n=2000&ms=20{more}");
    let mut kept = start("kept", &[&sse("&keep=1")]);
    let mut h2 = start("h2", &["--http2", &sse("")]);
    let mut h1 = start("h1", &["--http1.1", &sse("")]);
    let mut python = world.job("ws", "python3").expect("a job");
    let mut ws = Running::start(&world, "ws", python.args(["-c", WEBSOCKET]));
    let mut slow =
        start("slow", &["--http2", "-w", "\n%{http_code}", "https://www.example.test/slow?ms=60000"]);
    let mut bash = world.job("tunnel", "bash").expect("a job");
    let dial = "exec 3<>/dev/tcp/203.0.113.12/1004; cat <&3";
    let mut tunnel = Running::start(&world, "tunnel", bash.args(["-c", dial]));
    for stream in [&kept, &h2, &h1] {
        stream.says("at=", 0);
    }
    ws.says("101 Switching Protocols", 0);
    tunnel.says("220 greeting", 0);
    let asked = || Ok(world.seen().requests().iter().any(|r| r.path.starts_with("/slow")).then_some(()));
    assert!(eventually(PATIENCE, asked).expect("asked").is_some());

    write(&world, FEWER);
    reload(&world);
    for stream in [&mut h2, &mut h1, &mut ws, &mut slow, &mut tunnel] {
        stream.ends();
    }
    assert!(slow.said().ends_with("\n403") && slow.said().contains("no-streams"), "{}", slow.said());
    let at = kept.said().len();
    kept.says("at=", at);
    assert!(kept.lives());
    assert_eq!(world.daemon().gate_pid().expect("gate"), gate, "the same gate");

    let cut = |s: &sluice::types::Summary| {
        s.error.as_deref().is_some_and(|e| e.contains("cut, since it is no longer allowed"))
    };
    let by = |s: &sluice::types::Summary, rule: &str| {
        s.error.as_deref().is_some_and(|e| e.contains(&format!("(rule {rule})")))
    };
    for (protocol, path, rule) in [
        ("h2", Some("/sse?n=2000&ms=20"), "no-streams"),
        ("http/1.1", Some("/sse?n=2000&ms=20"), "no-streams"),
        ("websocket", Some("/ws"), "no-streams"),
        ("h2", Some("/slow?ms=60000"), "no-streams"),
        ("tunnel", None, "no-tunnels"),
    ] {
        let summary =
            record(&world, protocol, |s| s.protocol == protocol && s.path.as_deref() == path && cut(s));
        assert!(by(&summary, rule), "{summary:?}");
        assert_eq!(judged(&summary), (Some("all"), Verdict::Allow));
    }
    let (status, body, _) = fetched(&mut curl(&world, TAG, &["https://www.example.test/sse?n=1&ms=1"]));
    assert!(status == "403" && body.contains("no-streams"), "{status} {body}");
}

#[test]
fn bad_rules_change_nothing() {
    let world = starting();
    let gate = world.daemon().gate_pid().expect("gate");
    write(&world, "[[rule]]\nname = \"x\"\nverdict = \"dney\"\nhots = \"a\"\n");
    reload(&world);
    let told = eventually(PATIENCE, || {
        let log = world.daemon().log();
        Ok((log.contains("did you mean \"deny\"?") && log.contains("rules.toml:4:1: unknown key rule.hots"))
            .then_some(()))
    });
    assert!(told.expect("read").is_some(), "{}", world.daemon().log());
    assert!(world.daemon().log().contains("the old configuration stays in force"));
    let (status, _, _) = fetched(&mut curl(&world, TAG, &["https://www.example.test/bytes/1"]));
    assert_eq!(status, "200");
    assert_eq!(world.daemon().gate_pid().expect("gate"), gate);
}
