//! What warden and gate say to each other: small typed messages over one `SOCK_SEQPACKET` pair, postcard-encoded,
//! each at most [`MAX`] bytes, a file descriptor beside it where the message says so.
//!
//! The gate asks, the warden answers; nothing that the gate says is believed further than the message's type.

mod channel;
pub mod rules;
mod sealed;

pub use channel::{Channel, Error, pair, receive_blocking};

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use rules::Piece;
pub use sealed::Sealed;

use crate::control::Tested;
use crate::evidence::tree::{Growth, Head};
use crate::types::note::Note;
use crate::types::{
    Caller, ClientAddr, CredentialName, Destination, Issuer, ListenerAddr, NetnsCookie, Recipient, Summary,
    Token, credential,
};

/// Upper bound of one message, both directions. A summary with a long path is the largest; paths are cut to fit.
pub const MAX: usize = 64 * 1024;

/// Tokens that are handed over for one connection at most: all of the longest fit into one message.
pub const TOKENS: usize = 3;

/// The gate's words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToWarden {
    /// Sandboxed, store open, listening: connections are being served.
    Ready,
    /// Still alive (watchdog).
    Alive,
    /// Whose connection is this? Answered by [`ToGate::Identified`] with the same `call`.
    Identify {
        /// Pairs the answer with the question.
        call: u64,
        /// The peer's address as accept() gave it.
        client: ClientAddr,
        /// The socket's own address: which loopback address and port the kernel chose.
        listener: ListenerAddr,
        /// The listener's network namespace, from [`ToGate::Listener`].
        netns: NetnsCookie,
    },
    /// Make a socket in a network namespace in which a listener of ours stands. Answered by [`ToGate::Socket`] with the
    /// same `call`.
    Socket {
        /// Pairs the answer with the question.
        call: u64,
        /// From the caller's [`Identity`].
        netns: NetnsCookie,
        /// IPv6; otherwise IPv4.
        v6: bool,
        /// UDP; otherwise TCP.
        udp: bool,
    },
    /// Done: nothing is accepted in this namespace any more ([`ToGate::Forget`]).
    Forgotten {
        /// Which.
        netns: NetnsCookie,
    },
    /// Who sent this datagram to the resolver? Answered by [`ToGate::Identified`] with the same `call`; unlike a
    /// connection's, the kernel's memory of it is not used up.
    Asker {
        /// Pairs the answer with the question.
        call: u64,
        /// Where the datagram came from.
        client: ClientAddr,
        /// Where it was sent to: which of our addresses the kernel chose.
        listener: ListenerAddr,
        /// The cookie of the network namespace of the socket that it came to, from [`ToGate::Resolver`].
        netns: NetnsCookie,
    },
    /// Sign a leaf for one verified name. Answered by [`ToGate::Leaf`].
    SignLeaf {
        /// Pairs the answer with the question.
        call: u64,
        /// What to sign.
        request: LeafRequest,
    },
    /// Read a credential's source, one of the warden's own. Answered by [`ToGate::Secret`].
    Secret {
        /// Pairs the answer with the question.
        call: u64,
        /// Which: the warden knows its source.
        credential: CredentialName,
        /// The source that the gate has in mind: around a reload it may be another, with another binding.
        source: Box<credential::Source>,
    },
    /// Sign the tree over what is recorded. Answered by [`ToGate::Checkpoint`].
    Sign {
        /// Pairs the answer with the question.
        call: u64,
        /// What to sign.
        unsigned: Box<Unsigned>,
    },
    /// What became of fetching a credential from a source of the gate's.
    Fetched {
        /// Which.
        credential: CredentialName,
        /// When the value ends (Unix seconds), if it says; or why there is none.
        outcome: Result<Option<u64>, String>,
    },
    /// Answer to [`ToGate::TestCredential`].
    Tested {
        /// From the question.
        call: u64,
        /// What was found.
        outcome: Result<Tested, String>,
    },
    /// Answer to [`ToGate::Note`].
    Noted {
        /// From the question.
        call: u64,
        /// The numbers of keys that were destroyed, or why it was not recorded or done.
        outcome: Result<Vec<u64>, String>,
    },
    /// Write one exchange to the journal.
    Journal(Box<Summary>),
    /// So many exchanges of one kind that one entry stands for them.
    JournalFold {
        /// One of them.
        example: Box<Summary>,
        /// How many there were, the example not counted.
        more: u64,
    },
    /// The gate's own trouble, at priority err.
    Trouble(String),
    /// How the store does: why new exchanges are refused, `None` when they are recorded again; and its last trouble.
    Store {
        /// Why nothing is recorded.
        refusing: Option<String>,
        /// The last thing that went wrong.
        last: Option<String>,
    },
    /// How many sessions are under way, when that changed: said each second at most.
    Sessions(u32),
    /// How much was masked since the gate began, by detector, when that changed: said each second at most, 257 names of 64 letters.
    Masked(BTreeMap<String, u64>),
    /// Answer to [`ToGate::StandAside`].
    Aside {
        /// Why the next gate must wait for the end of this one: it goes on as before. `None`: nothing is accepted any more,
        /// everything that was is identified, the drain has begun, and the next gate may start.
        refused: Option<String>,
    },
    /// Drained: every session is over or was cut.
    Drained,
}

