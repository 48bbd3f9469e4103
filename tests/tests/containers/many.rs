//! Many namespaces: how fast they are served, and that nothing is left of them.

use std::time::{Duration, Instant};

use sluice_tests::process::{PATIENCE, eventually};

use crate::rig::{Inside, descriptors, held_namespaces, job, job_within, setup, until, veth, world};

/// Each in a namespace of its own with loopback up, all at once: connects, and says whether it was taken. Nothing leads
/// out of there, so the gate cannot dial and resets: data or a reset is the gate's, anything else is not.
const HUNDRED: &str = r#"
import ctypes, fcntl, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def child(say):
    assert libc.unshare(0x40000000) == 0
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 0x49))
    s = socket.socket()
    s.settimeout(30)
    try:
        s.connect(("203.0.113.10", 80))
        s.recv(1)
        os.write(say, b"data\n")
    except ConnectionResetError:
        os.write(say, b"taken\n")
    except OSError as e:
        os.write(say, (repr(e) + "\n").encode())
    os._exit(0)
read, write = os.pipe()
begun = time.monotonic()
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        child(write)
os.close(write)
lines = open(read).readlines()
print(round(time.monotonic() - begun, 2), sorted({l.strip(): lines.count(l) for l in lines}.items()))
"#;

#[test]
fn a_hundred_are_served_within_five_seconds() {
    let Some(world) = world() else { return };
    let script = world.space().dir().join("hundred.py");
    std::fs::write(&script, HUNDRED).expect("script");
    let ended = job(&world, "many", &format!("exec python3 {} 100", script.display()));
    println!("100 namespaces: {}", ended.stdout);
    let (seconds, outcomes) = ended.stdout.trim().split_once(' ').expect("an answer");
    assert_eq!(outcomes, "[('taken', 100)]", "{}", ended.stderr);
    assert!(seconds.parse::<f64>().expect("seconds") < 5.0, "{seconds} s");
    world
        .expect("why it went nowhere", |s| {
            s.tag == "many"
                && s.netns.is_some()
                && s.error.as_deref().is_some_and(|e| e.contains("unreachable"))
        })
        .expect("recorded");
    assert!(world.seen().connections().is_empty(), "{:?}", world.seen().connections());
    let warden = world.daemon().warden_pid().expect("warden");
    until("all are given up", Duration::from_secs(20), || held_namespaces(warden).is_empty());
}

/// The far end of each namespace's veth goes when the namespace does.
#[test]
fn two_hundred_come_and_go_and_leave_nothing() {
    let Some(world) = world() else { return };
    let daemon = world.daemon();
    let (warden, gate) = (daemon.warden_pid().expect("warden"), daemon.gate_pid().expect("gate"));
    let inner = veth(&world, "first", 1);
    let curl = "ip netns exec first curl -sS http://www.example.test/bytes/4";
    assert_eq!(job(&world, "churn", curl).stdout, "xxxx");
    setup(&world, "ip netns del first");
    until("the first is given up", Duration::from_secs(20), || held_namespaces(warden).is_empty());
    let before = (descriptors(warden), descriptors(gate));

    let begun = Instant::now();
    let ended = job_within(
        &world,
        "churn",
        "for i in $(seq 200); do
           ip netns add n$i
           ip link add c$i type veth peer name out netns n$i
           ip -n n$i link set lo up
           ip netns exec n$i curl -sS -m 10 http://203.0.113.10/ 2>&1 | grep -c 'curl: (28)'
           ip netns del n$i
         done | grep -c 0",
        Duration::from_secs(180),
    );
    assert_eq!(ended.stdout.trim(), "200", "none waited in vain: {}", ended.stderr);
    let led_nowhere = || {
        let sessions = world.sessions().expect("sessions");
        let nowhere = |e: &str| e.contains("unreachable");
        sessions.iter().filter(|s| s.netns.is_some() && s.error.as_deref().is_some_and(nowhere)).count()
    };
    until("each was taken, and led nowhere", PATIENCE, || led_nowhere() == 200);
    println!("200 namespaces came and went in {:?}", begun.elapsed());
    until("the namespaces end", Duration::from_secs(30), || {
        !job(&world, "look", "ip -o link show | grep -c ' c[0-9]' || true")
            .stdout
            .trim()
            .starts_with(|c| c != '0')
    });
    let mut now = before;
    let few = eventually(PATIENCE, || {
        now = (descriptors(warden), descriptors(gate));
        Ok((now.0 <= before.0 && now.1 <= before.1).then_some(()))
    });
    assert!(
        few.expect("no error").is_some(),
        "descriptors of warden and gate: {before:?} before, {now:?} after"
    );
    assert!(
        !crate::rig::peers(&world).iter().any(|peer| *peer != inner.parse::<std::net::IpAddr>().expect("ip"))
    );
}

/// Somebody who lives there keeps it, and is found again whenever it was forgotten.
#[test]
fn a_namespace_that_was_forgotten_is_found_again() {
    let Some(world) = world() else { return };
    veth(&world, "again", 1);
    let warden = world.daemon().warden_pid().expect("warden");
    let curl = "exec ip netns exec again curl -sS http://www.example.test/bytes/4";
    for _ in 0..3 {
        assert_eq!(job(&world, "ci", curl).stdout, "xxxx");
        until("it is given up", Duration::from_secs(20), || held_namespaces(warden).is_empty());
    }
    let inside = Inside::start(&world, "ci", "again");
    assert_eq!(inside.curl(), "xxxx");
    // Three sweeps later the listeners still stand.
    let end = Instant::now() + Duration::from_secs(7);
    while Instant::now() < end {
        assert_eq!(held_namespaces(warden).len(), 1);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(inside.curl(), "xxxx");
}
