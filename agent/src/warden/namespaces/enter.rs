//! Going into a network namespace: setns(2) changes the calling thread alone, so all of this is for one thread that does
//! nothing else. What is made inside (listeners, a sock_diag socket, sockets for the gate) stays inside.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::types::{NetnsCookie, TagName};
use crate::warden::listen::{self, Listeners, Ports};
use crate::warden::loopback;
use crate::warden::resolver::Resolver;
use crate::warden::witness::{Question, Witness};

/// Why there are no listeners in a namespace.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its process ended, or went elsewhere: nothing is wrong.
    #[error("no process is left to find the namespace by")]
    Gone,
    /// Entering is refused.
    #[error("the namespace cannot be entered")]
    Enter(#[source] io::Error),
    /// The listeners cannot be made.
    #[error("the listeners cannot be made there")]
    Listen(#[source] listen::Error),
    /// The namespace cannot be told from others.
    #[error("the kernel does not say which namespace it is")]
    Cookie(#[source] io::Error),
}

/// A network namespace in which our listeners stand. While this lives, the namespace does.
#[derive(Debug)]
pub struct Namespace {
    /// Its number for the kernel programs.
    pub cookie: NetnsCookie,
    /// Its number for people (`lsns -t net`).
    pub inode: u64,
    /// Whose share of the namespaces it counts to.
    pub tag: TagName,
    /// The way in.
    door: File,
    listeners: Listeners,
    resolver: Resolver,
    witness: Option<Witness>,
}

impl Namespace {
    /// The listeners.
    pub fn listeners(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        self.listeners.sockets()
    }

    /// The resolver's sockets.
    pub fn resolvers(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        self.resolver.sockets()
    }

    /// Whether the socket at `client` that speaks to `listener` is the one with this cookie. Where the kernel cannot tell,
    /// yes: the daemon has said so at its start.
    ///
    /// # Errors
    /// What the netlink socket says.
    pub fn holds(
        &self,
        ask: Question,
        client: SocketAddr,
        listener: SocketAddr,
        cookie: u64,
    ) -> io::Result<bool> {
        self.witness.as_ref().map_or(Ok(true), |witness| ask(witness, client, listener, cookie))
    }
}

/// The way into a namespace: it lives while this does.
pub struct Door {
    file: File,
    /// Its number for people.
    pub inode: u64,
}

/// The inode of a thread's network namespace; `None` when the thread is gone.
pub fn inode_of(thread: u32) -> Option<u64> {
    Some(std::fs::metadata(format!("/proc/{thread}/ns/net")).ok()?.ino())
}

/// A thread that goes into namespaces and comes back.
pub struct Traveller {
    home: File,
    home_inode: u64,
}

impl Traveller {
    /// For the calling thread, whose namespace is home.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn new() -> io::Result<Self> {
        let home = File::open("/proc/thread-self/ns/net")?;
        let home_inode = home.metadata()?.ino();
        Ok(Self { home, home_inode })
    }

    /// The way into a thread's namespace; `None` when that is home.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Enter`].
    pub fn door(&self, thread: u32) -> Result<Option<Door>, Error> {
        let door = match File::open(format!("/proc/{thread}/ns/net")) {
            Ok(door) => door,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(Error::Enter(error)),
            Err(_) => return Err(Error::Gone),
        };
        let inode = door.metadata().map_err(Error::Enter)?.ino();
        Ok((inode != self.home_inode).then_some(Door { file: door, inode }))
    }

    /// Makes listeners there.
    ///
    /// # Errors
    /// [`Error`]. Nothing is left there.
    pub fn establish(
        &self,
        door: Door,
        tag: &TagName,
        ports: &Ports,
        resolver_ports: (u16, u16),
    ) -> Result<Namespace, Error> {
        let made = self.within(&door.file, || {
            let listeners = Listeners::open_on(ports).map_err(Error::Listen)?;
            let cookie = listen::netns_cookie(listeners.v4.as_fd()).map_err(Error::Cookie)?;
            let resolver = Resolver::open_at(resolver_ports).map_err(Error::Listen)?;
            let witness = Witness::open(&listeners.v4).ok();
            // With it down, connect() to us fails before any program of ours or anybody's record sees it.
            if let Err(error) = loopback::raise() {
                tracing::warn!("tag {tag}: a network namespace's loopback device stays as it is: {error}");
            }
            Ok((listeners, resolver, NetnsCookie(cookie), witness))
        });
        let (listeners, resolver, cookie, witness) = made.map_err(Error::Enter)??;
        let Door { file: door, inode } = door;
        Ok(Namespace { cookie, inode, tag: tag.clone(), door, listeners, resolver, witness })
    }

    /// Makes a socket in a namespace, neither bound nor connected, not blocking.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn socket(&self, namespace: &Namespace, v6: bool, udp: bool) -> io::Result<OwnedFd> {
        let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let kind = if udp { SockType::Datagram } else { SockType::Stream };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        self.within(&namespace.door, || socket(family, kind, flags, None).map_err(io::Error::from))?
    }

    /// Does `work` inside.
    ///
    /// # Errors
    /// No way in (`CAP_SYS_ADMIN` over both namespaces' owners is needed), or none back.
    fn within<T>(&self, door: &File, work: impl FnOnce() -> T) -> io::Result<T> {
        setns(door, CloneFlags::CLONE_NEWNET)?;
        let done = work();
        // Home is alive and was entered before: this fails for nothing but want of memory. Then the next trip sets it
        // right, and until then this thread keeps the namespace alive.
        setns(&self.home, CloneFlags::CLONE_NEWNET)?;
        Ok(done)
    }
}
