//! Accepting: listener to `Accepted`. The only place where taken connections enter.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Services, dns, session};
use crate::turn;
use crate::types::{ClientAddr, ListenerAddr, NetnsCookie};
use crate::wire::ToWarden;

/// A connection that the kernel led here; nobody knows yet whose it is.
pub(super) struct Accepted {
    pub io: TcpStream,
    pub client: ClientAddr,
    pub listener: ListenerAddr,
    /// Where the listener is.
    pub netns: NetnsCookie,
    /// The place among the sessions; given back when the session ends.
    pub place: OwnedSemaphorePermit,
    /// Held while the warden has yet to be asked about the connection.
    pub unsettled: TaskTrackerToken,
}

/// How long to let the system recover when accept() fails for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(50);

/// The listeners of the network namespaces that we serve. Bound: the warden's.
pub(super) struct Listeners {
    services: Arc<Services>,
    serving: HashMap<NetnsCookie, Serving>,
}

/// What accepts in one namespace.
#[derive(Clone, Default)]
struct Serving {
    over: CancellationToken,
    tasks: TaskTracker,
}

impl Listeners {
    pub fn new(services: Arc<Services>) -> Self {
        Self { services, serving: HashMap::new() }
    }

    /// Serves one more, until it is forgotten or the drain begins.
    pub fn serve(&mut self, netns: NetnsCookie, listener: OwnedFd) -> io::Result<()> {
        let serving = self.serving.entry(netns).or_default().clone();
        start(listener, netns, serving, Arc::clone(&self.services))
    }

    /// Answers the questions that come to one of the resolver's sockets, as long.
    pub fn answer(&mut self, netns: NetnsCookie, resolver: OwnedFd) -> io::Result<()> {
        let serving = self.serving.entry(netns).or_default().clone();
        let services = Arc::clone(&self.services);
        let answering = dns::answering(resolver, netns, Arc::clone(&services))?;
        serving.tasks.spawn(async move {
            tokio::select! { () = answering => {}, () = services.drain.begun() => {}, () = serving.over.cancelled() => {} }
        });
        Ok(())
    }

    /// Completes when nothing is accepted any more, after the drain's begin.
    pub async fn closed(self) {
        for serving in self.serving.into_values() {
            serving.tasks.close();
            serving.tasks.wait().await;
        }
    }

    /// Closes those of a namespace, and says when they are closed. Connections that were accepted there go on.
    pub fn forget(&mut self, netns: NetnsCookie) {
        let serving = self.serving.remove(&netns).unwrap_or_default();
        serving.over.cancel();
        serving.tasks.close();
        let warden = self.services.warden.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the tasks, which were cancelled")]
        tokio::spawn(async move {
            serving.tasks.wait().await;
            warden.tell(ToWarden::Forgotten { netns });
        });
    }
}

fn start(listener: OwnedFd, netns: NetnsCookie, serving: Serving, services: Arc<Services>) -> io::Result<()> {
    let listener = StdListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    serving.tasks.spawn(async move {
        let accepting = accept_all(&listener, netns, &services);
        // The listener is only let go of here: the warden (and systemd) hold it open, connections wait in its backlog.
        tokio::select! { () = accepting => {}, () = services.drain.begun() => {}, () = serving.over.cancelled() => {} }
    });
    Ok(())
}

async fn accept_all(listener: &TcpListener, netns: NetnsCookie, services: &Arc<Services>) {
    loop {
        // A listener that always has somebody must not keep a turn from its end.
        turn::look();
        match accept(listener).await {
            // The place comes second: an idle listener must not hold one. At the bound one connection a listener waits
            // here, the others in the backlog.
            Ok((io, client, listener)) => {
                let Ok(place) = Arc::clone(&services.sessions).acquire_owned().await else { return };
                let unsettled = services.settling.token();
                let accepted = Accepted { io, client, listener, netns, place, unsettled };
                services.drain.spawn(session::serve(accepted, Arc::clone(services)));
            }
            // One client's bad luck: it was gone before we came.
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                tracing::error!("accept: {error}");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, ClientAddr, ListenerAddr)> {
    let (io, client) = listener.accept().await?;
    io.set_nodelay(true)?;
    keep_alive(&io)?;
    let listener = ListenerAddr(io.local_addr()?);
    Ok((io, ClientAddr(client), listener))
}

/// A peer that is gone without a word (its host, or the process behind a socket that it half closed) is found within two
/// minutes: otherwise an idle session holds its place for as long as the other side likes.
pub(super) fn keep_alive(io: &TcpStream) -> io::Result<()> {
    setsockopt(io, sockopt::KeepAlive, &true)?;
    setsockopt(io, sockopt::TcpKeepIdle, &60)?;
    setsockopt(io, sockopt::TcpKeepInterval, &15)?;
    Ok(setsockopt(io, sockopt::TcpKeepCount, &4)?)
}

fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected)
}
