//! What else on the host lets traffic out beside a tag's own sockets, or keeps the agent from its work: engines and who may
//! use them, name services, the journal, the disk, the clock, the trust stores.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::finding::{Finding, Severity};
use super::socket::ENGINES;

/// Groups whose members may have an engine start what they like.
const ENGINE_GROUPS: [&str; 7] = ["docker", "podman", "lxd", "incus", "incus-admin", "libvirt", "containerd"];

/// Daemons that look up names for whoever asks, over a Unix socket: path, and what it is.
const NAME_SERVICES: [(&str, &str); 4] = [
    ("/run/systemd/resolve/io.systemd.Resolve", "systemd-resolved (varlink)"),
    ("/run/nscd/socket", "nscd"),
    ("/run/unscd/socket", "unscd"),
    ("/run/avahi-daemon/socket", "avahi"),
];

/// Less than this is soon full.
const FREE: u64 = 256 << 20;

/// Ports on which docker's engine listens when it is told to (without and with TLS).
const ENGINE_PORTS: [u16; 2] = [2375, 2376];

/// A host, read below `root` (`/`, or a tree made for a test).
#[derive(Clone, Debug)]
pub struct Host {
    /// Where its files are.
    pub root: PathBuf,
    /// The agent's state directory on it.
    pub state: PathBuf,
}

impl Host {
    /// All there is to say.
    pub fn findings(&self, now: SystemTime) -> Vec<Finding> {
        let checks = [
            self.engine_members(),
            self.engine_ports(),
            self.name_services(),
            self.journal(),
            self.disk(),
            self.clock(now),
        ];
        checks.into_iter().flatten().collect()
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn is_socket(&self, path: &str) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok_and(|meta| meta.file_type().is_socket())
    }

