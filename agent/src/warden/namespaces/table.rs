//! The namespaces in which our listeners stand, and what the gate was told of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{MAX, Namespace};
use crate::types::{NetnsCookie, TagName};
use crate::warden::gate_process::{Letter, Mailbox, Undelivered};
use crate::wire::ToGate;

/// How often one tag's trouble is told.
const COMPLAINTS: Duration = Duration::from_secs(60);

/// Tags whose last complaint is remembered; beyond it all are forgotten.
const COMPLAINERS: usize = 1024;

#[derive(Default)]
pub struct Table {
    all: BTreeMap<NetnsCookie, Entry>,
    gate: Option<Mailbox>,
    complaints: HashMap<TagName, Instant>,
}

struct Entry {
    namespace: Arc<Namespace>,
    /// The gate was told to close its listeners and has not said yet that it did. Ours stay until then: while one copy of a
    /// listening socket is open, its port is taken, and the namespace could not be served anew.
    leaving: bool,
}

impl Table {
    pub fn knows(&self, inode: u64) -> bool {
        self.all.values().any(|entry| entry.namespace.inode == inode && !entry.leaving)
    }

    /// As [`Table::stands`], by the number for people; gives the kernel's.
    pub fn stands_at(&mut self, inode: u64) -> Option<NetnsCookie> {
        let found = self.all.values().find(|entry| entry.namespace.inode == inode);
        let netns = found.map(|entry| entry.namespace.cookie)?;
        self.stands(netns).then_some(netns)
    }

    /// Whether our listeners stand there. One that was about to leave stays: the gate gets its listeners again.
    pub fn stands(&mut self, netns: NetnsCookie) -> bool {
        let Some(entry) = self.all.get_mut(&netns) else { return false };
        if entry.leaving {
            let told = super::copies(&entry.namespace)
                .is_ok_and(|letters| post(self.gate.as_ref(), letters) != Err(Undelivered::Full));
            entry.leaving = !told;
        }
        !entry.leaving
    }

    /// Whether the tag may have one more: as many as are still free, so that one tag gets half of them at most and the
    /// next half of the rest.
    pub fn room(&self, tag: &TagName) -> Result<(), String> {
        let held = self.all.values().filter(|entry| entry.namespace.tag == *tag).count();
        if held >= MAX - self.all.len().min(MAX) {
            return Err(format!("it holds {held} of the {MAX} namespaces that are possible, its share"));
        }
        Ok(())
    }

    /// Takes one in and tells the gate.
    pub fn add(&mut self, namespace: Namespace, letters: Vec<Letter>) -> Result<(), String> {
        if post(self.gate.as_ref(), letters) == Err(Undelivered::Full) {
            return Err("the gate is too busy to be told".to_owned());
        }
        let entry = Entry { namespace: Arc::new(namespace), leaving: false };
        self.all.insert(entry.namespace.cookie, entry);
        Ok(())
    }

    pub fn find(&self, netns: NetnsCookie) -> Option<Arc<Namespace>> {
        self.all.get(&netns).map(|entry| Arc::clone(&entry.namespace))
    }

    pub fn standing(&self) -> Vec<Arc<Namespace>> {
        let standing = self.all.values().filter(|entry| !entry.leaving);
        standing.map(|entry| Arc::clone(&entry.namespace)).collect()
    }

    /// Has the gate close its listeners; ours follow when it did. A gate that does not read is asked at the next sweep.
    pub fn leave(&mut self, netns: NetnsCookie) {
        let told = post(self.gate.as_ref(), vec![(ToGate::Forget { netns }, None)]);
        match (told, self.all.get_mut(&netns)) {
            (Ok(()), Some(entry)) => entry.leaving = true,
            (Err(Undelivered::Gone), _) => drop(self.all.remove(&netns)),
            (Err(Undelivered::Full), _) | (_, None) => {}
        }
    }

    /// Asks the gate again for what it has not said yet: its word may have been lost under load.
    pub fn ask_again(&self) {
        for (netns, _) in self.all.iter().filter(|(_, entry)| entry.leaving) {
            let _ = post(self.gate.as_ref(), vec![(ToGate::Forget { netns: *netns }, None)]);
        }
    }

    /// The gate did.
    pub fn forgotten(&mut self, netns: NetnsCookie) {
        if self.all.get(&netns).is_some_and(|entry| entry.leaving) {
            self.all.remove(&netns);
        }
    }

    /// A new gate, which was told of `told` while others came and went.
    pub fn serve_with(&mut self, gate: Mailbox, told: &[Arc<Namespace>]) {
        self.all.retain(|_, entry| !entry.leaving); // the gate that was asked to close them is gone
        let mut letters = Vec::new();
        for entry in self.all.values() {
            if !told.iter().any(|known| known.cookie == entry.namespace.cookie) {
                letters.extend(super::copies(&entry.namespace).unwrap_or_default());
            }
        }
        for gone in told.iter().filter(|known| !self.all.contains_key(&known.cookie)) {
            letters.push((ToGate::Forget { netns: gone.cookie }, None));
        }
        if gate.post(letters).is_err() {
            tracing::error!("the new gate was not told of the last network namespaces: they are refused");
        }
        self.gate = Some(gate);
    }

    pub fn may_complain(&mut self, tag: &TagName) -> bool {
        let now = Instant::now();
        if self.complaints.get(tag).is_some_and(|last| now.duration_since(*last) < COMPLAINTS) {
            return false;
        }
        if self.complaints.len() >= COMPLAINERS {
            self.complaints.clear();
        }
        self.complaints.insert(tag.clone(), now);
        true
    }
}

fn post(gate: Option<&Mailbox>, letters: Vec<Letter>) -> Result<(), Undelivered> {
    gate.map_or(Err(Undelivered::Gone), |gate| gate.post(letters))
}
