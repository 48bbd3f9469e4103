//! Sockets from before a tag, in a network namespace of the test's own.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// A process with descriptors of our choice in place of 3, 4, …: `cat` that waits for its input to close.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `body` on a thread with a network namespace of its own that has 192.0.2.1 and 2001:db8::1 on loopback.
fn in_own_namespace(body: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: a network namespace needs root");
        return;
    }
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("network namespace");
        for args in [
            &["link", "set", "lo", "up"][..],
            &["addr", "add", "192.0.2.1/32", "dev", "lo"],
            &["addr", "add", "2001:db8::1/128", "dev", "lo", "nodad"],
        ] {
            assert!(Command::new("ip").args(args).status().expect("iproute2").success(), "{args:?}");
        }
        // The way to a fresh IPv6 address comes a moment after the address.
        let end = Instant::now() + Duration::from_secs(10);
        let probe = UdpSocket::bind("[::]:0").expect("socket");
        while let Err(error) = probe.connect("[2001:db8::1]:9") {
            assert!(Instant::now() < end, "no way to the own address: {error}");
            std::thread::yield_now();
        }
        body();
    });
    thread.join().expect("the test passed");
}

fn hold(script: &str) -> (Holder, Process) {
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = bash.spawn().expect("bash");
    let mut ready = [0];
    child.stdout.as_mut().expect("stdout").read_exact(&mut ready).expect("ready");
    let process = Process::open(child.id()).expect("pidfd");
    (Holder(child), process)
}

fn reset(mut stream: &TcpStream) -> io::ErrorKind {
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
    stream.read(&mut [0]).expect_err("ended").kind()
}

#[test]
fn connections_end_and_nothing_can_leave() {
    in_own_namespace(|| {
        let v4 = TcpListener::bind("192.0.2.1:0").expect("listener");
        let v6 = TcpListener::bind("[2001:db8::1]:0").expect("listener");
        let local = TcpListener::bind("127.0.0.1:0").expect("listener");
        let udp = UdpSocket::bind("192.0.2.1:0").expect("socket");
        let port = |l: &TcpListener| l.local_addr().expect("address").port();
        let (_holder, process) = hold(&format!(
            "exec 3<>/dev/tcp/192.0.2.1/{} 4<>/dev/tcp/2001:db8::1/{} 5<>/dev/tcp/127.0.0.1/{} 6<>/dev/udp/192.0.2.1/{}; \
             echo; cat",
            port(&v4),
            port(&v6),
            port(&local),
            udp.local_addr().expect("address").port(),
        ));
        let (four, _) = v4.accept().expect("connected");
        let (six, _) = v6.accept().expect("connected");
        let (mut near, _) = local.accept().expect("connected");

        let sealed = seal(&process, Loopback::Pass).expect("sealed");
        assert_eq!((sealed.sealed, sealed.destroyed, sealed.shut_down), (4, 3, 0), "{sealed:?}");
        assert_eq!((sealed.left_open_count, sealed.listening), (0, 0), "{sealed:?}");
        assert_eq!(reset(&four), io::ErrorKind::ConnectionReset);
        assert_eq!(reset(&six), io::ErrorKind::ConnectionReset);
        near.set_nonblocking(true).expect("mode");
        assert_eq!(near.read(&mut [0]).expect_err("open").kind(), io::ErrorKind::WouldBlock);
    });
}

