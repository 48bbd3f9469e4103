//! SKELETON

pub mod journal;
