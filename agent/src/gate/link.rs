//! The gate's line to the warden: questions paired with their answers, notices queued, orders handed on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::later::{Later, Waiting};
use crate::policy::rule::Source;
use crate::report::Chain;
use crate::turn;
use crate::types::note::Note;
use crate::types::{ClientAddr, CredentialName, ListenerAddr, NetnsCookie, Secret, Token, credential};
use crate::wire::rules::Together;
use crate::wire::{Channel, Identity, LeafRequest, Sealed, Signed, ToGate, ToWarden, Unsigned};

/// Notices (journal, trouble) that may wait for the warden; beyond it they are dropped and counted: the store has
/// them all.
const NOTICES: usize = 1024;

/// How often the gate says that it lives. The warden's watchdog allows several misses.
const ALIVE_EVERY: Duration = Duration::from_secs(2);

/// How long reading a source may take: a command has 10 s.
const SECRET_WITHIN: Duration = Duration::from_secs(13);

/// The gate's handle on the warden. Cheap to clone.
#[derive(Clone)]
pub struct Warden {
    shared: Arc<Shared>,
}

struct Shared {
    channel: Channel,
    calls: AtomicU64,
    pending: Mutex<HashMap<u64, Answer>>,
    /// Connections whose tokens are still looked for.
    tokens: Arc<Waiting<Vec<Token>>>,
    /// Those whose caller's program is still hashed.
    programs: Arc<Waiting<Option<String>>>,
    notices: mpsc::Sender<ToWarden>,
    dropped: AtomicU64,
    gone: CancellationToken,
}

enum Answer {
    Identity(oneshot::Sender<Option<Box<Identity>>>),
    Leaf(oneshot::Sender<Result<Vec<u8>, String>>),
    Socket(oneshot::Sender<Result<OwnedFd, String>>),
    Secret(oneshot::Sender<Result<Sealed, String>>),
    Checkpoint(oneshot::Sender<Result<Signed, String>>),
}

/// What the warden has the gate do.
#[derive(Debug)]
pub enum Order {
    /// End within the time.
    Drain(Duration),
    /// The same, beside the next gate.
    StandAside(Duration),
    /// Serve this listener too.
    Listen(NetnsCookie, OwnedFd),
    /// Answer the questions that come to this socket of the resolver too.
    Answer(NetnsCookie, OwnedFd),
    /// Close the listeners and the resolver's sockets of a network namespace.
    Forget(NetnsCookie),
    /// The host's name servers are these now.
    Servers(Vec<SocketAddr>),
    /// These rules are in force now.
    Policy(Box<Source>),
    /// The source of this credential has changed.
    SecretChanged(CredentialName),
    /// Fetch this credential and try its hosts, for the call.
    TestCredential(u64, CredentialName),
    /// Record what somebody did with the store, and do it, for the call.
    Note(u64, Box<Note>),
}

/// Takes the question back when the asker is cut before the answer came.
struct Asked<'a>(&'a Shared, u64);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.pending().remove(&self.1);
    }
}

/// What follows the answer of whose a connection is.
pub struct Followed {
    /// The caller's tokens.
    pub tokens: Option<Later<Vec<Token>>>,
    /// What its program is by its content; within, `None`: that cannot be had.
    pub program: Option<Later<Option<String>>>,
}

