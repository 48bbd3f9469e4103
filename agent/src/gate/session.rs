//! The line: one taken connection from accept to close. Reading [`serve`] and [`Line::follow`] is reading Sluice.

mod refused;
mod secured;

use std::io;
use std::net::TcpStream as StdStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use time::OffsetDateTime;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::accept::{Accepted, keep_alive};
use super::later::Later;
use super::{Services, Warden, dns, identify};
use crate::detect::{self, Protocol};
use crate::engine::masking::Tokens;
use crate::engine::{Connection, Context, http, tunnel};
use crate::identity::{Standing, Who};
use crate::policy::credential::Credential;
use crate::policy::{self, Asked, Denied, Passage};
use crate::record::{Session, Unrecordable};
use crate::report::Chain;
use crate::stream::{BoxStream, Socket};
use crate::tls::{self, Alpn, Verified};
use crate::turn::Ahead;
use crate::types::{Action, Caller, Destination, LookedUp, NetnsCookie, Token};
use crate::wire::ToWarden;

/// How long dialling an upstream may take; Linux itself would try for about two minutes.
const DIAL_WITHIN: Duration = Duration::from_secs(30);

/// Layers that one connection may wrap around another: TLS to a proxy, CONNECT, TLS again. More is refused.
const LAYERS: u8 = 4;

/// Connections that one connection may hold inside of it at once, in all layers: HTTP/2 can carry as many as it has
/// streams, each of which can again.
const INNER: usize = 32;

