//! Sluice takes the outbound connections of *tagged* processes inside the kernel, leads them through a local proxy
//! that ends TLS with a per-host CA, decides, records, and sends them on. The job inside the tag is not changed.
//!
//! Two processes, one binary. The **warden** (root) owns the kernel programs, tags, listeners, the CA key and the
//! journal, and never reads a byte from the network. The **gate** (user `sluice`, no capability, seccomp, Landlock)
//! does everything that touches network bytes. They talk in the small messages of [`wire`].
//!
//! One connection's way, in the order of the code:
//!
//! ```text
//! kernel    connect() in a tag: remember destination and caller, rewrite to the local listener
//! accept    listener -> Accepted { io, client address }
//! identify  ask the warden -> Identified { destination, caller }; a miss closes the connection
//! decide    Action::Connect -> Permit, or refuse
//! forward   dial the destination that the kernel remembered
//! detect    first bytes of either side -> TLS | HTTP/1 | HTTP/2 | opaque(why); bytes are replayed
//! tls       open and verify the upstream, mint a leaf for the name, answer the client with the same ALPN -> Opened
//! engine    http, tunnel: parse -> Action -> decide -> record -> forward -> record -> client
//! record    exactly one session record, one record an exchange, also on panic, cancel and drain
//! ```
//!
//! **The modules below stand in order; a module may use only modules listed above it.** `cargo xtask ci` checks it.
//! Reading this list from top to bottom is reading the system: words, judgement, effects, the line, wiring.

// Words: no I/O.
pub mod paths;
pub mod report;
pub mod types;

// Judgement: same input, same answer.
pub mod codec;
pub mod evidence;
pub mod mask;
pub mod policy;

// Effects.
pub mod config;
pub mod doctor;
pub mod control;
pub mod drain;
pub mod memory;
pub mod turn;
pub mod wire;
pub mod record;
pub mod audit;
pub mod look;
pub mod limit;
pub mod stream;
pub mod trust;

// The line: everything that touches bytes of the network (the gate).
pub mod detect;
pub mod tls;
pub mod identity;
pub mod credential;
pub mod engine;
pub mod gate;

// The privileged side.
pub mod warden;

// Wiring.
pub mod cli;
