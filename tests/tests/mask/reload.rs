//! Masks that come while something is under way.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use nix::sys::signal::Signal;
use sluice_tests::client;

use crate::rig::{TAG, record, with};

const BEFORE: &str = "mode = \"enforce\"\n[[rule]]\nname = \"all\"\nverdict = \"allow\"\n";

/// Says one thing, waits to be told, and says what became of the socket.
const CLIENT: &str = r#"
import sys
from websockets.sync.client import connect
from websockets.exceptions import ConnectionClosed

with connect("wss://www.example.test/ws", open_timeout=20) as socket:
    socket.send("hello")
    print(socket.recv(timeout=20), flush=True)
    try:
        socket.recv(timeout=30)
        print("still open", flush=True)
    except (ConnectionClosed, OSError):
        print("closed", flush=True)
"#;

#[test]
fn what_was_begun_unmasked_does_not_go_on_when_a_rule_masks_it() {
    let world = with(BEFORE);
    let python = client::python().expect("python clients");
    let mut job = world.job(TAG, &python).expect("a job");
    let mut job = job.args(["-c", CLIENT]).stdout(Stdio::piped()).spawn().expect("started");
    let mut lines = BufReader::new(job.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("read"), "hello");
    let path = world.space().dir().join("etc/sluice.toml");
    let text = std::fs::read_to_string(&path).expect("configuration");
    let masked = "verdict = \"allow\"\nmask = [\"pii\"]\n[[mask]]\nname = \"pii\"\ndetect = [\"email\"]\n";
    let mut file = std::fs::File::create(&path).expect("configuration");
    file.write_all(text.replace("verdict = \"allow\"\n", masked).as_bytes()).expect("written");
    let daemon = world.daemon();
    daemon.signal(daemon.warden_pid().expect("warden"), Signal::SIGHUP).expect("told");
    assert_eq!(lines.next().expect("a line").expect("read"), "closed");
    job.wait().expect("ended");
    let cut =
        |s: &sluice::types::Summary| s.error.as_deref().is_some_and(|e| e.contains("a rule masks it now"));
    record(&world, "the cut conversation", cut);
}
