//! Who connected: facts from the kernel, none from the caller's own mouth.

use serde::{Deserialize, Serialize};

use super::{TagName, Weakness};

/// The process behind a taken connection, as it was in connect().
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The tag that took the connection.
    pub tag: TagName,
    /// Process id (thread group), initial pid namespace.
    pub pid: u32,
    /// Field 22 of /proc/PID/stat, in clock ticks since boot; `None` when the process was gone before we looked.
    pub start_time: Option<u64>,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// The user's name, where the host has one for `uid`.
    pub user: Option<String>,
    /// Command name as the kernel has it (15 bytes at most).
    pub comm: String,
    /// The executable; `None` when the process was gone before we looked.
    pub exe: Option<Exe>,
    /// Path of the process's cgroup from the v2 root, `/` first.
    pub cgroup: String,
    /// The systemd unit that the cgroup belongs to.
    pub unit: Option<String>,
    /// Container id (64 hex digits), or the machine's name, where the cgroup's name has one.
    pub container: Option<String>,
    /// What runs the container: `docker`, `podman`, …; ` (rootless)` behind it says that a user named the cgroup, who may
    /// have named it as he liked.
    pub container_runtime: Option<String>,
    /// What the container was made from, where the engine's files say so.
    pub image: Option<String>,
    /// Inode of the process's network namespace (`lsns -t net`), where it is not the host's.
    pub netns: Option<u64>,
    /// What weakens the enforcement for it, when it was asked for; empty: nothing known. `None`: not looked at (records of
    /// versions that did not).
    #[serde(default)]
    pub weakened: Option<Vec<Weakness>>,
}

impl Caller {
    /// A process of which no more is known than its id and its tag: with uid and gid 0, in the root cgroup.
    pub fn unknown(tag: TagName, pid: u32) -> Self {
        Self {
            tag,
            pid,
            start_time: None,
            uid: 0,
            gid: 0,
            user: None,
            comm: String::new(),
            exe: None,
            cgroup: "/".to_owned(),
            unit: None,
            container: None,
            container_runtime: None,
            image: None,
            netns: None,
            weakened: None,
        }
    }
}

/// An executable file, by path and by identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exe {
    /// What /proc/PID/exe points at.
    pub path: String,
    /// Device number of the file's file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}
