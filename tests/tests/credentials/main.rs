//! Credentials that the job never holds: real daemon, real tag, unchanged clients, upstreams that say what they were sent.

mod canary;
mod certificate;
mod deputies;
mod everything;
mod leaks;
mod line;
mod mirror;
mod rig;
mod rotation;
mod sources;
