//! A space of its own for one test: network, mount and cgroup namespaces, with addresses that stand for "outside"
//! hosts, a hosts file that names them, a bpffs, and a cgroup that holds every process started in it.
//!
//! Nothing in here knows of Sluice. Everything that a space makes goes away with it, also when the test is killed:
//! a reaper outside the space waits on a pipe whose other end only the test holds.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// Source addresses of connections that the agent's user opens; every other user's connections come from the address
/// that they dial (Linux's choice for local routes). So a server can tell from the peer address who connected.
pub const AGENT_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
/// The same for IPv6.
pub const AGENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe);
/// Everybody else's source address in a space whose outside is [`Place::Far`].
pub const OTHERS_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 253);
/// The same for IPv6.
pub const OTHERS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfd);
/// The user that the agent's gate runs as in a space: one that every Debian has, and not 65534, as which tests attack.
pub const AGENT_USER: &str = "daemon";

/// Where cgroup v2 is mounted on this machine: at the top, or beside v1 ("hybrid").
const CGROUP_ROOTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// Set-up inside the fresh namespaces. $1 directory of the space, $2 cgroup mount point, $3 the agent's uid, $4 see
/// [`FAR`], then the hosts' addresses.
const SETUP: &str = r#"
dir=$1 cgroup=$2 uid=$3 outside=$4; shift 4
mount --bind "$dir/hosts" /etc/hosts
mount --bind "$dir/resolv.conf" /etc/resolv.conf
mount --bind "$dir/run" /run
umount -l "$cgroup"
mount -t cgroup2 none "$cgroup"
mount -t bpf bpf "$dir/bpf"
"#;

/// What comes between when outside is on loopback. The local table is moved behind a rule for the agent's uid, which
/// gives its connections their address.
const NEAR: &str = r#"
ip link set lo up
set -- 203.0.113.254 2001:db8::fe "$@"
for a in "$@"; do case $a in *:*) ip -6 addr add "$a/128" dev lo nodad;; *) ip addr add "$a/32" dev lo;; esac; done
for v in -4 -6; do
  ip $v rule add pref 100 lookup local
  ip $v rule del pref 0
  ip $v rule add pref 10 uidrange "$uid-$uid" lookup 7
done
ip route add local 203.0.113.0/24 dev lo src 203.0.113.254 table 7
ip -6 route add local 2001:db8::/64 dev lo src 2001:db8::fe table 7
"#;

/// The last words of a set-up.
const SET_UP: &str = "
echo ready
exec sleep infinity
";

/// What comes between when outside is far: $outside is a pid in its namespace. A default route leads there too, so that
/// nothing that is sent from the space, to whatever address, goes unseen.
const FAR: &str = r#"
ip link set lo up
ip link add near type veth peer name far netns "$outside"
away() { nsenter --target "$outside" --net "$@"; }
ip link set near addrgenmode none
away ip link set far addrgenmode none
away ip link set lo up
away ip link set far up
ip link set near up
away ip addr add 203.0.113.1/24 dev far
away ip -6 addr add 2001:db8::1/64 dev far nodad
ip addr add 203.0.113.253/24 dev near
ip addr add 203.0.113.254/32 dev near
ip -6 addr add 2001:db8::fe/128 dev near nodad
ip -6 addr add 2001:db8::fd/64 dev near nodad
ip route add default via 203.0.113.1 dev near
ip -6 route add default via 2001:db8::1 dev near
for a in "$@"; do case $a in *:*) away ip -6 addr add "$a/128" dev far nodad;; *) away ip addr add "$a/32" dev far;; esac; done
for v in -4 -6; do ip $v rule add pref 10 uidrange "$uid-$uid" lookup 7; done
ip route add 203.0.113.0/24 dev near src 203.0.113.254 table 7
ip route add default via 203.0.113.1 dev near src 203.0.113.254 table 7
ip -6 route add 2001:db8::/64 dev near src 2001:db8::fe table 7
ip -6 route add default via 2001:db8::1 dev near src 2001:db8::fe table 7
"#;

/// Ends everything when its standard input ends. $0 cgroup, $1 directory. Bounded: ten seconds, then it says so.
const REAP: &str = r#"
trap '' INT TERM HUP PIPE
cat >/dev/null
echo 1 > "$0/cgroup.kill"
n=0
while [ -d "$0" ] && [ $n -lt 200 ]; do
  find "$0" -depth -type d -exec rmdir {} \; 2>/dev/null
  [ -d "$0" ] && { n=$((n+1)); sleep 0.05; }
