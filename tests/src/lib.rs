//! x
pub mod tree;
