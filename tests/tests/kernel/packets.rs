//! The last net: what no other hook sees does not leave as a packet, and nobody comes in from outside.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use agent_ebpf::Counter;
use sluice::config::Loopback;
use sluice::warden::kernel::TagOptions;
use sluice_tests::host::{Cgroup, Held, Namespace, run};

use crate::stage::{Stage, WORLD4, tag};

/// Joins the stage's namespace (192.0.2.1) to a new one, "the far end" (192.0.2.2), by a veth.
fn far_end(stage: &Stage, label: &str) -> Namespace {
    let far = Namespace::new(label, &[]);
    let (near_name, far_name) = (format!("n{}", std::process::id()), format!("f{}", std::process::id()));
    stage.namespace.enter(|| {
        let ip = |words: String| run(Command::new("ip").args(words.split(' ')));
        ip(format!("link add {near_name} type veth peer name {far_name} netns {}", far.name()));
        ip(format!("addr add 192.0.2.1/24 dev {near_name}"));
        ip(format!("-6 addr add 2001:db8:1::1/64 dev {near_name} nodad"));
        ip(format!("link set {near_name} up"));
    });
    far.enter(|| {
        let ip = |words: String| run(Command::new("ip").args(words.split(' ')));
        ip(format!("addr add 192.0.2.2/24 dev {far_name}"));
        ip(format!("-6 addr add 2001:db8:1::2/64 dev {far_name} nodad"));
        ip(format!("link set {far_name} up"));
    });
    far
}

fn tcp(namespace: &Namespace, address: &str) -> Result<TcpStream, std::io::Error> {
    let address = address.parse().expect("address");
    namespace.enter(|| TcpStream::connect_timeout(&address, Duration::from_millis(500)))
}

#[test]
fn connections_from_other_hosts_are_let_in_by_option_only() {
    let mut stage = Stage::tagged("inbound");
    let far = far_end(&stage, "inbound-far");
    let serve = |stage: &Stage| {
        let mut server = stage.socketeer(Some(&stage.cgroup));
        let (held, line) = Held::start(server.args(["serve", "0.0.0.0:4000"]));
        assert_eq!(line, "ok");
        held
    };
    let server = serve(&stage);
    // The link's first packets may be late on a busy machine: what counts is that none gets through and one is told of.
    let deadline = Instant::now() + Duration::from_secs(10);
    let told = loop {
        assert!(tcp(&far, "192.0.2.1:4000").is_err(), "dropped");
        let told = stage.events();
        if !told.is_empty() || Instant::now() > deadline {
            break told;
        }
    };
    assert_eq!(told.first().and_then(sluice::warden::kernel::way), Some(Counter::Inbound));
    assert!(told[0].tag == 7 && told[0].detail == 4000 && told[0].comm.starts_with(b"sluice-socket"));
    let mut text = String::new();
    tcp(&stage.namespace, "127.0.0.1:4000").expect("from this host").read_to_string(&mut text).expect("read");
    assert_eq!(text, "hello");
    text.clear();
    tcp(&stage.namespace, "192.0.2.1:4000")
        .expect("by its own address")
        .read_to_string(&mut text)
        .expect("read");
    assert_eq!(text, "hello");

    stage.attach(TagOptions { inbound: true, ..TagOptions::default() });
    text.clear();
    tcp(&far, "192.0.2.1:4000").expect("let in").read_to_string(&mut text).expect("read");
    assert_eq!(text, "hello");
    server.release();
}

/// A socket of the tag's cgroup that was connected before the tag was: its next byte does not leave.
#[test]
fn connections_that_are_older_than_the_tag_are_cut() {
    let mut stage = Stage::new("older");
    let far = far_end(&stage, "older-far");
    let listener = far.enter(|| TcpListener::bind("192.0.2.2:4000").expect("bind"));
    let near = stage.world("127.0.0.1:4001");
    let (held, line) = Held::start(
        stage.namespace.command(Some(&stage.cgroup), "python3").args(["-c", "import socket,sys\na=socket.create_connection(('192.0.2.2',4000))\nb=socket.create_connection(('127.0.0.1',4001))\nprint('ok',flush=True)\nsys.stdin.readline()\na.send(b'marker'); b.send(b'near')\nsys.stdin.read()"]),
    );
    assert_eq!(line, "ok");
    let (mut out, mut local) = (listener.accept().expect("accept").0, near.accept().expect("accept").0);
    stage.attach(TagOptions::default());
    held.say("\n");
    let mut text = [0; 4];
    local.read_exact(&mut text).expect("loopback goes on");
    assert_eq!(&text, b"near");
    out.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
    assert!(out.read(&mut [0; 16]).is_err(), "no marker, no end");
    assert!(stage.count(Counter::Egress) > 0);
    held.release();
    assert!(out.read(&mut [0; 16]).is_err(), "not even its FIN");
}

