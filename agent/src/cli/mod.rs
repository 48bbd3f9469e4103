//! SKELETON

pub mod trust;
