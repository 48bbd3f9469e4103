//! Sockets that were not made in the tag: inherited, or handed over.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use agent_ebpf::Counter;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sluice::warden::kernel::address;

use crate::rig::Rig;
use crate::stage::WORLD4;

/// What a server may have received by now.
fn arrived(server: &TcpStream) -> String {
    server.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let mut text = [0; 64];
    match (&*server).read(&mut text) {
        Ok(read) => String::from_utf8_lossy(&text[..read]).into_owned(),
        Err(_) => String::new(),
    }
}

/// A connection to the world, made by nobody's tag.
fn connected(rig: &Rig, world: &TcpListener) -> (OwnedFd, TcpStream) {
    let client = rig.stage.namespace.enter(|| TcpStream::connect(WORLD4).expect("connect"));
    (client.into(), world.accept().expect("accept").0)
}

#[test]
fn a_connection_from_before_is_of_no_use() {
    let rig = Rig::new("before");
    let world = rig.stage.world(WORLD4);
    for how in ["send", "sendfile", "splice"] {
        let (client, server) = connected(&rig, &world);
        let words = ["with", how];
        assert!(rig.try_in(&rig.outside, &words, Some(&client)).starts_with("ok "), "{how} untagged");
        assert!(!arrived(&server).is_empty(), "{how} untagged");
        let _ = rig.events();
        assert_eq!(rig.try_in(&rig.stage.cgroup, &words, Some(&client)), "refused EPERM", "{how}");
        assert_eq!(rig.try_as_nobody(&rig.stage.cgroup, &words, Some(&client)), "refused EPERM", "{how}");
        assert_eq!(arrived(&server), "", "{how}");
        let told = rig.told(Counter::ForeignSocket);
        assert_eq!(told.len(), 2, "{how}");
        assert_eq!(address(&told[0]), Some(WORLD4.parse().expect("address")), "{how}");
        assert_eq!((told[0].family, told[0].kind, told[1].uid), (2, 1, 65534), "{how}");
    }
    let (client, mut server) = connected(&rig, &world);
    server.write_all(b"order").expect("write");
    assert_eq!(rig.try_in(&rig.stage.cgroup, &["with", "recv"], Some(&client)), "refused EPERM");
    assert_eq!(rig.try_in(&rig.outside, &["with", "recv"], Some(&client)), "ok order");
}

#[test]
fn a_socket_from_before_connects_nowhere() {
    let rig = Rig::new("unconnected");
    let world = rig.stage.world(WORLD4);
    let fresh = |v6: bool| -> OwnedFd {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
        let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        rig.stage
            .namespace
            .enter(|| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket"))
    };
    let words = ["with", "connect", WORLD4];
    assert_eq!(rig.try_in(&rig.outside, &words, Some(&fresh(false))), "ok");
    world.accept().expect("the untagged one");
    assert_eq!(rig.try_in(&rig.stage.cgroup, &words, Some(&fresh(false))), "refused EPERM");
    let words = ["with", "connect", "[2001:db8::10]:443"];
    assert_eq!(rig.try_in(&rig.stage.cgroup, &words, Some(&fresh(true))), "refused EPERM");
    world.set_nonblocking(true).expect("nonblocking");
    assert!(world.accept().is_err(), "nobody came");
}

#[test]
fn datagram_sockets_from_before_send_nothing() {
    let rig = Rig::new("datagram");
    let server = rig.stage.namespace.enter(|| UdpSocket::bind("203.0.113.10:9000").expect("bind"));
    server.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let client: OwnedFd = rig.stage.namespace.enter(|| UdpSocket::bind("0.0.0.0:0").expect("bind")).into();
    let words = ["with", "sendto", "203.0.113.10:9000"];
    assert_eq!(rig.try_in(&rig.outside, &words, Some(&client)), "ok 6");
    let mut text = [0; 16];
    assert_eq!(server.recv(&mut text).expect("untagged"), 6);
    assert_eq!(rig.try_in(&rig.stage.cgroup, &words, Some(&client)), "refused EPERM");
    assert!(server.recv(&mut text).is_err(), "nothing came");
}

#[test]
fn listeners_from_before_take_nobody_in() {
    let rig = Rig::new("listener");
    let listener: OwnedFd = rig.stage.world("203.0.113.10:8000").into();
    let dial = || rig.stage.namespace.enter(|| TcpStream::connect("203.0.113.10:8000").expect("connect"));
    let _first = dial();
    assert_eq!(rig.try_in(&rig.stage.cgroup, &["with", "accept"], Some(&listener)), "refused EPERM");
    assert_eq!(rig.try_in(&rig.stage.cgroup, &["with", "listen"], Some(&listener)), "refused EPERM");
    assert_eq!(rig.try_in(&rig.outside, &["with", "listen"], Some(&listener)), "ok");
    assert_eq!(rig.try_in(&rig.outside, &["with", "accept"], Some(&listener)), "ok");
}

/// Serves one client of a Unix socket, and hands it these files.
fn hand_over<T>(path: &str, files: &[&OwnedFd], work: impl FnOnce() -> T) -> T {
    let _old = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).expect("bind");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (client, _) = listener.accept().expect("accept");
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
            assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
            let text = [std::io::IoSlice::new(b"here")];
            sendmsg(client.as_fd(), &text, &mut control, SendFlags::empty()).expect("send");
        });
        work()
    })
}

