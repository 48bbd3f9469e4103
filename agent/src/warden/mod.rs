//! The warden: the privileged process. It owns the kernel programs, the tags, the listening sockets, the CA's key and
//! the journal; it starts the gate, answers its questions, and never reads a byte from a network.

//TMP mod bound;
pub mod ca;
pub mod caller;
//TMP pub mod control;
//TMP pub mod daemon;
//TMP pub mod destroy;
//TMP mod gate_process;
//TMP pub mod journal;
pub mod kernel;
pub mod listen;
//TMP mod notify;
//TMP mod supervise;
//TMP pub mod tags;
