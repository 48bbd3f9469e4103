//! Masking: real daemon, real tag, unchanged clients. Upstreams see what stands for values, jobs their own data, and nothing
//! that is kept has a value in it.

mod analyser;
mod bodies;
mod packages;
mod recorded;
mod refused;
mod reload;
mod rig;
mod sockets;
mod ways;
