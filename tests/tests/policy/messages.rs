//! Messages on a WebSocket: unchanged clients, each message judged, nothing of a refused one sent.

use sluice::types::{Summary, Verdict};
use sluice_tests::client;
use sluice_tests::harness::World;
use sluice_tests::process::{Ended, PATIENCE, run};

use crate::rig::{Running, TAG, judged, record, reload, world, write};

const RULES: &str = r#"
[[rule]]
name = "no-unicorns"
prompt_words = ["unicorn"]
verdict = "deny"

[[rule]]
name = "no-admin"
when = '!message.binary && message.text.startsWith("{") && message.json.op == "admin"'
verdict = "deny"

[[rule]]
name = "no-dragons-back"
when = 'message.from == "server" && message.text.contains("dragon")'
verdict = "deny"

[[rule]]
name = "chat"
hosts = ["www.example.test"]
path = "/ws"
protocol = "websocket"
body_max = "64KiB"
when = 'message.binary || message.text.startsWith("hello") || message.json.op == "read"'
verdict = "allow"

[[rule]]
name = "web"
path = "/bytes/**"
verdict = "allow"
"#;

/// Sends each argument, `@N` for N bytes in two fragments with a ping between, and prints what comes back.
const CLIENT: &str = r#"
import sys
from websockets.sync.client import connect
from websockets.exceptions import ConnectionClosed

