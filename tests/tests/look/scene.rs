//! A store with one of each that is worth looking at.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sluice::types::Summary;
use sluice_tests::binary::sluice_binary;
use sluice_tests::client;
use sluice_tests::harness::{Options, World};
use sluice_tests::process::{Ended, PATIENCE, run};
use tempfile::TempDir;

const TAG: &str = "job";
const WWW: &str = "https://www.example.test";
/// What a hostile server would like to say to a terminal.
pub const ESCAPES: &str = "\x1b]0;owned\x07\x1b[2J\u{9b}31m\u{202e}";
/// What jobs said to models.
pub const CHAT: &str = r#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"the quick brown fox"}]}"#;
const MESSAGE: &str =
    r#"{"model":"claude","max_tokens":9,"messages":[{"role":"user","content":"over the lazy dog"}]}"#;
/// Longer than what is kept of a body.
pub const LONG: usize = 3 << 20;

const CONFIG: &str = r#"mode = "enforce"

[[rule]]
name = "none"
path = "/denied/**"
verdict = "deny"

[[rule]]
name = "all"
verdict = "allow"
"#;

/// Sends a text and a binary message, the text compressed where that was agreed on.
const SOCKET: &str = r#"
from websockets.sync.client import connect

with connect("wss://www.example.test/ws", open_timeout=20) as socket:
    for message in ["a message on a socket", b"\x00\x01\xff"]:
        socket.send(message)
        assert socket.recv(timeout=20) == message
"#;

struct Scene {
    dir: TempDir,
}

/// The copy of the store; its daemon is gone.
pub fn store() -> PathBuf {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(record).dir.path().join("store")
}

fn curl(world: &World, args: &[&str]) -> Ended {
    let mut command = world.job(TAG, "curl").expect("a job");
    run(command.args(["-sS", "--max-time", "60", "-o", "/dev/null"]).args(args), PATIENCE * 2)
        .expect("started")
}

#[track_caller]
fn good(ended: Ended) {
    assert!(ended.good(), "{ended:?}");
}

/// With models, and on a WebSocket.
fn speak(world: &World) {
    let key = [
        "-H",
        "Authorization: Bearer sk-test-0000000000000000",
        "-H",
        "x-api-key: k",
        "-H",
        "anthropic-version: 1",
    ];
    for (body, url) in [
        (CHAT, "https://api.openai.com/v1/chat/completions"),
        (MESSAGE, "https://api.anthropic.com/v1/messages"),
    ] {
        good(curl(world, &[&key[..], &["--json", body, url]].concat()));
    }
    let python = client::python().expect("python clients");
    good(run(world.job(TAG, &python).expect("a job").args(["-c", SOCKET]), PATIENCE).expect("started"));
}

fn record() -> Scene {
    let options = Options { config: CONFIG.to_owned(), no_roots: true, ..Options::default() };
    let mut world = World::with(options).expect("a world with the agent");
    let json = r#"{"b":[1.0e2,{}],"a":"text"}"#;
    good(curl(&world, &["--http1.1", "--json", json, &format!("{WWW}/echo?q=1&name=a%20b")]));
    good(curl(&world, &["--http2", "--json", json, &format!("{WWW}/echo")]));
    good(curl(
        &world,
        &[
            "--http1.1",
            "-d",
            "field=one+two&other=%26",
            &format!("{WWW}/echo"),
            "--next",
            "-sS",
            "-o",
            "/dev/null",
            "--http1.1",
            &format!("{WWW}/chunked/3000"),
        ],
    ));
    good(curl(&world, &["--http2", &format!("{WWW}/trailers")]));
    good(curl(&world, &["--http1.1", "-I", &format!("{WWW}/bytes/70")]));
    good(curl(&world, &["http://www.example.test/bytes/300"]));
    good(curl(&world, &[&format!("{WWW}/denied/path")]));
    let xml = format!("<note>{ESCAPES}</note>");
    good(curl(
        &world,
        &["-H", "Content-Type: application/xml", "--data-binary", &xml, &format!("{WWW}/echo")],
    ));
    good(curl(&world, &[&format!("{WWW}/mirror/gzip?needle=in-a-haystack")]));
    good(curl(&world, &[&format!("{WWW}/sse?n=4&ms=200&more=200")]));
    let long = world.space().dir().join("long");
    std::fs::write(&long, vec![b'x'; LONG]).expect("written");
    good(curl(
        &world,
        &["--http1.1", "--data-binary", &format!("@{}", long.display()), &format!("{WWW}/sink")],
    ));
    speak(&world);
    let ended = |s: &Summary| s.duration_us.is_some();
    world.expect("the socket's end", |s| s.protocol == "websocket" && ended(s)).expect("recorded");
    let sessions = world.sessions().expect("sessions");
    assert!(sessions.iter().all(ended), "{sessions:?}");
    let store = world.daemon().store();
    world.daemon_mut().stop().expect("stopped");
    let dir = tempfile::tempdir().expect("a directory");
    // With the host's identity, which opens bodies, where the verbs look for it.
    let audit = store.with_file_name("audit");
    let mut copy = Command::new("cp");
    good(run(copy.arg("-a").arg(store).arg(audit).arg(dir.path()), PATIENCE).expect("started"));
    Scene { dir }
}

/// A verb on the copy.
pub fn sluice(args: &[&str]) -> Ended {
    let mut command = Command::new(sluice_binary().expect("built"));
    run(command.args(args).arg("--store").arg(store()), PATIENCE * 2).expect("started")
}

/// The exchanges, oldest first.
pub fn sessions() -> Vec<Summary> {
    let ended = sluice(&["sessions", "--json", "--limit", "1000"]);
    assert!(ended.good(), "{ended:?}");
    ended.stdout.lines().map(|line| serde_json::from_str(line).expect("a summary")).collect()
}

/// The one whose path begins so.
#[track_caller]
pub fn id(path: &str, protocol: &str) -> String {
    let all = sessions();
    let found = all.iter().find(|s| {
        s.path.as_deref().is_some_and(|p| p.starts_with(path))
            && (protocol.is_empty() || s.protocol == protocol)
    });
    let found = found.unwrap_or_else(|| panic!("no {path} in {all:#?}"));
    format!("{}/{}", found.session, found.exchange)
}

/// Exports everything (`args` may narrow it) to a file of this name.
pub fn export(format: &str, name: &str, args: &[&str]) -> PathBuf {
    let file = store().with_file_name(name);
    let output = file.to_str().expect("text");
    let ended = sluice(&[&["export", "--format", format, "--output", output], args].concat());
    assert!(ended.good(), "{ended:?}");
    file
}

/// Lines of a file.
pub fn lines(file: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(file).expect("readable");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
