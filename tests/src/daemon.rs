//! The agent in a space: its configuration, its process, its log, its records.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice::control::Status;
use sluice::types::Summary;

use crate::binary::sluice_binary;
use crate::harness::Options;
use crate::netns::{AGENT_USER, Space};
use crate::process::{PATIENCE, eventually, in_guest, run};

/// The cgroup of the agent below the space's.
pub const CGROUP: &str = "agent";

/// See the module. Dropping it kills the warden; the space kills the rest.
pub struct Daemon {
    dir: PathBuf,
    launch: Box<dyn Fn() -> Result<Command> + Send + Sync>,
    child: Option<Child>,
    notify: UnixDatagram,
    ready: mpsc::Receiver<()>,
    is_ready: bool,
}

impl Daemon {
    /// Writes the configuration; starts nothing.
    pub(crate) fn prepare(space: &Space, options: &Options) -> Result<Self> {
        let dir = space.dir().to_owned();
        let config = dir.join("etc");
        fs::create_dir(&config)?;
        fs::create_dir(dir.join("state"))?;
        let text = format!(
            "user = \"{AGENT_USER}\"\n{}\n[paths]\nstate = \"{d}/state\"\nruntime = \"{d}/runtime\"\nbpf = \"{d}/bpf/sluice\"\n\
             [tls]\nextra_roots = [\"{d}/upstream-ca.pem\"]\n",
            options.config,
            d = dir.display(),
        );
        fs::write(config.join("sluice.toml"), text)?;
        if let Some(kib) = options.store_kib {
            small_store(space, kib)?;
        }
        if options.no_roots {
            let empty = dir.join("no-roots");
            fs::create_dir(&empty)?;
            let mut mount = space.command("", "mount")?;
            let ended = run(mount.arg("--bind").arg(&empty).arg("/etc/ssl/certs"), PATIENCE)?;
            ensure!(ended.good(), "hiding the system's roots: {}", ended.stderr);
        }
        let notify = UnixDatagram::bind(dir.join("notify.sock")).context("the readiness socket")?;
        let ready = readiness(notify.try_clone()?);
        let mut parts = space.command(CGROUP, sluice_binary()?)?;
        parts.arg("daemon").arg("--config").arg(&config).env("NOTIFY_SOCKET", dir.join("notify.sock"));
        parts.envs(options.environment.iter().map(|(name, value)| (name, value)));
        Ok(Self { launch: Box::new(copier(parts)), dir, child: None, notify, ready, is_ready: false })
    }

    /// Starts the daemon and waits until it says that it is ready.
    ///
    /// # Errors
    /// It ended, or did not say READY=1 within [`PATIENCE`]; its log is in the text.
    pub fn start(&mut self) -> Result<()> {
        // A guest reads the program over 9p, too.
        let times = if in_guest() { 5 } else { 1 };
        self.start_within(PATIENCE * times)
    }

