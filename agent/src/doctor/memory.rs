//! Whether what a process holds in memory can reach a disk by way of swap.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Where processes and cgroups are shown: elsewhere in tests.
pub struct Shown {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys/fs/cgroup`.
    pub cgroups: PathBuf,
}

impl Default for Shown {
    fn default() -> Self {
        Self { proc: "/proc".into(), cgroups: "/sys/fs/cgroup".into() }
    }
}

/// What keeps a process's memory from swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// Its cgroup, or one above, may use none (`memory.swap.max`).
    Cgroup,
    /// It is locked.
    Locked,
    /// There is no swap now.
    None,
    /// Nothing.
    Not,
}

/// Keeps all memory of this process in memory, what it gets later too, each page from its first use on. Only where there is
/// swap that it could reach, since locked memory is not given back to the kernel while it is free; and where the limit is
/// none, or can be lifted: under another one, memory that is asked for later could be refused.
///
/// # Errors
/// It is as before.
pub fn lock() -> io::Result<()> {
    if Shown::default().kept(std::process::id()) != Kept::Not {
        return Ok(());
    }
    lock_all()
}

fn lock_all() -> io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if limit != RLIM_INFINITY {
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
    }
    // mlock2(2): not all that is reserved is ever used.
    let on_use = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    Ok(mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_use)?)
}

impl Shown {
    /// What can be said of the memory of these processes, and whether that is well: no word of theirs can reach a disk.
    pub fn state(&self, pids: &[u32]) -> (String, bool) {
        let all: Vec<Kept> = pids.iter().map(|pid| self.kept(*pid)).collect();
        let text = match &all[..] {
            all if all.contains(&Kept::Not) => {
                "can reach swap: set MemorySwapMax=0 or LimitMEMLOCK=infinity, and restart the agent"
            }
            all if all.contains(&Kept::None) => "not locked: there is no swap now",
            all if all.contains(&Kept::Locked) => "locked",
            _ => "kept out of swap by its cgroup",
        };
        (text.to_owned(), !all.contains(&Kept::Not))
    }

    fn kept(&self, pid: u32) -> Kept {
        let of = self.proc.join(pid.to_string());
        let status = fs::read_to_string(of.join("status")).unwrap_or_default();
        let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
        let locked = locked.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        // A line of titles, and one for each.
        let swaps = fs::read_to_string(self.proc.join("swaps")).unwrap_or_default();
        if self.may_use_none(&of) {
            Kept::Cgroup
        } else if locked.is_some_and(|kib| kib > 0) {
            Kept::Locked
        } else if swaps.lines().nth(1).is_none() {
            Kept::None
        } else {
            Kept::Not
        }
    }

    fn may_use_none(&self, process: &Path) -> bool {
        let cgroup = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        let Some(path) = cgroup.lines().find_map(|line| line.strip_prefix("0::/")) else { return false };
        let path = Path::new(path);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        plain
            && path.ancestors().any(|above| {
                let most = fs::read_to_string(self.cgroups.join(above).join("memory.swap.max"));
                most.is_ok_and(|most| most.trim() == "0")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_memory_from_swap() {
        let dir = tempfile::tempdir().expect("directory");
        let shown = Shown { proc: dir.path().join("proc"), cgroups: dir.path().join("cgroup") };
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, text).expect("file");
        };
        write("proc/1/status", "Name:\tsluice\nVmLck:\t   20480 kB\nVmRSS:\t 100 kB\n");
        write("proc/2/status", "Name:\tsluice\nVmLck:\t       0 kB\n");
        write("proc/2/cgroup", "1:name=systemd:/x\n0::/system.slice/sluice.service\n");
        write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        assert_eq!(shown.kept(1), Kept::Locked);
        assert_eq!(shown.kept(2), Kept::None);
        assert!(shown.state(&[1, 2]).1);
        write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition 1 0 100\n");
        for pids in [&[1, 2][..], &[3]] {
            let (said, well) = shown.state(pids);
            assert!(!well && said.contains("can reach swap"), "{said}");
        }
        assert_eq!(shown.state(&[1]), ("locked".to_owned(), true));
        write("cgroup/system.slice/sluice.service/memory.swap.max", "max\n");
        assert!(!shown.state(&[2]).1);
        write("cgroup/system.slice/memory.swap.max", "0\n");
        assert_eq!(shown.state(&[2]), ("kept out of swap by its cgroup".to_owned(), true));
    }

    /// The child of the next test.
    #[test]
    #[ignore = "run by the next test: all of its memory is locked"]
    fn child() {
        let locked = lock_all().is_ok();
        // Also what comes later.
        let later = vec![1_u8; 1 << 20];
        let status = fs::read_to_string("/proc/self/status").expect("status");
        assert_eq!(!status.contains("VmLck:\t       0 kB"), locked, "{status}");
        drop(later);
    }

    #[test]
    fn a_process_can_lock_its_memory_or_says_that_it_has_not() {
        let output = std::process::Command::new(std::env::current_exe().expect("ourselves"))
            .args(["--exact", "doctor::memory::tests::child", "--ignored"])
            .output()
            .expect("the child runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
