//! Containers of real engines.
