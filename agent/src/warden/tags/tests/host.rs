//! What the tests stand on: a cgroup tree of the test's own, a fake in place of the kernel programs, jobs.

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The kernel's side: outlives a daemon, as pinned links do.
#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<FakeState>>);

#[derive(Default)]
pub(super) struct FakeState {
    pub(super) prepared: HashMap<TagName, TagNumber>,
    pub(super) attached: HashMap<TagName, (TagNumber, PathBuf)>,
    /// Processes that were in a cgroup when it was attached.
    pub(super) too_early: usize,
    pub(super) broken: bool,
}

impl Fake {
    pub(super) fn state(&self) -> MutexGuard<'_, FakeState> {
        self.0.lock().expect("fake")
    }
}

impl Fake {
    pub(super) fn is_clean(&self) -> bool {
        let state = self.state();
        state.attached.is_empty() && state.prepared.is_empty()
    }
}

impl Attach for Fake {
    fn prepare(&mut self, name: &TagName, number: TagNumber, _: &Options) -> Result<(), AttachError> {
        let mut state = self.state();
        if state.broken {
            return Err(AttachError("broken by the test".into()));
        }
        state.prepared.insert(name.clone(), number);
        Ok(())
    }

    fn attach(
        &mut self,
        name: &TagName,
        number: TagNumber,
        cgroup: &Path,
        l: &Options,
    ) -> Result<(), AttachError> {
        self.prepare(name, number, l)?;
        let procs =
            fs::read_to_string(cgroup.join("cgroup.procs")).map_err(|e| AttachError(e.to_string()))?;
        let mut state = self.state();
        state.too_early += procs.lines().count();
        state.attached.insert(name.clone(), (number, cgroup.to_owned()));
        Ok(())
    }

    fn detach(&mut self, name: &TagName) -> Result<(), AttachError> {
        let mut state = self.state();
        state.attached.remove(name);
        state.prepared.remove(name);
        Ok(())
    }

    fn adopt(&mut self) -> Result<Vec<Adopted>, AttachError> {
        let state = self.state();
        let adopted = state.attached.iter().map(|(name, (number, path))| Adopted {
            name: name.clone(),
            number: *number,
            alive: path.is_dir(),
            cgroup: path.is_dir().then(|| path.clone()),
        });
        Ok(adopted.collect())
    }
}

/// A host of the test's own: a base cgroup, a runtime directory, a fake kernel.
pub(super) struct Host {
    pub(super) base: CgroupPath,
    pub(super) tree: Tree,
    pub(super) runtime: tempfile::TempDir,
    pub(super) fake: Fake,
    sender: UnboundedSender<Event>,
    events: UnboundedReceiver<Event>,
}

impl Host {
    /// `None`, said aloud, where the test cannot make cgroups.
    pub(super) fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: making cgroups needs root");
            return None;
        }
        let tree = Tree::find().expect("cgroup v2");
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let base = CgroupPath(format!("/sluice-test-tags-{}-{n}", std::process::id()));
        tree.create(&base).expect("base cgroup");
        let (sender, events) = unbounded_channel();
        let runtime = tempfile::tempdir().expect("runtime directory");
        Some(Self { base, tree, runtime, fake: Fake::default(), sender, events })
    }

    pub(super) fn cgroup(&self, name: &str) -> CgroupPath {
        CgroupPath(format!("{}/{name}", self.base))
    }

    pub(super) async fn open(&self) -> Tags {
        let settings = Settings {
            runtime: self.runtime.path().to_owned(),
            bpf: "/nowhere".into(),
            program: "/nowhere".into(),
            base: self.cgroup("tags"),
            host: HostKind::Plain,
        };
        let sender = self.sender.clone();
        let sink: Sink = Arc::new(move |event| sender.send(event).expect("the test listens"));
        Tags::open(settings, Box::new(self.fake.clone()), sink).await.expect("tags")
    }

    /// Opens and follows the tree in the background; dropping the guard is the daemon's crash.
    pub(super) async fn start(&self) -> (Tags, Running) {
        let tags = self.open().await;
        let following = tags.clone();
        let task = background(async move { following.watch().await.expect("inotify") });
        (tags, Running(task))
    }

    pub(super) async fn expect(&mut self, what: &str, matches: impl Fn(&Event) -> bool) {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("sender lives");
                if matches(&event) {
                    return;
                }
                seen.push(event);
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no {what} in {seen:?}"));
    }

    pub(super) fn troubles(&mut self) -> Vec<Event> {
        let mut troubles = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if matches!(event, Event::Trouble { .. }) {
                troubles.push(event);
            }
        }
        troubles
    }

    /// The kernel lets go of a cgroup a little after wait() has returned (6.18 defers it past the last switch).
    pub(super) fn wait_empty(&self, cgroup: &CgroupPath) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.tree.life(cgroup).expect("tree") == tree::Life::Populated {
            assert!(std::time::Instant::now() < deadline, "{cgroup} does not empty");
            std::thread::yield_now();
        }
    }

    pub(super) fn state_files(&self) -> usize {
        fs::read_dir(self.runtime.path().join("tags")).expect("state").count()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(e) = self.tree.remove(&self.base) {
            eprintln!("{}: {e}", self.base);
        }
    }
}

pub(super) struct Running(tokio::task::JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A process that lives until told otherwise.
pub(super) struct Job(pub(super) Child);

impl Job {
    pub(super) fn start() -> Self {
        Self(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat"))
    }

    pub(super) fn process(&self) -> Process {
        Process::open(self.0.id()).expect("pidfd")
    }

    pub(super) fn cgroup(&self) -> CgroupPath {
        of_process(self.0.id()).expect("cgroup")
    }

    pub(super) fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("ended");
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn tag(name: &str) -> TagName {
    TagName::parse(name).expect("name")
}

pub(super) fn intercept(name: &str, cgroup: &CgroupPath) -> Intercept {
    Intercept {
        name: tag(name),
        designation: Designation::Cgroup(cgroup.0.clone()),
        options: Options::default(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no drain: the guard ends the task")]
fn background(task: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn(task)
}
