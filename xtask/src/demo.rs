//! `cargo xtask demo`: the main job, run by the binary `demo` of the test package.

use anyhow::Result;

use crate::{setup, sh};

/// Sets up, builds the daemon, runs the demo.
pub fn run(arguments: &[String]) -> Result<()> {
    setup::require_root()?;
    setup::install(setup::Task::Demo)?;
    sh::run(&mut sh::cargo(&["build", "--package", "sluice", "--bin", "sluice"]))?;
    sh::run(sh::cargo(&["run", "--package", "sluice-tests", "--bin", "demo", "--"]).args(arguments))
}
