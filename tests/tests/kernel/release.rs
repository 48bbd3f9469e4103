//! A release follows another: its programs take the places of the other's while the tag's processes go on connecting.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use agent_ebpf::Counter;
use aya::maps::Array;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{CgroupAttachMode, Program};
use sluice::warden::kernel::{Kernel, Sizes, TagOptions};
use sluice_tests::host::run;
use sluice_tests::process::in_guest;

use crate::stage::{Stage, WORLD4, WORLD6, look_up, tag};

/// The object of the first release, as it was in the repository.
static FIRST: &[u8] = aya::include_bytes_aligned!("../../data/sluice-abi1.bpf.o");

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
    // A guest makes a quarter of the connections.
    let each = if in_guest() { 5_000 } else { 20_000 };
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
            thread::spawn(move || run(dialler.args(["storm", address, &each.to_string()])))
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
            assert_eq!(storm.join().expect("no refusal").trim(), format!("ok {each}"));
        }
    });
    println!("{replaced} releases during {} connections", 2 * each);
    assert!(replaced >= 5, "too few releases to show anything: {replaced}");
    assert_eq!((known.into_inner(), unknown.into_inner()), (2 * each, 0));
    assert_eq!(stage.count(Counter::Taken), 2 * each as u64, "each connection met one program");
    assert_eq!(pins(stage.bpf.path()), before, "nothing more is pinned than before");
}

#[test]
fn what_a_crash_left_half_replaced_is_done_again() {
    let stage = Stage::tagged("crash");
    let links = stage.bpf.path().join("tags/ci/7").join(stage.cgroup.id().to_string());
    let before = pins(stage.bpf.path());
    // Killed between two hooks, and between the making of a link and its place; and a hook of a release that is gone.
    std::fs::remove_file(links.join("link_connect6")).expect("a hook that is not attached yet");
    std::fs::rename(links.join("link_getpeername6"), links.join("link_getpeername6_new"))
        .expect("not in place yet");
    std::fs::rename(links.join("link_getpeername4"), links.join("link_gone")).expect("of another release");
    let kernel = starts(&stage, Sizes::default());
    assert_eq!(pins(stage.bpf.path()), before);
    stage.dial(&["connect", WORLD6]);
    let stream = stage.accept(true);
    assert!(look_up(&kernel, stage.netns, &stream).is_some());
    assert_eq!(stage.count(Counter::Taken), 1);
}

/// The first release: its object, its pins, its layout of the maps, loaded as it did but for one hook (aya gives its link
/// out to nobody), as if ours had one more. Returns what keeps that hook attached.
fn first_release(stage: &Stage) -> aya::Ebpf {
    let pins = stage.bpf.path();
    let tag = pins.join("tags/ci");
    let links = tag.join("7").join(stage.cgroup.id().to_string());
    for dir in [&pins.join("maps_v1"), &links] {
        std::fs::create_dir_all(dir).expect("in bpffs");
    }
    let mut loader = aya::EbpfLoader::new();
    loader.btf(None);
    for map in ["CONFIG", "COUNTERS", "ORIGINS", "AYA_LOGS"] {
        loader.map_pin_path(map, pins.join("maps_v1").join(map));
    }
    for map in ["WAITING", "SETTINGS"] {
        loader.map_pin_path(map, tag.join(format!("{map}_v1")));
    }
    let mut object = loader.load(FIRST).expect("the first release loads");
    // Its `Config`: ours without what came later, and `Settings`: a number and a flag.
    let config = stage.config();
    let mut bytes = [0_u8; 32];
    bytes[8..10].copy_from_slice(&config.prefix4.to_ne_bytes());
    bytes[10..12].copy_from_slice(&config.port4.to_ne_bytes());
    bytes[12..16].copy_from_slice(&config.count6.to_ne_bytes());
    for (at, port) in config.ports6.iter().enumerate() {
        bytes[16 + 2 * at..18 + 2 * at].copy_from_slice(&port.to_ne_bytes());
    }
    let mut map: Array<_, [u8; 32]> = object.take_map("CONFIG").expect("map").try_into().expect("an array");
    map.set(0, bytes, 0).expect("set");
    let mut map: Array<_, [u32; 2]> = object.take_map("SETTINGS").expect("map").try_into().expect("an array");
    map.set(0, [7, 0], 0).expect("set");
    let cgroup = std::fs::File::open(stage.cgroup.path()).expect("cgroup");
    for name in ["established", "getpeername4", "getpeername6", "connect4", "connect6"] {
        let link: FdLink = match object.program_mut(name).expect("program") {
            Program::CgroupSockAddr(program) => {
                program.load().expect("loads");
                let id = program.attach(&cgroup, CgroupAttachMode::Single).expect("attaches");
                program.pin(tag.join(format!("prog_{name}"))).expect("pinned");
                program.take_link(id).expect("link").try_into().expect("a link of its own")
            }
            Program::SockOps(program) => {
                program.load().expect("loads");
                let id = program.attach(&cgroup, CgroupAttachMode::Single).expect("attaches");
                program.pin(tag.join(format!("prog_{name}"))).expect("pinned");
                program.take_link(id).expect("link").try_into().expect("a link of its own")
            }
            _ => panic!("{name}"),
        };
        link.pin(links.join(format!("link_{name}"))).expect("pinned");
    }
    object
}

/// Another ABI: what the first release remembered is still read, its programs give way in their places, its maps go.
#[test]
fn the_first_releases_tags_are_taken_over_by_ours() {
    let mut stage = Stage::new("abi");
    let first = first_release(&stage);
    stage.dial(&["connect", WORLD4]);
    let waited = stage.accept(false);
    let before = links_of(&stage);

    let mut kernel = Kernel::open(stage.bpf.path(), stage.config()).expect("kernel part");
    kernel.add_namespace(stage.netns).expect("ours");
    let adopted = kernel.adopt().expect("adopt");
    assert!(adopted.len() == 1 && adopted[0].stale && adopted[0].number == 7, "{adopted:?}");
    kernel.sweep().expect("sweep");
    assert!(stage.bpf.path().join("maps_v1").exists(), "still in use");
    // Their connections come, and the next release's do, while one takes over from the other.
    kernel.attach(&tag("ci"), 7, stage.cgroup.path(), &TagOptions::default()).expect("attach");
    let origin = look_up(&kernel, stage.netns, &waited).expect("what the first release remembered");
    assert_eq!(origin.tag, 7);
    for (address, v6) in [(WORLD4, false), (WORLD6, true)] {
        stage.dial(&["connect", address]);
        let stream = stage.accept(v6);
        assert!(look_up(&kernel, stage.netns, &stream).is_some(), "{address}");
    }
    let after = links_of(&stage);
    for (name, link) in &before {
        assert_eq!(after.get(name), Some(link), "{name}: the same link, with another program");
    }
    assert!(after.len() > before.len(), "ours has more hooks");
    kernel.sweep().expect("sweep");
    let left = pins(stage.bpf.path()).into_iter().filter(|path| path.to_string_lossy().contains("_v1"));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "nothing of the first release is left");
    stage.kernel = kernel;
    drop(first);
}

/// The kernel's numbers of a cgroup's links, by name of the pin.
fn links_of(stage: &Stage) -> std::collections::BTreeMap<String, u32> {
    let dir = stage.bpf.path().join("tags/ci/7").join(stage.cgroup.id().to_string());
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let link = PinnedLink::from_pin(&path).ok()?;
        Some((path.file_name()?.to_str()?.to_owned(), FdLink::from(link).info().ok()?.id()))
    };
    std::fs::read_dir(dir).expect("links").filter_map(of).collect()
}