with connect("wss://www.example.test/ws", open_timeout=20) as socket:
    print("extensions", socket.response.headers.get("Sec-WebSocket-Extensions"))
    for text in sys.argv[1:]:
        try:
            if text.startswith("@"):
                half = b"x" * (int(text[1:]) // 2)
                socket.send([half, half])
                print(len(socket.recv(timeout=20)))
            else:
                socket.send(text)
                print(socket.recv(timeout=20))
        except ConnectionClosed as closed:
            print("closed", closed.rcvd and closed.rcvd.code, closed.rcvd and closed.rcvd.reason)
            break
"#;

fn say(world: &World, messages: &[&str]) -> Ended {
    let python = client::python().expect("python clients");
    let mut job = world.job(TAG, &python).expect("a job");
    run(job.args(["-c", CLIENT]).args(messages), PATIENCE).expect("started")
}

fn refused(s: &Summary) -> bool {
    s.error.as_deref().is_some_and(|e| e.contains("a message was refused"))
}

#[test]
fn messages_are_judged_one_by_one() {
    let world = world("mode = \"enforce\"", RULES);
    let ended = say(&world, &["hello one", r#"{"op": "read"}"#, "@60000", "hello last"]);
    let said: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(
        said,
        ["extensions None", "hello one", r#"{"op": "read"}"#, "60000", "hello last"],
        "{}",
        ended.stderr
    );
    let summary = record(&world, "the conversation", |s| s.protocol == "websocket");
    assert_eq!((judged(&summary), summary.error.as_deref()), ((Some("chat"), Verdict::Allow), None));
}

#[test]
fn a_refused_message_ends_it_unsent() {
    let world = world("mode = \"enforce\"", RULES);
    for (message, rule, reason) in [
        ("hello UNICORN", "no-unicorns", "the rule refuses it"),
        (r#"{"op": "admin"}"#, "no-admin", "the rule refuses it"),
        (r#"{"op": "write"}"#, "(none)", "no rule allows it"),
    ] {
        let ended = say(&world, &["hello", message]);
        let said: Vec<&str> = ended.stdout.lines().collect();
        let closed = format!("closed 1008 {reason}");
        assert_eq!(said, ["extensions None", "hello", &closed], "{message} {}", ended.stderr);
        let about = format!("(rule {rule})");
        let found = |s: &Summary| refused(s) && s.error.as_deref().is_some_and(|e| e.ends_with(&about));
        let summary = record(&world, message, |s| found(s) && s.path.as_deref() == Some("/ws"));
        assert_eq!(judged(&summary), (Some(rule), Verdict::Deny), "{summary:?}");
        // Of one frame with "hello": 2 bytes of head, 4 of mask, 5 of text.
        assert_eq!(summary.bytes_up, 11, "{summary:?}");
    }

    // What the server says is judged by the rules that ask who says it.
    let ended = say(&world, &["hello", "hello dragon", "hello"]);
    let said: Vec<&str> = ended.stdout.lines().collect();
    let closed = "closed 1008 the rule refuses it";
    assert_eq!(said, ["extensions None", "hello", closed], "{}", ended.stderr);
    let back = |s: &Summary| refused(s) && s.rule.as_deref() == Some("no-dragons-back");
    let summary = record(&world, "the answer", back);
    assert_eq!(summary.verdict, Verdict::Deny);
    assert!(summary.error.as_deref().is_some_and(|e| e.ends_with(", from the server)")), "{summary:?}");
    // Both of the client's messages went up; of the answers, one frame with "hello" came down.
    assert_eq!((summary.bytes_up, summary.bytes_down), (29, 7), "{summary:?}");
}

#[test]
fn unchanged_clients_are_served_and_refused() {
    let world = world("mode = \"enforce\"", RULES);
    let python = client::python().expect("python clients");
    let mut job = world.job(TAG, &python).expect("a job");
    job.arg(client::program("websocket_echo.py")).arg("wss://www.example.test/ws");
    let ended = run(&mut job, PATIENCE).expect("started");
    // Its 70,000 bytes are more than the rule looks at: no leave.
    assert!(
        ended.stdout.starts_with("hello websocket\n") && !ended.stdout.contains("70000"),
        "{}",
        ended.stdout
    );
    assert!(ended.stderr.contains("1008"), "{}", ended.stderr);
}

/// Frames by hand: after `hello`, what stands in the argument in hex.
const RAW: &str = r#"
import socket, ssl, sys
name = "www.example.test"
s = ssl.create_default_context().wrap_socket(socket.create_connection((name, 443)), server_hostname=name)
s.sendall(b"GET /ws HTTP/1.1\r\nHost: www.example.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
head = b""
while b"\r\n\r\n" not in head:
    head += s.recv(1)
print(head.split()[1].decode(), flush=True)
s.sendall(b"\x81\x85\0\0\0\0hello" + bytes.fromhex(sys.argv[1]))
came = b""
while True:
    more = s.recv(4096)
    if not more:
        break
    came += more
    print(came.hex(), flush=True)
"#;

#[test]
fn what_is_no_websocket_is_refused() {
    let world = world("mode = \"enforce\"", RULES);
    for (frames, status) in [
        ("c18100000000", 1002u16), // RSV1
        ("838100000000", 1002),    // opcode 3
        ("0101", 1002),            // no mask
        ("018100000000 61 818100000000", 1002),
        ("81fe000100000000", 1002), // a long way to say 1
        ("82ff8000000000000000 00000000", 1002),
        ("8181 00000000 ff", 1007),
    ] {
        let python =
            world.job(TAG, "python3").expect("a job").args(["-c", RAW, frames]).output().expect("started");
        let said = String::from_utf8_lossy(&python.stdout).into_owned();
        let last = said.lines().last().unwrap_or_default();
        assert!(said.starts_with("101\n"), "{said} {}", String::from_utf8_lossy(&python.stderr));
        // The echo of "hello" may or may not have come before the close frame.
        let at = last.find("88").unwrap_or_else(|| panic!("{frames}: no close frame in {said:?}"));
        assert_eq!(last.get(at + 4..at + 8), Some(&*format!("{status:04x}")), "{frames} {said}");
    }
}

#[test]
fn observing_lets_all_pass_and_counts() {
    let world = world("mode = \"observe\"", RULES);
    let ended = say(&world, &["hello UNICORN", "@70000", "hello"]);
    let said: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(said, ["extensions None", "hello UNICORN", "70000", "hello"], "{}", ended.stderr);
}

#[test]
fn rules_that_come_later_hold_for_messages() {
    let world = world("mode = \"enforce\"", "");
    write(&world, &RULES.replace("unicorn", "dragon"));
    reload(&world);
    let python = client::python().expect("python clients");
    let script = r#"
import sys, time
from websockets.sync.client import connect
for _ in range(200):
    try:
        socket = connect("wss://www.example.test/ws", open_timeout=20)
        break
    except Exception:
        time.sleep(0.1)
for n in range(600):
    socket.send("hello unicorn")
    print(n, socket.recv(timeout=20), flush=True)
    time.sleep(0.05)
"#;
    let mut job = world.job(TAG, &python).expect("a job");
    let mut running = Running::start(&world, "ws", job.args(["-c", script]));
    running.says("1 hello unicorn", 0);
    write(&world, RULES);
    reload(&world);
    running.ends();
    assert!(running.said().contains("1008"), "{}", running.said());
    let summary = record(&world, "the end", refused);
    assert_eq!(judged(&summary), (Some("no-unicorns"), Verdict::Deny));

    // One that was opened without being read is cut when rules come that ask for its messages.
    write(&world, "[[rule]]\nname = \"all\"\nverdict = \"allow\"\n");
    reload(&world);
    let mut job = world.job(TAG, &python).expect("a job");
    let patient = script.replace(
        "print(n,",
        "assert n or socket.response.headers.get('Sec-WebSocket-Extensions') is None; print(n,",
    );
    let mut running = Running::start(&world, "ws2", job.args(["-c", &patient]));
    running.says("1 hello unicorn", 0);
    write(&world, RULES);
    reload(&world);
    running.ends();
    let cut = |s: &Summary| {
        s.error.as_deref().is_some_and(|e| e.contains("opened without their being read") || refused(s))
    };
    record(&world, "the cut", cut);
}
