//! Ways by being somewhere else: another cgroup, another namespace, another process; and ways by the agent itself.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use libc::{AF_INET, AF_INET6};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use crate::job::{Job, Said, ask, tcp, udp};
use crate::sys::{self, Done, sa4, stop};

const SENT: Done<Said> = Ok(Said::Sent);

fn datagram(job: &Job) -> Done<Said> {
    sys::sendto(&udp(AF_INET)?, job.bytes(), 0, Some(&job.v4()))?;
    SENT
}

fn join(cgroup: &Path) -> Done {
    sys::io("cgroup.procs", fs::write(cgroup.join("cgroup.procs"), "0"))
}

fn own_cgroup() -> Done<std::path::PathBuf> {
    let text = sys::io("/proc/self/cgroup", fs::read_to_string("/proc/self/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mounts = sys::io("/proc/self/mounts", fs::read_to_string("/proc/self/mounts"))?;
    let mount = mounts.lines().rev().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| at.to_owned())
    });
    match mount {
        Some(mount) => Ok(Path::new(&mount).join(path)),
        None => stop("cgroup2", Errno::ENOENT),
    }
}

/// A cgroup below the tag's, made by the job.
fn deeper(job: &Job) -> Done {
    let below = own_cgroup()?.join(format!("below-{}", job.marker));
    sys::io("mkdir", fs::create_dir(&below))?;
    join(&below)
}

pub fn sub_cgroup_tcp(job: &Job) -> Done<Said> {
    deeper(job)?;
    crate::tcp::tcp4(job)
}

pub fn sub_cgroup_udp(job: &Job) -> Done<Said> {
    deeper(job)?;
    datagram(job)
}

pub fn sub_cgroup_udplite(job: &Job) -> Done<Said> {
    deeper(job)?;
    crate::kinds::udplite4(job)
}

/// The right to write to another cgroup is the right to leave.
pub fn migrate(job: &Job) -> Done<Said> {
    join(&job.untagged)?;
    crate::tcp::tcp4(job)
}

/// A socket that was made in the tag, used after the task left.
pub fn migrate_with_socket(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    join(&job.untagged)?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// A child that is born outside.
pub fn born_outside(job: &Job) -> Done<Said> {
    let cgroup = sys::io("open cgroup", fs::File::open(&job.untagged))?;
    if sys::clone_into(&cgroup)? == 0 {
        let done = datagram(job);
        std::process::exit(i32::from(done.is_err()));
    }
    match sys::step("wait", nix::sys::wait::wait())? {
        nix::sys::wait::WaitStatus::Exited(_, 0) => SENT,
        _ => stop("child", Errno::EPERM),
    }
}

/// Among the agent's own, whose connections are never taken.
pub fn join_agent(job: &Job) -> Done<Said> {
    join(&job.agent_cgroup)?;
    crate::tcp::tcp4(job)
}

/// The gate's user, whose connections must not be left alone for that alone.
pub fn agent_user(job: &Job) -> Done<Said> {
    let user = sys::step("getpwnam", nix::unistd::User::from_name(sluice_tests::netns::AGENT_USER))?;
    sys::become_user(user.map_or(1, |user| user.uid.as_raw()))?;
    datagram(job)
}

pub fn agent_user_tcp(job: &Job) -> Done<Said> {
    let user = sys::step("getpwnam", nix::unistd::User::from_name(sluice_tests::netns::AGENT_USER))?;
    sys::become_user(user.map_or(1, |user| user.uid.as_raw()))?;
    crate::tcp::tcp4(job)
}

/// A namespace of users and of networks: nothing leads out of it but what the host gives.
pub fn new_namespaces(job: &Job) -> Done<Said> {
    sys::step("unshare", unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET))?;
    datagram(job)
}

/// A user namespace alone: capabilities over nothing outside, but bpf(), packet sockets and the rest are tried by
/// everybody who finds one.
pub fn new_users(job: &Job) -> Done<Said> {
    sys::step("unshare", unshare(CloneFlags::CLONE_NEWUSER))?;
    crate::kinds::raw4(job)
}

/// A network namespace that has another link to the far end, as a container's has.
fn other(job: &Job) -> Done {
    let namespace = sys::io("open namespace", fs::File::open(&job.namespace))?;
    sys::step("setns", setns(namespace, CloneFlags::CLONE_NEWNET))
}

