//! Enters the gate's sandbox as the gate does and then tries what a taken-over gate would try. Prints one line an
//! attempt: `NAME open` or `NAME closed ERRNO`. Run as root by `tests/sandbox.rs`, with the store's directory as its
//! argument.
#![expect(unsafe_code, reason = "tries raw system calls that no safe wrapper would offer")]

use std::fs;
use std::io;

use sluice::gate::sandbox;
use sluice::wire::GateSettings;

fn main() {
    let store = std::env::args().nth(1).expect("the store's directory as the only argument");
    let parent = std::os::unix::process::parent_id();
    let settings = GateSettings {
        ca: Vec::new(),
        extra_roots: Vec::new(),
        uid: 65534,
        gid: 65534,
        store: store.clone(),
        body_limit: 0,
        store_bytes: 0,
        store_age: None,
        checkpoints_to: Vec::new(),
        recipients: Vec::new(),
        durable: false,
        name_servers: Vec::new(),
        lookups: Default::default(),
        issuers: Vec::new(),
        max_sessions: 1,
        may_stand_aside: false,
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    sandbox::enter(&settings).expect("the sandbox is entered");

    report("store-write", fs::write(format!("{store}/probe"), "x").map(drop));
    report("thread", std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join().expect("joined")));
    report("tcp-connect", std::net::TcpStream::connect(address).map(drop));
    report("tcp-accept", listener.accept().map(drop));
    report("read-roots", fs::read_dir("/etc/ssl/certs").map(drop));

    report("listen", std::net::TcpListener::bind("127.0.0.1:0").map(drop));
    report("read-passwd", fs::read("/etc/passwd").map(drop));
    report("read-proc", fs::read("/proc/1/cmdline").map(drop));
    report("write-elsewhere", fs::write("/tmp/sluice-probe", "x"));
    report("symlink-in-store", std::os::unix::fs::symlink("/etc/passwd", format!("{store}/link")));
    report("chmod-store", fs::set_permissions(format!("{store}/probe"), mode(0o4755)));
    report("exec", std::process::Command::new("/bin/true").status().map(drop));
    report("unix-socket", std::os::unix::net::UnixStream::connect("/run/systemd/journal/socket").map(drop));
    raw_calls(parent);
    executable_memory();
}

/// What only a raw system call can ask for.
fn raw_calls(parent: u32) {
    for (name, call, arguments) in [
        ("become-root", libc::SYS_setuid, [0, 0, 0]),
        ("signal-parent", libc::SYS_kill, [i64::from(parent), 0, 0]),
        (
            "ptrace-parent",
            libc::SYS_ptrace,
            [i64::from(libc::PTRACE_SEIZE.cast_signed()), i64::from(parent), 0],
        ),
        ("bpf", libc::SYS_bpf, [0, 0, 0]),
        ("fork", libc::SYS_fork, [0, 0, 0]),
        ("new-user-namespace", libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER), 0, 0]),
        ("io-uring", libc::SYS_io_uring_setup, [1, 0, 0]),
        ("raw-socket", libc::SYS_socket, [i64::from(libc::AF_PACKET), i64::from(libc::SOCK_RAW), 0]),
        ("netlink-socket", libc::SYS_socket, [i64::from(libc::AF_NETLINK), i64::from(libc::SOCK_RAW), 0]),
        ("keyring", libc::SYS_keyctl, [0, 0, 0]),
        ("pidfd-open", libc::SYS_pidfd_open, [i64::from(parent), 0, 0]),
        ("mount", libc::SYS_mount, [0, 0, 0]),
        ("dumpable-again", libc::SYS_prctl, [i64::from(libc::PR_SET_DUMPABLE), 1, 0]),
    ] {
        // SAFETY: the arguments are integers or null pointers; no call in the list writes to our memory.
        let result = unsafe { libc::syscall(call, arguments[0], arguments[1], arguments[2], 0, 0) };
        if call == libc::SYS_fork && result == 0 {
            std::process::abort(); // the child of a fork that should have failed
        }
        report(name, if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) });
    }
}

fn executable_memory() {
    // SAFETY: an anonymous mapping of one page that nothing else uses.
    let page =
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, 3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
    // SAFETY: the page mapped above.
    let result = unsafe { libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC) };
    report("executable-memory", if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) });
}

fn mode(mode: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(mode)
}

fn report(name: &str, result: io::Result<()>) {
    match result {
        Ok(()) => println!("{name} open"),
        Err(error) => println!("{name} closed {error}"),
    }
}
