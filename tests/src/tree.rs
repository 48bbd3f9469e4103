//! A small Debian system with systemd, booted in a container of its own: network namespace with a loopback only, a
//! cgroup that holds all of it, a file system that forgets. For stories that need systemd, dpkg and a journal.
//!
//! The tree is built once by debootstrap and kept in `/var/tmp`, named by what it is built from. Each [`Boot`] runs one
//! script in it as a unit, after everything else has started, and gives back what the script and the journal said.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout};

/// What is installed beside Debian's base: systemd and its bus, what the agent's package depends on, a JRE whose
/// keystore Debian's own hook fills, and the clients and servers of the stories.
const PACKAGES: [&str; 10] = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "ca-certificates",
    "openssl",
    "curl",
    "python3-minimal",
    "libpython3-stdlib",
    "iproute2",
    "procps",
];
/// Installed after debootstrap, whose own resolver does not order its scripts.
const LATER: &str = "openjdk-17-jre-headless";

/// Runs the story, and ends the system whatever becomes of it.
const STORY_UNIT: &str = "\
[Unit]
Description=The test's script
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /story/script
StandardOutput=file:/story/output
StandardError=inherit
ExecStopPost=/bin/sh -c 'echo $EXIT_STATUS > /story/status; journalctl --boot --output short-precise --no-pager > /story/journal'
ExecStopPost=/bin/systemctl poweroff --no-block
[Install]
WantedBy=multi-user.target
";

/// A container sees no bpffs, as a host does: systemd mounts it outside containers only.
const BPF_UNIT: &str = "\
[Unit]
DefaultDependencies=no
Before=sysinit.target local-fs-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/mount -o remount,rw /sys
ExecStart=/bin/mkdir -p /sys/fs/bpf
ExecStart=/bin/mount -t bpf -o mode=700 bpf /sys/fs/bpf
[Install]
WantedBy=sysinit.target
";

/// The address that stands for a host outside; and the one that connections of user sluice come from, so that a server
/// can tell what came through the agent.
const NET_UNIT: &str = "\
[Unit]
Before=network-pre.target
Wants=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/ip link set lo up
ExecStart=/bin/ip address add 203.0.113.10/32 dev lo
ExecStart=/bin/ip address add 203.0.113.254/32 dev lo
ExecStart=/bin/sh -c 'echo 203.0.113.10 outside.example >> /etc/hosts'
[Install]
WantedBy=multi-user.target
";

const UNITS: [(&str, &str); 3] = [("story", STORY_UNIT), ("story-bpf", BPF_UNIT), ("story-net", NET_UNIT)];

/// The built tree.
#[derive(Debug)]
pub struct Tree {
    base: PathBuf,
}

/// One run of a script in the tree.
#[derive(Debug)]
pub struct Boot<'a> {
    tree: &'a Tree,
    script: String,
    files: Vec<(PathBuf, PathBuf)>,
    deadline: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Ran {
    /// Standard output and error of the script.
    pub output: String,
    /// The whole journal of this boot.
    pub journal: String,
    /// The script's exit status; `None` if the system ended before the script did.
    pub status: Option<i32>,
}

impl Tree {
    /// The tree, built now if this machine has none of this content yet (a minute, and it needs Debian's archive).
    ///
    /// # Errors
    /// debootstrap or apt-get failed; their output is on standard error.
    pub fn debian() -> Result<Self> {
        let suite = suite();
        let content = format!("{suite} {PACKAGES:?} {LATER} {UNITS:?}");
        let base = PathBuf::from(format!("/var/tmp/sluice-tree-{suite}-{:016x}", fnv(content.as_bytes())));
        // One builder at a time; the others wait for it.
        let lock = File::create(base.with_extension("lock")).context("the tree's lock")?;
        lock.lock().context("the tree's lock")?;
        if !base.exists() {
            let new = base.with_extension("new");
            if new.exists() {
                fs::remove_dir_all(&new).with_context(|| new.display().to_string())?;
            }
            build(&new, &suite)?;
            fs::rename(&new, &base).with_context(|| base.display().to_string())?;
        }
        Ok(Self { base })
    }

