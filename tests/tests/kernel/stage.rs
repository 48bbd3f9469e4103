//! What each test stands on, and how it asks.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use agent_ebpf::{Config, Counter, Event, Origin};
use sluice::types::TagName;
use sluice::warden::kernel::{Kernel, Sizes, TagOptions, way};
use sluice::warden::listen::{Listeners, netns_cookie};
use sluice_tests::host::{BpfDir, Cgroup, Namespace, require_root, run};

/// Addresses outside, as far as the namespace is concerned.
pub const WORLD: [&str; 2] = ["203.0.113.10/32", "2001:db8::10/128"];
pub const WORLD4: &str = "203.0.113.10:443";
pub const WORLD6: &str = "[2001:db8::10]:443";
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A namespace with listeners, a cgroup, and the kernel part; no tag yet. Fields go in this order.
pub struct Stage {
    pub kernel: Kernel,
    pub listeners: Listeners,
    pub netns: u64,
    pub bpf: BpfDir,
    pub namespace: Namespace,
    pub cgroup: Cgroup,
}

impl Stage {
    pub fn new(label: &str) -> Self {
        Self::sized(label, Sizes::default())
    }

    pub fn sized(label: &str, sizes: Sizes) -> Self {
        require_root();
        let namespace = Namespace::new(label, &WORLD);
        let listeners = namespace.enter(|| Listeners::open().expect("listeners"));
        let netns = netns_cookie(listeners.v4.as_fd()).expect("cookie");
        let bpf = BpfDir::new(label);
        let config = listeners.config(0).expect("addresses");
        let mut kernel = Kernel::open_sized(bpf.path(), config, sizes).expect("kernel part");
        kernel.add_namespace(netns).expect("known");
        Self { kernel, listeners, netns, bpf, namespace, cgroup: Cgroup::new(label) }
    }

    /// With the stage's cgroup under the tag `ci`, number 7.
    pub fn tagged(label: &str) -> Self {
        let mut stage = Self::new(label);
        stage.attach(TagOptions::default());
        stage
    }

    pub fn attach(&mut self, options: TagOptions) {
        self.kernel.attach(&tag("ci"), 7, self.cgroup.path(), &options).expect("attach");
    }

    /// Runs `sluice-dial` with `words` in the stage's cgroup.
    pub fn dial(&self, words: &[&str]) -> String {
        self.dial_in(Some(&self.cgroup), words)
    }

    pub fn dial_in(&self, cgroup: Option<&Cgroup>, words: &[&str]) -> String {
        run(self.dialler(cgroup).args(words)).trim().to_owned()
    }

    pub fn dialler(&self, cgroup: Option<&Cgroup>) -> Command {
        self.namespace.command(cgroup, env!("CARGO_BIN_EXE_sluice-dial"))
    }

    /// A server of "the world".
    pub fn world(&self, address: &str) -> TcpListener {
        self.namespace.enter(|| TcpListener::bind(address).expect("bind"))
    }

    pub fn accept(&self, v6: bool) -> TcpStream {
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

    pub fn origin(&self, stream: &TcpStream) -> Option<Origin> {
        look_up(&self.kernel, self.netns, stream)
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.kernel.counters().expect("counters")[counter as usize]
    }

    /// What the programs told since the last time.
    pub fn events(&self) -> Vec<Event> {
        std::iter::from_fn(|| self.kernel.next_event()).collect()
    }

    /// The ways that the programs told of since the last time.
    pub fn ways(&self) -> Vec<Counter> {
        self.events().iter().map(|event| way(event).expect("a known way")).collect()
    }

    /// Runs `sluice-socket` with `words` in the stage's cgroup.
    pub fn socket(&self, words: &[&str]) -> String {
        run(self.socketeer(Some(&self.cgroup)).args(words)).trim().to_owned()
    }

    pub fn socketeer(&self, cgroup: Option<&Cgroup>) -> Command {
        self.namespace.command(cgroup, env!("CARGO_BIN_EXE_sluice-socket"))
    }

    pub fn config(&self) -> Config {
        self.listeners.config(0).expect("addresses")
    }
}

pub fn tag(name: &str) -> TagName {
    TagName::parse(name).expect("a tag's name")
}

pub fn look_up(kernel: &Kernel, netns: u64, stream: &TcpStream) -> Option<Origin> {
    let (client, listener) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    kernel.lookup(netns, client, listener).expect("lookup")
}

pub fn destination(origin: &Origin) -> SocketAddr {
    SocketAddr::new(std::net::Ipv6Addr::from(origin.address).to_canonical(), origin.port)
}

/// One field of the dialler's answer.
pub fn field<'a>(answer: &'a str, key: &str) -> &'a str {
    answer
        .split(' ')
        .find_map(|f| f.strip_prefix(key)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("{answer}"))
}
