//! What the doctor asks the daemon for: facts that take root to know. Field names go over the control socket.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::types::{Layer, SelfTest, TagName, Weakness};

/// The daemon's answer to the doctor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The kernel layers.
    pub layers: Vec<Layer>,
    /// What the self-test found; `None` while it runs.
    pub self_test: Option<SelfTest>,
    /// The tags.
    pub tags: Vec<TagFacts>,
    /// The agent's state directory.
    pub state: Option<PathBuf>,
}

/// What is known of one tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagFacts {
    /// Name.
    pub tag: TagName,
    /// The systemd unit that belongs to it.
    pub unit: Option<String>,
    /// Whether it is in force.
    pub taken: bool,
    /// How many processes were looked at.
    pub processes: usize,
    /// What weakens the enforcement, and whom it holds for.
    pub weakened: BTreeMap<Weakness, Who>,
    /// Sockets of container engines that its processes may connect to.
    pub sockets: Vec<PathBuf>,
}

/// Processes that something holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// How many; 0 where it is the tag's or the host's.
    pub count: usize,
    /// One of them: pid and command name.
    pub example: Option<(u32, String)>,
    /// Their user ids, some of them.
    pub uids: Vec<u32>,
}

impl Who {
    /// Adds a process.
    pub fn add(&mut self, pid: u32, comm: &str, uid: u32) {
        self.count += 1;
        self.example.get_or_insert_with(|| (pid, comm.to_owned()));
        if self.uids.len() < 8 && !self.uids.contains(&uid) {
            self.uids.push(uid);
        }
    }
}
