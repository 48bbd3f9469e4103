//! What a test left behind in the kernel: programs, maps and links of BPF, network namespaces, descriptors of a process.
//!
//! Other tests on the machine make such things at the same time, so nothing is counted: what is there after and was not
//! before is watched until it is gone. Numbers of BPF objects are not used again, so others' go too, some time.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::Result;
use aya::maps::loaded_maps;
use aya::programs::{loaded_links, loaded_programs};

use crate::process::eventually;

/// Everything of its kind on this machine at one moment. Needs root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
    /// Inode numbers, of those that a process or a mount below /run/netns is in.
    namespaces: BTreeSet<u64>,
}

impl Census {
    /// Takes it now.
    ///
    /// # Errors
    /// Not root.
    pub fn take() -> Result<Self> {
        // One that goes between the listing and the look is no failure.
        let programs = loaded_programs().filter_map(|p| Some(p.ok()?.id())).collect();
        let maps = loaded_maps().filter_map(|m| Some(m.ok()?.id())).collect();
        let links = loaded_links().filter_map(|l| Some(l.ok()?.id())).collect();
        Ok(Self { programs, maps, links, namespaces: namespaces()? })
    }

    /// What is here and not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        Self {
            programs: self.programs.difference(&other.programs).copied().collect(),
            maps: self.maps.difference(&other.maps).copied().collect(),
            links: self.links.difference(&other.links).copied().collect(),
            namespaces: self.namespaces.difference(&other.namespaces).copied().collect(),
        }
    }

    /// What of this is still there.
    ///
    /// # Errors
    /// As [`Census::take`].
    pub fn still(&self) -> Result<Self> {
        let now = Self::take()?;
        Ok(self.without(&self.without(&now)))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Waits until everything that came since `before` and is here now is gone. Gives what is not within `patience`.
    ///
    /// # Errors
    /// As [`Census::take`].
    pub fn left_since(before: &Self, patience: Duration) -> Result<Self> {
        let mut left = Self::take()?.without(before);
        eventually(patience, || {
            left = left.still()?;
            Ok(left.is_empty().then_some(()))
        })?;
        Ok(left)
    }
}

fn namespaces() -> Result<BTreeSet<u64>> {
    let processes = fs::read_dir("/proc")?.filter_map(|e| Some(e.ok()?.path().join("ns/net")));
    let mounts = fs::read_dir("/run/netns").into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
    Ok(processes.chain(mounts).filter_map(|path| Some(fs::metadata(path).ok()?.ino())).collect())
}

/// What a process holds open, one line each without numbers that differ from life to life, sorted. Empty when it is gone.
pub fn descriptors(pid: u32) -> Vec<String> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let target = |e: std::io::Result<fs::DirEntry>| fs::read_link(e.ok()?.path()).ok();
    let mut all: Vec<String> = all.filter_map(target).map(|path| kind(&path.to_string_lossy())).collect();
    all.sort();
    all
}

/// `socket:[123]` is a socket, whatever its number.
fn kind(target: &str) -> String {
    target.replace(|c: char| c.is_ascii_digit(), "")
}
