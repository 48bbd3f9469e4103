//! End-to-end tests of Sluice: the real daemon, real kernel programs, unchanged clients, upstreams that behave and
//! upstreams that do not. Needs root; makes its own namespaces and cgroups and removes them.
//!
//! Read [`netns`] (the space a test lives in), then [`harness`] (the agent in it), then [`upstream`] and [`client`].

pub mod binary;
pub mod canary;
pub mod capture;
pub mod client;
pub mod daemon;
pub mod disk;
pub mod far;
pub mod escape;
pub mod harness;
pub mod host;
pub mod journal;
pub mod leaks;
pub mod load;
pub mod maker;
pub mod markers;
pub mod netns;
pub mod process;
pub mod provider;
pub mod recorder;
pub mod small_disk;
pub mod tree;
pub mod upstream;
