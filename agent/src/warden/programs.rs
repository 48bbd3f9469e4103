//! Which program a caller is by its content: the SHA-256 of the file that it executes, where a rule asks for it.
//!
//! A file can be large, and a job can make the reading of its own files take for ever (a file system of its own). So threads
//! apart from the daemon's loop read, few of them for one tag; what is beyond waits for its turn, up to a bound. What was
//! read is remembered by all that changes when a file does, but not while the file is so young that a change could leave
//! no trace in its times.
//!
//! It says which file was executed, not what that was made to do: a script is its interpreter, and whoever starts a program
//! can preload libraries into it, or trace it.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest;
use lru::LruCache;

use super::caller::start_time;
use super::gate_process::Mailbox;
use super::tags::Process;
use crate::types::{Caller, TagName};
use crate::wire::ToGate;

/// Larger programs have no hash.
const LARGEST: u64 = 512 << 20;
/// Nor do those that take longer to read. The gate waits for less; what was read is remembered all the same.
const WITHIN: Duration = Duration::from_secs(30);
/// Bytes read at once.
const PIECE: usize = 256 << 10;
/// Threads that read.
const READERS: usize = 64;
/// Of them for one tag.
const READERS_OF_TAG: usize = 4;
/// Callers of one tag that wait for a thread.
const WAITING: usize = 256;
/// Programs that are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1024).expect("not 0");
/// A file that was changed less long ago may change again within the same tick of its clock.
const YOUNG: Duration = Duration::from_secs(2);
/// `FUSE_SUPER_MAGIC` (linux/magic.h): what such a file system gives to us need not be what it gives to the kernel.
const FUSE: i64 = 0x6573_5546;

/// Hashes programs. Cheap to clone.
#[derive(Clone)]
pub struct Programs(Arc<Inner>);

struct Inner {
    lines: Mutex<HashMap<TagName, Line>>,
    known: Mutex<LruCache<Stamp, String>>,
}

/// The threads of one tag, and who waits for them.
#[derive(Default)]
struct Line {
    readers: usize,
    waiting: VecDeque<Job>,
}

/// The process that the kernel named, and who wants to know.
struct Job {
    pid: u32,
    started: u64,
    device: u64,
    inode: u64,
    call: u64,
    gate: Mailbox,
}

/// What changes when a file does: device, inode, size, and the times of its last changes in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stamp(u64, u64, u64, (i64, i64), (i64, i64));

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it is gone, or another by now")]
    Gone,
    #[error("its program cannot be read")]
    Unreadable(#[source] io::Error),
    #[error("its program is on a file system of a user's")]
    Fuse,
    #[error("its program has more than {LARGEST} bytes")]
    TooLarge,
    #[error("its program took more than {} s to read", WITHIN.as_secs())]
    TooSlow,
    #[error("its program changed meanwhile")]
    Changed,
}

impl Default for Programs {
    fn default() -> Self {
        Self(Arc::new(Inner { lines: Mutex::default(), known: Mutex::new(LruCache::new(REMEMBERED)) }))
    }
}

impl Programs {
    /// Begins to hash the caller's program; the gate gets the hash, or that there is none, under `call`. `false`: there is
    /// none, and nothing follows.
    pub fn look(&self, caller: &Caller, call: u64, gate: Mailbox) -> bool {
        let (Some(started), Some(exe)) = (caller.start_time, &caller.exe) else { return false };
        let job = Job { pid: caller.pid, started, device: exe.device, inode: exe.inode, call, gate };
        let mut lines = self.0.lines();
        let all: usize = lines.values().map(|line| line.readers).sum();
        let line = lines.entry(caller.tag.clone()).or_default();
        if line.readers < READERS_OF_TAG && all < READERS {
            line.readers += 1;
            let reader = Reader { programs: self.clone(), tag: caller.tag.clone(), here: true };
            drop(lines);
            // Not made: the reader is dropped with the closure, and the gate waits for its time.
            let spawned =
                std::thread::Builder::new().name("programs".to_owned()).spawn(move || reader.work(job));
            if let Err(error) = &spawned {
                tracing::error!("no thread to hash a program: {error}");
            }
            return spawned.is_ok();
        }
        if line.readers == 0 {
            lines.remove(&caller.tag);
            return false;
        }
        let room = line.waiting.len() < WAITING;
        if room {
            line.waiting.push_back(job);
        }
        room
    }

