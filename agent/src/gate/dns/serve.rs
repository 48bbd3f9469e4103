//! Questions over UDP: one datagram, one task, one session with one exchange.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::datagrams::{Datagram, Datagrams};
use super::{Asker, Repetition, Services, answer};
use crate::report::Chain;
use crate::turn;
use crate::types::NetnsCookie;
use crate::wire::ToWarden;

/// How long to let the system recover when a socket fails.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Serves one of the resolver's sockets for as long as the future lives. What comes later waits in the socket for the
/// next gate.
pub(in crate::gate) fn answering(
    fd: OwnedFd,
    netns: NetnsCookie,
    services: Arc<Services>,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let socket = Arc::new(Datagrams::new(fd, netns)?);
    Ok(async move { serve_all(&socket, &services).await })
}

async fn serve_all(socket: &Arc<Datagrams>, services: &Arc<Services>) {
    let drops = &services.dns.drops;
    loop {
        // A socket that always has a datagram must not keep a turn from its end.
        turn::look();
        match socket.receive().await {
            Ok(Some(datagram)) => match Arc::clone(&services.dns.places).try_acquire_owned() {
                Ok(place) => {
                    let unsettled = services.settling.token();
                    let served =
                        serve(datagram, (place, unsettled), Arc::clone(socket), Arc::clone(services));
                    services.drain.spawn(served);
                }
                Err(_) => drop(drops.crowded.fetch_add(1, Ordering::Relaxed)),
            },
            Ok(None) => drop(drops.noise.fetch_add(1, Ordering::Relaxed)),
            // An ICMP error for a reply whose asker is gone.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => {
                tracing::error!("the resolver's socket: {error}");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn serve(
    datagram: Datagram,
    (_place, unsettled): (OwnedSemaphorePermit, TaskTrackerToken),
    socket: Arc<Datagrams>,
    services: Arc<Services>,
) {
    let (dns, drops) = (&services.dns, &services.dns.drops);
    let Datagram { bytes, client, listener } = datagram;
    let repetition: Repetition = (client, listener, socket.netns, bytes.clone());
    let Some(_answering) = Answering::first(&services, repetition) else { return };
    let Some(identity) = services.warden.asker(client, listener, socket.netns).await else {
        drops.unknown.fetch_add(1, Ordering::Relaxed);
        return;
    };
    drop(unsettled);
    let caller = Arc::new(identity.caller);
    let Some(_share) = dns.shares.enter(&caller.tag) else {
        drops.crowded.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let session = match services.store.begin(Arc::clone(&caller), identity.destination, client.0, None) {
        Ok(session) => Arc::new(session),
        Err(error) => {
            let text = format!("a question to a name server was refused: {}", Chain(&error));
            services.warden.tell(ToWarden::Trouble(text));
            return;
        }
    };
    let asker = Asker {
        caller,
        destination: identity.destination,
        session: Arc::clone(&session),
        elsewhere: identity.netns,
    };
    match answer(&services, &asker, &bytes, true).await {
        Some(reply) => {
            let sent = socket.reply(&reply, client, listener);
            session.end(sent.err().map(|error| format!("the reply was lost: {error}")));
        }
        None => {
            drops.noise.fetch_add(1, Ordering::Relaxed);
            session.end(Some("no question: not answered".to_owned()));
        }
    }
}

/// While it lives, the same datagram from the same socket is a repetition. Bound: the places.
struct Answering<'a>(&'a Services, Repetition);

impl<'a> Answering<'a> {
    fn first(services: &'a Services, question: Repetition) -> Option<Self> {
        let mut answering = services.dns.answering.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        answering.insert(question.clone()).then(|| Self(services, question))
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let mut answering = self.0.dns.answering.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        answering.remove(&self.1);
    }
}
