//! The real kernel programs on real cgroups, in network namespaces whose loopback bears "the world". Needs root.
//!
//! The test stands in for warden and gate: it accepts and asks the kernel part whose connection it is.

mod cost;
mod datagrams;
mod lifetime;
mod load;
mod lsm;
mod packets;
mod refused;
mod release;
mod sockets;
mod stage;
mod taken;
