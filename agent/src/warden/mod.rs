//! The warden: the privileged process. It owns the kernel programs, the tags, the listening sockets, the CA's key and
//! the journal; it starts the gate, answers its questions, and never reads a byte from a network.

mod attach;
pub mod audit;
mod blocked;
mod bound;
mod enforcement;
pub mod ca;
pub mod caller;
pub mod containers;
pub mod control;
pub mod daemon;
pub mod destroy;
mod gate_process;
pub mod journal;
pub mod keeper;
pub mod kernel;
pub mod listen;
mod live;
mod loopback;
pub mod namespaces;
mod notary;
mod notes;
mod notify;
pub mod resolver;
mod secrets;
pub mod self_test;
pub mod signer;
mod supervise;
pub mod tags;
mod programs;
mod tokens;
mod witness;
