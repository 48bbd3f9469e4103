//! The start-up self-test: the tag programs are put on a throw-away cgroup, a short-lived child of ours tries its ways out
//! from inside, and each is told as closed (by which layer), open, or not tried.
//!
//! The child lives in a network namespace that has nothing but a loopback device ([`place`]), so nothing can leave the host
//! even where a way is open. Programs, maps and cgroup are the trial's own: no tag notices, and nothing stays. It runs
//! beside the daemon, takes well below a second, is ended after ten, and its failure is told and changes nothing else.

mod child;
mod place;
mod ways;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use agent_ebpf::{Config, Counter, PORTS6};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::child::Said;
use self::ways::{ALL, Attempt};
use super::kernel::{self, CgroupId, Trial};
use super::listen::PREFIX4;
use super::tags::{CgroupPath, Tree, of_process};
use crate::report::Chain;
use crate::types::{Outcome, SelfTest, Way};

pub use self::child::{probe, run as child};

/// The whole of it may take this long.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a killed process may take to leave the cgroup.
const EMPTY: Duration = Duration::from_secs(1);

/// Name of the throw-away cgroup, below the agent's own.
const CGROUP: &str = "sluice-self-test";

/// Why the ways could not be tried.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the cgroup tree")]
    Tree(#[source] io::Error),
    #[error("a cgroup for it cannot be made")]
    Cgroup(#[source] io::Error),
    #[error("its process cannot be started")]
    Start(#[source] io::Error),
    #[error("its process does not answer")]
    Silent(#[source] io::Error),
    #[error("its place cannot be made: {0}")]
    NoPlace(String),
    #[error("the programs cannot be put on its cgroup")]
    Programs(#[source] kernel::Error),
    #[error("its process said something else than was asked")]
    Strange,
}

/// What the self-test needs to know of the daemon.
pub struct Setting<'a> {
    /// Our own program.
    pub program: &'a Path,
    /// Where the daemon's maps are pinned.
    pub bpf_dir: &'a Path,
    /// Whether the LSM layer works.
    pub lsm: bool,
    /// Puts a cgroup under the LSM layer's rules, or takes it out again; tells whether it was under them at the end.
    pub guard: &'a dyn Fn(CgroupId, &Path, bool) -> bool,
}

/// Runs it. Blocks for less than a second, ten at most.
pub fn run(setting: &Setting<'_>) -> SelfTest {
    let begun = Instant::now();
    let tried = try_all(setting, begun + DEADLINE);
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match tried {
        Ok(ways) => SelfTest { ways, took_ms, trouble: None },
        Err(error) => {
            let trouble = Chain(&error).to_string();
            let untried = |way: &ways::Way| Way {
                name: way.name.to_owned(),
                outcome: Outcome::Untried { why: trouble.clone() },
            };
            SelfTest { ways: ALL.iter().map(untried).collect(), took_ms, trouble: Some(trouble) }
        }
    }
}

/// The throw-away cgroup. Removed when dropped, after the child is gone.
struct Cell {
    tree: Tree,
    path: CgroupPath,
}

impl Cell {
    fn make() -> Result<Self, Error> {
        let tree = Tree::find().map_err(Error::Tree)?;
        let own = of_process(std::process::id()).map_err(Error::Tree)?;
        let path = CgroupPath(format!("{}/{CGROUP}", own.0.trim_end_matches('/')));
        // One that a killed daemon left; a process in it ends as its daemon did.
        let _ = tree.remove(&path);
        tree.create(&path).map_err(Error::Cgroup)?;
        Ok(Self { tree, path })
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // The probe ends with the child; where it has not yet, it does now. The file is there from Linux 5.14 on.
        let _ = std::fs::write(self.tree.directory(&self.path).join("cgroup.kill"), "1");
        // Whatever comes of it: the removal tells.
        let _ = self.tree.await_empty(&self.path, EMPTY);
        if let Err(error) = self.tree.remove(&self.path) {
            tracing::warn!("the self-test's cgroup {} stays: {error}", self.path);
        }
    }
}

/// The child, killed and reaped when dropped.
struct Prober {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    deadline: Instant,
}

impl Prober {
    fn start(program: &Path, deadline: Instant) -> Result<Self, Error> {
        let mut child = Command::new(program)
            .arg("self-test")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::Start)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => {
                Ok(Self { child, input, output: BufReader::new(output), deadline })
            }
            _ => Err(Error::Strange),
        }
    }

    fn hear(&mut self) -> Result<Said, Error> {
        if self.output.buffer().is_empty() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.output.get_ref().as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            if poll(&mut fds, timeout).map_err(|e| Error::Silent(e.into()))? == 0 {
                return Err(Error::Silent(io::ErrorKind::TimedOut.into()));
            }
        }
        let mut line = String::new();
        // A line is far shorter than a pipe takes at once, so it comes whole.
        self.output.read_line(&mut line).map_err(Error::Silent)?;
        serde_json::from_str(&line).map_err(|error| Error::Silent(error.into()))
    }

    fn go_on(&mut self) -> Result<(), Error> {
        self.input.write_all(b"go\n").map_err(Error::Silent)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        let _ = self.child.kill(); // fails when it has ended
        let _ = self.child.wait();
    }
}

