//! Unix sockets on the deny list.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use agent_ebpf::Counter;

use crate::rig::{Rig, rules};

fn directories() {
    for path in ["/run/sl-lsm/all", "/run/user/4242", "/run/user/77"] {
        std::fs::create_dir_all(path).expect("a directory");
    }
    assert_eq!(std::fs::canonicalize("/var/run").expect("/var/run"), std::path::Path::new("/run"));
}

fn abstract_listener(name: &str) -> UnixListener {
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a name");
    UnixListener::bind_addr(&address).expect("bind")
}

#[test]
fn helpers_on_the_list_are_not_talked_to() {
    let rig = Rig::new("unix");
    directories();
    let (_links, _relative) = (
        std::os::unix::fs::symlink("/run/sl-lsm/denied.sock", "/run/sl-lsm/link.sock"),
        std::fs::create_dir_all("/run/sl-lsm/other"),
    );
    let _servers: Vec<UnixListener> = [
        "/run/sl-lsm/denied.sock",
        "/var/run/sl-lsm/all/x.sock",
        "/run/user/4242/sl-lsm",
        "/var/run/user/77/sl-lsm",
        "/run/sl-lsm/denied.sock2",
        "/run/sl-lsm/open.sock",
        "/run/user/4242/other",
    ]
    .map(|path| UnixListener::bind(path).unwrap_or_else(|e| panic!("{path}: {e}")))
    .into();
    // Abstract names belong to a network namespace.
    let _abstract =
        rig.stage.namespace.enter(|| [abstract_listener("sl-lsm-7"), abstract_listener("sl-other")]);
    for (name, rule) in [
        ("/run/sl-lsm/denied.sock", 1),
        ("/run/sl-lsm/link.sock", 1),
        ("/var/run/sl-lsm/denied.sock", 1),
        ("/run/sl-lsm/all/x.sock", 2),
        ("/run/user/4242/sl-lsm", 3),
        ("/run/user/77/sl-lsm", 3),
        ("@sl-lsm-7", 4),
    ] {
        assert_eq!(rig.outside(&["unix", "stream", name]), "ok 6", "{name} untagged");
        let _ = rig.events();
        assert_eq!(rig.inside(&["unix", "stream", name]), "refused EPERM", "{name}");
        let told = rig.told(Counter::UnixPeer);
        assert_eq!((told.len(), told[0].detail, told[0].family, told[0].tag), (1, rule, 1, 7), "{name}");
        assert!(rig.stage.kernel.lsm().expect("at work").rule(rule).is_some());
    }
    for name in ["/run/sl-lsm/denied.sock2", "/run/sl-lsm/open.sock", "/run/user/4242/other", "@sl-other"] {
        assert_eq!(rig.inside(&["unix", "stream", name]), "ok 6", "{name}");
    }
}

#[test]
fn datagrams_to_helpers_on_the_list_are_refused() {
    let rig = Rig::new("dgram");
    directories();
    let _denied = UnixDatagram::bind("/run/sl-lsm/all/datagram").expect("bind");
    let _open = UnixDatagram::bind("/run/sl-lsm/datagram").expect("bind");
    assert_eq!(rig.outside(&["unix", "datagram", "/run/sl-lsm/all/datagram"]), "ok 6");
    assert_eq!(rig.inside(&["unix", "datagram", "/run/sl-lsm/all/datagram"]), "refused EPERM");
    assert_eq!(rig.inside(&["unix", "datagram", "/run/sl-lsm/datagram"]), "ok 6");
    assert_eq!(rig.told(Counter::UnixPeer)[0].kind, 2);
}

#[test]
fn a_helper_inside_the_tag_may_be_called_as_it_likes() {
    let rig = Rig::new("inner");
    directories();
    assert_eq!(rig.inside(&["helper", "/run/sl-lsm/all/own"]), "ok 6");
    assert_eq!(rig.inside(&["helper", "@sl-lsm-own"]), "ok 6");
}

#[test]
fn a_connection_to_a_helper_from_before_is_of_no_use() {
    let rig = Rig::new("unixfd");
    directories();
    let denied = UnixListener::bind("/run/sl-lsm/all/before").expect("bind");
    let open = UnixListener::bind("/run/sl-lsm/before").expect("bind");
    let connect = |path: &str| -> OwnedFd { UnixStream::connect(path).expect("connect").into() };
    let to_denied = connect("/run/sl-lsm/all/before");
    let (_far, to_open) = (denied.accept().expect("accept"), connect("/run/sl-lsm/before"));
    let _far_open = open.accept().expect("accept");
    assert_eq!(rig.try_in(&rig.outside, &["with", "send"], Some(&to_denied)), "ok 6");
    assert_eq!(rig.try_in(&rig.stage.cgroup, &["with", "send"], Some(&to_denied)), "refused EPERM");
    assert_eq!(rig.try_in(&rig.stage.cgroup, &["with", "splice"], Some(&to_denied)), "refused EPERM");
    assert_eq!(rig.try_in(&rig.stage.cgroup, &["with", "send"], Some(&to_open)), "ok 6");
}

#[test]
fn the_list_can_be_replaced() {
    let mut rig = Rig::new("relist");
    directories();
    let _a = UnixListener::bind("/run/sl-lsm/relist-a").expect("bind");
    let _b = UnixListener::bind("/run/sl-lsm/relist-b").expect("bind");
    let answers = |rig: &Rig| {
        ["/run/sl-lsm/relist-a", "/run/sl-lsm/relist-b"].map(|path| rig.inside(&["unix", "stream", path]))
    };
    assert_eq!(answers(&rig), ["ok 6", "ok 6"]);
    rig.stage.kernel.guard(&rules(&["/run/sl-lsm/relist-a"])).expect("replaced");
    assert_eq!(answers(&rig), ["refused EPERM", "ok 6"]);
    rig.stage.kernel.guard(&rules(&["/run/sl-lsm/relist-b"])).expect("replaced");
    assert_eq!(answers(&rig), ["ok 6", "refused EPERM"]);
}

#[test]
fn the_list_that_is_built_in_fits() {
    let mut rig = Rig::new("builtin");
    rig.stage.kernel.guard(&sluice::config::Config::default().denied_sockets).expect("fits");
    std::fs::create_dir_all("/run/user/5").expect("a directory");
    let _bus = UnixListener::bind("/run/user/5/bus").expect("bind");
    let _docker = UnixListener::bind("/run/docker.sock").expect("bind");
    for path in ["/run/user/5/bus", "/var/run/docker.sock"] {
        assert_eq!(rig.outside(&["unix", "stream", path]), "ok 6", "{path} untagged");
        assert_eq!(rig.inside(&["unix", "stream", path]), "refused EPERM", "{path}");
    }
}