done
rm -rf --one-file-system "$1"
[ ! -d "$0" ] || { echo "sluice-e2e: $0 is still there" >&2; exit 1; }
"#;

/// Where the outside hosts of a space are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On the space's own loopback device: quick to make, and as good for whoever looks at connections.
    #[default]
    Loopback,
    /// In a network namespace of their own at the other end of a veth, so that packets can be looked at there
    /// ([`crate::capture`]).
    Far,
}

/// One space. Dropping it kills every process in it and removes it.
#[derive(Debug)]
pub struct Space {
    dir: PathBuf,
    cgroup: PathBuf,
    holder: Child,
    /// In the outside's namespace, where that is another.
    outside: Option<Child>,
    reaper: Child,
}

/// Names a test gives to outside hosts, with their addresses.
pub type Hosts<'a> = &'a [(&'a str, IpAddr)];

impl Space {
    /// Makes a space. `hosts` become its /etc/hosts, each address an address of its loopback device.
    ///
    /// # Errors
    /// Not root, no cgroup v2, or a tool (`ip`, `nsenter`, `unshare`, `mount`) is missing.
    pub fn make(hosts: Hosts<'_>) -> Result<Self> {
        Self::at(Place::Loopback, hosts)
    }

    /// The same with the hosts at a place.
    ///
    /// # Errors
    /// As [`Space::make`].
    pub fn at(place: Place, hosts: Hosts<'_>) -> Result<Self> {
        let mount = cgroup_mount()?;
        let dir = tempfile::Builder::new().prefix("sluice-e2e-").tempdir().context("temp dir")?.keep();
        // The gate's user walks through it.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        for sub in ["run", "bpf"] {
            fs::create_dir(dir.join(sub))?;
        }
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
        let mut addresses: Vec<IpAddr> = Vec::new();
        for (name, address) in hosts {
            text.push_str(&format!("{address} {name}\n"));
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        fs::write(dir.join("hosts"), text)?;
        fs::write(dir.join("resolv.conf"), "# no name server: /etc/hosts or nothing\n")?;
        let cgroup = mount.join(dir.file_name().context("temp dir has a name")?);
        fs::create_dir(&cgroup).with_context(|| format!("making {} (are you root?)", cgroup.display()))?;

        // From here on the reaper cleans up, whatever happens.
        let reaper = Command::new("/bin/sh")
            .args(["-c", REAP])
            .arg(&cgroup)
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting the reaper")?;
        let outside = match place {
            Place::Loopback => None,
            Place::Far => Some(hold(&cgroup, &["--net"], &["echo ready; exec sleep infinity", "outside"])?),
        };
        let pid = outside.as_ref().map_or_else(String::new, |outside| outside.id().to_string());
        let script = [SETUP, if pid.is_empty() { NEAR } else { FAR }, SET_UP].concat();
        let uid = agent_uid()?.to_string();
        let mut arguments = vec![
            script,
            "setup".to_owned(),
            dir.display().to_string(),
            mount.display().to_string(),
            uid,
            pid,
        ];
        arguments.extend(addresses.iter().map(ToString::to_string));
        let namespaces = ["--net", "--mount", "--cgroup", "--propagation", "slave"];
        let holder = hold(&cgroup, &namespaces, &arguments)?;
        Ok(Self { dir, cgroup, holder, outside, reaper })
    }

    /// The space's network namespace.
    pub fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// The network namespace of the outside hosts; the space's own unless they are [`Place::Far`].
    pub fn outside(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.outside.as_ref().unwrap_or(&self.holder).id()).into()
    }

    /// Directory of the space, 0755: files that its processes share with the test. `hosts`, `run` (its /run) and
    /// `bpf` (a bpffs inside the space only) are there already.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The space's cgroup as the test sees it. Inside the space it is `/`.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// A command that runs `program` in the space, in the cgroup `cgroup` below the space's (made if missing; "" for
    /// the space's own). The process keeps the pid of the spawned child. Environment: only PATH, HOME, LANG, so no
    /// trust variable of the developer's shell leaks in. The working directory is `/`.
    pub fn command(&self, cgroup: &str, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let cgroup = self.cgroup.join(cgroup);
        fs::create_dir_all(&cgroup)?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"echo $$ > "$0" && exec nsenter --target "$@""#])
            .arg(cgroup.join("cgroup.procs"))
            .arg(self.holder.id().to_string())
            .args(["--net", "--mount", "--cgroup", "--"])
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.dir)
            .env("LANG", "C.UTF-8")
            .current_dir("/");
        Ok(command)
    }

    /// A listener at one of the outside hosts' addresses, owned by the test.
    ///
    /// # Errors
    /// The address is not the space's, or taken.
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        listen_in(fs::File::open(self.outside())?, address)
    }

    /// Gives one of the space's names another address, for every process in it.
    ///
    /// # Errors
    /// The space's hosts file cannot be written.
    pub fn point(&self, name: &str, address: IpAddr) -> Result<()> {
        // In place: the file is mounted over /etc/hosts.
        let path = self.dir.join("hosts");
        let text = fs::read_to_string(&path)?;
        let kept = text.lines().filter(|line| !line.ends_with(&format!(" {name}")));
        let lines: String =
            kept.chain([format!("{address} {name}").as_str()]).map(|l| format!("{l}\n")).collect();
        Ok(fs::write(&path, lines)?)
    }

    /// A datagram socket inside the space, owned by the test.
    ///
    /// # Errors
    /// The address is not the space's, or taken.
    pub fn datagrams(&self, address: SocketAddr) -> Result<UdpSocket> {
        let namespace = fs::File::open(self.outside())?;
        let bound = std::thread::spawn(move || -> Result<UdpSocket> {
            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).context("setns")?;
            UdpSocket::bind(address).with_context(|| format!("a datagram socket at {address}"))
        });
        bound.join().map_err(|_| anyhow::anyhow!("the binding thread panicked"))?
    }

    /// Replaces the space's /etc/resolv.conf.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn resolv_conf(&self, text: &str) -> Result<()> {
        // Written in place: the file is bind-mounted.
        Ok(fs::write(self.dir.join("resolv.conf"), text)?)
    }

    /// Pids in the space's cgroup `cgroup` (one level, not its children).
    pub fn pids(&self, cgroup: &str) -> Vec<u32> {
        let text = fs::read_to_string(self.cgroup.join(cgroup).join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|l| l.parse().ok()).collect()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        let _ = self.reaper.wait();
        let _ = self.holder.wait();
        if let Some(outside) = &mut self.outside {
            let _ = outside.wait();
        }
    }
}

