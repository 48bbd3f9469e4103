//! SKELETON

pub mod ca;