impl Shared {
    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Answer>> {
        // Nothing panics while the map is held; a poisoned one is still whole.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Warden {
    /// Starts the tasks that read answers and write notices. The receiver yields the warden's orders; it ends when the
    /// warden is gone. Whoever holds it must take them, or drop it: answers wait behind them.
    pub fn start(channel: Channel) -> (Self, mpsc::Receiver<Order>) {
        let (notices, queue) = mpsc::channel(NOTICES);
        let (orders, order) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            channel,
            calls: AtomicU64::new(1),
            pending: Mutex::new(HashMap::new()),
            tokens: Arc::default(),
            programs: Arc::default(),
            notices,
            dropped: AtomicU64::new(0),
            gone: CancellationToken::new(),
        });
        #[expect(clippy::disallowed_methods, reason = "lives as long as the gate, not as a session")]
        tokio::spawn(listen(Arc::clone(&shared), orders));
        #[expect(clippy::disallowed_methods, reason = "lives as long as the gate, not as a session")]
        tokio::spawn(post(Arc::clone(&shared), queue));
        (Self { shared }, order)
    }

    /// Tells the warden something that needs no answer. Never waits.
    pub fn tell(&self, message: ToWarden) {
        if self.shared.notices.try_send(message).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whose connection is this? `None`: nobody's that is remembered, or the warden did not answer in time.
    pub async fn identify(
        &self,
        client: ClientAddr,
        listener: ListenerAddr,
        netns: NetnsCookie,
    ) -> Option<(Box<Identity>, Followed)> {
        let (sender, answer) = oneshot::channel();
        let call = self.next_call();
        let tokens = self.shared.tokens.await_for(call);
        let program = self.shared.programs.await_for(call);
        let question = ToWarden::Identify { call, client, listener, netns };
        let identity = self.ask_as(call, question, Answer::Identity(sender), answer).await.flatten()?;
        let tokens = Some(tokens).filter(|_| identity.tokens_follow);
        let program = Some(program).filter(|_| identity.program_follows);
        Some((identity, Followed { tokens, program }))
    }

    /// Who sent this datagram to the resolver? `None`: nobody in a tag, or the warden did not answer in time.
    pub async fn asker(
        &self,
        client: ClientAddr,
        listener: ListenerAddr,
        netns: NetnsCookie,
    ) -> Option<Box<Identity>> {
        let (sender, answer) = oneshot::channel();
        let question = |call| ToWarden::Asker { call, client, listener, netns };
        self.ask(question, Answer::Identity(sender), answer).await.flatten()
    }

    /// Has a leaf signed.
    ///
    /// # Errors
    /// The warden's reason, or that it did not answer.
    pub async fn sign(&self, request: LeafRequest) -> Result<Vec<u8>, String> {
        let (sender, answer) = oneshot::channel();
        let question = |call| ToWarden::SignLeaf { call, request };
        match self.ask(question, Answer::Leaf(sender), answer).await {
            Some(leaf) => leaf,
            None => Err("the warden did not answer".to_owned()),
        }
    }

    /// Has a socket made in another network namespace, neither bound nor connected, blocking.
    ///
    /// # Errors
    /// The warden's reason, or that it did not answer.
    pub async fn socket(&self, netns: NetnsCookie, v6: bool, udp: bool) -> Result<OwnedFd, String> {
        let (sender, answer) = oneshot::channel();
        let question = |call| ToWarden::Socket { call, netns, v6, udp };
        match self.ask(question, Answer::Socket(sender), answer).await {
            Some(made) => made,
            None => Err("the warden did not answer".to_owned()),
        }
    }

    /// Has a credential's source read, one of the warden's own.
    ///
    /// # Errors
    /// The warden's reason, or that it did not answer.
    pub async fn secret(
        &self,
        credential: CredentialName,
        source: credential::Source,
    ) -> Result<Secret, String> {
        let (sender, answer) = oneshot::channel();
        let call = self.next_call();
        let question = ToWarden::Secret { call, credential, source: Box::new(source) };
        let asked = self.ask_within(SECRET_WITHIN, call, question, Answer::Secret(sender), answer).await;
        asked.unwrap_or_else(|| Err("the warden did not answer".to_owned())).map(Sealed::open)
    }

    /// Has a tree over what is recorded signed.
    ///
    /// # Errors
    /// The warden's reason, or that it did not answer.
    pub async fn checkpoint(&self, unsigned: Unsigned) -> Result<Signed, String> {
        let (sender, answer) = oneshot::channel();
        let question = |call| ToWarden::Sign { call, unsigned: Box::new(unsigned) };
        let asked = self.ask(question, Answer::Checkpoint(sender), answer).await;
        asked.unwrap_or_else(|| Err("the warden did not answer".to_owned()))
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(u64) -> ToWarden,
        slot: Answer,
        answer: oneshot::Receiver<T>,
    ) -> Option<T> {
        let call = self.next_call();
        self.ask_as(call, question(call), slot, answer).await
    }

    fn next_call(&self) -> u64 {
        self.shared.calls.fetch_add(1, Ordering::Relaxed)
    }

    async fn ask_as<T>(
        &self,
        call: u64,
        question: ToWarden,
        slot: Answer,
        answer: oneshot::Receiver<T>,
    ) -> Option<T> {
        self.ask_within(super::ANSWER_WITHIN, call, question, slot, answer).await
    }

    async fn ask_within<T>(
        &self,
        time: Duration,
        call: u64,
        question: ToWarden,
        slot: Answer,
        answer: oneshot::Receiver<T>,
    ) -> Option<T> {
        let _asked = Asked(&self.shared, call);
        self.shared.pending().insert(call, slot);
        let asked = async {
            if let Err(error) = self.shared.channel.send(&question, None).await {
                tracing::error!("asking the warden: {}", Chain(&error));
                return None;
            }
            answer.await.ok()
        };
        tokio::time::timeout(time, asked).await.ok().flatten()
    }

    /// Answers [`Order::StandAside`].
    pub async fn aside(&self, refused: Option<String>) {
        if let Err(error) = self.shared.channel.send(&ToWarden::Aside { refused }, None).await {
            tracing::error!("standing aside: {}", Chain(&error));
        }
    }

    /// Completes when the warden is gone.
    pub async fn gone(&self) {
        self.shared.gone.cancelled().await;
    }

    /// Says that the drain is over. The last word.
    pub async fn drained(&self) {
        if let Err(error) = self.shared.channel.send(&ToWarden::Drained, None).await {
            tracing::debug!("saying goodbye: {}", Chain(&error));
        }
    }
}

