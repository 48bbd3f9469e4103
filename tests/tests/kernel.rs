//! The real kernel programs on real cgroups, in a network namespace whose loopback bears "the world".
//!
//! The test stands in for warden and gate: it accepts and asks the kernel part whose connection it is.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent_ebpf::{Config, Counter, Origin};
use sluice::types::TagName;
use sluice::warden::kernel::{Error, Kernel, Sizes, TagOptions, boot_time};
use sluice::warden::listen::{Listeners, netns_cookie};
use sluice_tests::host::{BpfDir, Cgroup, Held, Namespace, raise_open_files, require_root, run};

const WORLD: [&str; 2] = ["203.0.113.10/32", "2001:db8::10/128"];
const WORLD4: &str = "203.0.113.10:443";
const WORLD6: &str = "[2001:db8::10]:443";
const PATIENCE: Duration = Duration::from_secs(10);

/// A namespace with listeners, a cgroup, and the kernel part; no tag yet. Fields go in this order.
struct Stage {
    kernel: Kernel,
    listeners: Listeners,
    netns: u64,
    bpf: BpfDir,
    namespace: Namespace,
    cgroup: Cgroup,
}

impl Stage {
    fn new(label: &str) -> Self {
        Self::sized(label, Sizes::default())
    }

    fn sized(label: &str, sizes: Sizes) -> Self {
        require_root();
        let namespace = Namespace::new(label, &WORLD);
        let listeners = namespace.enter(|| Listeners::open().expect("listeners"));
        let netns = netns_cookie(listeners.v4.as_fd()).expect("cookie");
        let bpf = BpfDir::new(label);
        let config = listeners.config(0).expect("addresses");
        let kernel = Kernel::open_sized(bpf.path(), config, sizes).expect("kernel part");
        Self { kernel, listeners, netns, bpf, namespace, cgroup: Cgroup::new(label) }
    }

    /// With the stage's cgroup under the tag `ci`, number 7.
    fn tagged(label: &str) -> Self {
        let mut stage = Self::new(label);
        stage.attach(TagOptions::default());
        stage
    }

    fn attach(&mut self, options: TagOptions) {
        self.kernel.attach(&tag("ci"), 7, self.cgroup.path(), options).expect("attach");
    }

    /// Runs `sluice-dial` with `words` in the stage's cgroup.
    fn dial(&self, words: &[&str]) -> String {
        self.dial_in(Some(&self.cgroup), words)
    }

    fn dial_in(&self, cgroup: Option<&Cgroup>, words: &[&str]) -> String {
        run(self.dialler(cgroup).args(words)).trim().to_owned()
    }

    fn dialler(&self, cgroup: Option<&Cgroup>) -> Command {
        self.namespace.command(cgroup, env!("CARGO_BIN_EXE_sluice-dial"))
    }

    /// A server of "the world".
    fn world(&self, address: &str) -> TcpListener {
        self.namespace.enter(|| TcpListener::bind(address).expect("bind"))
    }

    fn accept(&self, v6: bool) -> TcpStream {
        let any = |listeners: &[TcpListener]| {
            for listener in listeners {
                listener.set_nonblocking(true).expect("nonblocking");
            }
            let deadline = Instant::now() + PATIENCE;
            loop {
                for listener in listeners {
                    if let Ok((stream, _)) = listener.accept() {
                        stream.set_nonblocking(false).expect("blocking");
                        return stream;
                    }
                }
                assert!(Instant::now() < deadline, "nothing to accept");
                thread::yield_now();
            }
        };
        if v6 { any(&self.listeners.v6) } else { any(std::slice::from_ref(&self.listeners.v4)) }
    }

    fn origin(&self, stream: &TcpStream) -> Option<Origin> {
        look_up(&self.kernel, self.netns, stream)
    }

    fn count(&self, counter: Counter) -> u64 {
        self.kernel.counters().expect("counters")[counter as usize]
    }

    fn config(&self) -> Config {
        self.listeners.config(0).expect("addresses")
    }
}

fn tag(name: &str) -> TagName {
    TagName::parse(name).expect("a tag's name")
}