    /// A run of a bash script; `set -eu` is put before it.
    pub fn boot(&self, script: &str) -> Boot<'_> {
        let script = format!("set -eu -o pipefail\nexport HOME=/root\n{script}\n");
        Boot { tree: self, script, files: Vec::new(), deadline: Duration::from_secs(120) }
    }
}

impl Boot<'_> {
    /// Shows a file of ours inside the tree, read-only.
    #[must_use]
    pub fn with(mut self, ours: impl Into<PathBuf>, inside: impl Into<PathBuf>) -> Self {
        self.files.push((ours.into(), inside.into()));
        self
    }

    /// How long it may take from power-on to power-off; two minutes unless said.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Boots, runs the script, powers off.
    ///
    /// # Errors
    /// The container could not be started, or was not over at its deadline: then it was killed.
    pub fn run(self) -> Result<Ran> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sluice-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let story = tempfile::Builder::new().prefix(&name).tempdir()?;
        fs::set_permissions(story.path(), fs::Permissions::from_mode(0o755))?;
        fs::write(story.path().join("script"), &self.script)?;
        let cgroup = Cgroup::make(&name)?;
        let mut command = self.command(&name, story.path(), &cgroup);
        let console = File::create(story.path().join("console"))?;
        command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
        let ended = wait(command, self.deadline);
        drop(cgroup);
        let text = |name: &str| {
            fs::read(story.path().join(name)).map(|text| String::from_utf8_lossy(&text).into_owned())
        };
        let ran = Ran {
            output: text("output").unwrap_or_default(),
            journal: text("journal").unwrap_or_default(),
            status: text("status").ok().and_then(|status| status.trim().parse().ok()),
        };
        match ended {
            Ok(()) => Ok(ran),
            Err(error) => Err(error.context(format!(
                "--- output ---\n{}\n--- console ---\n{}",
                ran.output,
                text("console").unwrap_or_default()
            ))),
        }
    }

    fn command(&self, name: &str, story: &Path, cgroup: &Cgroup) -> Command {
        // The shell joins the cgroup before it becomes nspawn: everything of the container stays below it.
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            "for c in $CGROUPS; do echo $$ > $c/cgroup.procs; done; exec systemd-nspawn \"$@\"",
            "sh",
        ]);
        command.env("CGROUPS", cgroup.list());
        // systemd of its own with cgroup v2 alone, as hosts have it, also where this host is mixed.
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        command.args(["--quiet", "--boot", "--volatile=overlay", "--private-network", "--console=pipe"]);
        command.args([
            "--register=no",
            "--keep-unit",
            "--capability=all",
            "--system-call-filter=bpf perf_event_open landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret pidfd_getfd",
        ]);
        command.arg(format!("--machine={name}")).arg(format!("--directory={}", self.tree.base.display()));
        command.arg(format!("--bind={}:/story", story.display()));
        for (ours, inside) in &self.files {
            command.arg(format!("--bind-ro={}:{}", ours.display(), inside.display()));
        }
        command
    }
}

impl Ran {
    /// The script's output, if it ended with 0.
    ///
    /// # Errors
    /// It did not; output and the end of the journal are in the text.
    pub fn passed(self) -> Result<Self> {
        if self.status == Some(0) {
            return Ok(self);
        }
        let lines: Vec<&str> = self.journal.lines().collect();
        let last = lines[lines.len().saturating_sub(80)..].join("\n");
        bail!(
            "status {:?}\n--- output ---\n{}\n--- journal, last lines ---\n{last}",
            self.status,
            self.output
        )
    }
}

/// Waits for a child until the deadline, then kills it: nspawn's container dies with nspawn.
fn wait(mut command: Command, deadline: Duration) -> Result<()> {
    let mut child = command.spawn().context("systemd-nspawn")?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    let (ended, end) = channel();
    let waiter = std::thread::spawn(move || {
        let status = child.wait();
        // Nobody listens any more when the deadline has passed.
        ended.send(()).ok();
        status
    });
    let in_time = end.recv_timeout(deadline) != Err(RecvTimeoutError::Timeout);
    if !in_time {
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).context("ending systemd-nspawn")?;
    }
    let status = waiter.join().expect("the waiting thread does not panic").context("systemd-nspawn")?;
    ensure!(in_time, "not over after {deadline:?}: killed");
    ensure!(status.success(), "systemd-nspawn: {status}");
    Ok(())
}