/// How often it is looked whether the client's socket is dead while nobody reads from it.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Where the line of one connection ended early.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the upstream cannot be reached")]
    Dial(#[source] io::Error),
    #[error("no socket in the caller's network namespace: {0}")]
    Namespace(String),
    #[error("the upstream did not answer within {} s", DIAL_WITHIN.as_secs())]
    DialTimeout,
    #[error("the connection's protocol is not known")]
    Detect(#[source] detect::Error),
    #[error("TLS was refused: {}{}", .0.reason, .0.remedy.map(|remedy| format!(" ({remedy})")).unwrap_or_default())]
    Tls(tls::Refused),
    #[error("HTTP ended early")]
    Http(#[source] http::Error),
    #[error("the tunnel ended early")]
    Tunnel(#[source] tunnel::Error),
    #[error("more than {LAYERS} layers of tunnels and TLS inside one connection")]
    TooDeep,
    #[error("more than {INNER} tunnels at once inside one connection")]
    TooMany,
    #[error("DNS over TCP ended early")]
    Dns(#[source] dns::StreamError),
    #[error("the client's connection broke")]
    ClientGone,
    #[error("refused by rule {:?}: {}", .0.rule, .0.reason)]
    Denied(Denied),
    #[error("the tag holds its share of the sessions that are possible at once")]
    Crowded,
    #[error(transparent)]
    Unrecordable(#[from] Unrecordable),
}

/// Takes one connection all the way. Exactly one session record is written for whatever got past `identify`.
pub(super) async fn serve(accepted: Accepted, services: Arc<Services>) {
    let listener = accepted.listener;
    let Some(who) = identify::who(accepted, &services.warden).await else {
        tracing::debug!(listener = %listener.0, "closed: no tagged process is behind this connection");
        return;
    };
    let (_place, unsettled, tokens) = (who.place, who.unsettled, who.tokens);
    let client = who.client.0;
    let looked_up =
        services.dns.names.of(&who.caller.tag, who.caller.pid, who.destination.ip(), Instant::now());
    let store = &services.store;
    match store.begin(Arc::clone(&who.caller), who.destination, client, looked_up.as_ref()).map(Arc::new) {
        Ok(session) => {
            let line = Line {
                services: Arc::clone(&services),
                session: Arc::clone(&session),
                caller: who.caller,
                destination: who.destination,
                looked_up,
                refusal: None,
                shown: None,
                netns: who.netns,
                who: Who::new(Arc::clone(&services.identities), Standing::default()),
                layers: LAYERS,
                inner: Arc::new(Semaphore::new(INNER)),
            };
            let io = Arc::new(who.io);
            let ended = match services.shares.enter(&line.caller.tag) {
                Some(_share) => tokio::select! {
                    biased;
                    ended = Box::pin(line.take(Arc::clone(&io), tokens, unsettled)) => ended,
                    () = broken(&io) => Err(Error::ClientGone),
                },
                None => {
                    reset(&io);
                    line.refused("tcp", &Error::Crowded);
                    Err(Error::Crowded)
                }
            };
            services.credentials.session_over(session.id());
            session.end(ended.err().map(|error| Chain(&error).to_string()));
        }
        Err(error) => {
            services.warden.tell(ToWarden::Trouble(format!("a connection was refused: {}", Chain(&error))));
            reset(&who.io);
        }
    }
}

/// Completes once the client's socket is dead: it was reset, or keep-alive found nobody. The engines do not read from a
/// client that has said more than they can take, and would wait for its upstream for ever.
async fn broken(client: &TcpStream) {
    while !identify::is_closed(client) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Closes with a reset, so that the client sees a failure and not an empty answer.
fn reset(io: &TcpStream) {
    if let Err(error) = io.set_zero_linger() {
        tracing::debug!("reset: {error}");
    }
}

/// How one layer's way ends.
type Ended = BoxFuture<'static, Result<(), Error>>;

/// How long a connection waits for its tokens: the job can make the reading of its own memory and files slow.
const TOKENS_WITHIN: Duration = Duration::from_secs(2);

/// What stays the same while a connection's layers are opened.
#[derive(Clone)]
struct Line {
    services: Arc<Services>,
    session: Arc<Session>,
    caller: Arc<Caller>,
    destination: Destination,
    /// The name that the job looked up and was told this address for.
    looked_up: Option<LookedUp>,
    /// Set when policy refused what is asked for, and the client is yet to be told.
    refusal: Option<tls::Refusal>,
    /// The client certificate that the upstream asked for and was shown.
    shown: Option<Arc<Credential>>,
    /// Where the upstream is dialled from, when not from here.
    netns: Option<NetnsCookie>,
    /// Who stands behind the caller.
    who: Who,
    /// Layers that may still be opened.
    layers: u8,
    /// Places for connections inside this one.
    inner: Arc<Semaphore>,
}

impl Line {
    /// decide -> forward -> the rest of the line.
    async fn take(
        mut self,
        client: Arc<TcpStream>,
        tokens: Option<Later<Vec<Token>>>,
        unsettled: TaskTrackerToken,
    ) -> Result<(), Error> {
        // Name servers are not dialled: their questions are answered here, and what is no question goes nowhere.
        if self.destination.port() == dns::PORT {
            drop(unsettled);
            return self.answer_questions(client).await;
        }
        if let Some(tokens) = tokens {
            let tokens = tokens.found(TOKENS_WITHIN).await.unwrap_or_default();
            let standing = self.services.identities.first(&tokens).await;
            self.who = self.who.with(standing);
        }
        let passage = match self.may(Action::Connect { destination: self.destination }) {
            Ok(passage) => passage,
            Err(denied) => {
                reset(&client);
                return Err(self.denied("tcp", None, denied));
            }
        };
        let dialling = dial(passage, self.destination, self.netns, &self.services.warden, unsettled);
        // Boxed, as whatever is over long before the connection is: it would keep its room in it.
        let upstream = match Box::pin(dialling).await {
            Ok(upstream) => upstream,
            Err(error) => {
                reset(&client);
                self.refused("tcp", &error);
                return Err(error);
            }
        };
        let store: Arc<dyn Ahead> = Arc::new(self.services.store.clone());
        let upstream = Socket::new(Arc::new(upstream), Arc::clone(&store));
        let client = Socket::new(client, store);
        self.follow(Box::new(client), Box::new(upstream), Verified::Plain).await
    }

    /// Whether the line may go on: what it will send is judged again when it is known.
    fn may(&self, action: Action<'_>) -> Result<Passage, Denied> {
        let policy = Arc::clone(&self.services.policy.borrow());
        let identity = self.who.so_far();
        let asked = Asked { caller: &self.caller, identity, action, now: OffsetDateTime::now_utc() };
        policy::decide(&policy, &asked).passage().map_err(|denied| self.who.standing().explain(denied))
    }

    async fn answer_questions(self, client: Arc<TcpStream>) -> Result<(), Error> {
        let asker = dns::Asker {
            caller: self.caller,
            destination: self.destination,
            session: self.session,
            elsewhere: self.netns,
        };
        let ended = Box::pin(dns::serve_stream(Arc::clone(&client), &asker, &self.services)).await;
        ended.map_err(|error| {
            reset(&client);
            Error::Dns(error)
        })
    }

    /// detect -> tls -> engine, for one layer of the connection. Boxed, since TLS and CONNECT come back to it.
    fn follow(self, client: BoxStream, upstream: BoxStream, verified: Verified) -> Ended {
        Box::pin(self.follow_layer(client, upstream, verified))
    }

    async fn follow_layer(
        mut self,
        client: BoxStream,
        upstream: BoxStream,
        verified: Verified,
    ) -> Result<(), Error> {
        self.layers = match self.layers.checked_sub(1) {
            Some(left) => left,
            None => {
                self.refused("tunnel", &Error::TooDeep);
                return Err(Error::TooDeep);
            }
        };
        let seen = match detect::listen(client, upstream, detect::Limits::default()).await {
            Ok(seen) => seen,
            // Opened and closed without a word: nothing was asked, so there is no exchange.
            Err(error) if error.is_clean() => return Ok(()),
            Err(error) => {
                let error = Error::Detect(error);
                self.refused("tcp", &error);
                return Err(error);
            }
        };
        match seen.protocol {
            Protocol::Tls => self.open(seen.client, seen.upstream).await,
            Protocol::Http1 => self.http(seen.client, seen.upstream, http::Version::Http1, verified).await,
            Protocol::Http2 => self.http(seen.client, seen.upstream, http::Version::Http2, verified).await,
            Protocol::Opaque(why) => {
                self.tunnel(seen.client, seen.upstream, &why.to_string(), verified).await
            }
        }
    }

    /// What flows inside TLS.
    async fn inside(
        self,
        alpn: Alpn,
        client: BoxStream,
        upstream: BoxStream,
        verified: Verified,
    ) -> Result<(), Error> {
        match alpn {
            Alpn::H2 => self.http(client, upstream, http::Version::Http2, verified).await,
            Alpn::Http1 => self.http(client, upstream, http::Version::Http1, verified).await,
            // Nothing was agreed on: what is inside is found out the same way as outside.
            Alpn::None => self.follow(client, upstream, verified).await,
            Alpn::Other(protocol) => {
                let why = format!("the two sides agreed on {protocol:?}, which is not read yet");
                self.tunnel(client, upstream, &why, verified).await
            }
        }
    }

    async fn http(
        self,
        client: BoxStream,
        upstream: BoxStream,
        version: http::Version,
        verified: Verified,
    ) -> Result<(), Error> {
        let context = self.context(verified);
        Box::pin(http::serve(client, upstream, version, context)).await.map_err(Error::Http)
    }

    async fn tunnel(
        self,
        client: BoxStream,
        upstream: BoxStream,
        why: &str,
        verified: Verified,
    ) -> Result<(), Error> {
        let context = self.context(verified);
        Box::pin(tunnel::serve(client, upstream, why, context)).await.map_err(Error::Tunnel)
    }

    fn context(self, verified: Verified) -> Context {
        let (who, policy) = (self.who.clone(), self.services.policy.clone());
        let connection = Connection {
            caller: Arc::clone(&self.caller),
            destination: self.destination,
            verified,
            looked_up: self.looked_up.clone(),
            limits: Arc::clone(&self.services.limits),
            refusal: self.refusal.clone(),
            shown: self.shown.clone(),
            session: Arc::clone(&self.session),
            drain: self.services.drain.clone(),
            credentials: Arc::clone(&self.services.credentials),
            tokens: Arc::new(Tokens::new(Arc::clone(&self.services.tokens), self.caller.tag.clone())),
            again: Arc::new(move |client, upstream, peer| -> BoxFuture<'static, ()> {
                // What the job looked up is the proxy's name, not that of whom a CONNECT reaches through it.
                let (looked_up, shown) = (self.looked_up.clone(), self.shown.clone());
                let (looked_up, shown) =
                    (looked_up.filter(|_| peer.is_some()), shown.filter(|_| peer.is_some()));
                let line = Self { looked_up, shown, ..self.clone() };
                Box::pin(async move {
                    let Ok(_place) = Arc::clone(&line.inner).try_acquire_owned() else {
                        return line.refused("tunnel", &Error::TooMany);
                    };
                    // The record holds the reason; the tunnel's exchange has nobody else to tell.
                    if let Err(error) = line.follow(client, upstream, peer.unwrap_or(Verified::Plain)).await {
                        tracing::debug!("inside a CONNECT tunnel: {}", Chain(&error));
                    }
                })
            }),
        };
        Context::new(connection, who, policy)
    }
}

/// The only maker of upstream connections; it spends the passage. A caller in another network namespace reaches
/// from there what it could reach without us, and nothing else: never from here.
async fn dial(
    passage: Passage,
    destination: Destination,
    netns: Option<NetnsCookie>,
    warden: &Warden,
    unsettled: TaskTrackerToken,
) -> Result<TcpStream, Error> {
    let _spent = passage;
    tracing::trace!(%destination, "dial");
    let to = destination.socket();
    let dialling = async {
        let Some(netns) = netns else {
            drop(unsettled);
            #[expect(clippy::disallowed_methods, reason = "this is that one place")]
            return TcpStream::connect(to).await.map_err(Error::Dial);
        };
        let socket = warden.socket(netns, to.is_ipv6(), false).await.map_err(Error::Namespace)?;
        drop(unsettled);
        let socket = StdStream::from(socket);
        socket.set_nonblocking(true).map_err(Error::Dial)?;
        TcpSocket::from_std_stream(socket).connect(to).await.map_err(Error::Dial)
    };
    let upstream = tokio::time::timeout(DIAL_WITHIN, dialling).await.map_err(|_| Error::DialTimeout)??;
    upstream.set_nodelay(true).and_then(|()| keep_alive(&upstream)).map_err(Error::Dial)?;
    Ok(upstream)
}
