//! Forgetting: a namespace in which no thread of any tag lives is given up, so that it can end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::inhabitants::{self, Found};
use super::{Job, Namespace, Search, Shared};
use crate::types::{NetnsCookie, TagName};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(2);

/// How often in a row nobody must be found there. The last process of a job may have ended with a connection that still
/// waits for the gate.
const ABSENT: u32 = 2;

/// The least time between two searches of all tags, whoever asks for them.
const APART: Duration = Duration::from_millis(250);

/// What is known of a namespace's inhabitants.
#[derive(Default)]
struct Life {
    /// A thread that lived there when it was last looked.
    thread: Option<u32>,
    absent: u32,
}

/// The thread that looks, until the daemon's side of `searches` is gone.
pub fn watch(shared: &Shared, searches: &Receiver<Search>, jobs: &SyncSender<Job>) {
    let mut lives: HashMap<NetnsCookie, Life> = HashMap::new();
    let mut next = Instant::now() + EVERY;
    loop {
        let wanted = match searches.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Search) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let due = Instant::now() >= next;
        let found = (wanted || (due && somebody_left(shared, &mut lives))).then(|| search(shared));
        if let Some(found) = &found
            && wanted
        {
            enter_unknown(shared, found, jobs);
        }
        if due {
            next = Instant::now() + EVERY;
            shared.table(|table| table.ask_again());
            if let Some(found) = found {
                forget(shared, &mut lives, &found);
            }
        }
        if wanted {
            #[expect(
                clippy::disallowed_methods,
                reason = "bounds how often /proc is searched; nothing is waited for"
            )]
            std::thread::sleep(APART);
        }
    }
}

fn search(shared: &Shared) -> Found {
    inhabitants::search(&(shared.surroundings.places)())
}

/// Whether any namespace has lost the thread that was known to live there. Costs two looks at /proc for each namespace.
fn somebody_left(shared: &Shared, lives: &mut HashMap<NetnsCookie, Life>) -> bool {
    let standing = shared.table(|table| table.standing());
    lives.retain(|cookie, _| standing.iter().any(|namespace| namespace.cookie == *cookie));
    let lives_there = |namespace: &Arc<Namespace>| {
        let thread = lives.get(&namespace.cookie).and_then(|life| life.thread);
        thread.is_some_and(|thread| {
            inhabitants::lives_in(thread, namespace.inode) && (shared.surroundings.tag_of)(thread).is_some()
        })
    };
    !standing.iter().all(lives_there)
}

fn forget(shared: &Shared, lives: &mut HashMap<NetnsCookie, Life>, found: &Found) {
    for namespace in shared.table(|table| table.standing()) {
        let life = lives.entry(namespace.cookie).or_default();
        life.thread = found.by_inode.get(&namespace.inode).map(|(thread, _)| *thread);
        match life.thread {
            None if found.complete => life.absent += 1,
            _ => life.absent = 0,
        }
        if life.absent >= ABSENT {
            // First the kernel: packets are dropped before the listeners that would take them are gone.
            if let Err(why) = shared.surroundings.known.remove(namespace.cookie) {
                (shared.surroundings.trouble)(format!("a network namespace cannot be forgotten: {why}"));
                continue;
            }
            tracing::info!(tag = %namespace.tag, "no longer in network namespace net:[{}]", namespace.inode);
            shared.table(|table| table.leave(namespace.cookie));
        }
    }
}

fn enter_unknown(shared: &Shared, found: &Found, jobs: &SyncSender<Job>) {
    let unknown: Vec<(u32, TagName)> = shared.table(|table| {
        let unknown = found.by_inode.iter().filter(|(inode, _)| !table.knows(**inode));
        unknown.map(|(_, (thread, tag))| (*thread, tag.clone())).collect()
    });
    for (thread, tag) in unknown {
        // The queue's bound is more than all namespaces; what does not fit is found by its next packet.
        let _ = jobs.try_send(Job::Enter(tag, thread));
    }
}