/// A tree that is to be signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsigned {
    /// The store's id.
    pub store: String,
    /// The log's.
    pub log: String,
    /// What was signed of it last, what it has become, and that the one begins with the other.
    pub growth: Growth,
    /// Certificates of keys that the gate has.
    pub keys: u64,
    /// Nothing follows.
    pub last: bool,
}

/// What became of a tree that was to be signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signed {
    /// It is.
    Note {
        /// The signed note.
        note: String,
        /// Certificates that the gate does not have: the next ones of the chain, perhaps not all.
        keys: Vec<String>,
    },
    /// Another one was signed last of this log, and the proof must begin there.
    Behind(Head),
    /// Nothing more is signed of this log: a key's hour had nothing of it. What follows must be another log's.
    Closed,
    /// Whoever signs is not there: the agent is being restarted, and the next log says what this one came to.
    NotNow,
}

/// The warden's words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToGate {
    /// First message: how to work.
    Settings(Box<GateSettings>),
    /// Whole PEM certificates to trust upstream besides the system's, at most [`MAX`] bytes a message.
    Roots(Vec<u8>),
    /// A listening socket comes with this message: before `Start`, and later whenever a tagged process is in a network
    /// namespace that had none.
    Listener {
        /// The network namespace that it is in.
        netns: NetnsCookie,
    },
    /// A datagram socket comes with this message, to which questions for name servers are led; when, is as with
    /// `Listener`.
    Resolver {
        /// The network namespace that it is in.
        netns: NetnsCookie,
    },
    /// Close the listeners and the resolver's sockets of a network namespace: no tagged process is there any more.
    Forget {
        /// Which.
        netns: NetnsCookie,
    },
    /// The host's name servers, as its resolv.conf has them: before the start, and whenever they change.
    Servers(Vec<SocketAddr>),
    /// A piece of the rules, [`rules::pieces`] of them: before the start, and whenever they change. They are in force when
    /// the last piece has come.
    Policy(Piece),
    /// One of [`GateSettings::issuers`], before the start.
    Issuer(Box<Issuer>),
    /// All was said: enter the sandbox and serve.
    Start,
    /// Answer to `Identify`.
    Identified {
        /// From the question.
        call: u64,
        /// `None`: no such connection is remembered; close it.
        identity: Option<Box<Identity>>,
    },
    /// The tokens that were found for a connection whose [`Identity::tokens_follow`]: unverified, the likeliest first, at most
    /// [`TOKENS`].
    Tokens {
        /// From the question.
        call: u64,
        /// None was found, or reading took too long: empty.
        tokens: Vec<Token>,
    },
    /// The program of a caller whose [`Identity::program_follows`].
    Program {
        /// From the question.
        call: u64,
        /// SHA-256 of the file that it executes, in hex; `None`: it cannot be had.
        sha256: Option<String>,
    },
    /// Answer to `SignLeaf`.
    Leaf {
        /// From the question.
        call: u64,
        /// DER of the certificate, or why not.
        leaf: Result<Vec<u8>, String>,
    },
    /// Answer to `Sign`.
    Checkpoint {
        /// From the question.
        call: u64,
        /// What became of it, or why it is not signed.
        signed: Result<Signed, String>,
    },
    /// Answer to `Socket`: the socket comes with this message, neither bound nor connected.
    Socket {
        /// From the question.
        call: u64,
        /// Why there is none.
        refused: Option<String>,
    },
    /// Answer to `Secret`.
    Secret {
        /// From the question.
        call: u64,
        /// The secret, or why there is none; never a word of what was read.
        answer: Result<Sealed, String>,
    },
    /// A credential's source, one of the warden's own, has changed, or may have.
    SecretChanged {
        /// Which.
        credential: CredentialName,
    },
    /// Fetch a credential and try its hosts. Answered by [`ToWarden::Tested`].
    TestCredential {
        /// Pairs the answer with the question.
        call: u64,
        /// Which.
        credential: CredentialName,
    },
    /// Record what somebody did with the store, and do it. Answered by [`ToWarden::Noted`].
    Note {
        /// Pairs the answer with the question.
        call: u64,
        /// What, and who.
        note: Box<Note>,
    },
    /// Stop accepting, finish what is under way within `grace_ms`, then say `Drained`.
    Drain {
        /// Milliseconds.
        grace_ms: u64,
    },
    /// The same, and let the next gate begin meanwhile. Answered by [`ToWarden::Aside`].
    StandAside {
        /// Milliseconds.
        grace_ms: u64,
    },
}