pub fn other_tcp(job: &Job) -> Done<Said> {
    other(job)?;
    crate::tcp::tcp4(job)
}

pub fn other_tcp6(job: &Job) -> Done<Said> {
    other(job)?;
    crate::tcp::tcp6(job)
}

pub fn other_udp(job: &Job) -> Done<Said> {
    other(job)?;
    datagram(job)
}

pub fn other_udplite(job: &Job) -> Done<Said> {
    other(job)?;
    crate::kinds::udplite4(job)
}

/// A socket of the other namespace, used after the way back.
pub fn other_socket(job: &Job) -> Done<Said> {
    let home = sys::io("open namespace", fs::File::open("/proc/self/ns/net"))?;
    other(job)?;
    let fd = tcp(AF_INET)?;
    sys::step("setns", setns(home, CloneFlags::CLONE_NEWNET))?;
    sys::connect(&fd, &job.v4())?;
    job.talk(&fd)
}

/// The parent is gone, the session is another: later work stays where it was born.
pub fn orphan(job: &Job) -> Done<Said> {
    if sys::fork()? == 0 {
        sys::step("setsid", nix::unistd::setsid().map(drop))?;
        if sys::fork()? == 0 {
            let gone = |status: &str| status.lines().any(|line| line == "PPid:\t1" || line == "PPid:\t0");
            let end = std::time::Instant::now() + crate::job::call();
            while !fs::read_to_string("/proc/self/status").is_ok_and(|s| gone(&s)) {
                if std::time::Instant::now() > end {
                    break; // a subreaper has it: orphan enough
                }
                std::thread::yield_now();
            }
            let _ = datagram(job);
        }
        std::process::exit(0);
    }
    sys::step("wait", nix::sys::wait::wait().map(drop))?;
    ask("seen")?;
    SENT
}

/// Straight to the agent's listener, and then a request: whose connection would that be?
pub fn listener(job: &Job) -> Done<Said> {
    let mut last = stop("connect", Errno::ENOENT);
    for to in &job.listeners {
        let (family, to) = match to {
            std::net::SocketAddr::V4(to) => (AF_INET, sa4(AF_INET, *to.ip(), to.port())),
            std::net::SocketAddr::V6(to) => (AF_INET6, sys::sa6(AF_INET6, *to.ip(), to.port(), 0)),
        };
        let fd = tcp(family)?;
        last = sys::connect(&fd, &to).and_then(|()| job.talk(&fd));
        if last.is_ok() {
            return last;
        }
    }
    last
}

/// Asks the agent to be let go.
pub fn untag(job: &Job) -> Done<Said> {
    let asked = Command::new(&job.sluice)
        .arg("--runtime")
        .arg(&job.runtime)
        .args(["untag", &job.tag])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let asked = sys::io("sluice untag", asked)?;
    if !asked.status.success() {
        println!("{}", String::from_utf8_lossy(&asked.stderr).lines().next().unwrap_or_default());
        return stop("untag", Errno::EACCES);
    }
    datagram(job)
}

/// The control socket itself, by anybody.
pub fn control_socket(job: &Job) -> Done<Said> {
    let path = sys::io("readdir", fs::read_dir(&job.runtime))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "sock" || e == "socket"));
    let Some(path) = path else { return stop("find", Errno::ENOENT) };
    sys::io("unix connect", std::os::unix::net::UnixStream::connect(path))?;
    SENT
}

/// The agent dies first.
pub fn kill_agent(job: &Job) -> Done<Said> {
    let procs = sys::io("read procs", fs::read_to_string(job.agent_cgroup.join("cgroup.procs")))?;
    for pid in procs.lines().filter_map(|line| line.parse().ok()) {
        sys::step(
            "kill",
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL),
        )?;
    }
    let tcp = crate::tcp::tcp4(job);
    datagram(job).and(tcp)
}

/// The kernel's pins go, and with them links whose programs nobody else holds.
pub fn unpin(job: &Job) -> Done<Said> {
    let mut links = Vec::new();
    find(&job.bpf, &mut links);
    if links.is_empty() {
        return stop("find pins", Errno::ENOENT);
    }
    for link in links {
        sys::io("unlink", fs::remove_file(link))?;
    }
    // Links of a dead owner go a grace period later.
    ask("settle")?;
    datagram(job)
}