/// A cgroup for one container, in the v2 hierarchy and, on a mixed host, in systemd's own v1 one. Removed with all that
/// is in it.
struct Cgroup {
    paths: Vec<PathBuf>,
}

impl Cgroup {
    fn make(name: &str) -> Result<Self> {
        let mixed = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"].map(Path::new);
        let roots: Vec<&Path> = if mixed[0].exists() {
            mixed.into_iter().filter(|root| root.exists()).collect()
        } else {
            vec![Path::new("/sys/fs/cgroup")]
        };
        let paths: Vec<PathBuf> = roots.into_iter().map(|root| root.join(name)).collect();
        for path in &paths {
            fs::create_dir(path).with_context(|| path.display().to_string())?;
        }
        Ok(Self { paths })
    }

    fn list(&self) -> String {
        self.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for path in &self.paths {
            // The v2 hierarchy stands first; when it is empty, so is the other.
            if path.join("cgroup.kill").exists()
                && let Err(error) =
                    fs::write(path.join("cgroup.kill"), "1").and_then(|()| empty(&path.join("cgroup.events")))
            {
                eprintln!("{}: {error}", path.display());
            }
            remove(path);
        }
    }
}

/// Waits until no process is left below a cgroup: at most five seconds after it was killed.
fn empty(events: &Path) -> std::io::Result<()> {
    let end = Instant::now() + Duration::from_secs(5);
    let mut file = File::open(events)?;
    loop {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_string(&mut text)?;
        if text.contains("populated 0") {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::Error::other("processes are left"));
        }
        // The kernel signals each change of this file as an exceptional event.
        let mut changed = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        nix::poll::poll(&mut changed, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))?;
    }
}

/// Removes a cgroup from its leaves.
fn remove(path: &Path) {
    for child in fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
        if child.path().is_dir() {
            remove(&child.path());
        }
    }
    if let Err(error) = fs::remove_dir(path) {
        eprintln!("{}: {error}", path.display());
    }
}

/// The host's own release where it is a Debian: binaries built here must run there.
fn suite() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .map(|value| value.trim_matches('"').to_owned())
    };
    match (value("ID="), value("VERSION_CODENAME=")) {
        (Some(id), Some(codename)) if id == "debian" => codename,
        _ => "bookworm".to_owned(),
    }
}

fn build(new: &Path, suite: &str) -> Result<()> {
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={}", PACKAGES.join(","))]).arg(suite).arg(new);
    loud(&mut debootstrap)?;
    // A mount namespace of its own, so that /proc goes away with the command.
    let install = format!(
        "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" apt-get install --quiet --yes --no-install-recommends {LATER}"
    );
    let mut apt = Command::new("unshare");
    loud(apt.args(["--mount", "sh", "-c", &install]).arg(new).env("DEBIAN_FRONTEND", "noninteractive"))?;
    for (name, unit) in UNITS {
        fs::write(new.join(format!("etc/systemd/system/{name}.service")), unit)?;
        loud(Command::new("chroot").arg(new).args([
            "systemctl",
            "enable",
            "--quiet",
            &format!("{name}.service"),
        ]))?;
    }
    // Each boot makes its own.
    fs::write(new.join("etc/machine-id"), "")?;
    fs::write(new.join("etc/hostname"), "tree\n")?;
    fs::remove_dir_all(new.join("var/cache/apt")).context("apt's cache")?;
    fs::create_dir_all(new.join("var/cache/apt/archives/partial"))?;
    Ok(())
}

/// Runs a command whose output belongs on our standard error.
fn loud(command: &mut Command) -> Result<()> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("{:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// FNV-1a, 64 bits: a name for a content, not a seal.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
