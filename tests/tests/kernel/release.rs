//! A release follows another: its programs take the places of the other's while the tag's processes go on connecting.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use agent_ebpf::Counter;
use sluice::warden::kernel::{Kernel, Sizes, TagOptions};
use sluice_tests::host::run;

use crate::stage::{Stage, WORLD4, WORLD6, look_up, tag};

/// Our own programs with other instructions for the same: "r0 = 1" of 32 bits in the place of that of 64. Made once.
fn another() -> Sizes {
    static OBJECT: std::sync::LazyLock<&'static [u8]> = std::sync::LazyLock::new(|| {
        let mut object = include_bytes!("../../../agent-ebpf/sluice.bpf.o").to_vec();
        let (wide, narrow) = ([0xb7, 0, 0, 0, 1, 0, 0, 0], [0xb4, 0, 0, 0, 1, 0, 0, 0]);
        let mut changed = 0;
        for at in (0..object.len() - 8).step_by(8) {
            if object[at..at + 8] == wide {
                object[at..at + 8].copy_from_slice(&narrow);
                changed += 1;
            }
        }
        assert!(changed > 0, "the object has no such instruction");
        object.leak()
    });
    Sizes { object: Some(*OBJECT), ..Sizes::default() }
}

/// The daemon of a release starts: takes over what the last one left and puts its own programs to work.
fn starts(stage: &Stage, release: Sizes) -> Kernel {
    let mut kernel = Kernel::open_sized(stage.bpf.path(), stage.config(), release).expect("kernel part");
    let adopted = kernel.adopt().expect("adopt");
    assert!(adopted.len() == 1 && adopted[0].stale, "another release's: {adopted:?}");
    kernel.attach(&tag("ci"), 7, stage.cgroup.path(), &TagOptions::default()).expect("attach");
    kernel
}

/// Everything below the tag's directory.
fn pins(dir: &Path) -> Vec<PathBuf> {
    let text = run(std::process::Command::new("find").arg(dir));
    let mut all: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
    all.sort();
    all
}

#[test]
fn the_next_release_takes_the_places_of_the_last_under_load() {
    let stage = Stage::tagged("release");
    let before = pins(stage.bpf.path());
    let mut looker = Kernel::open(stage.bpf.path(), stage.config()).expect("kernel part");
    assert!(looker.adopt().expect("adopt").iter().all(|tag| !tag.stale), "the same release's");
    let (known, unknown, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let mut replaced = 0;
    thread::scope(|scope| {
        for listener in std::iter::once(&stage.listeners.v4).chain(&stage.listeners.v6) {
            scope.spawn(|| {
                while let Ok((stream, _)) = listener.accept() {
                    let found = look_up(&looker, stage.netns, &stream).is_some();
                    if !found && over.load(Ordering::SeqCst) {
                        return; // Ours, behind all others.
                    }
                    if found { &known } else { &unknown }.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let storm = |address| {
            let mut dialler = stage.dialler(Some(&stage.cgroup));
            thread::spawn(move || run(dialler.args(["storm", address, "20000"])))
        };
        let storms = [storm(WORLD4), storm(WORLD6)];
        while !storms.iter().all(thread::JoinHandle::is_finished) {
            let release = if replaced % 2 == 0 { another() } else { Sizes::default() };
            starts(&stage, release);
            replaced += 1;
        }
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
        for storm in storms {
            assert_eq!(storm.join().expect("no refusal").trim(), "ok 20000");
        }
    });
    println!("{replaced} releases during 40,000 connections");
    assert!(replaced >= 5, "too few releases to show anything: {replaced}");
    assert_eq!((known.into_inner(), unknown.into_inner()), (40_000, 0));
    assert_eq!(stage.count(Counter::Taken), 40_000, "each connection met one program");
    assert_eq!(pins(stage.bpf.path()), before, "nothing more is pinned than before");
}

#[test]
fn what_a_crash_left_half_replaced_is_done_again() {
    let stage = Stage::tagged("crash");
    let links = stage.bpf.path().join("tags/ci/7").join(stage.cgroup.id().to_string());
    let before = pins(stage.bpf.path());
    // Killed between two hooks, and between the making of a link and its place; and a hook of a release that is gone.
    std::fs::remove_file(links.join("link_connect6")).expect("a hook that is not attached yet");
    std::fs::rename(links.join("link_getpeername6"), links.join("link_getpeername6_new")).expect("not in place yet");
    std::fs::rename(links.join("link_getpeername4"), links.join("link_gone")).expect("of another release");
    let kernel = starts(&stage, Sizes::default());
    assert_eq!(pins(stage.bpf.path()), before);
    stage.dial(&["connect", WORLD6]);
    let stream = stage.accept(true);
    assert!(look_up(&kernel, stage.netns, &stream).is_some());
    assert_eq!(stage.count(Counter::Taken), 1);
}
