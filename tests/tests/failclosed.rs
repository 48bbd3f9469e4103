//! Whatever dies, stops or hangs: no connection of a tagged process leaves untaken, what a client was answered is in
//! the record, and after the restart all works.
//!
//! The upstream knows the agent by its source address (`netns`), so a connection that slipped by is seen there even if
//! no one recorded it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use sluice_tests::client;
use sluice_tests::harness::World;
use sluice_tests::process::{PATIENCE, eventually, finish, run};

/// Steady load inside a tag, and what it says.
struct Load {
    child: Child,
    said: PathBuf,
    stop: PathBuf,
}

impl Load {
    fn start(world: &World) -> Self {
        let (said, stop) = (world.space().dir().join("steady.out"), world.space().dir().join("steady.stop"));
        let out = fs::File::create(&said).expect("output file");
        let mut job = world.job("steady", "/usr/bin/python3").expect("job");
        job.arg(client::program("steady.py")).arg("www.example.test").arg(&stop);
        let child = job.stdin(Stdio::null()).stdout(out).spawn().expect("started");
        Self { child, said, stop }
    }

    fn lines(&self, kind: &str) -> Vec<String> {
        let text = fs::read_to_string(&self.said).expect("output");
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter(|l| l.starts_with(kind)).map(str::to_owned).collect()
    }

    /// Waits for `more` lines of a kind beyond those there are now.
    #[track_caller]
    fn more(&self, kind: &str, more: usize) {
        let had = self.lines(kind).len();
        let came = eventually(PATIENCE, || Ok((self.lines(kind).len() >= had + more).then_some(())))
            .expect("no error");
        assert!(came.is_some(), "no {more} more {kind:?} lines; the last lines: {:#?}", self.tail());
    }

    fn tail(&self) -> Vec<String> {
        let all = self.lines("");
        all[all.len().saturating_sub(10)..].to_vec()
    }

    /// Ends the load and gives the paths that were answered.
    fn end(mut self) -> Vec<String> {
        fs::write(&self.stop, "").expect("stop file");
        let ended = eventually(PATIENCE * 2, || Ok(self.child.try_wait()?)).expect("no error");
        assert!(ended.is_some_and(|s| s.success()), "the load ended badly: {ended:?}");
        let lines = self.lines("ok ");
        lines.iter().map(|l| l["ok ".len()..].to_owned()).collect()
    }
}

/// No stranger at the upstream; every answered request is recorded, with its status.
#[track_caller]
fn whole(world: &World, answered: &[String]) {
    assert_eq!(world.seen().strangers(), [], "connections that left untaken");
    let recorded = world.sessions().expect("the store is whole");
    let missing: Vec<_> = answered
        .iter()
        .filter(|path| {
            !recorded.iter().any(|s| s.path.as_deref() == Some(path) && s.host == "www.example.test")
        })
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {} answered requests are not recorded: {missing:?}",
        missing.len(),
        answered.len()
    );
    assert!(answered.len() > 40, "the load did too little to show anything: {}", answered.len());
}

/// A new tagged client works.
#[track_caller]
fn works(world: &World) {
    let mut curl = world.job("after", "curl").expect("job");
    let ended = run(curl.args(["-sS", "https://www.example.test/bytes/4"]), PATIENCE).expect("started");
    assert_eq!(ended.stdout, "xxxx", "{}", ended.stderr);
}

fn world() -> Option<World> {
    let world = World::start().expect("a world with the agent");
    // Without the agent there is nothing here to kill.
    (!world.is_direct()).then_some(world)
}

#[test]
fn gate_killed() {
    let Some(world) = world() else { return };
    let load = Load::start(&world);
    for _ in 0..3 {
        load.more("ok", 20);
        let gate = world.daemon().gate_pid().expect("gate");
        world.daemon().signal(gate, Signal::SIGKILL).expect("killed");
        assert_ne!(world.daemon().gate_pid_other_than(gate).expect("restarted"), gate);
        load.more("ok", 20);
    }
    works(&world);
    whole(&world, &load.end());
}

