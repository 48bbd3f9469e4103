//! What the warden asks of the kernel side while tags are at work, and what it tells it of network namespaces.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use agent_ebpf::{COUNTERS, Event, Origin};

use super::table;
use super::waiting::{self, Waiting, boot_time};
use super::{Error, Kernel, Layer, Tag};

impl Kernel {
    /// Whose connection is this? The answer is given once; `None` means that nobody remembers it, and it must be closed.
    ///
    /// `netns` is the cookie of the accepted socket's network namespace ([`crate::warden::listen::netns_cookie`]),
    /// `client` and `listener` its peer's and its own address. The newest entry of the tuple counts, so the answer
    /// holds for a socket that TCP has *not* closed yet **after** the answer came: the asker checks its state
    /// (`TCP_INFO`, not `TCP_CLOSE`) once more and closes a dead one. Otherwise a job that resets a connection before
    /// it is accepted could have it taken for another job's that got the same ports.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn lookup(
        &self,
        netns: u64,
        client: SocketAddr,
        listener: SocketAddr,
    ) -> Result<Option<Origin>, Error> {
        let key = waiting::tuple(netns, client, listener);
        let maps = self.tags_at(listener).flat_map(|tag| tag.waiting.iter().chain(&tag.older));
        newest(maps.map(|waiting| waiting.take(&key)))
    }

    /// The tags that may have led a connection to `listener`.
    fn tags_at(&self, listener: SocketAddr) -> impl Iterator<Item = &Tag> {
        self.tags.values().filter(move |tag| waiting::may_be(tag.number, listener))
    }

    /// Forgets connections that were closed 60 s ago, and those that nobody asked for in 15 minutes. Returns how many.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn sweep(&mut self) -> Result<usize, Error> {
        self.sweep_as_of(boot_time()?)
    }

    /// As [`Kernel::sweep`], at `now` since boot.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn sweep_as_of(&mut self, now: Duration) -> Result<usize, Error> {
        self.forget_older()?;
        let maps = self.tags.values().flat_map(|tag| tag.waiting.iter().chain(&tag.older));
        maps.map(|waiting| waiting.sweep(now)).sum()
    }

    /// Connections that are established and that nobody asked for yet, over all tags.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn waiting(&self) -> Result<usize, Error> {
        let maps = self.tags.values().flat_map(|tag| tag.waiting.iter().chain(&tag.older));
        maps.map(Waiting::len).sum()
    }

    /// The counters since the maps were made, summed over the CPUs; indices are [`agent_ebpf::Counter`].
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self) -> Result<[u64; COUNTERS as usize], Error> {
        let mut sums = [0; COUNTERS as usize];
        for (index, sum) in (0..).zip(&mut sums) {
            let slots =
                self.counters.get(&index, 0).map_err(|source| Error::Map { map: "COUNTERS", source })?;
            *sum = slots.iter().sum();
        }
        Ok(sums)
    }

    /// Who asked the resolver last from `client`, in the network namespace with the cookie `netns`; `listener` is the
    /// resolver's own address that the question came to. Not consumed: a client may ask again.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn asker(
        &self,
        netns: u64,
        client: SocketAddr,
        listener: SocketAddr,
    ) -> Result<Option<Origin>, Error> {
        let key = waiting::tuple(netns, client, listener);
        newest(self.tags_at(listener).filter_map(|tag| tag.askers.as_ref()).map(|askers| askers.find(&key)))
    }

    /// The oldest event that the programs told and that nobody has read: a refusal (at most ten a second of each kind,
    /// tag and CPU), or a network namespace without a listener. What does not fit the ring of 1 MiB is counted in
    /// [`Event::suppressed`] of the next. To be called until it says `None` each time that [`Kernel::with_events_fd`]'s
    /// descriptor becomes readable.
    pub fn next_event(&self) -> Option<Event> {
        self.events.next()
    }

    /// Calls `with` on the descriptor that is readable while there are events.
    pub fn with_events_fd<T>(&self, with: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        self.events.with_fd(with)
    }

    /// Says that our listeners stand in a network namespace: connections there go on, those that wait too.
    ///
    /// # Errors
    /// The map is full (1,024 namespaces) or refuses.
    pub fn add_namespace(&mut self, cookie: u64) -> Result<(), Error> {
        self.namespaces.insert(cookie, 1, 0).map_err(|source| Error::Map { map: "NAMESPACES", source })
    }

    /// Says that no listener stands in a network namespace any more: new connections there wait. Unknown ones are fine.
    ///
    /// # Errors
    /// The map refuses.
    pub fn remove_namespace(&mut self, cookie: u64) -> Result<(), Error> {
        table::remove(&mut self.namespaces, &cookie)
            .map_err(|source| Error::Map { map: "NAMESPACES", source })
    }

    /// Cookies of the namespaces that were added, by an earlier daemon too.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn namespaces(&self) -> Result<Vec<u64>, Error> {
        let keys = self.namespaces.keys().take(agent_ebpf::NAMESPACE_ENTRIES as usize);
        keys.collect::<Result<_, _>>().map_err(|source| Error::Map { map: "NAMESPACES", source })
    }

    /// Every layer of the enforcement, and whether this kernel has it.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Where a map that all tags share is pinned.
    pub fn shared_map(&self, name: &str) -> PathBuf {
        self.pins.map(name)
    }
}

/// The origin of the newest connection among those that were found.
fn newest(found: impl Iterator<Item = Result<Option<Origin>, Error>>) -> Result<Option<Origin>, Error> {
    let mut newest: Option<Origin> = None;
    for origin in found {
        if let Some(origin) = origin?
            && newest.as_ref().is_none_or(|n| n.connected_at < origin.connected_at)
        {
            newest = Some(origin);
        }
    }
    Ok(newest)
}
