//! Names: questions of tagged processes are answered by the agent's own resolver, decided on, recorded, and remembered
//! for the connections that follow. Real clients, a name server of the test's own that is honest or not. Needs root.

mod clients;
mod elsewhere;
mod hostile;
mod later;
mod refused;
mod rig;
mod server;