/// A listener in a network namespace, owned by the test.
///
/// # Errors
/// The address is not the namespace's, or taken.
pub fn listen_in(namespace: fs::File, address: SocketAddr) -> Result<TcpListener> {
    // setns is per thread: a thread of its own, so that the test's threads stay where they are.
    let bound = std::thread::spawn(move || -> Result<TcpListener> {
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).context("setns")?;
        TcpListener::bind(address).with_context(|| format!("listening on {address}"))
    });
    let listener = bound.join().map_err(|_| anyhow::anyhow!("the listening thread panicked"))??;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A shell script in fresh namespaces, which says `ready` when it has made them into something and stays for their sake.
fn hold(cgroup: &Path, namespaces: &[&str], script: &[impl AsRef<std::ffi::OsStr>]) -> Result<Child> {
    let mut holder = Command::new("/bin/sh")
        .args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec unshare "$@""#])
        .arg(cgroup)
        .args(namespaces)
        .args(["sh", "-ec"])
        .args(script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("starting the namespace holder")?;
    let mut line = String::new();
    let out = holder.stdout.take().context("holder's stdout is piped")?;
    BufReader::new(out).read_line(&mut line)?;
    if line.trim() != "ready" {
        bail!(
            "setting up the namespaces failed (see stderr above); root, iproute2 and util-linux are needed"
        );
    }
    Ok(holder)
}

/// The uid of [`AGENT_USER`].
///
/// # Errors
/// The user is not in /etc/passwd.
pub fn agent_uid() -> Result<u32> {
    let user = nix::unistd::User::from_name(AGENT_USER)?.with_context(|| format!("no user {AGENT_USER}"))?;
    Ok(user.uid.as_raw())
}

fn cgroup_mount() -> Result<PathBuf> {
    CGROUP_ROOTS
        .iter()
        .map(PathBuf::from)
        .find(|root| root.join("cgroup.controllers").exists())
        .context("no cgroup v2 mount at /sys/fs/cgroup or /sys/fs/cgroup/unified")
}