    /// Paths of an engine's and of name services' sockets on this host, for a drop-in.
    pub fn helpers(&self) -> Vec<&'static str> {
        let services = NAME_SERVICES.iter().map(|(path, _)| *path);
        ENGINES.into_iter().chain(services).filter(|path| self.is_socket(path)).collect()
    }

    fn engine_members(&self) -> Option<Finding> {
        let engines: Vec<_> = ENGINES.iter().filter(|path| self.is_socket(path)).collect();
        if engines.is_empty() {
            return None;
        }
        let groups = fs::read_to_string(self.at("/etc/group")).unwrap_or_default();
        let mut members: BTreeMap<&str, &str> = BTreeMap::new();
        for line in groups.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [name, _, _, users] = fields[..]
                && ENGINE_GROUPS.contains(&name)
                && !users.is_empty()
            {
                members.insert(name, users);
            }
        }
        if members.is_empty() {
            return None;
        }
        let who: Vec<_> = members.iter().map(|(group, users)| format!("{users} (group {group})")).collect();
        Some(Finding::host(
            "engine-group",
            Severity::Medium,
            format!(
                "a container engine runs here, and these users may have it start anything: {}",
                who.join("; ")
            ),
            "Such a user is as good as root: a tagged job of theirs can have the engine start a process outside of the tag.",
            "Take users of tagged jobs out of the group, or hide the socket from the unit: \
             `sluice doctor --drop-in UNIT` prints the settings.",
        ))
    }

    fn engine_ports(&self) -> Option<Finding> {
        let listening = |file: &str| {
            let table = fs::read_to_string(self.at(file)).unwrap_or_default();
            // proc(5): sl, local address:port, remote, state; 0A is LISTEN.
            let port = |line: &str| {
                let mut fields = line.split_ascii_whitespace().skip(1);
                let (local, state) = (fields.next()?, fields.nth(1)?);
                (state == "0A").then(|| u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok())?
            };
            table.lines().skip(1).filter_map(port).collect::<Vec<_>>()
        };
        let mut open = listening("/proc/net/tcp");
        open.extend(listening("/proc/net/tcp6"));
        let port = ENGINE_PORTS.into_iter().find(|port| open.contains(port))?;
        Some(Finding::host(
            "engine-port",
            Severity::Medium,
            format!("something listens on port {port}, docker's"),
            "If it is docker's engine, whoever reaches it starts what they like outside of the tag. Loopback addresses are \
             left to tagged processes by default.",
            "Have the engine listen on its Unix socket only, or tag with loopback = \"deny\" or \"take\".",
        ))
    }

    fn name_services(&self) -> Option<Finding> {
        let there: Vec<_> = NAME_SERVICES
            .iter()
            .filter(|(path, _)| self.is_socket(path))
            .map(|(path, what)| format!("{what} at {path}"))
            .collect();
        if there.is_empty() {
            return None;
        }
        Some(Finding::host(
            "name-service",
            Severity::Medium,
            format!("a name service answers over a Unix socket: {}", there.join(", ")),
            "A job's lookups that go there leave as that daemon's: no rule sees them, and a name is enough to carry data out.",
            "Hide the socket from tagged units, so that they ask over UDP, which the agent answers: \
             `sluice doctor --drop-in UNIT` prints the settings.",
        ))
    }

    fn journal(&self) -> Option<Finding> {
        let path = self.at("/run/systemd/journal/socket");
        let reachable = UnixDatagram::unbound().and_then(|socket| socket.connect(&path));
        let error = reachable.err()?;
        Some(Finding::host(
            "journal",
            Severity::Low,
            format!("the journal cannot be reached at {}: {error}", path.display()),
            "Exchanges, refusals and blocked attempts go to the agent's standard error instead; the store has the exchanges.",
            "Start systemd-journald.",
        ))
    }

    fn disk(&self) -> Option<Finding> {
        let state = self.at(&self.state);
        let space = nix::sys::statvfs::statvfs(&state).ok()?;
        let free = space.blocks_available().saturating_mul(space.fragment_size());
        (free < FREE).then(|| {
            Finding::host(
                "disk",
                Severity::Low,
                format!("the file system of {} has {} MiB left", self.state.display(), free >> 20),
                "Nothing passes unrecorded: when it is full, exchanges are refused.",
                "Free space, or lower record.max_bytes in sluice.toml.",
            )
        })
    }

    /// Certificates are judged by the clock, and records bear its time.
    fn clock(&self, now: SystemTime) -> Option<Finding> {
        let ca = fs::metadata(self.at(&self.state).join(crate::paths::CA_DIR))
            .and_then(|meta| meta.modified())
            .ok();
        let program = std::env::current_exe().and_then(fs::metadata).and_then(|meta| meta.modified()).ok();
        let latest = ca.max(program)?;
        let behind = latest.duration_since(now).ok().filter(|behind| behind.as_secs() > 86_400)?;
        Some(Finding::host(
            "clock",
            Severity::Medium,
            format!("the clock is at least {} days behind", behind.as_secs() / 86_400),
            "Expired certificates of upstreams look valid, and records bear wrong times.",
            "Set the clock and keep it set (systemd-timesyncd, chrony).",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    fn host() -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().expect("directory");
        for dir in ["run/systemd/journal", "run/nscd", "etc", "proc/net", "state"] {
            fs::create_dir_all(root.path().join(dir)).expect("directory");
        }
        let host = Host { root: root.path().to_owned(), state: "/state".into() };
        (root, host)
    }

    fn ids(host: &Host, now: SystemTime) -> Vec<String> {
        host.findings(now).into_iter().map(|f| f.id).collect()
    }

    #[test]
    fn a_plain_host_has_nothing_but_what_is_missing() {
        let (root, host) = host();
        let _journal = UnixDatagram::bind(root.path().join("run/systemd/journal/socket")).expect("journal");
        let now = SystemTime::now();
        // The disk of the test's machine is not the test's to judge.
        assert_eq!(
            ids(&host, now).into_iter().filter(|id| id != "disk").collect::<Vec<_>>(),
            Vec::<String>::new()
        );
        let early = now.checked_sub(Duration::from_secs(40 * 86_400)).expect("time");
        assert!(ids(&host, early).contains(&"clock".to_owned()));
    }

    #[test]
    fn engines_their_users_and_name_services() {
        let (root, host) = host();
        fs::write(root.path().join("etc/group"), "wheel:x:10:\ndocker:x:999:ann,bob\nlxd:x:998:\n")
            .expect("group");
        // Without an engine the group is harmless.
        assert_eq!(host.engine_members(), None);
        let _engine = UnixListener::bind(root.path().join("run/docker.sock")).expect("engine");
        let _names = UnixListener::bind(root.path().join("run/nscd/socket")).expect("nscd");
        let found = host.findings(SystemTime::now());
        let of = |id: &str| found.iter().find(|f| f.id == id).unwrap_or_else(|| panic!("{id} in {found:#?}"));
        assert!(of("engine-group").what.ends_with("ann,bob (group docker)"));
        assert!(of("name-service").what.ends_with("nscd at /run/nscd/socket"));
        assert_eq!(of("journal").severity, Severity::Low);
        assert_eq!(host.helpers(), ["/run/docker.sock", "/run/nscd/socket"]);
    }

    #[test]
    fn a_port_of_the_engine() {
        let (root, host) = host();
        let table = "  sl  local_address rem_address   st\n\
            0: 0100007F:0016 00000000:0000 0A 0 0\n 1: 0100007F:0947 0200007F:0050 01 0 0\n";
        fs::write(root.path().join("proc/net/tcp"), table).expect("table");
        assert_eq!(host.engine_ports(), None, "connected is not listening");
        let table = table.replace(" 01 0", " 0A 0");
        fs::write(root.path().join("proc/net/tcp6"), table).expect("table");
        assert!(host.engine_ports().is_some_and(|f| f.what.contains("port 2375")));
    }
}