#[test]
fn a_socket_cannot_pose_as_one_that_leads_nowhere() {
    in_own_namespace(|| {
        let far = TcpListener::bind("192.0.2.1:0").expect("listener");
        // The name of the Unix socket is a line of /proc/net/unix that gives the inode of the connected TCP socket.
        let script = format!(
            "import os, socket, sys\n\
             tcp = socket.create_connection(('192.0.2.1', {}))\n\
             inode = os.readlink('/proc/self/fd/%d' % tcp.fileno())[8:-1]\n\
             posing = socket.socket(socket.AF_UNIX)\n\
             posing.bind('\\0a\\n0 0 0 0 0 0 ' + inode + ' x')\n\
             print(flush=True)\n\
             sys.stdin.read()",
            far.local_addr().expect("address").port()
        );
        let (_holder, process) = hold(&format!("exec python3 -c \"{script}\""));
        let (stream, _) = far.accept().expect("connected");
        let sealed = seal(&process, Loopback::Pass).expect("sealed");
        assert_eq!((sealed.sealed, sealed.destroyed, sealed.left_open_count), (1, 1, 0), "{sealed:?}");
        assert_eq!(reset(&stream), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_sealed_socket_reaches_nothing_but_loopback() {
    in_own_namespace(|| {
        // A way out: an address that is routed to another device than loopback.
        for args in [
            &["link", "add", "out", "type", "bridge"][..],
            &["link", "set", "out", "up"],
            &["addr", "add", "198.51.100.1/24", "dev", "out"],
        ] {
            assert!(Command::new("ip").args(args).status().expect("iproute2").success(), "{args:?}");
        }
        let socket = UdpSocket::bind("0.0.0.0:0").expect("socket");
        socket.send_to(b"x", "198.51.100.7:9").expect("not sealed yet");
        let sent = || {
            let text = fs::read_to_string("/proc/thread-self/net/dev").expect("devices");
            let line = text.lines().find(|l| l.trim_start().starts_with("out:")).expect("device").to_owned();
            line.split_whitespace().nth(10).and_then(|n| n.parse::<u64>().ok()).expect("packets sent")
        };
        let before = sent();
        assert!(before > 0, "the way out is one");
        let mut sealed = Sealed::default();
        let nobody = io::Error::from(io::ErrorKind::NotFound);
        let copy: OwnedFd = socket.try_clone().expect("duplicate").into();
        seal_one(&copy, Loopback::Pass, Err(&nobody), &mut sealed);
        assert_eq!((sealed.sealed, sealed.left_open_count), (1, 0));
        let _ = socket.send_to(b"x", "198.51.100.7:9"); // refused or lost: it must not leave
        assert_eq!(sent(), before);
    });
}

#[test]
fn what_is_no_way_out_is_left_alone() {
    in_own_namespace(|| {
        let listener: OwnedFd = TcpListener::bind("192.0.2.1:0").expect("listener").into();
        let (unix, _other) = std::os::unix::net::UnixStream::pair().expect("pair");
        let unix: OwnedFd = unix.into();
        let nobody = io::Error::from(io::ErrorKind::NotFound);
        let mut sealed = Sealed::default();
        seal_one(&listener, Loopback::Pass, Err(&nobody), &mut sealed);
        seal_one(&unix, Loopback::Pass, Err(&nobody), &mut sealed);
        assert_eq!(sealed, Sealed { listening: 1, ..Sealed::default() });
        assert_eq!(sealed.notes(), ["left open: 1 listening sockets"]);
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the socket that is shut down, in a namespace of its own")]
fn a_kernel_without_sock_destroy_shuts_down() {
    in_own_namespace(|| {
        let listener = TcpListener::bind("192.0.2.1:0").expect("listener");
        let stream = TcpStream::connect(listener.local_addr().expect("address")).expect("connected");
        let (mut other, _) = listener.accept().expect("accepted");
        let nobody = io::Error::from(io::ErrorKind::Unsupported);
        let mut sealed = Sealed::default();
        let copy: OwnedFd = stream.try_clone().expect("duplicate").into();
        seal_one(&copy, Loopback::Pass, Err(&nobody), &mut sealed);
        assert_eq!((sealed.sealed, sealed.destroyed, sealed.shut_down), (1, 0, 1));
        other.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
        assert_eq!(other.read(&mut [0]).expect("end"), 0);
    });
}

#[test]
fn answers_of_the_kernel() {
    let error = |code: i32| {
        let mut answer = vec![36, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        answer.extend(code.to_ne_bytes());
        outcome(&answer)
    };
    assert!(error(0).is_ok());
    assert_eq!(error(-libc::EOPNOTSUPP).expect_err("no").raw_os_error(), Some(libc::EOPNOTSUPP));
    assert!(outcome(&[]).is_err());
}
