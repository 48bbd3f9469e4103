//! The cgroup v2 tree as files: where it is mounted, who is in what, making and removing. No systemd here; callers keep
//! to its single-writer rule by writing only below cgroups that are ours.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A cgroup's path from the v2 root, `/` first, as /proc/PID/cgroup shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CgroupPath(pub String);

impl CgroupPath {
    /// Whether `self` is `other` or lies below it.
    pub fn is_within(&self, other: &CgroupPath) -> bool {
        let rest = self.0.strip_prefix(other.0.trim_end_matches('/'));
        rest.is_some_and(|r| r.is_empty() || r.starts_with('/'))
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }
}

impl std::fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A cgroup's number (`bpf_get_current_cgroup_id`): the inode of its directory. Another directory of the same name has
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CgroupId(pub u64);

/// Whether anybody lives in a cgroup or below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// At least one process.
    Populated,
    /// None.
    Empty,
    /// The cgroup is not there.
    Gone,
}

/// The mounted tree.
#[derive(Clone, Debug)]
pub struct Tree {
    mount: PathBuf,
}

/// How many processes a count or a listing takes in; beyond it they say so.
const MAX_LISTED: usize = 10_000;

impl Tree {
    /// Finds the cgroup v2 mount: /sys/fs/cgroup on a unified host, /sys/fs/cgroup/unified on a hybrid one.
    ///
    /// # Errors
    /// When /proc cannot be read or no cgroup2 file system is mounted.
    pub fn find() -> io::Result<Self> {
        let info = fs::read_to_string("/proc/self/mountinfo")?;
        let mount = find_mount(&info).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "no cgroup2 file system is mounted (mount -t cgroup2)")
        })?;
        Ok(Self { mount })
    }

    /// Where the tree is mounted.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The directory of a cgroup.
    pub fn directory(&self, cgroup: &CgroupPath) -> PathBuf {
        self.mount.join(cgroup.0.trim_start_matches('/'))
    }

    /// The cgroup that a text names: a path below the mount, or from the v2 root.
    pub fn named(&self, text: &str) -> CgroupPath {
        let mount = self.mount.to_string_lossy();
        let below = text.strip_prefix(&*mount).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        CgroupPath(below.unwrap_or(text).to_owned())
    }

    /// The cgroup's number; `None` when it is not there.
    ///
    /// # Errors
    /// Any other failure of stat().
    pub fn id(&self, cgroup: &CgroupPath) -> io::Result<Option<CgroupId>> {
        match fs::metadata(self.directory(cgroup)) {
            Ok(meta) if meta.is_dir() => Ok(Some(CgroupId(meta.ino()))),
            Ok(_) => Ok(None),
            Err(e) if gone(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes a cgroup, its parents too.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(&self, cgroup: &CgroupPath) -> io::Result<CgroupId> {
        fs::create_dir_all(self.directory(cgroup))?;
        self.id(cgroup)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Moves a process with all its threads.
    ///
    /// # Errors
    /// `ESRCH` when the process is gone; what else the kernel refuses.
    pub fn adopt(&self, cgroup: &CgroupPath, pid: u32) -> io::Result<()> {
        fs::write(self.directory(cgroup).join("cgroup.procs"), pid.to_string())
    }

    /// Whether anybody lives in it.
    ///
    /// # Errors
    /// When `cgroup.events` cannot be read for another reason than that the cgroup is gone.
    pub fn life(&self, cgroup: &CgroupPath) -> io::Result<Life> {
        match self.event(cgroup, "populated") {
            Ok(true) => Ok(Life::Populated),
            Ok(false) => Ok(Life::Empty),
            Err(e) if gone(&e) => Ok(Life::Gone),
            Err(e) => Err(e),
        }
    }

    fn event(&self, cgroup: &CgroupPath, key: &str) -> io::Result<bool> {
        let text = fs::read_to_string(self.directory(cgroup).join("cgroup.events"))?;
        let value = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
        Ok(value == Some("1"))
    }

    /// Halts or lets go on every process of a cgroup (cgroup v2 freezer, kernel 5.2). Halting waits until all stand
    /// still, at most `patience`; `Ok(false)` says that some did not.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn freeze(&self, cgroup: &CgroupPath, halt: bool, patience: Duration) -> io::Result<bool> {
        fs::write(self.directory(cgroup).join("cgroup.freeze"), if halt { "1" } else { "0" })?;
        if halt { self.await_event(cgroup, "frozen", true, patience) } else { Ok(true) }
    }

    /// Waits until nobody lives in a cgroup, at most `patience`; `Ok(false)` says that somebody still does.
    ///
    /// # Errors
    /// When the kernel refuses, or the cgroup is gone.
    pub fn await_empty(&self, cgroup: &CgroupPath, patience: Duration) -> io::Result<bool> {
        self.await_event(cgroup, "populated", false, patience)
    }

    fn await_event(
        &self,
        cgroup: &CgroupPath,
        key: &str,
        wanted: bool,
        patience: Duration,
    ) -> io::Result<bool> {
        use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(&self.directory(cgroup).join("cgroup.events"), AddWatchFlags::IN_MODIFY)?;
        let deadline = Instant::now() + patience;
        loop {
            if self.event(cgroup, key)? == wanted {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let mut fds =
                [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&inotify), nix::poll::PollFlags::POLLIN)];
            let wait = u16::try_from(left.as_millis()).unwrap_or(u16::MAX).max(1);
            nix::poll::poll(&mut fds, wait)?;
            let _ = inotify.read_events(); // only empties the queue: the level is read above
        }
    }

    /// Processes in a cgroup and below it, at most 10,000.
    ///
    /// # Errors
    /// When the tree cannot be read; a cgroup that vanishes meanwhile counts as empty.
    pub fn processes(&self, cgroup: &CgroupPath) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        let mut folders = vec![self.directory(cgroup)];
        while let Some(folder) = folders.pop() {
            match fs::read_to_string(folder.join("cgroup.procs")) {
                Ok(text) => found.extend(text.lines().filter_map(|l| l.parse::<u32>().ok())),
                Err(e) if gone(&e) => continue,
                Err(e) => return Err(e),
            }
            folders.extend(children(&folder)?);
            if found.len() >= MAX_LISTED {
                found.truncate(MAX_LISTED);
                break;
            }
        }
        Ok(found)
    }

    /// Removes a cgroup and the empty ones below it. One that is gone already is fine.
    ///
    /// # Errors
    /// `EBUSY` while a process lives in it.
    pub fn remove(&self, cgroup: &CgroupPath) -> io::Result<()> {
        remove_folder(&self.directory(cgroup), 0)
    }

    /// The cgroups directly below one.
    ///
    /// # Errors
    /// When the tree cannot be read.
    pub fn below(&self, cgroup: &CgroupPath) -> io::Result<Vec<CgroupPath>> {
        let names = children(&self.directory(cgroup))?;
        let join = |p: PathBuf| Some(CgroupPath(format!("{}/{}", cgroup.0, p.file_name()?.to_str()?)));
        Ok(names.into_iter().filter_map(join).collect())
    }
}