/// With `IP_UNICAST_IF` refused in setsockopt(), a message can still name its device (`IP_PKTINFO`): the rewritten
/// address must not go out by it.
#[test]
fn a_message_that_names_its_device_does_not_leave_by_it() {
    let mut stage = Stage::tagged("pktinfo");
    let far = far_end(&stage, "pktinfo-far");
    let mut config = stage.config();
    config.dns4 = 5300;
    stage.kernel.configure(config).expect("configure");
    let world = far.enter(|| UdpSocket::bind("0.0.0.0:5300").expect("bind"));
    let links = run(stage.namespace.command(None, "ip").args(["-o", "link", "show", "type", "veth"]));
    let index = links.split(':').next().expect("its number");
    let script = format!(
        "import socket,struct\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n\
         try:\n  s.sendmsg([b'marker'],[(0,8,struct.pack('iII',{},0,0))],0,('192.0.2.2',53))\n  print('sent')\n\
         except OSError as e: print(e.errno)",
        index
    );
    let said = run(stage.namespace.command(Some(&stage.cgroup), "python3").args(["-c", &script]));
    assert_eq!(said.trim(), "1", "EPERM");
    world.set_read_timeout(Some(Duration::from_millis(50))).expect("timeout");
    assert!(world.recv_from(&mut [0; 16]).is_err());
}

#[test]
fn the_agents_own_sockets_in_a_tag_are_left_alone() {
    let mut stage = Stage::tagged("agentskb");
    let far = far_end(&stage, "agentskb-far");
    let agent = stage.cgroup.child("agent");
    let gate = agent.child("gate");
    let config = agent_ebpf::Config { agent_cgroup: agent.id(), ..stage.config() };
    stage.kernel.configure(config).expect("configure");
    let listener = far.enter(|| TcpListener::bind("192.0.2.2:4000").expect("bind"));
    assert!(stage.dial_in(Some(&gate), &["connect", "192.0.2.2:4000", "write=marker"]).starts_with("ok "));
    let mut text = String::new();
    listener.accept().expect("accept").0.read_to_string(&mut text).expect("read");
    assert_eq!(text, "marker");
    let world = far.enter(|| UdpSocket::bind("192.0.2.2:4000").expect("bind"));
    let mut send = stage.socketeer(Some(&gate));
    assert!(run(send.args(["send", "192.0.2.2:4000", "connect"])).starts_with("ok"));
    assert_eq!(world.recv_from(&mut [0; 16]).expect("a datagram").0, 6);
    assert_eq!(run(stage.socketeer(Some(&gate)).args(["make", "2", "3", "6"])).trim(), "ok", "even raw ones");
    assert_eq!(stage.events().len(), 0);
}

/// The agent's sockets that are older than the tag are known by their cgroup.
#[test]
fn the_agents_older_sockets_are_left_alone() {
    let mut stage = Stage::new("agentold");
    let far = far_end(&stage, "agentold-far");
    let agent = stage.cgroup.child("agent");
    let gate = agent.child("gate");
    let listener = far.enter(|| TcpListener::bind("192.0.2.2:4000").expect("bind"));
    let (held, line) = Held::start(
        stage.namespace.command(Some(&gate), "python3").args(["-c", "import socket,sys\na=socket.create_connection(('192.0.2.2',4000))\nprint('ok',flush=True)\nsys.stdin.readline()\na.send(b'marker')\nsys.stdin.read()"]),
    );
    assert_eq!(line, "ok");
    let config = agent_ebpf::Config { agent_cgroup: agent.id(), ..stage.config() };
    stage.kernel.configure(config).expect("configure");
    stage.attach(TagOptions::default());
    held.say("\n");
    let mut text = [0; 6];
    listener.accept().expect("accept").0.read_exact(&mut text).expect("read");
    assert_eq!(&text, b"marker");
    held.release();
}

#[test]
fn a_connection_waits_for_listeners_in_its_namespace() {
    let mut stage = Stage::tagged("wait");
    stage.kernel.remove_namespace(stage.netns).expect("known");
    assert!(stage.kernel.namespaces().expect("map").is_empty());
    let dialling = stage
        .dialler(Some(&stage.cgroup))
        .args(["connect", WORLD4])
        .stdout(std::process::Stdio::piped())
        .spawn();
    let dialling = dialling.expect("it runs");
    let deadline = Instant::now() + crate::stage::PATIENCE;
    while stage.count(Counter::HeldBack) == 0 {
        assert!(Instant::now() < deadline, "never held back");
        std::thread::yield_now();
    }
    let told = stage.events();
    assert!(
        told.iter()
            .all(|e| sluice::warden::kernel::way(e) == Some(Counter::NewNamespace) && e.netns == stage.netns)
    );
    assert!(!told.is_empty());
    let start = Instant::now();
    stage.kernel.add_namespace(stage.netns).expect("room");
    let said = dialling.wait_with_output().expect("its end").stdout;
    println!("went on after {:?}", start.elapsed());
    assert!(said.starts_with(b"ok "), "{said:?}");
    assert!(stage.origin(&stage.accept(false)).is_some());
}

#[test]
fn a_tag_within_a_tag_that_denies_loopback_reaches_its_listener() {
    let mut stage = Stage::new("nestdeny");
    stage.attach(TagOptions::with_loopback(Loopback::Deny));
    let child = stage.cgroup.child("job");
    stage.kernel.attach(&tag("inner"), 8, child.path(), &TagOptions::default()).expect("attach");
    assert!(stage.dial_in(Some(&child), &["connect", WORLD4]).starts_with("ok "));
    assert_eq!(stage.origin(&stage.accept(false)).expect("remembered").tag, 8);
    let other = Cgroup::new("nestdeny-other");
    assert_eq!(stage.dial_in(Some(&other), &["connect", "127.0.0.1:1"]), "refused ECONNREFUSED");
}
