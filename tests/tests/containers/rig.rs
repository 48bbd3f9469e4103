//! What the tests share: a world, and network namespaces that lead to it over a veth.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use sluice_tests::harness::{Options, World};
use sluice_tests::process::{Ended, PATIENCE, eventually, run};

/// A world with the agent; `None` in direct runs, which these tests have nothing to say about.
pub fn world() -> Option<World> {
    world_with("")
}

/// The same, configured so.
pub fn world_with(config: &str) -> Option<World> {
    let options = Options { journal: true, config: config.to_owned(), ..Options::default() };
    let world = World::with(options).expect("a world with the agent");
    (!world.is_direct()).then_some(world)
}

/// Runs a shell script in the space, outside of every tag.
pub fn setup(world: &World, script: &str) {
    let mut command = world.space().command("untagged", "sh").expect("command");
    let ended = run(command.args(["-ec", script]), PATIENCE).expect("started");
    assert!(ended.good(), "{script}: {}", ended.stderr);
}

/// Makes the network namespace `name` with 198.51.100.`net`*4+2/30, which reaches the upstreams through the space.
pub fn veth(world: &World, name: &str, net: u8) -> String {
    let (outer, inner) = (format!("198.51.100.{}", net * 4 + 1), format!("198.51.100.{}", net * 4 + 2));
    setup(
        world,
        &format!(
            "ip netns add {name}
             ip link add v{net} type veth peer name out netns {name}
             ip addr add {outer}/30 dev v{net}
             ip link set v{net} up
             ip -n {name} addr add {inner}/30 dev out
             ip -n {name} link set lo up
             ip -n {name} link set out up
             ip -n {name} route add default via {outer}"
        ),
    );
    inner
}

/// Runs a shell script in the tag.
pub fn job(world: &World, tag: &str, script: &str) -> Ended {
    job_within(world, tag, script, PATIENCE)
}

/// The same with another patience.
pub fn job_within(world: &World, tag: &str, script: &str, patience: Duration) -> Ended {
    let mut command = world.job(tag, "sh").expect("job");
    run(command.args(["-c", script]), patience).expect("started")
}

/// Addresses from which the upstreams were dialled.
pub fn peers(world: &World) -> HashSet<std::net::IpAddr> {
    world.seen().connections().iter().map(SocketAddr::ip).collect()
}

/// Network namespaces that the process holds open, but for its own: by descriptors that are namespaces, and by threads.
pub fn held_namespaces(pid: u32) -> HashSet<u64> {
    let inode = |path: &str| fs::metadata(path).map(|meta| meta.ino()).ok();
    let mut held = HashSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if target.to_string_lossy().starts_with("net:[") {
            held.extend(fs::metadata(entry.path()).map(|meta| meta.ino()));
        }
    }
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten() {
        held.extend(inode(&task.path().join("ns/net").to_string_lossy()));
    }
    inode(&format!("/proc/{pid}/ns/net")).map(|own| held.remove(&own));
    held
}

/// Descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count()
}

/// Waits for a level.
pub fn until(what: &str, patience: Duration, mut level: impl FnMut() -> bool) {
    let reached = eventually(patience, || Ok(level().then_some(()))).expect("no error");
    assert!(reached.is_some(), "{what}: not within {patience:?}");
}

/// A tagged shell inside a namespace that does one curl at a time.
pub struct Inside {
    child: Child,
    says: std::cell::RefCell<BufReader<std::process::ChildStdout>>,
}

impl Inside {
    /// Starts it.
    pub fn start(world: &World, tag: &str, namespace: &str) -> Self {
        let mut command = world.job(tag, "ip").expect("job");
        let ask = "while read -r _; do said=$(curl -sS -m 20 http://www.example.test/bytes/4 2>&1); echo $said; done";
        command.args(["netns", "exec", namespace, "sh", "-c", ask]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let says = BufReader::new(child.stdout.take().expect("piped")).into();
        Self { child, says }
    }

    /// One curl: what it printed.
    pub fn curl(&self) -> String {
        writeln!(self.child.stdin.as_ref().expect("piped"), "curl").expect("told");
        let mut line = String::new();
        self.says.borrow_mut().read_line(&mut line).expect("an answer");
        line.trim().to_owned()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
