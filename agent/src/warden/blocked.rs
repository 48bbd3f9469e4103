//! What the kernel programs stopped, told to the journal: whose it was, by which way it went, what to do about it.
//!
//! The programs bound how much of it comes for each tag, way and CPU; this bounds what a host with many of all three writes.
//! What is left out is counted, and the next entry of its kind says so.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_ebpf::{Counter, Event, Origin};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::attach::SharedKernel;
use super::caller::Callers;
use super::journal::{self, Blocked, Journal, way};
use super::kernel;
use super::namespaces::Namespaces;
use super::tags::{TagNumber, Tags};
use crate::types::{NetnsCookie, TagName};

/// Entries of one tag and way in a second.
const A_KIND: u32 = 10;
/// Entries in a second in all: each costs a look at /proc.
const IN_ALL: u32 = 200;
/// Kinds that are counted apart; beyond it the counts are forgotten, and with them what was left out.
const KINDS: usize = 4096;
/// Events that are read before anybody else is heard: the ring holds about 9,000.
const AT_ONCE: usize = 4_096;
const SECOND: Duration = Duration::from_secs(1);

/// Writes blocked attempts to the journal.
pub struct Teller {
    kernel: SharedKernel,
    /// Readable while there are events.
    ring: AsyncFd<OwnedFd>,
    journal: Journal,
    tags: Tags,
    namespaces: Arc<Namespaces>,
    callers: Callers,
    pace: Pace,
}

impl Teller {
    /// Hears `kernel`, tells `journal`; asks `tags` for names, and has `namespaces` listen where somebody came.
    /// To be called in the event loop.
    ///
    /// # Errors
    /// The ring's descriptor cannot be copied or watched.
    pub fn new(
        kernel: SharedKernel,
        journal: Journal,
        tags: Tags,
        namespaces: Arc<Namespaces>,
    ) -> io::Result<Self> {
        let ring = kernel.lock().with_events_fd(|fd| fd.try_clone_to_owned())?;
        Ok(Self {
            kernel,
            ring: watch(ring)?,
            journal,
            tags,
            namespaces,
            callers: Callers::default(),
            pace: Pace::default(),
        })
    }

    /// Waits until the programs have something to tell. Cancel-safe. [`Teller::tell_all`] must follow: the kernel says
    /// once that there is more.
    pub async fn heard(&self) {
        match self.ring.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            // The loop ends. Whatever comes now is read at the next tick, if there is one.
            Err(_) => std::future::pending().await,
        }
    }

    /// Tells the journal what there is. A flood is read on at the next call.
    pub fn tell_all(&mut self) {
        for _ in 0..AT_ONCE {
            let event = self.kernel.lock().next_event();
            match event {
                Some(event) => self.tell(&event),
                None => break,
            }
        }
    }

    /// Has listeners made in a network namespace that has none.
    fn enter(&self, event: &Event) {
        if let Some(tag) = self.tags.resolve(TagNumber(event.tag)) {
            self.namespaces.appeared(&tag, event.pid, NetnsCookie(event.netns));
        }
        if event.suppressed > 0 {
            self.namespaces.search();
        }
    }

    /// Never blocks longer than reading a process's files in /proc takes.
    fn tell(&mut self, event: &Event) {
        if event.tag == kernel::TRIAL_NUMBER {
            return; // the self-test's own attempt, which it tells itself
        }
        let Some(counter) = kernel::way(event) else {
            tracing::warn!(
                "the kernel programs told of a way that this version does not know: {}",
                event.way
            );
            return;
        };
        if counter == Counter::NewNamespace {
            return self.enter(event);
        }
        let Some(way) = way::of(counter) else { return };
        let Some(more) = self.pace.take((event.tag, event.way), u64::from(event.suppressed), Instant::now())
        else {
            return;
        };
        let known = self.tags.resolve(TagNumber(event.tag));
        let Some(tag) = known.or_else(|| TagName::parse(&format!("number-{}", event.tag)).ok()) else {
            return;
        };
        let cgroup = self.tags.entry(&tag).and_then(|entry| entry.cgroup).map_or_else(String::new, |c| c.0);
        let inode = self.namespaces.find(NetnsCookie(event.netns)).map(|namespace| namespace.inode);
        self.journal.send(journal::Event::Blocked(Box::new(Blocked {
            way,
            caller: self.callers.describe(&origin(event), tag, &cgroup, inode),
            address: kernel::address(event),
            protocol: protocol(event),
            netns: event.netns,
            more,
        })));
    }
}

#[expect(unsafe_code, reason = "tokio cannot know that a descriptor is not closed under its eyes")]
fn watch(ring: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, stays where it is, and is closed after it is deregistered.
    Ok(unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?)
}

/// The caller's side of an event.
fn origin(event: &Event) -> Origin {
    Origin {
        cookie: 0,
        connected_at: event.at,
        cgroup: event.cgroup,
        address: event.address,
        port: event.port,
        family: event.family,
        tag: event.tag,
        tgid: event.tgid,
        pid: event.pid,
        uid: event.uid,
        gid: event.gid,
        comm: event.comm,
    }
}

/// The protocol's name, or its number.
fn protocol(event: &Event) -> String {
    match (event.family, event.protocol) {
        (2 | 10, 6) => "tcp".to_owned(),
        (2 | 10, 17) => "udp".to_owned(),
        (2 | 10, 1 | 58) => "icmp".to_owned(),
        (2 | 10, 132) => "sctp".to_owned(),
        (2 | 10, 136) => "udp-lite".to_owned(),
        (2 | 10, 262) => "mptcp".to_owned(),
        (2 | 10, number) => format!("ip-{number}"),
        (family, number) => format!("family-{family}/{number}"),
    }
}

/// Who went how often in this second.
#[derive(Default)]
struct Pace {
    kinds: HashMap<(u32, u32), Kind>,
    all: Option<(Instant, u32)>,
}

struct Kind {
    since: Instant,
    told: u32,
    left_out: u64,
}

impl Pace {
    /// Whether one more may be told now, and if so for how many others it stands.
    fn take(&mut self, kind: (u32, u32), more: u64, now: Instant) -> Option<u64> {
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            self.kinds.clear();
        }
        let kind = self.kinds.entry(kind).or_insert(Kind { since: now, told: 0, left_out: 0 });
        if now.duration_since(kind.since) >= SECOND {
            (kind.since, kind.told) = (now, 0);
        }
        let all = self.all.get_or_insert((now, 0));
        if now.duration_since(all.0) >= SECOND {
            *all = (now, 0);
        }
        if kind.told >= A_KIND || all.1 >= IN_ALL {
            kind.left_out += more + 1;
            return None;
        }
        kind.told += 1;
        all.1 += 1;
        Some(std::mem::take(&mut kind.left_out) + more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let told = (0..100).filter_map(|_| pace.take((1, 11), 2, now)).count();
        assert_eq!(told, 10);
        assert_eq!(pace.take((2, 11), 0, now), Some(0), "another tag's");
        assert_eq!(pace.take((1, 11), 2, now + SECOND), Some(90 * 3 + 2));
        let told = (0..1000).filter_map(|n| pace.take((n, 12), 0, now + SECOND)).count();
        assert_eq!(told, IN_ALL as usize - 1);
    }
}
