//! The warden: the privileged process. It owns the kernel programs, the tags, the listening sockets, the CA's key and
//! the journal; it starts the gate, answers its questions, and never reads a byte from a network.

pub mod ca;
pub mod caller;
pub mod control;
pub mod daemon;
pub mod destroy;
pub mod gate_process;
pub mod journal;
pub mod kernel;
pub mod listen;
pub mod supervise;
pub mod tags;
