//! Ways by another process: what the helper, which is outside of the tag, does for whoever asks, and what can be done
//! to it without its will. It need not know of any tag.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use libc::{AF_INET, SOCK_RAW, SOCK_SEQPACKET};

use crate::job::{Job, Said, ask, tcp, udp};
use crate::sys::{self, Done, sa4};

const SENT: Done<Said> = Ok(Said::Sent);

fn relayed(job: &Job, to: &[u8], kind: i32) -> Done<Said> {
    let fd = sys::socket(libc::AF_UNIX, kind, 0)?;
    sys::bounded(&fd, crate::job::call())?;
    sys::connect(&fd, to)?;
    sys::send(&fd, format!("say {}\n", job.marker).as_bytes(), 0)?;
    ask("seen")?;
    SENT
}

fn path(job: &Job, name: &str) -> Vec<u8> {
    let uid = nix::unistd::geteuid();
    job.dir.join(format!("{name}-{uid}")).into_os_string().into_encoded_bytes()
}

pub fn unix_path(job: &Job) -> Done<Said> {
    relayed(job, &sys::sun(&path(job, "give")), libc::SOCK_STREAM)
}

pub fn unix_abstract(job: &Job) -> Done<Said> {
    let name = [&[0][..], &path(job, "abstract")].concat();
    relayed(job, &sys::sun(&name), libc::SOCK_STREAM)
}

pub fn unix_datagram(job: &Job) -> Done<Said> {
    relayed(job, &sys::sun(&path(job, "datagram")), libc::SOCK_DGRAM)
}

pub fn unix_sequenced(job: &Job) -> Done<Said> {
    relayed(job, &sys::sun(&path(job, "sequenced")), SOCK_SEQPACKET)
}

pub fn docker(job: &Job) -> Done<Said> {
    relayed(job, &sys::sun(b"/run/docker.sock"), libc::SOCK_STREAM)
}

/// The same by the name that most clients use.
pub fn docker_var(job: &Job) -> Done<Said> {
    relayed(job, &sys::sun(b"/var/run/docker.sock"), libc::SOCK_STREAM)
}

pub fn docker_relative(job: &Job) -> Done<Said> {
    sys::io("chdir", std::env::set_current_dir("/run"))?;
    relayed(job, &sys::sun(b"docker.sock"), libc::SOCK_STREAM)
}

pub fn docker_root(job: &Job) -> Done<Said> {
    relayed(job, &sys::sun(b"/proc/self/root/run/docker.sock"), libc::SOCK_STREAM)
}

pub fn docker_link(job: &Job) -> Done<Said> {
    let link = job.dir.join(format!("link-{}", job.marker));
    sys::io("symlink", std::os::unix::fs::symlink("/run/docker.sock", &link))?;
    relayed(job, &sys::sun(link.as_os_str().as_encoded_bytes()), libc::SOCK_STREAM)
}

pub fn docker_hard_link(job: &Job) -> Done<Said> {
    let link = Path::new("/run").join(format!("link-{}", job.marker));
    sys::io("link", std::fs::hard_link("/run/docker.sock", &link))?;
    relayed(job, &sys::sun(link.as_os_str().as_encoded_bytes()), libc::SOCK_STREAM)
}

pub fn bus(job: &Job) -> Done<Said> {
    relayed(job, &sys::sun(b"/run/dbus/system_bus_socket"), libc::SOCK_STREAM)
}

pub fn systemd(job: &Job) -> Done<Said> {
    relayed(job, &sys::sun(b"/run/systemd/private"), libc::SOCK_STREAM)
}

pub fn user_bus(job: &Job) -> Done<Said> {
    let path = format!("/run/user/{}/bus", nix::unistd::geteuid());
    relayed(job, &sys::sun(path.as_bytes()), libc::SOCK_STREAM)
}

