//! Who lives in which network namespace: the threads of the tags' cgroups, by the inode that /proc shows for each.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::enter::inode_of;
use crate::types::TagName;

/// Threads that are looked at in one search; beyond it the search is not complete and says so.
const MAX_THREADS: usize = 200_000;

/// Cgroups one below the other that are walked into.
const MAX_DEPTH: usize = 64;

/// One thread of each namespace.
#[derive(Debug, Default)]
pub struct Found {
    /// By the namespace's inode: one of its threads, and the tag that holds it.
    pub by_inode: HashMap<u64, (u32, TagName)>,
    /// Whether every thread was looked at.
    pub complete: bool,
}

/// Looks at every thread of the cgroups and of those below them.
pub fn search(places: &[(TagName, PathBuf)]) -> Found {
    let mut found = Found { complete: true, ..Found::default() };
    let mut left = MAX_THREADS;
    for (tag, place) in places {
        walk(place, 0, &mut |thread| {
            left = left.saturating_sub(1);
            if left == 0 {
                found.complete = false;
            } else if let Some(inode) = inode_of(thread) {
                found.by_inode.entry(inode).or_insert_with(|| (thread, tag.clone()));
            }
            left > 0
        });
    }
    found
}

/// Whether the thread lives in the namespace with this inode.
pub fn lives_in(thread: u32, inode: u64) -> bool {
    inode_of(thread) == Some(inode)
}

/// Calls `see` for each thread until it says false. `cgroup.threads`, not `cgroup.procs`: each thread can be in a
/// namespace of its own, and a threaded cgroup has no other list.
fn walk(cgroup: &Path, depth: usize, see: &mut impl FnMut(u32) -> bool) -> bool {
    if depth > MAX_DEPTH {
        return true; // nobody is seen there: what is forgotten for it is found again by its next socket
    }
    let threads = fs::read_to_string(cgroup.join("cgroup.threads")).unwrap_or_default(); // gone: nobody lives there
    if !threads.lines().filter_map(|line| line.parse().ok()).all(&mut *see) {
        return false;
    }
    let Ok(below) = fs::read_dir(cgroup) else { return true };
    let folders = below.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).all(|path| walk(&path, depth + 1, see))
}