/// What the kernel remembered of a connection, put into words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Where it was going.
    pub destination: Destination,
    /// Who it was.
    pub caller: Caller,
    /// The caller's network namespace, from which the upstream must be dialled; `None` for the host's.
    pub netns: Option<NetnsCookie>,
    /// Whether [`ToGate::Tokens`] comes, when it has been looked for them.
    pub tokens_follow: bool,
    /// Whether [`ToGate::Program`] comes.
    pub program_follows: bool,
}

/// A request to sign one leaf. The warden builds the certificate itself: the gate chooses no field but these, and the
/// warden bounds each of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeafRequest {
    /// DNS name or IP address (text) that the upstream was verified for: the only subject alternative name.
    pub name: String,
    /// DER SubjectPublicKeyInfo of the gate's leaf key.
    pub public_key: Vec<u8>,
    /// SHA-256 of the upstream's leaf, for the record of what was issued from what.
    pub upstream_leaf: [u8; 32],
    /// Upstream's notBefore, seconds since 1970: the leaf's is never earlier.
    pub not_before: i64,
    /// Upstream's notAfter, seconds since 1970: the leaf's is never later.
    pub not_after: i64,
}

/// How the gate works: everything it is told, since it reads no configuration itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateSettings {
    /// DER of the CA's certificate: sent to clients in the chain and taken out of the upstream roots.
    pub ca: Vec<u8>,
    /// PEM bundles to trust upstream besides the system's: the `Roots` messages, in order.
    pub extra_roots: Vec<Vec<u8>>,
    /// User id to become; the gate begins as root only to become nobody in particular.
    pub uid: u32,
    /// Group id to become.
    pub gid: u32,
    /// Directory of the store.
    pub store: String,
    /// Bytes kept of each body.
    pub body_limit: u64,
    /// Bytes that the store may take on disk, the oldest going first; 0: no bound.
    pub store_bytes: u64,
    /// Seconds after which what is in the store goes; `None`: never for its age.
    pub store_age: Option<u64>,
    /// Where the gate posts checkpoints: https URLs.
    pub checkpoints_to: Vec<String>,
    /// Who may read bodies: their keys are sealed for these.
    pub recipients: Vec<Recipient>,
    /// Whether each exchange's head is synced before it goes upstream.
    pub durable: bool,
    /// Sessions at once; beyond it connections wait in the backlog.
    pub max_sessions: u32,
    /// It may outlive the warden that starts it, to drain beside the next one ([`ToGate::StandAside`]): somebody else ends
    /// it when that warden dies.
    pub may_stand_aside: bool,
    /// Name servers that are asked in place of all others; empty: the host's ([`ToGate::Servers`]).
    pub name_servers: Vec<SocketAddr>,
    /// Bounds of name lookups.
    pub lookups: crate::policy::lookup::Lookups,
    /// Whose tokens prove an identity: the `Issuer` messages, in order.
    pub issuers: Vec<Issuer>,
}
