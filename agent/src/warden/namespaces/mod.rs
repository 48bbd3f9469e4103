//! Network namespaces besides the host's: a tagged process in one is taken too.
//!
//! The kernel programs lead its connections to the listeners' ports as everywhere, and drop the packets while no listener
//! of ours stands in the namespace: nothing passes, and TCP tries again after a second. So the first connection waits.
//! A loopback device that is down is brought up then: the listeners are reached by it alone.
//! They also say that somebody came ([`Namespaces::appeared`]), mostly before his connect(). Then the listeners are made
//! there ([`enter`]), given to the gate, and the kernel programs are told ([`Known`]).
//!
//! A listener keeps its namespace alive. So every two seconds it is looked whether a thread of any tag still lives there
//! ([`life`]), and a namespace without one is forgotten: first the kernel programs, then the gate, then our own copies.
//!
//! After a start of the daemon nothing is believed of the last one: the living namespaces are searched for among the tags'
//! threads ([`Namespaces::resume`]). Not here: which tags there are; what the gate does with its listeners.

mod enter;
mod inhabitants;
mod life;
mod table;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::enter::{Door, Traveller};
use self::table::Table;
use super::gate_process::Mailbox;
use super::listen::Ports;
use crate::report::Chain;
use crate::types::{NetnsCookie, TagName};
use crate::wire::ToGate;

pub use self::enter::{Error, Namespace};

/// Namespaces at once, the host's not counted: it has a place in the kernel's map too.
pub const MAX: usize = 1023;

/// Jobs that wait for the travelling thread. Beyond it a socket is refused, and a namespace is found at the next packet.
const JOBS: usize = 4096;

/// How long [`Namespaces::resume`] may take; what is not found by then is found by its next packet.
const RESUME_WITHIN: Duration = Duration::from_secs(5);

/// The kernel programs' list of namespaces in which our listeners stand. Must not block for long.
pub trait Known: Send + Sync {
    /// Connections there are let through to the listeners from now on.
    ///
    /// # Errors
    /// In words.
    fn add(&self, netns: NetnsCookie) -> Result<(), String>;

    /// Packets there are dropped from now on.
    ///
    /// # Errors
    /// In words.
    fn remove(&self, netns: NetnsCookie) -> Result<(), String>;
}

/// What the namespaces need to know of the rest of the daemon.
pub struct Surroundings {
    /// The host's listeners' ports.
    pub ports: Ports,
    /// Those of the host's resolver: see [`super::resolver::Resolver::ports`].
    pub resolver_ports: (u16, u16),
    /// The kernel programs' list.
    pub known: Box<dyn Known>,
    /// The tags with the directories of their cgroups.
    pub places: Box<dyn Fn() -> Vec<(TagName, PathBuf)> + Send + Sync>,
    /// The tag that a living thread is in.
    pub tag_of: Box<dyn Fn(u32) -> Option<TagName> + Send + Sync>,
    /// Told what the host's owner should know. Must not block.
    pub trouble: Box<dyn Fn(String) + Send + Sync>,
}

/// See the module. Dropping it ends its threads; the listeners go with it.
pub struct Namespaces {
    shared: Arc<Shared>,
    jobs: SyncSender<Job>,
    search: SyncSender<Search>,
}

struct Shared {
    surroundings: Surroundings,
    table: Mutex<Table>,
}

enum Job {
    /// Make listeners in the namespace of a thread of the tag.
    Enter(TagName, u32),
    /// Make a socket and leave it with the gate that asked.
    Socket { netns: NetnsCookie, v6: bool, udp: bool, call: u64, to: Mailbox },
    /// Say when all before it is done.
    Done(SyncSender<()>),
}

/// Have all tags searched for namespaces that are not known.
struct Search;

