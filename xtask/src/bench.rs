//! `cargo xtask bench`: direct against through Sluice, run by the binary `bench` of the test package.

use anyhow::Result;

use crate::{setup, sh};

/// Sets up, builds both sides optimised, runs the measurement.
pub fn run(arguments: &[String]) -> Result<()> {
    setup::require_root()?;
    setup::install(setup::Task::Bench)?;
    sh::run(&mut sh::cargo(&["build", "--release", "--package", "sluice", "--bin", "sluice"]))?;
    sh::run(
        sh::cargo(&["run", "--release", "--package", "sluice-tests", "--bin", "bench", "--"]).args(arguments),
    )
}
