//! The gate as the warden sees it: a child on the other end of a socket pair, started, listened to, ended, started
//! again.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::report::Chain;
use crate::types::NetnsCookie;
use crate::wire::{self, Channel, GateSettings, Piece, ToGate, ToWarden};

/// Answers that may wait for the gate to read them. A gate that is this far behind is stuck: further answers are
/// dropped, its questions time out and their connections are refused.
const ANSWERS: usize = 4096;

/// PEM bytes put into one `Roots` message: room is left for the envelope.
const ROOTS_PIECE: usize = wire::MAX - 1024;

/// How long a new gate may take to be told how to work; the daemon does nothing else meanwhile.
const TELL_WITHIN: Duration = Duration::from_secs(5);

/// Why a gate could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket pair or the process could not be made.
    #[error("starting the gate process")]
    Spawn(#[source] io::Error),
    /// It could not be told how to work.
    #[error("telling the gate how to work")]
    Tell(#[source] wire::Error),
    /// The rules cannot be told.
    #[error("the gate cannot be told its rules")]
    Rules(#[source] wire::rules::Unfit),
    /// It did not listen.
    #[error("the gate did not take its settings within {} s", TELL_WITHIN.as_secs())]
    Deaf,
}

/// A running gate. Dropped, it is killed.
pub struct GateProcess {
    child: Fetter,
    channel: Arc<Channel>,
    mailbox: Mailbox,
    /// Sends what is in the mailbox, until it is told to come to an end.
    posting: JoinHandle<()>,
    close: CancellationToken,
    started: Instant,
    /// The daemon's ticks since it last said something.
    silent: u32,
    ready: bool,
}

/// A child that is killed when this goes, unless it was set free.
struct Fetter {
    child: Child,
    is_free: bool,
}

impl Drop for Fetter {
    fn drop(&mut self) {
        if !self.is_free
            && let Err(error) = self.child.start_kill()
        {
            tracing::debug!("the gate was gone already: {error}");
        }
    }
}

/// What a gate is given besides its settings: sockets, each with the network namespace that it lives in.
#[derive(Clone, Copy)]
pub struct Sockets<'a> {
    /// Tagged connections come here.
    pub listeners: &'a [(NetnsCookie, BorrowedFd<'a>)],
    /// Questions to name servers come here.
    pub resolvers: &'a [(NetnsCookie, BorrowedFd<'a>)],
    /// The host's name servers.
    pub servers: &'a [SocketAddr],
}

/// Where messages to one gate are left. Cheap to clone; a gate that is gone takes nothing more.
#[derive(Clone)]
pub struct Mailbox(mpsc::Sender<Letter>);

/// A message, and the descriptor that goes with it.
pub type Letter = (ToGate, Option<OwnedFd>);

/// Why a message was not left. Its descriptors are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// The gate does not read.
    Full,
    /// It is gone.
    Gone,
}

impl Mailbox {
    /// One, and where its letters come out.
    pub fn new() -> (Self, mpsc::Receiver<Letter>) {
        let (sender, queue) = mpsc::channel(ANSWERS);
        (Self(sender), queue)
    }

    /// Leaves all of the letters, in order and nothing between them, or none. Never waits.
    ///
    /// # Errors
    /// [`Undelivered`].
    pub fn post(&self, letters: Vec<Letter>) -> Result<(), Undelivered> {
        match self.0.try_reserve_many(letters.len()) {
            Ok(places) => {
                places.zip(letters).for_each(|(place, letter)| place.send(letter));
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(())) => Err(Undelivered::Full),
            Err(mpsc::error::TrySendError::Closed(())) => Err(Undelivered::Gone),
        }
    }
}

/// What came from the gate.
pub enum Heard {
    /// A message.
    Said(ToWarden),
    /// It ended, or can no longer be understood; the text says how.
    Ended(String),
}

