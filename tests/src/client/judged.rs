//! Clients whose end is judged: curl against what misbehaves, clients that misbehave themselves, and a well-behaved
//! session beside them that must not notice. These panic, as tests do.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use sluice::types::Summary;

use crate::client;
use crate::daemon::{cpu_ticks, rss_kib};
use crate::harness::{World, address};
use crate::process::{Ended, PATIENCE, eventually, run};

/// What the gate may grow by over a whole test, however much passes through it.
pub const GROWTH_KIB: u64 = 64 * 1024;

/// How an exchange may end for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Whole, with this many bytes of body.
    Whole(u64),
    /// An HTTP answer of the agent's own that says what is wrong: 4xx or 5xx.
    Refused,
    /// The answer had begun and was cut, visibly.
    Cut,
    /// Closed by an alert or plainly, before any answer.
    Closed,
    /// The client's own patience ended.
    GaveUp,
    /// Anything else, by curl's exit code: never right.
    Other(i32),
}

/// Runs curl in a tag and says how it ended.
pub fn curl(world: &World, arguments: &[&str]) -> (End, Ended) {
    let mut curl = world.job("bad", "curl").expect("job");
    curl.args([
        "-sS",
        "-o",
        "/dev/null",
        "--max-time",
        "60",
        "-w",
        "%{http_code} %{size_download} %{errormsg}",
    ]);
    let ended = run(curl.args(arguments), Duration::from_secs(90)).expect("started");
    let mut words = ended.stdout.split(' ');
    let status: u16 = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
    let size: u64 = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
    let end = match (ended.status.and_then(|s| s.code()), status) {
        (Some(0), 200) => End::Whole(size),
        (Some(0), 400..) => End::Refused,
        // 18 partial file, 56 receive failure, 92 HTTP/2 stream error, 8 weird answer.
        (Some(18 | 56 | 92), 200) => End::Cut,
        // 7 connect, 16 GOAWAY, 35 handshake, 52 nothing came, 55 send failure, 56 receive failure, 92 RST_STREAM.
        (Some(7 | 16 | 35 | 52 | 55 | 56 | 92), 0) => End::Closed,
        // With -k curl checks nothing: that is how it words some of the other side's alerts.
        (Some(60), 0) if arguments.contains(&"-k") => End::Closed,
        (Some(28), _) => End::GaveUp,
        (code, _) => End::Other(code.unwrap_or(-1)),
    };
    (end, ended)
}

/// A well-behaved session beside the others: a stream of events that must go on.
pub struct Bystander {
    child: Child,
    file: PathBuf,
}

impl Bystander {
    /// Starts it.
    pub fn start(world: &World) -> Self {
        let file = world.space().dir().join("bystander");
        let mut curl = world.job("bystander", "curl").expect("job");
        curl.args(["-sSN", "https://www.example.test/sse?n=100000&ms=20", "-o"]).arg(&file);
        Self { child: curl.stdin(Stdio::null()).spawn().expect("started"), file }
    }

    /// Events came since the last look, or come now.
    #[track_caller]
    pub fn goes_on(&mut self, after: &str) {
        let had = fs::metadata(&self.file).map_or(0, |m| m.len());
        let grew = eventually(PATIENCE, || {
            Ok((fs::metadata(&self.file).map_or(0, |m| m.len()) > had + 200).then_some(()))
        });
        assert!(grew.expect("no error").is_some(), "another session stood still after {after}");
        assert!(self.child.try_wait().expect("waited").is_none(), "another session ended after {after}");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The gate's resident memory; 0 without an agent.
pub fn gate_kib(world: &World) -> u64 {
    if world.is_direct() {
        return 0;
    }
    rss_kib(world.daemon().gate_pid().expect("gate")).expect("the gate's memory")
}

/// Looks that must find the gate as far as it was, the pauses between them rising to 100 ms.
const STILL: usize = 12;

/// Waits until the gate has nothing to do any more, and gives the most memory that it had meanwhile, in KiB: 0 without
/// an agent.
pub fn until_the_gate_rests(world: &World) -> u64 {
    if world.is_direct() {
        return 0;
    }
    let gate = world.daemon().gate_pid().expect("gate");
    let (mut highest, mut worked, mut still) = (0, 0, 0);
    let rests = eventually(PATIENCE, || {
        highest = highest.max(gate_kib(world));
        let now = cpu_ticks(gate).context("the gate is gone")?;
        still = if now == worked { still + 1 } else { 0 };
        worked = now;
        Ok((still == STILL).then_some(()))
    });
    assert!(rests.expect("no error").is_some(), "the gate works on and on");
    highest
}

/// The record of one exchange, by its host and path.
#[track_caller]
pub fn record(world: &World, host: &str, path: Option<&str>) -> Option<Summary> {
    let what = format!("{host} {path:?}");
    let same = |s: &Summary| {
        s.host == host && path.is_none_or(|p| s.path.as_deref() == Some(p)) && s.duration_us.is_some()
    };
    world.expect(&what, same).expect("recorded")
}

/// Runs the misbehaving client.
pub fn raw(world: &World, mode: &str, host: &str, port: u16) -> Ended {
    let mut python = world.job("raw", "/usr/bin/python3").expect("job");
    python.arg(client::program("raw.py")).args([mode, &address(host).to_string(), &port.to_string(), host]);
    run(&mut python, Duration::from_secs(90)).expect("started")
}
