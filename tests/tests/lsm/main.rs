//! The LSM programs, on a kernel that has BPF LSM on. Each way is tried untagged first: what does not work there proves
//! nothing when it is refused in a tag.
//!
//! Run by `cargo xtask vm test lsm` on Debian's 6.1, one test at a time: the programs are the host's, not a test's.

#[path = "../kernel/stage.rs"]
#[expect(dead_code, reason = "the kernel tests need more of it")]
mod stage;

mod foreign;
mod helpers;
mod life;
mod rig;
mod ways;
