//! TLS.

pub mod roots;
pub mod verify;
