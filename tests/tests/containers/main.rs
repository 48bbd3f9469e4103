//! Tagged processes in other network namespaces, with the real daemon: by `ip netns`, by `unshare`, in containers.

mod engine;
mod many;
mod reach;
mod restart;
mod rig;
mod rootless;