impl Namespaces {
    /// Starts the threads, from the host's network namespace.
    ///
    /// # Errors
    /// A thread cannot be made, or /proc cannot be read.
    pub fn start(surroundings: Surroundings) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { surroundings, table: Mutex::default() });
        let (jobs, work) = sync_channel(JOBS);
        let (search, searches) = sync_channel(1);
        let traveller = Traveller::new()?;
        let travelling = Arc::clone(&shared);
        let builder = || std::thread::Builder::new();
        builder().name("namespaces".to_owned()).spawn(move || travelling.travel(&traveller, &work))?;
        let (watching, found) = (Arc::clone(&shared), jobs.clone());
        builder().name("inhabitants".to_owned()).spawn(move || life::watch(&watching, &searches, &found))?;
        Ok(Self { shared, jobs, search })
    }

    /// A thread of a tag made a socket, or sent a packet, in a namespace that the kernel programs do not know. The thread
    /// may be gone, or elsewhere: then the tags are searched.
    pub fn appeared(&self, tag: &TagName, thread: u32, netns: NetnsCookie) {
        if self.shared.table(|table| table.stands(netns)) {
            return self.shared.let_in(netns); // it was about to be forgotten
        }
        if self.jobs.try_send(Job::Enter(tag.clone(), thread)).is_err() {
            self.search();
        }
    }

    /// Has all tags searched soon: more namespaces appeared than were told of.
    pub fn search(&self) {
        match self.search.try_send(Search) {
            Ok(()) | Err(TrySendError::Full(Search)) => {}
            Err(TrySendError::Disconnected(Search)) => {
                tracing::error!("nobody looks after namespaces any more")
            }
        }
    }

    /// Makes listeners in every namespace in which a tagged thread lives now. Blocks until that is done.
    pub fn resume(&self) {
        let end = Instant::now() + RESUME_WITHIN;
        let found = inhabitants::search(&(self.shared.surroundings.places)());
        for (thread, tag) in found.by_inode.into_values() {
            let _ = self.jobs.try_send(Job::Enter(tag, thread)); // at most JOBS, of which MAX can stand
        }
        let (done, wait) = sync_channel(1);
        if self.jobs.send(Job::Done(done)).is_ok() {
            let left = end.saturating_duration_since(Instant::now());
            if wait.recv_timeout(left).is_err() {
                (self.shared.surroundings.trouble)(
                    "not every network namespace has its listeners yet: connections wait there".to_owned(),
                );
            }
        }
    }

    /// Those that stand now, to tell a new gate of. To be followed by [`Namespaces::serve_with`].
    pub fn standing(&self) -> Vec<Arc<Namespace>> {
        self.shared.table(|table| table.standing())
    }

    /// From now on new listeners go to the gate of this mailbox, which was told of `told`.
    pub fn serve_with(&self, gate: Mailbox, told: &[Arc<Namespace>]) {
        self.shared.table(|table| table.serve_with(gate, told));
    }

    /// The gate has closed its listeners of a namespace.
    pub fn forgotten(&self, netns: NetnsCookie) {
        self.shared.table(|table| table.forgotten(netns));
    }

    /// The namespace with this cookie, if our listeners stand there.
    pub fn find(&self, netns: NetnsCookie) -> Option<Arc<Namespace>> {
        self.shared.table(|table| table.find(netns))
    }

    /// Makes a socket there for the gate, which gets it as the answer to `call`.
    pub fn socket(&self, to: Mailbox, call: u64, netns: NetnsCookie, v6: bool, udp: bool) {
        let job = Job::Socket { netns, v6, udp, call, to };
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.jobs.try_send(job)
            && let Job::Socket { call, to, .. } = job
        {
            answer(&to, call, Err("too many sockets are asked for at once".to_owned()));
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shared.table(|table| table.standing().len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn answer(gate: &Mailbox, call: u64, made: Result<OwnedFd, String>) {
    let (fd, refused) = match made {
        Ok(fd) => (Some(fd), None),
        Err(why) => (None, Some(why)),
    };
    // A gate that is gone, or does not read, asks no more.
    let _ = gate.post(vec![(ToGate::Socket { call, refused }, fd)]);
}

/// Copies of the listeners and of the resolver's sockets for the gate.
fn copies(namespace: &Namespace) -> std::io::Result<Vec<super::gate_process::Letter>> {
    let netns = namespace.cookie;
    let listeners = namespace.listeners().map(|fd| (ToGate::Listener { netns }, fd));
    let resolvers = namespace.resolvers().map(|fd| (ToGate::Resolver { netns }, fd));
    let copy = |(message, fd): (ToGate, BorrowedFd<'_>)| Ok((message, Some(fd.try_clone_to_owned()?)));
    listeners.chain(resolvers).map(copy).collect()
}

impl Shared {
    /// A look at the table, or a change of it. By way of a closure: a guard in the head of a `for` or `match` would live
    /// on in its body.
    fn table<T>(&self, look: impl FnOnce(&mut Table) -> T) -> T {
        // Every change leaves the table whole.
        look(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The travelling thread.
    fn travel(&self, traveller: &Traveller, work: &Receiver<Job>) {
        for job in work {
            match job {
                Job::Enter(tag, thread) => self.enter(traveller, &tag, thread),
                Job::Socket { netns, v6, udp, call, to } => {
                    let found = self.table(|table| table.find(netns)).ok_or_else(|| {
                        "the caller's network namespace is none in which we listen".to_owned()
                    });
                    let make = |namespace: Arc<Namespace>| {
                        traveller.socket(&namespace, v6, udp).map_err(|error| error.to_string())
                    };
                    answer(&to, call, found.and_then(make));
                }
                Job::Done(waits) => drop(waits.try_send(())),
            }
        }
    }

    fn enter(&self, traveller: &Traveller, tag: &TagName, thread: u32) {
        let known = match traveller.door(thread) {
            Ok(None) | Err(Error::Gone) => return,
            Ok(Some(door)) => self.establish(traveller, door, tag),
            Err(error) => Err(Chain(&error).to_string()),
        };
        match known {
            Ok(netns) => self.let_in(netns),
            Err(why) => self.trouble(tag, &why),
        }
    }

    fn establish(&self, traveller: &Traveller, door: Door, tag: &TagName) -> Result<NetnsCookie, String> {
        if let Some(netns) = self.table(|table| table.stands_at(door.inode)) {
            return Ok(netns);
        }
        self.table(|table| table.room(tag))?;
        let namespace = traveller
            .establish(door, tag, &self.surroundings.ports, self.surroundings.resolver_ports)
            .map_err(|error| Chain(&error).to_string())?;
        let (netns, inode) = (namespace.cookie, namespace.inode);
        let letters = copies(&namespace).map_err(|error| error.to_string())?;
        self.table(|table| table.add(namespace, letters))?;
        tracing::info!(%tag, "listening in network namespace net:[{inode}]");
        Ok(netns)
    }

    fn let_in(&self, netns: NetnsCookie) {
        if let Err(why) = self.surroundings.known.add(netns) {
            (self.surroundings.trouble)(format!("a network namespace stays refused: {why}"));
        }
    }

    /// Says why a tag's namespace has no listeners: once a minute for each tag, since a job can make it happen as often as
    /// it likes.
    fn trouble(&self, tag: &TagName, why: &str) {
        if self.table(|table| table.may_complain(tag)) {
            (self.surroundings.trouble)(format!(
                "tag {tag}: connections from a network namespace are refused: {why}"
            ));
        }
    }
}

#[cfg(test)]
mod tests;