fn try_all(setting: &Setting<'_>, deadline: Instant) -> Result<Vec<Way>, Error> {
    let cell = Cell::make()?;
    let id = cell.tree.id(&cell.path).map_err(Error::Cgroup)?;
    let id = CgroupId(id.ok_or_else(|| Error::Cgroup(io::ErrorKind::NotFound.into()))?.0);
    let directory = cell.tree.directory(&cell.path);
    let mut prober = Prober::start(setting.program, deadline)?;
    let (probe, netns, control) = match prober.hear()? {
        Said::Ready { probe, netns, control } if control.len() == ALL.len() => (probe, netns, control),
        Said::Cannot(why) => return Err(Error::NoPlace(why)),
        _ => return Err(Error::Strange),
    };
    let trial = Trial::on(&directory, setting.bpf_dir, config(), netns).map_err(Error::Programs)?;
    (setting.guard)(id, &directory, true);
    let adopted = cell.tree.adopt(&cell.path, probe).map_err(Error::Cgroup);
    let tried = adopted.and_then(|()| observe(&mut prober, &trial));
    let guarded = (setting.guard)(id, &directory, false);
    // The processes go before the programs, and the cgroup goes last.
    drop(prober);
    drop(trial);
    let (seen, outside, ours) = tried?;
    let judged = ALL.iter().zip(control).zip(seen).enumerate().map(|(at, ((way, control), seen))| {
        let (outside, ours) = (outside.contains(&at), ours.contains(&at));
        // A tag that is made meanwhile may have the LSM layer forget the trial's.
        let lost = way.lsm_only && setting.lsm && !guarded;
        let control = if lost { Some("the LSM layer was busy with a tag".to_owned()) } else { control };
        Way { name: way.name.to_owned(), outcome: judge(way, control, &seen, outside, ours, setting.lsm) }
    });
    Ok(judged.collect())
}

fn config() -> Config {
    let mut ports6 = [0; PORTS6];
    ports6[0] = place::OURS;
    Config {
        agent_cgroup: 0,
        prefix4: PREFIX4,
        port4: place::OURS,
        count6: 1,
        ports6,
        dns4: place::RESOLVER,
        dns6: place::RESOLVER,
        zero: 0,
    }
}

/// What was seen of one way inside the tag.
struct Seen {
    error: Option<(i32, String)>,
    /// What the programs counted meanwhile.
    counted: Vec<Counter>,
}

type Observed = (Vec<Seen>, Vec<usize>, Vec<usize>);

fn observe(prober: &mut Prober, trial: &Trial) -> Result<Observed, Error> {
    let mut before = trial.counts().map_err(Error::Programs)?;
    let mut seen = Vec::with_capacity(ALL.len());
    for _ in &ALL {
        prober.go_on()?;
        let Said::Tried { error } = prober.hear()? else { return Err(Error::Strange) };
        let after = trial.counts().map_err(Error::Programs)?;
        let more = after.iter().zip(&before).filter(|(now, then)| now.1 > then.1);
        seen.push(Seen { error, counted: more.map(|(now, _)| now.0).collect() });
        before = after;
    }
    prober.go_on()?;
    match prober.hear()? {
        Said::Arrived { outside, ours } => Ok((seen, outside, ours)),
        _ => Err(Error::Strange),
    }
}

fn judge(
    way: &ways::Way,
    control: Option<String>,
    seen: &Seen,
    outside: bool,
    ours: bool,
    lsm: bool,
) -> Outcome {
    if let Some(why) = control {
        return Outcome::Untried { why: format!("it cannot be done here, tagged or not: {why}") };
    }
    let (open, how) = match way.attempt {
        Attempt::Send(_) => (outside, "what was sent arrived"),
        Attempt::Ask(_) => (seen.error.is_none(), "the kernel agreed to it"),
    };
    match open {
        true if way.lsm_only && !lsm => Outcome::Open {
            unexpected: way.grave,
            why: format!("{how}: only the LSM layer sees it, and there is none"),
        },
        true => Outcome::Open { unexpected: true, why: how.to_owned() },
        false => Outcome::Closed { by: closed_by(seen, ours, lsm) },
    }
}

/// Which layer it was: the programs count what they do; the LSM's count elsewhere.
fn closed_by(seen: &Seen, ours: bool, lsm: bool) -> String {
    let refused = seen.counted.iter().copied().filter_map(layer).next();
    match (refused, &seen.error) {
        (Some(layer), _) => layer.to_owned(),
        (None, _) if ours => "connect, which led it to the agent".to_owned(),
        (None, Some((libc::EPERM | libc::EACCES, _))) if lsm => "lsm".to_owned(),
        (None, Some((_, why))) => format!("the kernel itself: {why}"),
        (None, None) => "nothing that was counted: it did not arrive".to_owned(),
    }
}

fn layer(counter: Counter) -> Option<&'static str> {
    use Counter as C;
    Some(match counter {
        C::Protocol | C::Mptcp => "create",
        C::SourceRoute | C::Disguise | C::BoundDevice => "options",
        C::Udp | C::Quic | C::NoResolver => "sendmsg and connect",
        C::DnsOverTls | C::Metadata | C::OwnListener | C::NoListener | C::LoopbackDenied | C::MapFull => {
            "connect"
        }
        C::Bind => "bind",
        C::Inbound => "inward",
        C::Egress | C::DnsPace => "outward",
        C::Family | C::ForeignSocket | C::PassedSocket | C::UnixPeer | C::Ptrace => "lsm",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
