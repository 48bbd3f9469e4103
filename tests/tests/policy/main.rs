//! Rules in force: real daemon, real tag, real clients, upstreams with TLS. What a rule refuses is refused in the client's
//! own protocol and does not reach the upstream; what changes at a reload changes for what is under way, too.

mod bodies;
mod limits;
mod messages;
mod plain;
mod programs;
mod refused;
mod reload;
mod rig;
mod suggest;
mod tools;
