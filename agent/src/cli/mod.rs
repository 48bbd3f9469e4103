//! SKELETON

pub mod sessions;
pub mod show;
pub mod table;
