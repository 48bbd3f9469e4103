//! Messages on a WebSocket, and gRPC.

use sluice_tests::client;
use sluice_tests::process::{PATIENCE, run};

use crate::rig::{CARD, EMAIL, TAG, kept_nowhere, record, world};

/// Sends each argument and prints what comes back; the last in two fragments.
const CLIENT: &str = r#"
import sys
from websockets.sync.client import connect

with connect("wss://www.example.test/ws", open_timeout=20) as socket:
    for text in sys.argv[1:]:
        socket.send(text)
        print(socket.recv(timeout=20))
    socket.send([text[:9], text[9:14], text[14:]])
    print(socket.recv(timeout=20))
"#;

#[test]
fn messages_there_and_back() {
    let world = world();
    let python = client::python().expect("python clients");
    let mut job = world.job(TAG, &python).expect("a job");
    let messages = [
        "nothing to hide".to_owned(),
        format!("{{\"mail\":\"{}\",\"card\":\"{CARD}\"}}", EMAIL.replace('@', "\\u0040")),
        format!("mail to {EMAIL} soon"),
    ];
    let ended = run(job.args(["-c", CLIENT]).args(&messages), PATIENCE).expect("started");
    assert!(ended.good(), "{ended:?}");
    let said: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(said.len(), 4, "{ended:?}");
    assert_eq!(
        (said[0], said[2], said[3]),
        (messages[0].as_str(), messages[2].as_str(), messages[2].as_str())
    );
    let json: serde_json::Value = serde_json::from_str(said[1]).expect("JSON");
    assert_eq!((&json["mail"], &json["card"]), (&EMAIL.into(), &CARD.into()));
    let sent = world.seen().bodies();
    let sent = String::from_utf8_lossy(&sent);
    assert!(sent.contains("@masked.example") && !sent.contains("jane.roe"), "{sent}");
    let summary =
        record(&world, "the conversation", |s| s.protocol == "websocket" && s.duration_us.is_some());
    assert_eq!(summary.masked.get("email"), Some(&3), "{summary:?}");
    kept_nowhere(&world, &[EMAIL, "jane.roe", CARD]);
}

/// A message with text in its second field, as any server of protocol buffers would read it; what came back is printed.
const GRPC: &str = r#"
import sys, grpc

text = sys.argv[1].encode()
channel = grpc.secure_channel("www.example.test:443", grpc.ssl_channel_credentials())
call = channel.unary_unary("/echo.Echo/Unary")
answer, call = call.with_call(b"\x08\x2a\x12" + bytes([len(text)]) + text, timeout=20)
assert answer[:3] == b"\x08\x2a\x12" and answer[3] == len(answer) - 4, answer
print(answer[4:].decode(), call.code().name)
channel.close()
"#;

#[test]
fn messages_of_grpc() {
    let world = world();
    let python = client::python().expect("python clients");
    let mut job = world.job(TAG, &python).expect("a job");
    let text = format!("mail to {EMAIL} soon");
    let ended = run(job.args(["-c", GRPC, &text]), PATIENCE).expect("started");
    assert_eq!(ended.stdout, format!("{text} OK\n"), "{ended:?}");
    let sent = world.seen().bodies();
    let at = memchr::memmem::find(&sent, b"mail to ").expect("a message");
    assert_eq!(usize::from(sent[at - 1]), sent.len() - at, "its length is right: {sent:?}");
    let sent = String::from_utf8_lossy(&sent);
    assert!(sent.contains("@masked.example") && !sent.contains("jane.roe"), "{sent}");
    kept_nowhere(&world, &[EMAIL, "jane.roe"]);
}
