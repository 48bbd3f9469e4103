//! What an attacker on the same host tries without any right: to be taken for another, to starve others.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use sluice_tests::harness::{Options, World};
use sluice_tests::process::{PATIENCE, run};

fn world() -> Option<World> {
    let world = World::start().expect("a world with the agent");
    (!world.is_direct()).then_some(world)
}

/// A Python program that is told what to do line by line and answers each line with one.
struct Told {
    child: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl Told {
    fn start(mut command: Command, program: &str) -> Self {
        let mut child = command
            .args(["-c", program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python started");
        let says = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, says }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.child.stdin.as_mut().expect("piped"), "{line}").expect("told");
        let mut answer = String::new();
        self.says.read_line(&mut answer).expect("an answer");
        answer.trim().to_owned()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `open` connects and says the local port; `reset` ends that connection by RST.
const VICTIM: &str = r#"
import socket, struct, sys
for line in sys.stdin:
    if line.strip() == "open":
        s = socket.create_connection(("www.example.test", 80))
        print(s.getsockname()[1], flush=True)
    else:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
        print("reset", flush=True)
"#;

/// `look PORT` finds in /proc/net/tcp, which everybody may read, the listener that the kernel chose for that local port; `take`
/// makes the same connection from outside of every tag and asks for something.
const THIEF: &str = r#"
import socket, sys
held = []
for line in sys.stdin:
    word, *rest = line.split()
    if word == "look":
        port = int(rest[0])
        for row in open("/proc/net/tcp").readlines()[1:]:
            local, remote = row.split()[1:3]
            if int(local[9:], 16) == port and remote[6:8] == "7F":
                target = (socket.inet_ntoa(bytes.fromhex(remote[:8])[::-1]), int(remote[9:], 16))
        print(target, flush=True)
    else:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", port))
        try:
            s.connect(target)
            s.send(b"GET /stolen HTTP/1.1\r\nHost: www.example.test\r\n\r\n")
            held.append(s)
            print("in", flush=True)
        except OSError as e:
            print(e, flush=True)
"#;

/// A connection that its maker has reset is remembered until the gate asks. Whoever makes the same four-tuple meanwhile
/// must not be taken for it.
#[test]
fn the_connection_of_another_is_not_inherited() {
    let Some(world) = world() else { return };
    let mut victim = Told::start(world.job("victim", "/usr/bin/python3").expect("job"), VICTIM);
    let mut thief = Told::start(world.untagged("/usr/bin/python3").expect("command"), THIEF);
    let gate = world.daemon().gate_pid().expect("gate");
    world.daemon().signal(gate, Signal::SIGSTOP).expect("stopped");
    let (mut made, mut tries) = (0, 0);
    while made < 50 {
        tries += 1;
        assert!(tries < 1000, "the attack can hardly be tried: {made} of {tries}");
        let port = victim.ask("open");
        thief.ask(&format!("look {port}"));
        victim.ask("reset");
        made += usize::from(thief.ask("take") == "in");
    }
    world.daemon().signal(gate, Signal::SIGCONT).expect("continued");
    let mut curl = world.job("after", "curl").expect("job");
    let ended = run(curl.args(["-sS", "https://www.example.test/bytes/4"]), PATIENCE).expect("started");
    assert_eq!(ended.stdout, "xxxx", "{}", ended.stderr);
    world.expect("the curl after it", |s| s.tag == "after").expect("recorded");
    let stolen = world.sessions().expect("sessions");
    let stolen = stolen.iter().filter(|s| s.path.as_deref() == Some("/stolen")).count();
    assert_eq!(
        stolen, 0,
        "of {made} connections from outside of every tag so many went under the tag `victim`"
    );
}

/// Holds as many connections as it gets, without a word.
const GREEDY: &str = r#"
import socket, sys
held = []
for line in sys.stdin:
    for _ in range(int(line)):
        held.append(socket.create_connection(("www.example.test", 80)))
    print(len(held), flush=True)
"#;

/// One job that holds connections open leaves room for the others.
#[test]
fn one_tag_cannot_starve_the_others() {
    let options = Options { config: "[limits]\nsessions = 8\n".to_owned(), ..Options::default() };
    let world = World::with(options).expect("a world with the agent");
    if world.is_direct() {
        return;
    }
    let mut greedy = Told::start(world.job("greedy", "/usr/bin/python3").expect("job"), GREEDY);
    assert_eq!(greedy.ask("40"), "40");
    let mut curl = world.job("modest", "curl").expect("job");
    let ended =
        run(curl.args(["-sS", "-m", "10", "https://www.example.test/bytes/4"]), PATIENCE).expect("started");
    assert_eq!(ended.stdout, "xxxx", "{}", ended.stderr);
    let crowded = |error: &str| error.contains("its share of the sessions");
    world
        .expect("a connection beyond the share", |s| {
            s.tag == "greedy" && s.error.as_deref().is_some_and(crowded)
        })
        .expect("recorded");
}
