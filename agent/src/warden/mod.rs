//! SKELETON

pub mod kernel;
pub mod listen;