    fn hash(&self, job: &Job) -> Result<String, Fault> {
        let proc = Path::new("/proc").join(job.pid.to_string());
        let is_still = || start_time(&proc) == Some(job.started);
        // Held, so that the number cannot change its meaning between the checks.
        let process = Process::open(job.pid).map_err(|_| Fault::Gone)?;
        if !is_still() {
            return Err(Fault::Gone);
        }
        let mut file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(proc.join("exe"))
            .map_err(Fault::Unreadable)?;
        let of = rustix::fs::fstatfs(&file).map_err(|error| Fault::Unreadable(error.into()))?;
        if of.f_type == FUSE {
            return Err(Fault::Fuse);
        }
        let before = file.metadata().map_err(Fault::Unreadable)?;
        if !before.is_file() || (before.dev(), before.ino()) != (job.device, job.inode) {
            return Err(Fault::Gone);
        }
        let stamp = Stamp::of(&before);
        let known = self.0.known().get(&stamp).cloned();
        let sum = match known {
            Some(sum) => sum,
            None => sha256(&mut file, before.len())?,
        };
        let after = file.metadata().map_err(Fault::Unreadable)?;
        if Stamp::of(&after) != stamp {
            return Err(Fault::Changed);
        }
        if !is_still() || !process.alive().unwrap_or(false) {
            return Err(Fault::Gone);
        }
        if settled(&before) {
            self.0.known().put(stamp, sum.clone());
        }
        Ok(sum)
    }
}

impl Inner {
    fn lines(&self) -> MutexGuard<'_, HashMap<TagName, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, LruCache<Stamp, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread's place.
struct Reader {
    programs: Programs,
    tag: TagName,
    here: bool,
}

impl Reader {
    fn work(mut self, first: Job) {
        let mut next = Some(first);
        while let Some(job) = next {
            let hash = self.programs.hash(&job);
            if let Err(fault) = &hash {
                tracing::debug!("process {} has no hash: {}", job.pid, crate::report::Chain(fault));
            }
            // A gate that does not read, or is gone, wants none.
            let _ = job.gate.post(vec![(ToGate::Program { call: job.call, sha256: hash.ok() }, None)]);
            next = self.next();
        }
    }