/// A pipe with a name.
pub fn fifo(job: &Job) -> Done<Said> {
    let path = job.dir.join(format!("fifo-{}", nix::unistd::geteuid()));
    let mut file = sys::io("open", std::fs::File::options().write(true).open(path))?;
    sys::io("write", writeln!(file, "say {}", job.marker))?;
    ask("seen")?;
    SENT
}

/// Left in a file that somebody outside reads later, as cron and shells do.
pub fn deferred(job: &Job) -> Done<Said> {
    let path = job.dir.join("later");
    let mut file = sys::io("open", std::fs::File::options().create(true).append(true).open(path))?;
    sys::io("write", writeln!(file, "{}", job.marker))?;
    ask("later")?;
    ask("seen")?;
    SENT
}

pub fn loopback_tcp(job: &Job) -> Done<Said> {
    let fd = tcp(AF_INET)?;
    sys::connect(&fd, &sa4(AF_INET, Ipv4Addr::LOCALHOST, job.helper.tcp_port))?;
    sys::send(&fd, format!("say {}\n", job.marker).as_bytes(), 0)?;
    ask("seen")?;
    SENT
}

pub fn loopback_udp(job: &Job) -> Done<Said> {
    let to = sa4(AF_INET, Ipv4Addr::LOCALHOST, job.helper.udp_port);
    sys::sendto(&udp(AF_INET)?, format!("say {}\n", job.marker).as_bytes(), 0, Some(&to))?;
    ask("seen")?;
    SENT
}

/// To a server on an address of this host that is not loopback's.
pub fn own_udp(job: &Job) -> Done<Said> {
    let to = sa4(AF_INET, job.own4, job.helper.udp_port);
    sys::sendto(&udp(AF_INET)?, format!("say {}\n", job.marker).as_bytes(), 0, Some(&to))?;
    ask("seen")?;
    SENT
}

/// A message to another process by netlink's own bus for programs.
pub fn netlink(job: &Job) -> Done<Said> {
    let fd = sys::socket(libc::AF_NETLINK, SOCK_RAW, 2)?; // NETLINK_USERSOCK
    let mut to = (libc::AF_NETLINK as u16).to_ne_bytes().to_vec();
    to.extend([0, 0]);
    to.extend(job.helper.pid.to_ne_bytes());
    to.extend([0; 4]);
    let text = format!("say {}\n", job.marker);
    let header = [(16 + text.len() as u32).to_ne_bytes(), 0x10_u32.to_ne_bytes(), [0; 4], [0; 4]].concat();
    sys::sendto(&fd, &[header, text.into_bytes()].concat(), 0, Some(&to))?;
    ask("seen")?;
    SENT
}

// Reaching into a process outside.

fn padded(job: &Job) -> Vec<u8> {
    let mut text = job.marker.clone().into_bytes();
    text.resize(16, 0);
    text
}

pub fn ptrace(job: &Job) -> Done<Said> {
    sys::ptrace_write(job.helper.pid, job.helper.buffer, &padded(job))?;
    ask("seen")?;
    SENT
}

pub fn process_memory(job: &Job) -> Done<Said> {
    use std::os::unix::fs::FileExt as _;
    let path = format!("/proc/{}/mem", job.helper.pid);
    let file = sys::io("open mem", std::fs::File::options().write(true).open(path))?;
    sys::io("write mem", file.write_all_at(&padded(job), job.helper.buffer as u64))?;
    ask("seen")?;
    SENT
}

pub fn vm_writev(job: &Job) -> Done<Said> {
    sys::process_vm_writev(job.helper.pid, job.helper.buffer, &padded(job))?;
    ask("seen")?;
    SENT
}

/// The helper's own pipe, opened anew by way of /proc.
pub fn process_pipe(job: &Job) -> Done<Said> {
    let path = format!("/proc/{}/fd/{}", job.helper.pid, job.helper.pipe);
    let mut file = sys::io("open fd", std::fs::File::options().write(true).open(path))?;
    sys::io("write", writeln!(file, "say {}", job.marker))?;
    ask("seen")?;
    SENT
}
