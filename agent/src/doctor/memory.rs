//! Whether what a process holds in memory can reach a disk by way of swap.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Keeps all memory of this process in memory, what it gets later too, each page from its first use on; where the limit is
/// none, or can be lifted: under another one, memory that is asked for later could be refused.
///
/// # Errors
/// It is as before.
pub fn lock() -> io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if limit != RLIM_INFINITY {
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
    }
    // mlock2(2): not all that is reserved is ever used.
    let on_use = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    Ok(mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_use)?)
}

/// What can be said of the memory of these processes, and whether that is well: no word of theirs can reach a disk.
pub fn state(proc: &Path, pids: &[u32]) -> (String, bool) {
    let locked = |pid: &u32| {
        let status = fs::read_to_string(proc.join(pid.to_string()).join("status")).unwrap_or_default();
        let value = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
        value
            .and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .is_some_and(|kib| kib > 0)
    };
    if pids.iter().all(locked) {
        return ("locked".to_owned(), true);
    }
    // A line of titles, and one for each.
    let swaps = fs::read_to_string(proc.join("swaps")).map_or(0, |text| text.lines().skip(1).count());
    match swaps {
        0 => ("not locked (LimitMEMLOCK=infinity); there is no swap now".to_owned(), true),
        _ => ("not locked, keys may reach swap: set LimitMEMLOCK=infinity".to_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_and_what_could_be_swapped() {
        let dir = tempfile::tempdir().expect("directory");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, text).expect("file");
        };
        write("1/status", "Name:\tsluice\nVmLck:\t   20480 kB\nVmRSS:\t 100 kB\n");
        write("2/status", "Name:\tsluice\nVmLck:\t       0 kB\n");
        write("swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        assert_eq!(state(dir.path(), &[1]), ("locked".to_owned(), true));
        assert!(state(dir.path(), &[1, 2]).1);
        write("swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition 1 0 100\n");
        for pids in [&[1, 2][..], &[3]] {
            let (said, well) = state(dir.path(), pids);
            assert!(!well && said.contains("may reach swap"), "{said}");
        }
        assert!(state(dir.path(), &[1]).1);
    }

    /// The child of the next test.
    #[test]
    #[ignore = "run by the next test: all of its memory is locked"]
    fn child() {
        if lock().is_ok() {
            // Also what comes later.
            let later = vec![1_u8; 1 << 20];
            assert_eq!(state(Path::new("/proc"), &[std::process::id()]).0, "locked");
            drop(later);
        } else {
            assert_ne!(state(Path::new("/proc"), &[std::process::id()]).0, "locked");
        }
    }

    #[test]
    fn this_process_can_lock_its_memory_or_says_that_it_has_not() {
        let output = std::process::Command::new(std::env::current_exe().expect("ourselves"))
            .args(["--exact", "doctor::memory::tests::child", "--ignored"])
            .output()
            .expect("the child runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
