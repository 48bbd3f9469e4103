//! Tags and entries that outlive daemons, and how they end.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use agent_ebpf::{Config, Counter};
use sluice::warden::kernel::{Error, Kernel, TagOptions, boot_time};
use sluice_tests::host::Cgroup;

use crate::stage::{PATIENCE, Stage, WORLD4, WORLD6, tag};

#[test]
fn the_tag_outlives_its_daemon_and_is_taken_over_by_the_next() {
    let mut stage = Stage::new("outlive");
    let name = tag("gitlab-runner.service");
    stage.kernel.attach(&name, 300, stage.cgroup.path(), &TagOptions::default()).expect("attach");
    let gone = stage.cgroup.child("gone");
    stage.kernel.attach(&name, 300, gone.path(), &TagOptions::default()).expect("attach");
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

    stage.kernel.attach(&name, 300, stage.cgroup.path(), &TagOptions::default()).expect("refresh");
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
    stage.kernel.attach(&tag("ci"), 7, other.path(), &TagOptions::default()).expect("attach");
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
        stage.kernel.attach(&tag("ci"), 7, path, &TagOptions::default())
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
fn a_number_belongs_to_one_name() {
    let mut stage = Stage::tagged("number");
    let cgroup = stage.cgroup.path().to_owned();
    let mut attach = |name, number| stage.kernel.attach(&tag(name), number, &cgroup, &TagOptions::default());
    assert!(matches!(attach("other", 7), Err(Error::Number { .. })));
    assert!(matches!(attach("ci", 8), Err(Error::Number { .. })));
    let config = stage.config();
    stage.kernel = Kernel::open(stage.bpf.path(), config).expect("a daemon that has not adopted yet");
    let mut attach = |name, number| stage.kernel.attach(&tag(name), number, &cgroup, &TagOptions::default());
    assert!(matches!(attach("ci", 8), Err(Error::Number { .. })));
    attach("ci", 7).expect("its own");
}

#[test]
fn prepared_programs_are_pinned_before_there_is_a_cgroup() {
    let mut stage = Stage::new("prepare");
    let pins = stage.kernel.prepare(&tag("legacy.service"), 9, &TagOptions::default()).expect("prepare");
    let types: Vec<&str> = pins.iter().map(|(kind, _)| *kind).collect();
    let all = [
        "sock_ops",
        "recvmsg4",
        "recvmsg6",
        "sock_create",
        "setsockopt",
        "bind4",
        "bind6",
        "ingress",
        "egress",
        "sendmsg4",
        "sendmsg6",
        "connect4",
        "connect6",
    ];
    assert_eq!(types, all);
    assert!(pins.iter().all(|(_, path)| path.exists() && !path.to_string_lossy().contains('.')));
    stage
        .kernel
        .attach(&tag("legacy.service"), 9, stage.cgroup.path(), &TagOptions::default())
        .expect("attach");
    stage.dial(&["connect", WORLD4]);
    assert!(stage.origin(&stage.accept(false)).is_some());
}

#[test]
fn what_was_written_and_closed_before_accept_is_still_identified_and_swept_later() {
    let mut stage = Stage::tagged("quick");
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