impl GateProcess {
    /// Starts this binary's `gate` verb with the socket as its standard input and nothing else of ours, and tells it
    /// how to work.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn start(
        settings: &GateSettings,
        rules: Vec<Piece>,
        roots: &[Vec<u8>],
        sockets: Sockets<'_>,
    ) -> Result<Self, Error> {
        let (ours, theirs) = wire::pair().map_err(Error::Spawn)?;
        let child = Command::new("/proc/self/exe")
            .arg("gate")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .kill_on_drop(false) // but see Drop
            .spawn()
            .map_err(Error::Spawn)?;
        let child = Fetter { child, is_free: false };
        let channel = Arc::new(Channel::new(ours).map_err(Error::Spawn)?);
        let told = tokio::time::timeout(TELL_WITHIN, tell(&channel, settings, rules, roots, sockets)).await;
        told.map_err(|_| Error::Deaf)?.map_err(Error::Tell)?;
        let (mailbox, queue) = Mailbox::new();
        let close = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "ends with the gate's handle, which holds its queue")]
        let posting = tokio::spawn(post(Arc::clone(&channel), queue, close.clone()));
        let started = Instant::now();
        Ok(Self { child, channel, mailbox, posting, close, started, silent: 0, ready: false })
    }

    /// The next thing that the gate says. Cancel-safe.
    pub async fn hear(&mut self) -> Heard {
        let ended = tokio::select! {
            biased;
            said = self.channel.receive::<ToWarden>() => match said {
                Ok(Some((message, _))) => {
                    self.silent = 0;
                    self.ready |= matches!(message, ToWarden::Ready);
                    return Heard::Said(message);
                }
                Ok(None) => None,
                Err(error) => Some(Chain(&error).to_string()),
            },
            _ = self.child.child.wait() => None,
        };
        // Closed or not to be understood: either way it must not live on.
        if let Err(error) = self.child.child.start_kill() {
            tracing::debug!("the gate was gone already: {error}");
        }
        let status = self.child.child.wait().await;
        Heard::Ended(match (ended, status) {
            (Some(reason), _) => reason,
            (None, Ok(status)) => status.to_string(),
            (None, Err(error)) => error.to_string(),
        })
    }

    /// Queues an answer. Never waits.
    pub fn answer(&self, answer: ToGate) {
        if self.mailbox.post(vec![(answer, None)]).is_err() {
            tracing::error!("the gate does not read its answers: one was dropped");
        }
    }

    /// Tells it new rules, all pieces or none. Never waits.
    ///
    /// # Errors
    /// [`Undelivered`].
    pub fn rules(&self, pieces: Vec<Piece>) -> Result<(), Undelivered> {
        self.mailbox.post(pieces.into_iter().map(|piece| (ToGate::Policy(piece), None)).collect())
    }

    /// For those who answer it besides the daemon's loop.
    pub fn mailbox(&self) -> Mailbox {
        self.mailbox.clone()
    }

    /// Whether it has said `Ready`.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Counts a tick of the daemon's; gives how many passed since the gate last said something.
    pub fn tick(&mut self) -> u32 {
        self.silent += 1;
        self.silent
    }

    /// How long ago it was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Its process id, while it lives.
    pub fn pid(&self) -> Option<u32> {
        self.child.child.id()
    }

    /// Lets it live, with somebody else on the other end of its channel: everything that was to be said to it is said when
    /// this returns.
    ///
    /// # Errors
    /// The channel cannot be duplicated: it is killed.
    pub async fn hand_over(self) -> io::Result<OwnedFd> {
        let Self { mut child, channel, mailbox, posting, close, .. } = self;
        close.cancel();
        if let Err(error) = posting.await {
            tracing::error!("the gate's answers: {error}");
        }
        drop(mailbox);
        let end = channel.as_fd().try_clone_to_owned()?;
        child.is_free = true;
        Ok(end)
    }

    /// Ends it now.
    pub fn kill(&mut self) {
        if let Err(error) = self.child.child.start_kill() {
            tracing::debug!("the gate was gone already: {error}");
        }
    }
}

async fn tell(
    channel: &Channel,
    settings: &GateSettings,
    rules: Vec<Piece>,
    roots: &[Vec<u8>],
    sockets: Sockets<'_>,
) -> Result<(), wire::Error> {
    // Each with its keys is a message of its own: together they may be longer than one.
    let mut settings = settings.clone();
    let issuers = std::mem::take(&mut settings.issuers);
    channel.send(&ToGate::Settings(Box::new(settings)), None).await?;
    for issuer in issuers {
        channel.send(&ToGate::Issuer(Box::new(issuer)), None).await?;
    }
    for piece in rules {
        channel.send(&ToGate::Policy(piece), None).await?;
    }
    for piece in roots.iter().flat_map(|pem| pieces(pem)) {
        channel.send(&ToGate::Roots(piece), None).await?;
    }
    for (netns, listener) in sockets.listeners {
        channel.send(&ToGate::Listener { netns: *netns }, Some(*listener)).await?;
    }
    for (netns, resolver) in sockets.resolvers {
        channel.send(&ToGate::Resolver { netns: *netns }, Some(*resolver)).await?;
    }
    channel.send(&ToGate::Servers(sockets.servers.to_vec()), None).await?;
    channel.send(&ToGate::Start, None).await
}

/// Cuts a PEM bundle between certificates so that each piece fits one message. A single certificate beyond that size
/// (none is) travels alone and is refused by the channel.
fn pieces(pem: &[u8]) -> Vec<Vec<u8>> {
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut rest = pem;
    while let Some(at) = rest.windows(END.len()).position(|window| window == END) {
        let (certificate, after) = rest.split_at(at + END.len());
        match pieces.last_mut() {
            Some(piece) if piece.len() + certificate.len() < ROOTS_PIECE => {
                piece.extend_from_slice(certificate)
            }
            _ => pieces.push(certificate.to_vec()),
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(b'\n');
        }
        rest = after;
    }
    pieces
}

async fn post(channel: Arc<Channel>, mut queue: mpsc::Receiver<Letter>, close: CancellationToken) {
    loop {
        let letter = tokio::select! {
            letter = queue.recv() => letter,
            // What is in it still comes out.
            () = close.cancelled(), if !queue.is_closed() => { queue.close(); continue }
        };
        let Some((answer, fd)) = letter else { return };
        match channel.send(&answer, fd.as_ref().map(AsFd::as_fd)).await {
            Ok(()) => {}
            Err(error @ wire::Error::Io(_)) => {
                return tracing::debug!("answering the gate: {}", Chain(&error));
            }
            // One answer that cannot be said: its question times out, the others are answered.
            Err(error) => tracing::error!("answering the gate: {}", Chain(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_cut_between_certificates() {
        let one = format!(
            "# comment\n-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            "A".repeat(1500)
        );
        let bundle = one.repeat(150);
        let pieces = pieces(bundle.as_bytes());
        assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.len() < ROOTS_PIECE));
        let all = String::from_utf8(pieces.concat()).expect("text");
        assert_eq!(all.matches("-----BEGIN").count(), 150);
        assert_eq!(all.matches("-----END").count(), 150);
    }
}
