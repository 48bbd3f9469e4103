//! The namespaces.
