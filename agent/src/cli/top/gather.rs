//! What is shown, as it is now: asked of the daemon, read from the store and from /proc, in a thread of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::cli::DaemonAt;
use crate::control::{Answer, Request, Status};
use crate::record::payload::stamp;
use crate::record::read::list::{self, Filter};
use crate::report::Chain;
use crate::types::{Summary, Verdict};

/// Exchanges that are kept: the newest.
const NEWEST: usize = 1000;
/// Between two rounds, at least.
const ROUND: Duration = Duration::from_secs(1);
/// A round that took so long is followed by a rest so many times as long: a tenth of a core at most.
const REST: u32 = 9;
/// Over how long rates are taken.
const WINDOW: Duration = Duration::from_secs(10);
/// Processes that are listed.
const PROCESSES: usize = 2000;
/// Cgroups of one tag that are looked into.
const CGROUPS: usize = 2000;

/// See the module.
#[derive(Debug, Default)]
pub struct Now {
    /// What the daemon says, or why it says nothing.
    pub status: Option<Result<Box<Status>, String>>,
    /// The newest exchanges, the newest first.
    pub exchanges: Vec<Summary>,
    /// Why they cannot be read.
    pub trouble: Option<String>,
    /// Rates of the last seconds.
    pub rates: Rates,
    /// Tagged processes: tag, pid, name.
    pub processes: Vec<(String, u32, String)>,
}

/// Counts a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Exchanges that began.
    pub exchanges: f64,
    /// Of them refused.
    pub denied: f64,
    /// Bytes of bodies to upstreams, of those that ended.
    pub up: f64,
    /// Bytes to clients.
    pub down: f64,
    /// There were more than are looked at: the rates are at least these.
    pub more: bool,
}

/// Begins to gather. Whoever reads slowly holds it up: nothing piles up.
pub fn begin(daemon: DaemonAt, store: PathBuf) -> Receiver<Now> {
    let (give, gathered) = sync_channel(1);
    std::thread::spawn(move || {
        loop {
            let begun = Instant::now();
            if give.send(now(&daemon, &store)).is_err() {
                return;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "a rest between rounds, by their cost; nothing waits for it"
            )]
            std::thread::sleep(ROUND.max(begun.elapsed() * REST));
        }
    });
    gathered
}

fn now(daemon: &DaemonAt, store: &Path) -> Now {
    let status = match daemon.ask(&Request::Status) {
        Ok(Answer::Status(status)) => Ok(status),
        Ok(_) => Err("the daemon's answer is not understood".to_owned()),
        Err(failure) => Err(failure.why),
    };
    let (mut exchanges, trouble) = match list::newest(store, &Filter::default(), NEWEST) {
        Ok((found, damage)) => {
            (found, damage.first().map(|damage| format!("the store is damaged: {damage}")))
        }
        Err(error) => (Vec::new(), Some(Chain(&error).to_string())),
    };
    exchanges.reverse();
    let since = stamp(OffsetDateTime::now_utc() - WINDOW);
    let rates = rates(&exchanges, &since);
    let mut processes = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mounts").ok();
    for tag in status.iter().flat_map(|status| &status.tags) {
        let Some(cgroup) = &tag.cgroup else { continue };
        let Some(root) = mounts.as_deref().and_then(cgroup_root) else { break };
        let root = root.join(cgroup.trim_start_matches('/'));
        living(&root, &tag.name.to_string(), &mut processes);
    }
    Now { status: Some(status), exchanges, trouble, rates, processes }
}

/// Where cgroup v2 is mounted: at the top, or beside v1. The last mount is the one that is seen.
fn cgroup_root(mounts: &str) -> Option<PathBuf> {
    let fields = mounts.lines().rev().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter(|f| f.get(2) == Some(&"cgroup2")).find_map(|f| f.get(1).map(PathBuf::from))
}

/// `exchanges`: the newest first; `since`: as records bear times.
fn rates(exchanges: &[Summary], since: &str) -> Rates {
    let recent: Vec<&Summary> = exchanges.iter().take_while(|s| s.time.as_str() >= since).collect();
    let seconds = WINDOW.as_secs_f64();
    let count = |n: usize| n as f64 / seconds;
    let bytes = |of: fn(&Summary) -> u64| recent.iter().map(|s| of(s)).sum::<u64>() as f64 / seconds;
    Rates {
        exchanges: count(recent.len()),
        denied: count(recent.iter().filter(|s| s.verdict == Verdict::Deny).count()),
        up: bytes(|s| s.bytes_up),
        down: bytes(|s| s.bytes_down),
        more: recent.len() >= NEWEST,
    }
}

/// The processes of a cgroup and of all below it.
fn living(root: &Path, tag: &str, all: &mut Vec<(String, u32, String)>) {
    let mut found = BTreeMap::new();
    let (mut left, mut seen) = (vec![root.to_owned()], 0);
    while let Some(cgroup) = left.pop() {
        seen += 1;
        if seen > CGROUPS || all.len() + found.len() >= PROCESSES {
            break;
        }
        let pids = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.parse::<u32>().ok()) {
            // Gone meanwhile: it has no name.
            if let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm")) {
                found.insert(pid, name.trim_end().to_owned());
            }
        }
        let below = fs::read_dir(&cgroup).into_iter().flatten().flatten();
        left.extend(below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    let room = PROCESSES.saturating_sub(all.len());
    all.extend(found.into_iter().take(room).map(|(pid, name)| (tag.to_owned(), pid, name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_are_found_beside_the_old_ones() {
        let old = "cgroup /sys/fs/cgroup/pids cgroup rw 0 0\n";
        let both = format!("{old}cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n");
        assert_eq!(cgroup_root(&both), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup_root(old), None);
    }

    #[test]
    fn rates_are_of_the_last_seconds() {
        let one = |time: &str, verdict| {
            let mut summary = list::summary_without_session("01J", 1);
            (summary.time, summary.verdict, summary.bytes_down) = (time.to_owned(), verdict, 50);
            summary
        };
        let all = [
            one("9", Verdict::Allow),
            one("8", Verdict::Deny),
            one("5", Verdict::Deny),
            one("1", Verdict::Allow),
        ];
        let want = Rates { exchanges: 0.3, denied: 0.2, up: 0.0, down: 15.0, more: false };
        assert_eq!(rates(&all, "5"), want);
        assert_eq!(rates(&all, "99"), Rates::default());
    }
}
