//! What the doctor is told: every tag with all of its processes, looked at one by one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Examiner, no_start_check};
use crate::control::{TagState, TagStatus};
use crate::doctor::{Facts, TagFacts, Who};
use crate::types::{SelfTest, Weakness};
use crate::warden::tags::{CgroupPath, Tags, Tree};

/// Processes of a tag that are looked at.
const PROCESSES: usize = 1000;

/// Looks at everything that is tagged. Takes about 50 µs a process.
pub fn survey(examiner: &Examiner, tags: &Tags, self_test: Option<SelfTest>, state: PathBuf) -> Facts {
    let tree = Tree::find().ok();
    let pids = |tag: &TagStatus| -> Vec<u32> {
        let cgroup = tag.cgroup.clone().map(CgroupPath);
        let found = tree.as_ref().zip(cgroup).and_then(|(tree, cgroup)| tree.processes(&cgroup).ok());
        found.unwrap_or_default()
    };
    Facts {
        layers: examiner.host.layers(),
        self_test,
        tags: tags.list().into_iter().map(|tag| one(examiner, tags, &tag, &pids(&tag))).collect(),
        state: Some(state),
    }
}

fn one(examiner: &Examiner, tags: &Tags, tag: &TagStatus, pids: &[u32]) -> TagFacts {
    let mut weakened: BTreeMap<Weakness, Who> = BTreeMap::new();
    let mut sockets: Vec<PathBuf> = Vec::new();
    let mut processes = 0;
    for pid in pids.iter().take(PROCESSES) {
        let Some(seen) = examiner.look_at(*pid) else { continue };
        processes += 1;
        let comm = examiner.proc.comm(*pid);
        for weakness in seen.weaknesses {
            weakened.entry(weakness).or_default().add(*pid, &comm, seen.uid);
        }
        for socket in seen.sockets {
            if !sockets.contains(&socket) {
                sockets.push(socket);
            }
        }
    }
    for weakness in examiner.host.weaknesses(tag.name.as_str()) {
        weakened.entry(weakness).or_default();
    }
    if tags.entry(&tag.name).as_ref().is_some_and(no_start_check) {
        weakened.entry(Weakness::NoStartCheck).or_default();
    }
    TagFacts {
        tag: tag.name.clone(),
        unit: tag.unit.clone(),
        taken: tag.state == TagState::Taken,
        processes,
        weakened,
        sockets,
    }
}
