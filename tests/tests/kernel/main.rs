//! The real kernel programs on real cgroups, in network namespaces whose loopback bears "the world". Needs root.
//!
//! The test stands in for warden and gate: it accepts and asks the kernel part whose connection it is.

mod lifetime;
mod load;
mod refused;
mod release;
mod stage;
mod taken;
