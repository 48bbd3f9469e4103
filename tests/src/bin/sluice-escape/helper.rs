//! The untagged process of the same user: gives sockets away, repeats what it is told, and is reached into. It stands
//! for whatever daemon a host has that does as it is asked. Its UDP relay listens on every address of the host.
//!
//! It ends when its standard input does.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IoSlice, Read as _};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use libc::{AF_INET, AF_NETLINK, AF_UNIX, SOCK_RAW, SOCK_SEQPACKET};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::job::Job;
use crate::passed;
use crate::sys::{self, Done};

/// What attackers overwrite.
static BUFFER: [AtomicU8; 16] = [const { AtomicU8::new(0) }; 16];

/// Serves until standard input ends. As root it also listens where the well-known daemons do.
pub fn run(job: Job) -> Done {
    let uid = nix::unistd::geteuid();
    let job = Arc::new(job);
    let named = |name: &str| job.dir.join(format!("{name}-{uid}"));
    let tcp = passed::open(&job, "tcp-connected")?;
    let udp = passed::open(&job, "udp-connected")?;
    let (pipe_out, pipe_in) = sys::step("pipe", nix::unistd::pipe())?;
    listen(&job, &named("give"))?;
    if uid.is_root() {
        for path in ["/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/private"] {
            listen(&job, Path::new(path))?;
        }
        listen(&job, Path::new("/run/user/0/bus"))?;
        listen(&job, Path::new("/run/user/65534/bus"))?;
    }
    let name = [&[0][..], named("abstract").as_os_str().as_encoded_bytes()].concat();
    let fd = sys::socket(AF_UNIX, libc::SOCK_STREAM, 0)?;
    sys::bind(&fd, &sys::sun(&name))?;
    sys::listen(&fd)?;
    accept(&job, fd);
    let fd = sys::socket(AF_UNIX, SOCK_SEQPACKET, 0)?;
    sys::bind(&fd, &sys::sun(named("sequenced").as_os_str().as_encoded_bytes()))?;
    sys::listen(&fd)?;
    accept(&job, fd);
    if uid.is_root() {
        vsock(&job);
    }
    datagrams(&job, &named("datagram"))?;
    let (tcp_port, udp_port) = loopback(&job)?;
    lines(&job, pipe_out);
    fifo(&job, &named("fifo"))?;
    netlink(&job)?;
    watch(&job);
    println!(
        "{{\"pid\":{},\"buffer\":{},\"tcp\":{},\"udp\":{},\"pipe\":{},\"tcp_port\":{tcp_port},\"udp_port\":{udp_port}}}",
        std::process::id(),
        BUFFER.as_ptr() as usize,
        tcp.as_raw_fd(),
        udp.as_raw_fd(),
        pipe_in.as_raw_fd(),
    );
    sys::io("stdin", std::io::stdin().read_to_end(&mut Vec::new())).map(drop)
}

/// Sends a marker to the far end.
fn say(job: &Job, marker: &str) {
    let sent = crate::job::udp(AF_INET)
        .and_then(|fd| sys::sendto(&fd, marker.trim().as_bytes(), 0, Some(&job.v4())));
    if let Err(stop) = sent {
        eprintln!("helper: {stop:?}");
    }
}

/// One line: `say MARKER`, or the kind of a socket to give.
fn obey(job: &Job, line: &str, to: Option<&UnixStream>) -> Done {
    if let Some(marker) = line.strip_prefix("say ") {
        say(job, marker);
        return Ok(());
    }
    let Some(to) = to else { return Ok(()) };
    let fd: OwnedFd = if line == "nested" {
        let (one, two) = sys::io("socketpair", UnixStream::pair())?;
        give(&one, &passed::open(job, "udp-connected")?)?;
        two.into()
    } else {
        passed::open(job, line)?
    };
    give(to, &fd)
}

fn give(to: &UnixStream, fd: &OwnedFd) -> Done {
    let fds = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let sent = sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None);
    sys::step("give", sent).map(drop)
}

fn listen(job: &Arc<Job>, path: &Path) -> Done {
    if let Some(directory) = path.parent() {
        sys::io("mkdir", std::fs::create_dir_all(directory))?;
    }
    let _stale = std::fs::remove_file(path);
    let listener = sys::io("listen", UnixListener::bind(path))?;
    sys::io("chmod", std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)))?;
    accept(job, listener);
    Ok(())
}