    /// Who waits, or the end of this thread: in one, so that nobody begins to wait in between.
    fn next(&mut self) -> Option<Job> {
        let mut lines = self.programs.0.lines();
        let next = lines.get_mut(&self.tag).and_then(|line| line.waiting.pop_front());
        if next.is_none() {
            self.here = false;
            leave(&mut lines, &self.tag);
        }
        next
    }
}

fn leave(lines: &mut HashMap<TagName, Line>, tag: &TagName) {
    if let Some(line) = lines.get_mut(tag) {
        line.readers -= 1;
        if line.readers == 0 {
            lines.remove(tag);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.here {
            leave(&mut self.programs.0.lines(), &self.tag);
        }
    }
}

impl Stamp {
    fn of(file: &fs::Metadata) -> Self {
        let (changed, marked) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
        Self(file.dev(), file.ino(), file.len(), changed, marked)
    }
}

/// Whether a change from now on shows in the times of the file.
fn settled(file: &fs::Metadata) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let marked = u64::try_from(file.ctime()).map_or(Duration::ZERO, Duration::from_secs);
    now.checked_sub(marked).is_some_and(|age| age > YOUNG)
}

fn sha256(file: &mut fs::File, length: u64) -> Result<String, Fault> {
    if length > LARGEST {
        return Err(Fault::TooLarge);
    }
    let (mut context, mut piece) = (digest::Context::new(&digest::SHA256), vec![0; PIECE]);
    let (begun, mut read) = (Instant::now(), 0);
    loop {
        let n = file.read(&mut piece).map_err(Fault::Unreadable)?;
        if n == 0 {
            break;
        }
        read += n as u64;
        if read > length {
            return Err(Fault::Changed);
        }
        if begun.elapsed() > WITHIN {
            return Err(Fault::TooSlow);
        }
        context.update(&piece[..n]);
    }
    if read != length {
        return Err(Fault::Changed);
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::types::Exe;

    fn copy(dir: &Path, name: &str, more: &[u8]) -> std::path::PathBuf {
        let path = dir.join(name);
        let bytes = [fs::read("/bin/sleep").expect("sleep"), more.to_vec()].concat();
        fs::write(&path, bytes).expect("copy");
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("mode");
        path
    }

    fn start(path: &Path) -> (Child, Job) {
        let child = Command::new(path).arg("60").stdin(Stdio::null()).spawn().expect("it runs");
        let proc = Path::new("/proc").join(child.id().to_string());
        while fs::read_link(proc.join("exe")).expect("its exe") == std::env::current_exe().expect("ours") {
            std::thread::yield_now();
        }
        let exe = fs::metadata(proc.join("exe")).expect("its exe");
        let job = Job {
            pid: child.id(),
            started: start_time(&proc).expect("it lives"),
            device: exe.dev(),
            inode: exe.ino(),
            call: 7,
            gate: Mailbox::new().0,
        };
        (child, job)
    }

    fn end(mut child: Child) {
        child.kill().expect("killed");
        child.wait().expect("ended");
    }

    fn sum(bytes: &[u8]) -> String {
        digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn programs_by_their_content() {
        let (dir, programs) = (tempfile::tempdir().expect("directory"), Programs::default());
        let plain = fs::read("/bin/sleep").expect("sleep");
        let one = copy(dir.path(), "one", b"");
        let (child, job) = start(&one);
        assert_eq!(programs.hash(&job).expect("hash"), sum(&plain));
        assert!(programs.0.known().is_empty(), "it is too young to be remembered");
        // Replaced under the same path while it runs: what runs is what it was.
        fs::remove_file(&one).expect("removed");
        copy(dir.path(), "one", b"+");
        assert_eq!(programs.hash(&job).expect("hash"), sum(&plain));
        let (other, of_other) = start(&one);
        assert_eq!(programs.hash(&of_other).expect("hash"), sum(&[&plain[..], b"+"].concat()));
        assert!(matches!(programs.hash(&Job { inode: 1, ..job_like(&of_other) }), Err(Fault::Gone)));
        assert!(matches!(programs.hash(&Job { started: 1, ..job_like(&of_other) }), Err(Fault::Gone)));
        end(other);
        assert!(matches!(programs.hash(&of_other), Err(Fault::Gone)));
        end(child);
        // What is old is remembered.
        let (child, job) = start(Path::new("/bin/sleep"));
        for _ in 0..2 {
            assert_eq!(programs.hash(&job).expect("hash"), sum(&plain));
            assert_eq!(programs.0.known().len(), 1);
        }
        end(child);
    }

    fn job_like(job: &Job) -> Job {
        Job { gate: Mailbox::new().0, ..*job }
    }

    #[test]
    fn one_tag_cannot_take_all_readers_and_each_caller_is_answered() {
        let programs = Programs::default();
        let (child, job) = start(Path::new("/bin/sleep"));
        let exe = Exe { path: String::new(), device: job.device, inode: job.inode, sha256: None };
        let (gate, mut letters) = Mailbox::new();
        let tag = TagName::parse("ci").expect("tag");
        let caller = Caller {
            pid: job.pid,
            start_time: Some(job.started),
            exe: Some(exe),
            ..Caller::unknown(tag, job.pid)
        };
        let follow = (0..20).filter(|call| programs.look(&caller, *call, gate.clone())).count();
        let mut calls: Vec<u64> = (0..follow)
            .map(|_| match letters.blocking_recv() {
                Some((ToGate::Program { call, sha256: Some(_) }, None)) => call,
                other => panic!("{other:?}"),
            })
            .collect();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!((calls.len(), follow), (20, 20));
        while !programs.0.lines().is_empty() {
            std::thread::yield_now(); // the readers end when nobody waits
        }
        let greedy = Line { readers: READERS_OF_TAG, waiting: VecDeque::new() };
        programs.0.lines().insert(caller.tag.clone(), greedy);
        let waiting =
            (0..WAITING as u64 + 5).filter(|call| programs.look(&caller, *call, gate.clone())).count();
        assert_eq!(waiting, WAITING);
        let other = Caller { tag: TagName::parse("other").expect("tag"), ..caller };
        assert!(programs.look(&other, 1, gate));
        assert!(matches!(letters.blocking_recv(), Some((ToGate::Program { call: 1, .. }, _))));
        end(child);
    }
}