#[test]
fn warden_killed() {
    let Some(mut world) = world() else { return };
    let load = Load::start(&world);
    load.more("ok", 20);
    let gate = world.daemon().gate_pid().expect("gate");
    world.daemon_mut().kill_warden().expect("killed");
    // The gate must not outlive its warden: it could not ask who connects.
    let gone = eventually(PATIENCE, || Ok((!PathBuf::from(format!("/proc/{gate}")).exists()).then_some(())));
    assert!(gone.expect("no error").is_some(), "the gate outlives its warden");
    let before = load.lines("ok").len();
    load.more("error", 20);
    let during = load.lines("ok").len();
    assert!(during - before <= 4, "answers while nobody was there: {}", during - before);
    world.daemon_mut().start().expect("the agent comes back over its own remains");
    load.more("ok", 20);
    works(&world);
    whole(&world, &load.end());
}

#[test]
fn both_killed() {
    let Some(mut world) = world() else { return };
    let load = Load::start(&world);
    load.more("ok", 20);
    let gate = world.daemon().gate_pid().expect("gate");
    // The warden first: it cannot start another gate then.
    world.daemon_mut().kill_warden().expect("killed");
    let _ = world.daemon().signal(gate, Signal::SIGKILL);
    load.more("error", 20);
    assert_eq!(world.seen().strangers(), []);
    world.daemon_mut().start().expect("the agent comes back over its own remains");
    load.more("ok", 20);
    works(&world);
    whole(&world, &load.end());
}

/// SIGSTOP of one process of the agent, then SIGCONT: clients wait or are refused, nothing leaves.
fn stopped(world: &World, pid: u32) {
    let load = Load::start(world);
    load.more("ok", 20);
    world.daemon().signal(pid, Signal::SIGSTOP).expect("stopped");
    let mut curl = world.untagged("curl").expect("command");
    let direct = run(curl.args(["-sS", "https://www.example.test:443/"]), PATIENCE).expect("started");
    assert!(direct.good(), "an untagged process is not concerned: {}", direct.stderr);
    let strangers = world.seen().strangers().len();
    // No level tells that nothing will happen: a bounded time in which it would.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.seen().strangers().len(), strangers, "connections left past the stopped agent");
    assert_eq!(strangers, 1, "the untagged curl's, and no other");
    world.daemon().signal(pid, Signal::SIGCONT).expect("continued");
    load.more("ok", 20);
    works(world);
    let answered = load.end();
    assert_eq!(world.seen().strangers().len(), 1);
    let recorded = world.sessions().expect("the store is whole");
    for path in &answered {
        assert!(
            recorded.iter().any(|s| s.path.as_deref() == Some(path)),
            "{path} was answered and is not recorded"
        );
    }
}

#[test]
fn gate_stopped() {
    let Some(world) = world() else { return };
    stopped(&world, world.daemon().gate_pid().expect("gate"));
}

#[test]
fn warden_stopped() {
    let Some(world) = world() else { return };
    stopped(&world, world.daemon().warden_pid().expect("warden"));
}

#[test]
fn ended_and_started_again() {
    let Some(mut world) = world() else { return };
    let load = Load::start(&world);
    load.more("ok", 20);
    world.daemon_mut().stop().expect("ended by SIGTERM");
    load.more("error", 10);
    assert_eq!(world.seen().strangers(), []);
    world.daemon_mut().start().expect("started again");
    load.more("ok", 20);
    works(&world);
    whole(&world, &load.end());
}

#[test]
fn requests_under_way_are_finished() {
    let Some(mut world) = world() else { return };
    let mut curl = world.job("slow", "curl").expect("job");
    curl.args(["-sS", "-w", " %{http_code}", "https://www.example.test/slow?ms=2000"]);
    let child =
        curl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let asked = || Ok(world.seen().requests().iter().any(|r| r.path.starts_with("/slow")).then_some(()));
    assert!(
        eventually(PATIENCE, asked).expect("no error").is_some(),
        "the request did not reach the upstream"
    );
    world.daemon_mut().stop().expect("ended by SIGTERM");
    let ended = finish(child, PATIENCE).expect("ended");
    assert_eq!(ended.stdout, "slept\n 200", "{}", ended.stderr);
    let slow =
        |s: &sluice::types::Summary| s.path.as_deref() == Some("/slow?ms=2000") && s.status == Some(200);
    let s = world.expect("the slow request", slow).expect("recorded").expect("an agent");
    assert_eq!(s.error, None, "{s:?}");
}
