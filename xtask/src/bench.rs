//! `cargo xtask bench`: direct against through Sluice, run by the binary `bench` of the test package.

use anyhow::Result;

use crate::{profile, setup, sh};

/// Sets up, builds both sides optimised, runs the measurement.
pub fn run(arguments: &[String]) -> Result<()> {
    setup::require_root()?;
    setup::install(setup::Task::Bench)?;
    sh::run(&mut profile::cargo(&["build", "--package", "sluice", "--bin", "sluice"])?)?;
    let mut bench = profile::cargo(&["run", "--package", "sluice-tests", "--bin", "bench"])?;
    sh::run(bench.arg("--").args(arguments))
}