async fn listen(shared: Arc<Shared>, orders: mpsc::Sender<Order>) {
    let mut rules = Together::default();
    let _gone = shared.gone.clone().drop_guard();
    loop {
        // Answers that come without a pause must not keep a turn from its end.
        turn::look();
        match shared.channel.receive::<ToGate>().await {
            Ok(Some((ToGate::Identified { call, identity }, _))) => {
                if let Some(Answer::Identity(asker)) = shared.pending().remove(&call) {
                    let _ = asker.send(identity); // an asker that was cut wants no answer
                }
            }
            Ok(Some((ToGate::Tokens { call, tokens }, _))) => {
                shared.tokens.came(call, tokens);
            }
            Ok(Some((ToGate::Program { call, sha256 }, _))) => shared.programs.came(call, sha256),
            Ok(Some((ToGate::Leaf { call, leaf }, _))) => {
                if let Some(Answer::Leaf(asker)) = shared.pending().remove(&call) {
                    let _ = asker.send(leaf);
                }
            }
            Ok(Some((ToGate::Secret { call, answer }, _))) => {
                if let Some(Answer::Secret(asker)) = shared.pending().remove(&call) {
                    let _ = asker.send(answer);
                }
            }
            Ok(Some((ToGate::Checkpoint { call, signed }, _))) => {
                if let Some(Answer::Checkpoint(asker)) = shared.pending().remove(&call) {
                    let _ = asker.send(signed);
                }
            }
            Ok(Some((ToGate::Socket { call, refused }, fd))) => {
                if let Some(Answer::Socket(asker)) = shared.pending().remove(&call) {
                    let none = || refused.unwrap_or_else(|| "no socket came with the answer".to_owned());
                    let _ = asker.send(fd.ok_or_else(none));
                }
            }
            Ok(Some((ToGate::Policy(piece), _))) => match rules.take(&piece) {
                Ok(None) => {}
                Ok(Some(source)) => drop(orders.send(Order::Policy(Box::new(source))).await),
                Err(error) => tracing::error!("the old rules stay in force: {}", Chain(&error)),
            },
            // An order that nobody takes any more comes during the drain.
            Ok(Some((message, fd))) => match order(message, fd) {
                Ok(order) => drop(orders.send(order).await),
                Err(other) => tracing::error!(?other, "the warden said this after the start"),
            },
            Ok(None) => return tracing::error!("the warden is gone: the gate ends"),
            Err(error) => return tracing::error!("the gate ends: {}", Chain(&error)),
        }
    }
}

/// What has the gate do something; anything else comes back.
fn order(message: ToGate, fd: Option<OwnedFd>) -> Result<Order, ToGate> {
    Ok(match (message, fd) {
        (ToGate::Drain { grace_ms }, _) => Order::Drain(Duration::from_millis(grace_ms)),
        (ToGate::StandAside { grace_ms }, _) => Order::StandAside(Duration::from_millis(grace_ms)),
        (ToGate::Listener { netns }, Some(fd)) => Order::Listen(netns, fd),
        (ToGate::Resolver { netns }, Some(fd)) => Order::Answer(netns, fd),
        (ToGate::Forget { netns }, _) => Order::Forget(netns),
        (ToGate::Servers(servers), _) => Order::Servers(servers),
        (ToGate::SecretChanged { credential }, _) => Order::SecretChanged(credential),
        (ToGate::TestCredential { call, credential }, _) => Order::TestCredential(call, credential),
        (ToGate::Note { call, note }, _) => Order::Note(call, note),
        (other, _) => return Err(other),
    })
}

async fn post(shared: Arc<Shared>, mut queue: mpsc::Receiver<ToWarden>) {
    let mut alive = tokio::time::interval(ALIVE_EVERY);
    loop {
        let message = tokio::select! {
            message = queue.recv() => match message { Some(message) => message, None => return },
            _ = alive.tick() => match shared.dropped.swap(0, Ordering::Relaxed) {
                0 => ToWarden::Alive,
                n => ToWarden::Trouble(format!("{n} journal notices were dropped under load; the store has them")),
            },
        };
        if let Err(error) = shared.channel.send(&message, None).await {
            tracing::error!("telling the warden: {}", Chain(&error));
            if matches!(error, crate::wire::Error::Io(_)) {
                return;
            }
        }
    }
}