fn accept(job: &Arc<Job>, listener: impl Into<OwnedFd>) {
    let (job, listener) = (Arc::clone(job), listener.into());
    thread::spawn(move || {
        while let Ok(stream) = sys::accept(&listener) {
            let mut stream = UnixStream::from(stream); // whatever its family, it is read alike
            let line = passed::line(&mut stream);
            if let Err(stop) = obey(&job, &line, Some(&stream)) {
                eprintln!("helper: {line}: {stop:?}");
            }
        }
    });
}

/// Where the virtual machine can talk to itself.
fn vsock(job: &Arc<Job>) {
    let mut any = (libc::AF_VSOCK as u16).to_ne_bytes().to_vec();
    any.extend([0, 0]);
    any.extend(u32::from(job.port).to_ne_bytes());
    any.extend(u32::MAX.to_ne_bytes()); // VMADDR_CID_ANY
    any.extend([0; 4]);
    let listener = sys::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)
        .and_then(|fd| sys::bind(&fd, &any).and_then(|()| sys::listen(&fd)).map(|()| fd));
    if let Ok(listener) = listener {
        accept(job, listener);
    }
}

fn lines(job: &Arc<Job>, from: OwnedFd) {
    let job = Arc::clone(job);
    thread::spawn(move || {
        for line in BufReader::new(File::from(from)).lines().map_while(Result::ok) {
            let _ = obey(&job, &line, None);
        }
    });
}

fn fifo(job: &Arc<Job>, path: &Path) -> Done {
    let _stale = std::fs::remove_file(path);
    sys::step("mkfifo", nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o666)))?;
    // Open for writing too, so that it does not end with its first writer.
    let file = sys::io("open fifo", File::options().read(true).write(true).open(path))?;
    lines(job, file.into());
    Ok(())
}

fn datagrams(job: &Arc<Job>, path: &Path) -> Done {
    let _stale = std::fs::remove_file(path);
    let socket = sys::io("bind", UnixDatagram::bind(path))?;
    let job = Arc::clone(job);
    thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(n) = socket.recv(&mut bytes) {
            let _ = obey(&job, String::from_utf8_lossy(&bytes[..n]).trim(), None);
        }
    });
    Ok(())
}

fn loopback(job: &Arc<Job>) -> Done<(u16, u16)> {
    let listener = sys::io("listen", TcpListener::bind("127.0.0.1:0"))?;
    let socket = sys::io("bind", UdpSocket::bind("0.0.0.0:0"))?;
    let port = |address: std::io::Result<std::net::SocketAddr>| sys::io("port", address).map(|a| a.port());
    let ports = (port(listener.local_addr())?, port(socket.local_addr())?);
    let (one, two) = (Arc::clone(job), Arc::clone(job));
    thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            for line in BufReader::new(stream).lines().map_while(Result::ok).take(1) {
                let _ = obey(&one, &line, None);
            }
        }
    });
    thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(n) = socket.recv(&mut bytes) {
            let _ = obey(&two, String::from_utf8_lossy(&bytes[..n]).trim(), None);
        }
    });
    Ok(ports)
}

/// NETLINK_USERSOCK, at our process id.
fn netlink(job: &Arc<Job>) -> Done {
    let fd = sys::socket(AF_NETLINK, SOCK_RAW, 2)?;
    let mut address = (AF_NETLINK as u16).to_ne_bytes().to_vec();
    address.extend([0, 0]);
    address.extend(std::process::id().to_ne_bytes());
    address.extend([0; 4]);
    sys::bind(&fd, &address)?;
    let job = Arc::clone(job);
    thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(n) = sys::recv(&fd, &mut bytes) {
            let _ = obey(&job, String::from_utf8_lossy(&bytes[16.min(n)..n]).trim(), None);
        }
    });
    Ok(())
}

/// Says what the buffer holds whenever that changes: looks every 5 ms, since a write from outside wakes nobody.
fn watch(job: &Arc<Job>) {
    let job = Arc::clone(job);
    thread::spawn(move || {
        let mut last = [0; 16];
        loop {
            let now: [u8; 16] = std::array::from_fn(|n| BUFFER[n].load(Ordering::Relaxed));
            if now != last && now[0] != 0 {
                last = now;
                say(&job, &String::from_utf8_lossy(&now).replace('\0', ""));
            }
            thread::sleep(Duration::from_millis(5));
        }
    });
}