fn find(directory: &Path, links: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        if entry.path().is_dir() {
            find(&entry.path(), links);
        } else if entry.file_name().to_string_lossy().starts_with("link_") {
            links.push(entry.path());
        }
    }
}

/// bpf(BPF_LINK_DETACH) on every cgroup link of the agent's (kernel 5.9).
pub fn detach(job: &Job) -> Done<Said> {
    let mut links = Vec::new();
    find(&job.bpf, &mut links);
    if links.is_empty() {
        return stop("find pins", Errno::ENOENT);
    }
    for link in links {
        let path = [link.as_os_str().as_encoded_bytes(), &[0]].concat();
        let mut get = (path.as_ptr() as u64).to_ne_bytes().to_vec();
        get.resize(16, 0);
        let fd = sys::call("BPF_OBJ_GET", libc::SYS_bpf, [7, get.as_ptr() as i64, 16, 0, 0])?;
        let which = (fd as u64).to_ne_bytes();
        // The LSM's kind cannot be detached, only dropped.
        let _ = sys::call("BPF_LINK_DETACH", libc::SYS_bpf, [34, which.as_ptr() as i64, 8, 0, 0]);
    }
    datagram(job)
}

/// A packet of our own making comes out of a device of our own, and the host routes it on.
pub fn tun(job: &Job) -> Done<Said> {
    let mut device = sys::io("open tun", fs::File::options().read(true).write(true).open("/dev/net/tun"))?;
    let mut request = job.marker.get(..8).unwrap_or("tun0").as_bytes().to_vec();
    let name = String::from_utf8_lossy(&request).into_owned();
    request.resize(16, 0);
    request.extend(0x1001_u16.to_ne_bytes()); // IFF_TUN | IFF_NO_PI
    request.resize(40, 0);
    sys::ioctl("TUNSETIFF", &device, 0x4004_54ca, &mut request)?;
    ip(&["link", "set", &name, "up"])?;
    ip(&["addr", "add", "198.18.7.1/24", "dev", &name])?;
    sys::io("ip_forward", fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?;
    let mut packet = crate::kinds::udp_packet(job);
    packet[12..16].copy_from_slice(&[198, 18, 7, 2]);
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum: u32 = packet[..20].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    sys::io("write tun", device.write_all(&packet))?;
    SENT
}

fn ip(arguments: &[&str]) -> Done {
    let ran = Command::new("ip").args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).status();
    if sys::io("ip", ran)?.success() { Ok(()) } else { stop("ip", Errno::EPERM) }
}

/// The listener's address is led out of the host: what is redirected there leaves.
pub fn reroute(job: &Job) -> Done<Said> {
    let far = job.to4.to_string();
    for key in ["all", "lo", job.device.as_str()] {
        let path = format!("/proc/sys/net/ipv4/conf/{key}/route_localnet");
        sys::io("route_localnet", fs::write(path, "1"))?;
    }
    ip(&["rule", "add", "pref", "1", "to", "127.83.0.0/16", "lookup", "77"])?;
    let route = [
        "route",
        "add",
        "127.83.0.0/16",
        "via",
        &far,
        "dev",
        &job.device,
        "src",
        &job.own4.to_string(),
        "table",
        "77",
    ];
    let routed = ip(&route);
    // The local table is asked before all rules unless it is moved behind them.
    let moved =
        ip(&["rule", "add", "pref", "2", "lookup", "local"]).and_then(|()| ip(&["rule", "del", "pref", "0"]));
    // The first packet bears the marker, so nobody need answer.
    let said = routed.and(moved).and_then(|()| crate::tcp::fast_open_v4(job));
    let _ = ip(&["rule", "add", "pref", "0", "lookup", "local"]);
    let _ = ip(&["rule", "del", "pref", "2"]);
    let _ = ip(&["rule", "del", "pref", "1"]);
    said
}

/// The listener's place is taken by a job, on the more exact address.
pub fn take_listener(job: &Job) -> Done<Said> {
    let Some(std::net::SocketAddr::V4(to)) = job.listeners.first() else {
        return stop("listener", Errno::ENOENT);
    };
    let fd = tcp(AF_INET)?;
    sys::bind(&fd, &sa4(AF_INET, Ipv4Addr::new(127, 83, 250, 1), to.port()))?;
    sys::listen(&fd)?;
    SENT
}