/// A process's cgroup in the v2 tree. A cgroup that was removed under it is named without the kernel's ` (deleted)`.
///
/// # Errors
/// When the process is gone.
pub fn of_process(pid: u32) -> io::Result<CgroupPath> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/");
    Ok(CgroupPath(path.strip_suffix(" (deleted)").unwrap_or(path).to_owned()))
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let folders = entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            Ok(folders.map(|e| e.path()).collect())
        }
        Err(e) if gone(&e) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

fn remove_folder(folder: &Path, depth: usize) -> io::Result<()> {
    if depth > 64 {
        return Err(io::Error::other("more than 64 cgroups one below the other"));
    }
    for child in children(folder)? {
        remove_folder(&child, depth + 1)?;
    }
    match fs::remove_dir(folder) {
        Err(e) if !gone(&e) => Err(e),
        _ => Ok(()),
    }
}

fn find_mount(info: &str) -> Option<PathBuf> {
    // proc(5): id parent major:minor root mount options [optional…] - type source super
    let mounts = info.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(3);
        let (root, mount) = (front.next()?, front.next()?);
        (back.split(' ').next()? == "cgroup2").then_some((root != "/", mount.len(), unescape(mount)))
    });
    mounts.min().map(|(_, _, mount)| PathBuf::from(mount))
}

/// mountinfo writes space, tab, newline and backslash as `\040` and so on.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        let hybrid = "30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      31 30 0:27 /docker/x /mnt/c rw - cgroup2 cgroup2 rw\n\
                      32 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(find_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_mount("1 2 0:1 / /a\\040b rw - cgroup2 none rw\n"), Some("/a b".into()));
        assert_eq!(find_mount("1 2 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), None);
    }

    #[test]
    fn paths() {
        let p = |t: &str| CgroupPath(t.into());
        assert!(p("/a/b").is_within(&p("/a")));
        assert!(p("/a").is_within(&p("/a")));
        assert!(p("/a").is_within(&p("/")));
        assert!(!p("/ab").is_within(&p("/a")));
        let tree = Tree { mount: "/sys/fs/cgroup".into() };
        assert_eq!(tree.named("/sys/fs/cgroup/x/y"), p("/x/y"));
        assert_eq!(tree.named("/x/y"), p("/x/y"));
        assert_eq!(tree.named("/sys/fs/cgroups"), p("/sys/fs/cgroups"));
    }
}
