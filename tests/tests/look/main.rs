//! What people and their tools see of a recording: real daemon, real tag, real clients; then the verbs, on a copy of the store.

mod export;
mod scene;
mod show;
mod top;
