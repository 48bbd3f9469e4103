//! What is reached from another namespace, and from where.

use std::time::Duration;

use sluice_tests::harness::{Options, World};
use sluice_tests::netns::AGENT_V4;
use sluice_tests::process::{PATIENCE, eventually, run};

use crate::rig::{descriptors, held_namespaces, job, peers, setup, until, veth, world};

/// Unchanged curl inside is taken, recorded, and dialled from there.
#[test]
fn a_named_namespace_is_taken_and_dialled_from() {
    let Some(world) = world() else { return };
    let (warden, gate) =
        (world.daemon().warden_pid().expect("warden"), world.daemon().gate_pid().expect("gate"));
    let warm = job(&world, "ci", "exec curl -sS https://www.example.test/bytes/4");
    assert_eq!(warm.stdout, "xxxx", "{}", warm.stderr);
    world.expect("the first exchange", |s| s.tag == "ci").expect("recorded");
    let before = (descriptors(warden), descriptors(gate));
    let inner = veth(&world, "far", 1);
    let curl =
        "exec ip netns exec far curl -sS https://www.example.test/bytes/4 http://www.example.test/bytes/4";
    let ended = job(&world, "ci", curl);
    assert_eq!(ended.stdout, "xxxxxxxx", "{}", ended.stderr);
    world
        .expect("the exchange", |s| s.tag == "ci" && s.path.as_deref() == Some("/bytes/4"))
        .expect("recorded");
    assert_eq!(peers(&world), [AGENT_V4.into(), inner.parse().expect("address")].into());
    // And nobody holds it when it is over.
    setup(&world, "ip netns del far");
    until("the namespace is given up", Duration::from_secs(15), || held_namespaces(warden).is_empty());
    let mut now = before;
    let few = eventually(PATIENCE, || {
        now = (descriptors(warden), descriptors(gate));
        Ok((now.0 <= before.0 && now.1 <= before.1).then_some(()))
    });
    assert!(
        few.expect("no error").is_some(),
        "descriptors of warden and gate: {before:?} before, {now:?} after"
    );
}

/// A rootless namespace leads nowhere, as it did before; the attempt is recorded with what the kernel says.
#[test]
fn a_rootless_namespace_reaches_nothing_and_is_recorded() {
    let Some(world) = world() else { return };
    let rootless = "exec setpriv --reuid 65534 --regid 65534 --clear-groups unshare -Urn sh -c";
    let up = format!(
        "{rootless} 'ip link set lo up && curl -sS -m 20 http://203.0.113.10/ http://[2001:db8::10]/ 2>&1'"
    );
    let ended = job(&world, "rootless", &up);
    assert_eq!(ended.stdout.matches("reset by peer").count(), 2, "{}", ended.stdout);
    for address in ["203.0.113.10:80", "[2001:db8::10]:80"] {
        let found =
            world.expect("the attempt", |s| s.tag == "rootless" && s.address == address).expect("recorded");
        let found = found.expect("with the agent");
        assert!(found.error.as_deref().is_some_and(|why| why.contains("unreachable")), "{found:?}");
        assert!(found.netns.is_some() && found.uid == 65534, "{found:?}");
    }
    // The way to us leads by its loopback device, which is brought up: the attempt is taken and recorded like any other.
    // What is tried before that (curl begins at once) fails without a record, and goes nowhere either.
    let down = format!(
        "{rootless} 'curl -sS -m 20 --retry 2 --retry-delay 1 --retry-all-errors http://203.0.113.10:81/ 2>&1'"
    );
    let ended = job(&world, "down", &down);
    assert!(ended.stdout.contains("reset by peer"), "{}", ended.stdout);
    let found = world.expect("the attempt", |s| s.tag == "down" && s.address == "203.0.113.10:81");
    let found = found.expect("recorded").expect("with the agent");
    assert!(found.error.as_deref().is_some_and(|why| why.contains("unreachable")), "{found:?}");
    assert!(world.seen().connections().is_empty());
}

/// Loopback of the namespace is the caller's own: where the tag has it taken, it is dialled there and not on the host.
#[test]
fn loopback_that_is_taken_is_the_namespaces() {
    let config = "[[intercept]]\nname = \"loop\"\ncgroup = \"/loop\"\nloopback = \"take\"\n".to_owned();
    let world = World::with(Options { config, journal: true, ..Options::default() }).expect("a world");
    if world.is_direct() {
        return;
    }
    veth(&world, "own", 1);
    let serve = |text: &str| {
        format!(
            "import socketserver, http.server\nclass H(http.server.BaseHTTPRequestHandler):\n  def do_GET(s):\n    s.send_response(200); s.send_header('Content-Length', '4'); s.end_headers(); s.wfile.write(b'{text}')\nsocketserver.TCPServer.allow_reuse_address = True\nsocketserver.TCPServer(('127.0.0.1', 8080), H).serve_forever()"
        )
    };
    let mut servers = Vec::new();
    for (namespace, text) in [(None, "host"), (Some("own"), "here")] {
        let file = world.space().dir().join(format!("{text}.py"));
        std::fs::write(&file, serve(text)).expect("script");
        let mut command = match namespace {
            None => world.space().command("untagged", "python3").expect("command"),
            Some(name) => {
                let mut command = world.space().command("untagged", "ip").expect("command");
                command.args(["netns", "exec", name, "python3"]);
                command
            }
        };
        servers.push(Killed(command.arg(&file).spawn().expect("server")));
    }
    let mut command = world.space().command("loop", "sh").expect("command");
    let curl =
        "curl -sS --retry 20 --retry-connrefused --retry-all-errors --retry-delay 1 http://127.0.0.1:8080/";
    let ended =
        run(command.args(["-c", &format!("ip netns exec own {curl}; {curl}")]), PATIENCE).expect("started");
    assert_eq!(ended.stdout, "herehost", "{}", ended.stderr);
    let taken =
        world.expect("it was taken", |s| s.tag == "loop" && s.netns.is_some() && s.status == Some(200));
    assert_eq!(taken.expect("recorded").expect("with the agent").address, "127.0.0.1:8080");
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