    /// The same with another patience.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_within(&mut self, patience: Duration) -> Result<()> {
        self.launch()?;
        self.await_ready(patience)
    }

    /// Starts the daemon and waits for nothing.
    ///
    /// # Errors
    /// It runs already.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the daemon runs already");
        while self.ready.try_recv().is_ok() {}
        let log = File::options().create(true).append(true).open(self.dir.join("daemon.log"))?;
        let child = (self.launch)()?.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.child = Some(child);
        self.is_ready = false;
        Ok(())
    }

    /// Waits until the daemon that was launched says that it is ready.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn await_ready(&mut self, patience: Duration) -> Result<()> {
        let child = self.child.as_mut().context("the daemon runs")?;
        let end = Instant::now() + patience;
        loop {
            if self.ready.recv_timeout(Duration::from_millis(50)).is_ok() {
                self.is_ready = true;
                return Ok(());
            }
            if let Some(status) = child.try_wait()? {
                self.child = None;
                bail!("the daemon ended ({status}) before it was ready:\n{}", self.log());
            }
            ensure!(Instant::now() < end, "the daemon is not ready after {patience:?}:\n{}", self.log());
        }
    }

    /// The same, if the daemon that runs now was not waited for yet.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn await_ready_once(&mut self, patience: Duration) -> Result<()> {
        if self.is_ready { Ok(()) } else { self.await_ready(patience) }
    }

    /// Asks the daemon to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// It does not end within [`PATIENCE`].
    pub fn stop(&mut self) -> Result<()> {
        self.end_by(Signal::SIGTERM).map(drop)
    }

    /// kill -9 of the warden; the gate is left to notice.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_warden(&mut self) -> Result<()> {
        self.end_by(Signal::SIGKILL).map(drop)
    }

    /// Ends the warden by a signal, and gives how it ended.
    ///
    /// # Errors
    /// It does not end within [`PATIENCE`].
    pub fn end_by(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(self.warden_pid()?, signal)?;
        self.wait_end()
    }

    fn wait_end(&mut self) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("the daemon runs")?;
        let ended = eventually(PATIENCE, || Ok(child.try_wait()?))?;
        let ended = ended.with_context(|| format!("the daemon does not end:\n{}", self.log()))?;
        self.child = None;
        Ok(ended)
    }

    /// Sends a signal to one of the agent's processes.
    ///
    /// # Errors
    /// No such process.
    pub fn signal(&self, pid: u32, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(pid)?), signal).with_context(|| format!("{signal} to {pid}"))
    }

    /// The warden: the process that was started.
    ///
    /// # Errors
    /// The daemon does not run.
    pub fn warden_pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("the daemon does not run")?.id())
    }

    /// The gate: the warden's child that runs as [`AGENT_USER`]. Waits for one, since it may be between two lives.
    ///
    /// # Errors
    /// None came within [`PATIENCE`].
    pub fn gate_pid(&self) -> Result<u32> {
        self.gate_pid_other_than(0)
    }

    /// The gate that is there now.
    pub fn gate_now(&self) -> Option<u32> {
        let uid = crate::netns::agent_uid().ok()?;
        children(self.warden_pid().ok()?).into_iter().find(|pid| uid_of(*pid) == Some(uid))
    }

    /// The same, but not the process `old`: the gate after its restart.
    ///
    /// # Errors
    /// None came within [`PATIENCE`].
    pub fn gate_pid_other_than(&self, old: u32) -> Result<u32> {
        let warden = self.warden_pid()?;
        let uid = crate::netns::agent_uid()?;
        let gate = eventually(PATIENCE, || {
            Ok(children(warden).into_iter().find(|pid| *pid != old && uid_of(*pid) == Some(uid)))
        })?;
        gate.with_context(|| format!("the warden has no gate:\n{}", self.log()))
    }

    /// Everything that the daemon wrote.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir.join("daemon.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Directory of the store.
    pub fn store(&self) -> PathBuf {
        self.dir.join("state/store")
    }

    /// A `sluice` command against this daemon, outside of every tag.
    ///
    /// # Errors
    /// The cgroup cannot be made.
    pub fn cli(&self, space: &Space, args: &[&str]) -> Result<Command> {
        let mut command = space.command("untagged", sluice_binary()?)?;
        command.arg("--runtime").arg(self.dir.join("runtime")).args(args);
        Ok(command)
    }

    /// Waits until the agent has tried its own enforcement, which every start does beside serving; gives its status then.
    ///
    /// # Errors
    /// The test does not end.
    pub fn self_tested(&self, space: &Space) -> Result<Status> {
        let tested = eventually(PATIENCE, || {
            let ended = run(&mut self.cli(space, &["status", "--json"])?, PATIENCE)?;
            let status: Status = serde_json::from_str(ended.stdout.trim())?;
            Ok(Some(status).filter(|status| status.self_test.is_some()))
        });
        tested?.context("the agent's self-test does not end")
    }

    /// What is in the store, by `sluice sessions`, oldest first.
    pub(crate) fn sessions(&self, space: &Space) -> Result<Vec<Summary>> {
        let mut command = self.cli(space, &["sessions", "--json", "--limit", "100000", "--store"])?;
        let ended = run(command.arg(self.store()), PATIENCE)?;
        ensure!(ended.good(), "sluice sessions: {:?} {}", ended.status, ended.stderr);
        let lines = ended.stdout.lines();
        let mut all = lines
            .map(|l| serde_json::from_str::<Summary>(l).with_context(|| format!("no summary: {l}")))
            .collect::<Result<Vec<_>>>()?;
        all.sort_by(|a, b| (&a.time, &a.session, a.exchange).cmp(&(&b.time, &b.session, b.exchange)));
        Ok(all)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.notify.shutdown(std::net::Shutdown::Both);
    }
}

/// Reads the readiness socket as long as it is open, as systemd would: a full one would stop the daemon. Says each
/// READY=1.
fn readiness(socket: UnixDatagram) -> mpsc::Receiver<()> {
    let (said, ready) = mpsc::channel();
    std::thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(n @ 1..) = socket.recv(&mut message) {
            if message[..n].split(|b| *b == b'\n').any(|line| line == b"READY=1") {
                let _ = said.send(());
            }
        }
    });
    ready
}

/// Resident memory of a process in KiB; `None` when it is gone.
pub fn rss_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What a process has worked so far, in clock ticks; `None` when it is gone.
pub fn cpu_ticks(pid: u32) -> Option<u64> {
    // utime and stime (proc(5)).
    [14, 15].into_iter().map(|number| stat_field(pid, number)?.parse::<u64>().ok()).sum()
}

/// Pids whose parent is `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = all.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|p| parent(*p) == Some(pid)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    stat_field(pid, 4)?.parse().ok()
}

/// A field of /proc/PID/stat, counted from 1 as in proc(5); from 3 on, since the command in field 2 may hold spaces and
/// brackets.
fn stat_field(pid: u32, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().nth(number - 3)?.to_owned())
}

fn uid_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A tmpfs of `kib` KiB where the store will be, inside the space only.
fn small_store(space: &Space, kib: u64) -> Result<()> {
    let store = space.dir().join("state/store");
    fs::create_dir_all(&store)?;
    let mut mount = space.command("", "mount")?;
    mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k,mode=0750"), "none"]).arg(&store);
    let ended = run(&mut mount, PATIENCE)?;
    ensure!(ended.good(), "mounting the store's tmpfs: {}", ended.stderr);
    Ok(())
}

/// `Command` cannot be cloned: keeps its parts, to launch the daemon again.
fn copier(command: Command) -> impl Fn() -> Result<Command> {
    let program = command.get_program().to_owned();
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let envs: Vec<_> = command.get_envs().filter_map(|(n, v)| Some((n.to_owned(), v?.to_owned()))).collect();
    move || {
        let mut copy = Command::new(&program);
        copy.args(&args).env_clear().envs(envs.iter().map(|(n, v)| (n, v))).current_dir(Path::new("/"));
        Ok(copy)
    }
}

/// CPU time of a process's living threads in nanoseconds (/proc/PID/task/*/schedstat, field 1); `None` when it is gone.
pub fn cpu_ns(pid: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Some(threads.filter_map(Result::ok).filter_map(of).sum())
}
