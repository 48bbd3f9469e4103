//! Guards for what a test borrows from the host: a cgroup, a network namespace, a directory in bpffs. Each is made for
//! one test under a name of its own and is gone when the guard is.
//!
//! Nothing here touches the root cgroup or the host's own network namespace.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use sluice::warden::kernel;

/// How long a guard waits for the last process to leave.
const PATIENCE: Duration = Duration::from_secs(10);

/// Panics unless the test runs as root: it would prove nothing otherwise.
pub fn require_root() {
    assert!(nix::unistd::geteuid().is_root(), "this test loads kernel programs: run it as root");
}

/// A name that no other test, process or run has at the same time.
pub fn unique(label: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("sl-{label}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Raises the soft limit of open files to the hard one, which it returns.
pub fn raise_open_files() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit of open files");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raise to the hard limit");
    hard
}

/// A cgroup of the test's own.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one directly below the root of the hierarchy.
    pub fn new(label: &str) -> Self {
        let root = kernel::mount_point().expect("cgroup v2 is mounted");
        Self::make(root.join(unique(label)))
    }

    /// Makes one below this one.
    pub fn child(&self, name: &str) -> Self {
        Self::make(self.path.join(name))
    }

    fn make(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap_or_else(|e| panic!("make cgroup {}: {e}", path.display()));
        Self { path }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel's number for it.
    pub fn id(&self) -> u64 {
        fs::metadata(&self.path).expect("the cgroup is there").ino()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = fs::remove_dir(&self.path) {
            if Instant::now() > deadline {
                eprintln!("left behind: cgroup {}: {error}", self.path.display());
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A network namespace with loopback up and addresses of "the world" on it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one; `world` are addresses with their prefix, such as `203.0.113.10/32`.
    pub fn new(label: &str, world: &[&str]) -> Self {
        let namespace = Self { name: unique(label) };
        run(Command::new("ip").args(["netns", "add", &namespace.name]));
        let inside = |args: &[&str]| {
            run(Command::new("ip").args(["-n", &namespace.name]).args(args));
        };
        inside(&["link", "set", "lo", "up"]);
        for address in world {
            let mut args = vec!["addr", "add", address, "dev", "lo"];
            if address.contains(':') {
                args.push("nodad");
            }
            inside(&args);
        }
        namespace
    }

    /// Its name, for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Runs `work` on a thread inside. What it opens stays inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = fs::File::open(self.path()).expect("the namespace is there");
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(&namespace, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that runs `program` inside, and in `cgroup` before it is executed.
    pub fn command(&self, cgroup: Option<&Cgroup>, program: &str) -> Command {
        let mut command = match cgroup {
            Some(cgroup) => {
                let mut sh = Command::new("sh");
                sh.arg("-c").arg(r#"echo $$ > "$0" && exec "$@""#).arg(cgroup.path().join("cgroup.procs"));
                sh.arg("nsenter");
                sh
            }
            None => Command::new("nsenter"),
        };
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let removed = Command::new("ip").args(["netns", "del", &self.name]).status();
        if !removed.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!("left behind: network namespace {}: {removed:?}", self.name);
        }
    }
}

/// A directory of the test's own in bpffs; whatever is pinned there goes with it.
#[derive(Debug)]
pub struct BpfDir {
    path: PathBuf,
}

impl BpfDir {
    /// Names one; the kernel part makes it.
    pub fn new(label: &str) -> Self {
        Self { path: Path::new("/sys/fs/bpf").join(unique(label)) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BpfDir {
    fn drop(&mut self) {
        if self.path.exists()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("left behind: {}: {error}", self.path.display());
        }
    }
}

/// Runs a command to its end and returns what it printed. Panics with its errors if it fails.
pub fn run(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {}: {errors}", done.status);
    String::from_utf8(done.stdout).expect("text")
}

/// A process that works until its standard input is closed.
#[derive(Debug)]
pub struct Held {
    child: std::process::Child,
}

impl Held {
    /// Starts it and waits for its first line.
    pub fn start(command: &mut Command) -> (Self, String) {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut out = child.stdout.take().expect("piped");
        let mut line = Vec::new();
        let mut byte = [0];
        while out.read(&mut byte).expect("its output") == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        child.stdout = Some(out);
        (Self { child }, String::from_utf8(line).expect("text"))
    }

    /// Writes to its standard input.
    pub fn say(&self, text: &str) {
        let mut input = self.child.stdin.as_ref().expect("piped");
        std::io::Write::write_all(&mut input, text.as_bytes()).expect("it reads");
    }

    /// Lets it go and waits for its end.
    pub fn release(mut self) {
        drop(self.child.stdin.take());
        let ended = self.child.wait().expect("its end");
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Ours, and perhaps ended already: either way it is over after this.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}
