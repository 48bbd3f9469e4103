//! One namespace from its first socket to its end, without kernel programs and tags.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::warden::gate_process::Letter;
use crate::warden::listen::Listeners;

/// A process in a network namespace of its own.
struct Inhabitant(Child);

impl Inhabitant {
    fn new() -> Self {
        let mut unshare = Command::new("unshare");
        let mut child = unshare
            .args(["--net", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux)");
        std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut [0]).expect("it is there");
        Self(child)
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the kernel programs would be told: the cookie, and whether it was added.
struct Told(Mutex<std::sync::mpsc::Sender<(NetnsCookie, bool)>>);

impl Known for Told {
    fn add(&self, netns: NetnsCookie) -> Result<(), String> {
        self.0.lock().expect("whole").send((netns, true)).map_err(|error| error.to_string())
    }

    fn remove(&self, netns: NetnsCookie) -> Result<(), String> {
        self.0.lock().expect("whole").send((netns, false)).map_err(|error| error.to_string())
    }
}

fn start() -> Option<(Namespaces, Receiver<(NetnsCookie, bool)>)> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: a network namespace needs root");
        return None;
    }
    let (told, hear) = channel();
    let surroundings = Surroundings {
        resolver_ports: (0, 0),
        ports: Listeners::open().expect("listeners").ports().expect("ports"),
        known: Box::new(Told(Mutex::new(told))),
        places: Box::new(Vec::new),
        tag_of: Box::new(|_| None),
        trouble: Box::new(|text| panic!("{text}")),
    };
    Some((Namespaces::start(surroundings).expect("started"), hear))
}

const SOON: Duration = Duration::from_secs(20);

fn letter(queue: &mut tokio::sync::mpsc::Receiver<Letter>) -> Letter {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
    let letter = runtime.block_on(async { tokio::time::timeout(SOON, queue.recv()).await });
    letter.expect("in time").expect("a letter")
}

#[test]
fn from_the_first_socket_to_the_end() {
    let Some((namespaces, hear)) = start() else { return };
    let (gate, mut letters) = Mailbox::new();
    namespaces.serve_with(gate.clone(), &[]);
    let inhabitant = Inhabitant::new();
    let tag = TagName::parse("t").expect("name");
    namespaces.appeared(&tag, inhabitant.0.id(), NetnsCookie(0));
    let (netns, added) = hear.recv_timeout(SOON).expect("told");
    assert!(added);
    let namespace = namespaces.find(netns).expect("it stands");
    assert_eq!(Some(namespace.inode), enter::inode_of(inhabitant.0.id()));
    for _ in namespace.listeners() {
        assert!(
            matches!(letter(&mut letters), (ToGate::Listener { netns: there }, Some(_)) if there == netns)
        );
    }
    for _ in namespace.resolvers() {
        assert!(
            matches!(letter(&mut letters), (ToGate::Resolver { netns: there }, Some(_)) if there == netns)
        );
    }
    drop(namespace);

    // A socket there, and none elsewhere.
    namespaces.socket(gate.clone(), 7, netns, false, false);
    let (answer, fd) = letter(&mut letters);
    assert!(matches!(answer, ToGate::Socket { call: 7, refused: None }), "{answer:?}");
    let there = listen_cookie(fd.expect("a socket"));
    assert_eq!(there, netns.0);
    namespaces.socket(gate, 8, NetnsCookie(u64::MAX), false, false);
    let (answer, fd) = letter(&mut letters);
    assert!(matches!(answer, ToGate::Socket { call: 8, refused: Some(_) }) && fd.is_none(), "{answer:?}");

    // Nobody of a tag lives there (no tag has a place here): the kernel programs first, then the gate, then we.
    assert_eq!(hear.recv_timeout(SOON).expect("told"), (netns, false));
    assert!(matches!(letter(&mut letters), (ToGate::Forget { netns: gone }, None) if gone == netns));
    assert!(
        namespaces.is_empty() && namespaces.find(netns).is_some(),
        "its port is taken until the gate closed it"
    );
    // Somebody comes in between: the gate gets them again, and its late word changes nothing.
    namespaces.appeared(&tag, inhabitant.0.id(), netns);
    assert_eq!(hear.recv_timeout(SOON).expect("told"), (netns, true));
    namespaces.forgotten(netns);
    assert_eq!(namespaces.len(), 1);
    assert_eq!(hear.recv_timeout(SOON).expect("told"), (netns, false));
    let end = Instant::now() + SOON;
    while namespaces.find(netns).is_some() {
        namespaces.forgotten(netns);
        assert!(Instant::now() < end, "it is never given up");
    }
}

fn listen_cookie(fd: OwnedFd) -> u64 {
    crate::warden::listen::netns_cookie(std::os::fd::AsFd::as_fd(&fd)).expect("a socket")
}

#[test]
fn home_and_the_dead_have_no_listeners_of_ours() {
    let Some((namespaces, hear)) = start() else { return };
    let tag = TagName::parse("t").expect("name");
    namespaces.appeared(&tag, std::process::id(), NetnsCookie(1));
    namespaces.appeared(&tag, u32::MAX, NetnsCookie(2));
    namespaces.resume(); // waits for what is queued
    assert!(namespaces.is_empty());
    assert!(hear.try_recv().is_err());
}