fn look_up(kernel: &Kernel, netns: u64, stream: &TcpStream) -> Option<Origin> {
    let (client, listener) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    kernel.lookup(netns, client, listener).expect("lookup")
}

fn destination(origin: &Origin) -> SocketAddr {
    SocketAddr::new(std::net::Ipv6Addr::from(origin.address).to_canonical(), origin.port)
}

/// One field of the dialler's answer.
fn field<'a>(answer: &'a str, key: &str) -> &'a str {
    answer
        .split(' ')
        .find_map(|f| f.strip_prefix(key)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn an_ipv4_connection_is_led_to_the_listener_and_says_whose_it_is() {
    let stage = Stage::tagged("v4");
    let before = boot_time().expect("clock");
    let answer = stage.dial(&["connect", WORLD4]);
    let stream = stage.accept(false);
    let origin = stage.origin(&stream).expect("remembered");
    assert_eq!(destination(&origin), WORLD4.parse().expect("address"));
    assert_eq!((origin.family, origin.tag, origin.uid, origin.gid), (2, 7, 0, 0));
    assert_eq!(origin.tgid.to_string(), field(&answer, "pid"));
    assert_eq!(origin.pid, origin.tgid, "its main thread");
    assert_eq!(&origin.comm[..12], b"sluice-dial\0");
    assert_eq!(origin.cgroup, stage.cgroup.id());
    let at = Duration::from_nanos(origin.connected_at);
    assert!(at > before && at < boot_time().expect("clock"));
    let local = stream.local_addr().expect("address").to_string();
    assert!(local.starts_with("127.83.7."), "the third octet is the tag's number: {local}");
    assert_eq!(stage.origin(&stream), None, "an answer is given once");
    assert_eq!(stage.count(Counter::Taken), 1);
}

#[test]
fn an_ipv6_connection_is_led_to_the_listener_and_says_whose_it_is() {
    let stage = Stage::tagged("v6");
    stage.dial(&["connect", WORLD6]);
    let stream = stage.accept(true);
    let origin = stage.origin(&stream).expect("remembered");
    assert_eq!(destination(&origin), WORLD6.parse().expect("address"));
    assert_eq!((origin.family, origin.tag), (10, 7));
}

#[test]
fn a_v4_mapped_connection_is_led_to_the_ipv4_listener() {
    let stage = Stage::tagged("mapped");
    stage.dial(&["connect", WORLD4, "mapped"]);
    let origin = stage.origin(&stage.accept(false)).expect("remembered");
    assert_eq!(destination(&origin), WORLD4.parse().expect("address"));
    assert_eq!(origin.family, 10, "an IPv6 socket");
}

#[test]
fn getpeername_shows_the_address_that_was_dialled() {
    let stage = Stage::tagged("peer");
    assert_eq!(field(&stage.dial(&["connect", WORLD4]), "peer"), WORLD4);
    assert_eq!(field(&stage.dial(&["connect", WORLD6]), "peer"), WORLD6);
    let mapped = stage.dial(&["connect", WORLD4, "mapped"]);
    assert_eq!(field(&mapped, "peer"), "[::ffff:203.0.113.10]:443");
}

#[test]
fn child_cgroups_inherit_the_tag() {
    let stage = Stage::tagged("child");
    let child = stage.cgroup.child("job");
    stage.dial_in(Some(&child), &["connect", WORLD4]);
    let origin = stage.origin(&stage.accept(false)).expect("remembered");
    assert_eq!((origin.tag, origin.cgroup), (7, child.id()));
}

#[test]
fn an_untagged_process_is_left_alone() {
    let stage = Stage::tagged("untagged");
    let _world = stage.world(WORLD4);
    let other = Cgroup::new("untagged-other");
    let answer = stage.dial_in(Some(&other), &["connect", WORLD4]);
    assert!(answer.starts_with("ok "), "{answer}");
    assert_eq!(field(&answer, "local").split(':').next(), Some("203.0.113.10"), "straight to the server");
    assert_eq!(stage.count(Counter::Taken), 0);
}

#[test]
fn loopback_is_left_alone() {
    let stage = Stage::tagged("lo");
    let _v4 = stage.world("127.0.0.1:4000");
    let _v6 = stage.world("[::1]:4000");
    for (address, more) in [
        ("127.0.0.1:4000", ""),
        ("[::1]:4000", ""),
        ("0.0.0.0:4000", ""),
        ("[::]:4000", ""),
        ("127.0.0.1:4000", "mapped"),
    ] {
        let words = ["connect", address, more];
        let answer = stage.dial(if more.is_empty() { &words[..2] } else { &words });
        assert!(answer.starts_with("ok "), "{address} {more}: {answer}");
    }
    assert_eq!((stage.count(Counter::Loopback), stage.count(Counter::Taken)), (5, 0));
}

#[test]
fn loopback_is_taken_from_a_tag_that_asks_for_it() {
    let mut stage = Stage::new("takelo");
    stage.attach(TagOptions { take_loopback: true });
    stage.dial(&["connect", "127.0.0.1:4000"]);
    let origin = stage.origin(&stage.accept(false)).expect("remembered");
    assert_eq!(destination(&origin).to_string(), "127.0.0.1:4000");
    stage.dial(&["connect", "[::1]:4000"]);
    let origin = stage.origin(&stage.accept(true)).expect("remembered");
    assert_eq!(destination(&origin).to_string(), "[::1]:4000");
}

#[test]
fn without_a_listener_nothing_leaves() {
    let mut stage = Stage::tagged("nolisten");
    let _world = (stage.world(WORLD4), stage.world(WORLD6));
    let mut config = stage.config();
    (config.port4, config.count6) = (0, 0);
    stage.kernel.configure(config).expect("configure");
    assert_eq!(stage.dial(&["connect", WORLD4]), "refused EPERM");
    assert_eq!(stage.dial(&["connect", WORLD6]), "refused EPERM");
    assert_eq!(stage.count(Counter::NoListener), 2);

    let (port4, port6) = (stage.config().port4, stage.config().ports6[0]);
    stage.kernel.configure(Config { count6: 1, ..stage.config() }).expect("configure");
    stage.listeners = stage.namespace.enter(|| Listeners::open().expect("others, on other ports"));
    assert_ne!((stage.config().port4, stage.config().ports6[0]), (port4, port6));
    assert_eq!(stage.dial(&["connect", WORLD4]), "refused ECONNREFUSED", "the agent is down");
    assert_eq!(stage.dial(&["connect", WORLD6]), "refused ECONNREFUSED", "the agent is down");
}

#[test]
fn the_tag_outlives_its_daemon_and_is_taken_over_by_the_next() {
    let mut stage = Stage::new("outlive");
    let name = tag("gitlab-runner.service");
    stage.kernel.attach(&name, 300, stage.cgroup.path(), TagOptions::default()).expect("attach");
    let gone = stage.cgroup.child("gone");
    stage.kernel.attach(&name, 300, gone.path(), TagOptions::default()).expect("attach");
    drop(gone);
    let config = stage.config();
    stage.kernel = Kernel::open(stage.bpf.path(), config).expect("the next daemon");

    stage.dial(&["connect", WORLD4]);
    let stream = stage.accept(false);
    let adopted = stage.kernel.adopt().expect("adopt");
    assert_eq!(adopted.len(), 1);
    assert_eq!((&adopted[0].name, adopted[0].number, adopted[0].stale), (&name, 300, false));
    assert_eq!(adopted[0].cgroups, [stage.cgroup.path()], "the one that is gone is not told");
    let origin = stage.origin(&stream).expect("taken while there was no daemon, remembered all the same");
    assert_eq!(origin.tag, 300);

    stage.kernel.attach(&name, 300, stage.cgroup.path(), TagOptions::default()).expect("refresh");
    stage.dial(&["connect", WORLD6]);
    assert!(stage.origin(&stage.accept(true)).is_some());
    assert_eq!(stage.count(Counter::Taken), 2, "one link each, not two");
}

#[test]
fn detaching_removes_everything() {
    let mut stage = Stage::tagged("detach");
    let _world = stage.world(WORLD4);
    stage.kernel.detach(&tag("ci")).expect("detach");
    assert!(stage.dial(&["connect", WORLD4]).starts_with("ok "));
    assert_eq!(stage.count(Counter::Taken), 0);
    let left = std::fs::read_dir(stage.bpf.path().join("tags")).expect("directory").count();
    assert_eq!(left, 0);
    stage.kernel.detach(&tag("ci")).expect("once more does no harm");
}

#[test]
fn one_cgroup_of_a_tag_can_be_detached() {
    let mut stage = Stage::tagged("detachone");
    let other = Cgroup::new("detachone-b");
    stage.kernel.attach(&tag("ci"), 7, other.path(), TagOptions::default()).expect("attach");
    stage.kernel.detach_cgroup(&tag("ci"), stage.cgroup.path()).expect("detach");
    let _world = stage.world(WORLD4);
    stage.dial(&["connect", WORLD4]);
    assert_eq!(stage.count(Counter::Taken), 0);
    stage.dial_in(Some(&other), &["connect", WORLD4]);
    assert_eq!(stage.count(Counter::Taken), 1);
}

#[test]
fn the_root_cgroup_and_the_agents_own_are_never_tagged() {
    let mut stage = Stage::new("root");
    let root = stage.cgroup.path().parent().expect("root").to_owned();
    let attach = |stage: &mut Stage, path: &std::path::Path| {
        stage.kernel.attach(&tag("ci"), 7, path, TagOptions::default())
    };
    assert!(matches!(attach(&mut stage, &root), Err(Error::RootCgroup(_))));
    assert!(matches!(attach(&mut stage, std::path::Path::new("/proc")), Err(Error::NotACgroup(_))));
    let config = Config { agent_cgroup: stage.cgroup.id(), ..stage.config() };
    stage.kernel.configure(config).expect("configure");
    let child = stage.cgroup.child("below");
    assert!(matches!(attach(&mut stage, child.path()), Err(Error::InsideAgent(_))));
    let left = std::fs::read_dir(stage.bpf.path().join("tags")).expect("directory").count();
    assert_eq!(left, 0, "nothing stays behind");
}

#[test]
fn the_agents_own_connections_are_left_alone() {
    let mut stage = Stage::tagged("agent");
    let agent = stage.cgroup.child("agent");
    let gate = agent.child("gate");
    stage.kernel.configure(Config { agent_cgroup: agent.id(), ..stage.config() }).expect("configure");
    let _world = stage.world(WORLD4);
    assert!(stage.dial_in(Some(&agent), &["connect", WORLD4]).starts_with("ok "));
    assert!(stage.dial_in(Some(&gate), &["connect", WORLD4]).starts_with("ok "));
    assert_eq!((stage.count(Counter::Agent), stage.count(Counter::Taken)), (2, 0));
    stage.dial(&["connect", WORLD4]);
    assert_eq!(stage.count(Counter::Taken), 1, "a job beside the agent is taken");
}

#[test]
fn a_number_belongs_to_one_name() {
    let mut stage = Stage::tagged("number");
    let cgroup = stage.cgroup.path().to_owned();
    let mut attach = |name, number| stage.kernel.attach(&tag(name), number, &cgroup, TagOptions::default());
    assert!(matches!(attach("other", 7), Err(Error::Number { .. })));
    assert!(matches!(attach("ci", 8), Err(Error::Number { .. })));
}

#[test]
fn our_listeners_cannot_be_dialled_from_a_tag() {
    let stage = Stage::tagged("own");
    let port4 = stage.config().port4;
    for address in [format!("127.83.7.1:{port4}"), format!("127.0.0.1:{port4}"), format!("0.0.0.0:{port4}")] {
        assert_eq!(stage.dial(&["connect", &address]), "refused EPERM", "{address}");
        assert_eq!(stage.dial(&["connect", &address, "mapped"]), "refused EPERM", "{address} mapped");
    }
    let own6 = format!("[::1]:{}", stage.config().ports6[3]);
    assert_eq!(stage.dial(&["connect", &own6]), "refused EPERM");
    assert_eq!(stage.count(Counter::OwnListener), 7);
}

#[test]
fn a_socket_bound_to_a_device_is_refused() {
    let stage = Stage::tagged("device");
    stage.namespace.enter(|| {
        run(Command::new("ip").args(["link", "add", "out0", "type", "veth", "peer", "name", "out1"]));
        run(Command::new("ip").args(["link", "set", "out0", "up"]));
    });
    assert_eq!(stage.dial(&["connect", WORLD4, "device=out0"]), "refused EPERM");
    assert_eq!(stage.dial(&["connect", WORLD6, "device=out0"]), "refused EPERM");
    assert_eq!(stage.count(Counter::BoundDevice), 2);
    assert!(stage.dial(&["connect", WORLD4, "device=lo"]).starts_with("ok "), "loopback reaches us");
    stage.kernel.flush_events();
}

#[test]
fn a_socket_with_a_bound_source_address_is_taken() {
    let stage = Stage::tagged("source");
    assert!(stage.dial(&["connect", WORLD4, "source=203.0.113.10"]).starts_with("ok "));
    assert!(stage.origin(&stage.accept(false)).is_some());
    assert!(stage.dial(&["connect", WORLD6, "source=2001:db8::10"]).starts_with("ok "));
    assert!(stage.origin(&stage.accept(true)).is_some());
}

#[test]
fn a_tagged_process_in_a_network_namespace_of_its_own_reaches_nothing() {
    let stage = Stage::tagged("netns");
    let own = Namespace::new("netns-own", &WORLD);
    let _world =
        own.enter(|| (TcpListener::bind(WORLD4).expect("bind"), TcpListener::bind(WORLD6).expect("bind")));
    for address in [WORLD4, WORLD6] {
        let mut dial = own.command(Some(&stage.cgroup), env!("CARGO_BIN_EXE_sluice-dial"));
        assert_eq!(run(dial.args(["connect", address])).trim(), "refused ECONNREFUSED", "{address}");
    }
}

/// getpeername() of such a socket shows the listener: the kernel asks for the outer socket, and what was dialled stands
/// beside the inner one.
#[test]
fn multipath_tcp_is_taken() {
    let stage = Stage::tagged("mptcp");
    assert!(stage.dial(&["connect", WORLD4, "mptcp"]).starts_with("ok "));
    assert_eq!(destination(&stage.origin(&stage.accept(false)).expect("remembered")).to_string(), WORLD4);
    assert!(stage.dial(&["connect", WORLD6, "mptcp"]).starts_with("ok "));
    assert_eq!(destination(&stage.origin(&stage.accept(true)).expect("remembered")).to_string(), WORLD6);
}

#[test]
fn tcp_fast_open_is_taken() {
    let stage = Stage::tagged("fastopen");
    assert!(stage.dial(&["connect", WORLD4, "fastopen"]).starts_with("ok "));
    let mut stream = stage.accept(false);
    assert_eq!(destination(&stage.origin(&stream).expect("remembered")).to_string(), WORLD4);
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read");
    assert_eq!(text, "fast");
}

#[test]
fn a_socket_that_connects_again_is_remembered_anew() {
    let stage = Stage::tagged("again");
    let answer = stage.dial(&["connect", WORLD4, "again=203.0.113.11:80"]);
    assert_eq!(field(&answer, "peer"), "203.0.113.11:80");
    let dead = stage.accept(false);
    assert!(dead.peer_addr().is_err(), "the first connection was reset");
    assert_eq!(
        destination(&stage.origin(&stage.accept(false)).expect("remembered")).to_string(),
        "203.0.113.11:80"
    );

    let _server = stage.world("127.0.0.1:4000");
    let answer = stage.dial(&["connect", WORLD4, "again=127.0.0.1:4000"]);
    assert_eq!(field(&answer, "peer"), "127.0.0.1:4000", "what was left alone is not disguised");
}

#[test]
fn programs_that_run_twice_on_one_connection_take_it_once() {
    let mut stage = Stage::tagged("twice");
    let child = stage.cgroup.child("job");
    stage.kernel.attach(&tag("ci"), 7, child.path(), TagOptions::default()).expect("same tag, as by systemd");
    for address in [WORLD4, WORLD6] {
        let answer = stage.dial_in(Some(&child), &["connect", address]);
        assert_eq!(field(&answer, "peer"), address);
        let stream = stage.accept(address == WORLD6);
        assert_eq!(destination(&stage.origin(&stream).expect("remembered")).to_string(), address);
    }
    assert_eq!((stage.count(Counter::Taken), stage.kernel.waiting().expect("map")), (2, 0));
}

#[test]
fn of_nested_tags_the_inner_one_takes() {
    let mut stage = Stage::tagged("nested");
    let child = stage.cgroup.child("job");
    stage.kernel.attach(&tag("inner"), 8, child.path(), TagOptions::default()).expect("attach");
    stage.dial_in(Some(&child), &["connect", WORLD4]);
    assert_eq!(stage.origin(&stage.accept(false)).expect("remembered").tag, 8);
    assert_eq!((stage.count(Counter::Taken), stage.kernel.waiting().expect("map")), (1, 0));
}

#[test]
fn prepared_programs_are_pinned_before_there_is_a_cgroup() {
    let mut stage = Stage::new("prepare");
    let pins = stage.kernel.prepare(&tag("legacy.service"), 9, TagOptions::default()).expect("prepare");
    let types: Vec<&str> = pins.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(types, ["sock_ops", "connect4", "connect6"]);
    assert!(pins.iter().all(|(_, path)| path.exists() && !path.to_string_lossy().contains('.')));
    stage
        .kernel
        .attach(&tag("legacy.service"), 9, stage.cgroup.path(), TagOptions::default())
        .expect("attach");
    stage.dial(&["connect", WORLD4]);
    assert!(stage.origin(&stage.accept(false)).is_some());
}

#[test]
fn what_was_written_and_closed_before_accept_is_still_identified_and_swept_later() {
    let stage = Stage::tagged("quick");
    for _ in 0..2 {
        stage.dial(&["connect", WORLD4, "write=good bye"]);
    }
    let mut stream = stage.accept(false);
    assert!(stage.origin(&stream).is_some());
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read");
    assert_eq!(text, "good bye");
    drop(stream);

    let waits = |stage: &Stage| stage.kernel.waiting().expect("map");
    assert_eq!((waits(&stage), stage.kernel.sweep().expect("sweep")), (1, 0), "too early");
    let other = stage.accept(false); // Closed on both sides, and nobody ever asks for it.
    drop(other);
    let later = || boot_time().expect("clock") + Duration::from_secs(61);
    let deadline = Instant::now() + PATIENCE;
    while stage.kernel.sweep_as_of(later()).expect("sweep") == 0 {
        assert!(Instant::now() < deadline, "never marked as closed");
        thread::yield_now();
    }
    assert_eq!(waits(&stage), 0);
}

#[test]
fn a_full_map_forgets_the_newcomer_and_evicts_nobody() {
    let mut stage = Stage::sized("full", Sizes { waiting: Some(4) });
    stage.attach(TagOptions::default());
    for _ in 0..6 {
        assert!(stage.dial(&["connect", WORLD4]).starts_with("ok "));
    }
    let known: Vec<bool> = (0..6).map(|_| stage.origin(&stage.accept(false)).is_some()).collect();
    assert_eq!(known, [true, true, true, true, false, false], "the last two will be closed");
    assert_eq!(stage.count(Counter::MapFull), 2);
    stage.dial(&["connect", WORLD4]);
    assert!(stage.origin(&stage.accept(false)).is_some(), "there is room again");
}

#[test]
fn one_tags_flood_leaves_room_for_another() {
    let mut stage = Stage::sized("fair", Sizes { waiting: Some(4) });
    stage.attach(TagOptions::default());
    let quiet = Cgroup::new("fair-quiet");
    stage.kernel.attach(&tag("quiet"), 8, quiet.path(), TagOptions::default()).expect("attach");
    assert!(stage.dial(&["many", WORLD4, "20"]).starts_with("ok "));
    stage.dial_in(Some(&quiet), &["connect", WORLD6]);
    assert_eq!(stage.origin(&stage.accept(true)).expect("remembered").tag, 8);
}

/// Accepts on every listener, asks, and holds up to `hold` connections, until `work` is done. Returns its result, and
/// how many connections were known and unknown.
fn serve<T>(stage: &Stage, hold: bool, work: impl FnOnce() -> T) -> (T, usize, usize) {
    let (known, unknown, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let held = Mutex::new(Vec::new());
    let done = thread::scope(|scope| {
        for listener in std::iter::once(&stage.listeners.v4).chain(&stage.listeners.v6) {
            listener.set_nonblocking(false).expect("blocking");
            scope.spawn(|| {
                while let Ok((stream, _)) = listener.accept() {
                    let found = look_up(&stage.kernel, stage.netns, &stream).is_some();
                    if !found && over.load(Ordering::SeqCst) {
                        return; // Ours, behind all others.
                    }
                    if found { &known } else { &unknown }.fetch_add(1, Ordering::SeqCst);
                    if hold {
                        held.lock().expect("no panic").push(stream);
                    }
                }
            });
        }
        let done = work();
        over.store(true, Ordering::SeqCst);
        stage.namespace.enter(|| {
            for listener in std::iter::once(&stage.listeners.v4).chain(&stage.listeners.v6) {
                let mut address = listener.local_addr().expect("address");
                if address.is_ipv4() {
                    address.set_ip([127, 0, 0, 1].into());
                }
                TcpStream::connect(address).expect("wake the thread up");
            }
        });
        done
    });
    (done, known.into_inner(), unknown.into_inner())
}

#[test]
fn forty_thousand_short_connections_in_a_row() {
    let stage = Stage::tagged("storm");
    let start = Instant::now();
    let (answer, known, unknown) = serve(&stage, false, || stage.dial(&["storm", WORLD4, "40000"]));
    println!("40,000 short connections in {:?}", start.elapsed());
    assert_eq!(answer, "ok 40000");
    assert_eq!((known, unknown), (40_000, 0));
    let (answer, known, unknown) = serve(&stage, false, || stage.dial(&["storm", WORLD6, "40000"]));
    assert_eq!(answer, "ok 40000", "IPv6 too");
    assert_eq!((known, unknown), (40_000, 0));
}

#[test]
fn eight_thousand_connections_at_once() {
    let hard = raise_open_files();
    assert!(hard >= 16_500, "needs 16,500 open files, the hard limit is {hard}");
    let stage = Stage::tagged("many");
    for address in [WORLD4, WORLD6] {
        let words = ["many", address, "8000"];
        let ((), known, unknown) = serve(&stage, true, || {
            let (held, answer) = Held::start(stage.dialler(Some(&stage.cgroup)).args(words));
            assert_eq!(answer, "ok 8000", "{address}");
            held.release();
        });
        assert_eq!((known, unknown), (8_000, 0), "{address}");
    }
}

#[test]
fn connect_of_a_tagged_process_takes_at_most_15_microseconds_more() {
    let stage = Stage::tagged("latency");
    let other = Cgroup::new("latency-other");
    let own = format!("127.83.7.1:{}", stage.config().port4);
    let measure = |cgroup: &Cgroup, address: &str| -> i64 {
        let (answer, _, _) =
            serve(&stage, false, || stage.dial_in(Some(cgroup), &["latency", address, "4000"]));
        answer.strip_prefix("ok ").and_then(|ns| ns.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
    };
    let mut rounds: Vec<(i64, i64)> =
        (0..5).map(|_| (measure(&stage.cgroup, WORLD4), measure(&other, &own))).collect();
    rounds.sort_by_key(|(tagged, untagged)| tagged - untagged);
    let (tagged, untagged) = rounds[2];
    println!("connect(): tagged {tagged} ns, untagged {untagged} ns, added {} ns", tagged - untagged);
    assert!(tagged - untagged <= 15_000, "medians of 4,000, of five rounds: {rounds:?}");
}
