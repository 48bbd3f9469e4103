//! Callers on a made-up host.

use std::path::Path;

use super::*;
use crate::doctor::process::{cap, made_up};
use crate::types::TagName;
use crate::warden::tags::{Asker, TagNumber};

fn caller(pid: u32, uid: u32) -> Caller {
    Caller {
        start_time: Some(u64::from(pid) * 100),
        uid,
        gid: uid,
        comm: "job".to_owned(),
        cgroup: "/jobs".to_owned(),
        ..Caller::unknown(TagName::parse("ci").expect("tag"), pid)
    }
}

fn tag(kind: Kind) -> Entry {
    Entry {
        name: TagName::parse("ci").expect("tag"),
        number: TagNumber(1),
        kind,
        asker: Asker::Configuration,
        since: time::OffsetDateTime::UNIX_EPOCH,
        options: Default::default(),
        cgroup: Some(CgroupPath("/jobs".to_owned())),
        attached: None,
        unit: None,
        came_from: None,
        notes: vec![],
        trouble: None,
    }
}

fn unit(name: &str) -> Kind {
    Kind::Designated(Designation::Unit(name.to_owned()))
}

/// A host with a kernel that has everything, and a judge over it.
fn host() -> (tempfile::TempDir, Host, Judge) {
    let root = tempfile::tempdir().expect("directory");
    made_up(root.path(), 1, 0, u64::MAX, "1");
    std::os::unix::fs::symlink("1", root.path().join("self")).expect("self");
    let host = Host::default();
    host.tell_layers(vec![Layer::active("connect4", ""), Layer::active("lsm socket_create", "")]);
    let tagged = |cgroup: &str| Path::new(cgroup).starts_with("/jobs");
    let examiner = Examiner::with(Proc::new(root.path()), host.clone(), tagged).expect("threads");
    (root, host, Judge::new(Arc::new(examiner)))
}

/// A made-up process whose directory belongs to its user, as /proc has it, and that sees an empty file system.
fn process(root: &Path, pid: u32, uid: u32, capabilities: u64) {
    let dir = made_up(root, pid, uid, capabilities, "1");
    std::fs::remove_file(dir.join("root")).expect("remove");
    std::os::unix::fs::symlink(root.join("files"), dir.join("root")).expect("root");
    std::os::unix::fs::chown(&dir, Some(uid), Some(uid)).expect("tests run as root");
}

#[test]
fn full_when_nothing_weakens() {
    let (root, _host, mut judge) = host();
    process(root.path(), 10, 1000, 0);
    let service = tag(unit("job.service"));
    assert_eq!(judge.weakened(&caller(10, 1000), Some(&service)), []);
}

#[test]
fn the_process_its_user_and_its_tag() {
    let (root, host, mut judge) = host();
    process(root.path(), 10, 1000, cap::NET_ADMIN);
    process(root.path(), 11, 1001, 0);
    process(root.path(), 12, 1001, 0);
    std::fs::write(root.path().join("12/cgroup"), "0::/user.slice/session-1.scope\n").expect("moved");
    let slice = tag(Kind::Designated(Designation::Slice("jobs.slice".to_owned())));
    assert_eq!(
        judge.weakened(&caller(10, 1000), Some(&slice)),
        [Weakness::CapNetAdmin, Weakness::NoStartCheck]
    );
    assert_eq!(judge.weakened(&caller(11, 1001), None), [Weakness::SharedUid]);

    host.tell_layers(vec![
        Layer::absent("skb egress", "", "no"),
        Layer::absent("lsm socket_create", "", "no BTF"),
    ]);
    host.tell_way_open(true);
    host.tell_filtered(vec!["ci".to_owned()]);
    let all = [
        Weakness::CapNetAdmin,
        Weakness::NoLsm,
        Weakness::LayerMissing,
        Weakness::WayOpen,
        Weakness::AddressFilter,
    ];
    assert_eq!(judge.weakened(&caller(10, 1000), None), all);
}

#[test]
fn an_engine_in_reach() {
    let (root, _host, mut judge) = host();
    process(root.path(), 10, 1000, 0);
    let run = root.path().join("files/run");
    std::fs::create_dir_all(&run).expect("run");
    let socket = run.join("docker.sock");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).expect("socket");
    // Group 999 is among the made-up process's.
    std::os::unix::fs::chown(&socket, Some(0), Some(999)).expect("tests run as root");
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o660);
    std::fs::set_permissions(&socket, mode).expect("mode");
    for at in [root.path().join("files"), run] {
        std::fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    }
    assert_eq!(judge.weakened(&caller(10, 1000), None), [Weakness::ContainerSocket]);
}

#[test]
fn who_is_gone_or_another_is_unseen_and_root_stays_root() {
    let (root, _host, mut judge) = host();
    process(root.path(), 10, 1000, 0);
    let another = Caller { start_time: Some(7), ..caller(10, 0) };
    assert_eq!(judge.weakened(&another, None), [Weakness::Root, Weakness::Unseen]);
    let gone = Caller { start_time: None, ..caller(10, 1000) };
    assert_eq!(judge.weakened(&gone, None), [Weakness::Unseen]);
}

#[test]
fn which_tags_are_checked_at_the_start() {
    let designated = |d: Designation| Kind::Designated(d);
    for (kind, unchecked) in [
        (unit("a.service"), false),
        (unit("a.scope"), true),
        (designated(Designation::Slice("a.slice".to_owned())), true),
        (designated(Designation::User("ann".to_owned())), true),
        (designated(Designation::Cgroup("/a".to_owned())), true),
        (Kind::Found, true),
        (Kind::Run { pid: 1 }, false),
        (Kind::Pid { pid: 1 }, false),
    ] {
        let entry = tag(kind);
        assert_eq!(no_start_check(&entry), unchecked, "{:?}", entry.kind);
    }
}