#[test]
fn sockets_that_are_handed_over_do_not_arrive() {
    let rig = Rig::new("rights");
    std::fs::create_dir_all("/run/sl-lsm").expect("a directory");
    let world = rig.stage.world(WORLD4);
    let (client, _server) = connected(&rig, &world);
    let datagram: OwnedFd =
        rig.stage.namespace.enter(|| UdpSocket::bind("203.0.113.10:0").expect("bind")).into();
    let packet: OwnedFd = rustix::net::socket(
        rustix::net::AddressFamily::from_raw(libc::AF_PACKET.try_into().expect("a family")),
        rustix::net::SocketType::RAW,
        None,
    )
    .expect("a packet socket");
    let file: OwnedFd = std::fs::File::open("/etc/hostname").expect("a file").into();
    let pair: OwnedFd = std::os::unix::net::UnixStream::pair().expect("a pair").0.into();
    let path = "/run/sl-lsm/rights.sock";
    let receive =
        |cgroup, file: &OwnedFd| hand_over(path, &[file], || rig.try_in(cgroup, &["receive", path], None));
    for (what, socket) in [("tcp", &client), ("udp", &datagram), ("packet", &packet)] {
        assert_eq!(receive(&rig.outside, socket), "ok 1", "{what} untagged");
        let _ = rig.events();
        assert_eq!(receive(&rig.stage.cgroup, socket), "ok 0", "{what}");
        assert_eq!(rig.told(Counter::PassedSocket).len(), 1, "{what}");
    }
    assert_eq!(receive(&rig.stage.cgroup, &file), "ok 1", "files still arrive");
    assert_eq!(receive(&rig.stage.cgroup, &pair), "ok 1", "Unix sockets too");
}

#[test]
fn a_socket_of_the_tag_works_in_every_way() {
    let rig = Rig::new("own");
    let _server = rig.stage.world("127.0.0.1:4000");
    let answer = rig.stage.dial(&["connect", "127.0.0.1:4000", "write=hello"]);
    assert!(answer.starts_with("ok "), "{answer}");
    let answer = rig.stage.dial(&["connect", WORLD4, "fastopen"]);
    assert!(answer.starts_with("ok "), "{answer}");
    let answer = rig.stage.dial(&["connect", WORLD4, "mptcp", "write=hello"]);
    assert!(answer.starts_with("ok "), "{answer}");
    assert_eq!(rig.stage.count(Counter::ForeignSocket), 0);
}

#[test]
fn a_socket_of_one_tag_is_foreign_in_another() {
    use crate::stage::tag;
    let mut rig = Rig::new("two");
    let inner = rig.stage.cgroup.child("inner");
    rig.stage.kernel.attach(&tag("inner"), 8, inner.path(), &Default::default()).expect("attach");
    assert!(rig.stage.dial_in(Some(&inner), &["connect", WORLD4]).starts_with("ok "), "its own works");
    assert_eq!(rig.try_in(&inner, &["sockets", "40:1:0"], None), "EPERM");
    assert_eq!(rig.told(Counter::Family)[0].tag, 8, "the innermost tag counts");
}
