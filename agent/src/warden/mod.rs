//! SKELETON

pub mod control;
pub mod destroy;
pub mod tags;
