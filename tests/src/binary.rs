//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};

/// The binary under test: `SLUICE_BIN`, or the workspace's own, brought up to date by cargo once.
///
/// # Errors
/// The build failed.
pub fn sluice_binary() -> Result<&'static Path> {
    static BUILT: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| build().map_err(|e| format!("{e:#}")));
    BUILT.as_deref().map_err(|e| anyhow::anyhow!("{e}"))
}

fn build() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("SLUICE_BIN") {
        return Ok(PathBuf::from(given));
    }
    let profile = profile_dir()?;
    // `cargo xtask bench` has just built it; here the build would run on the one processor kept for the agent.
    // In a virtual machine there is no cargo: `cargo xtask vm test` has just built it, too.
    if profile.ends_with("release") || crate::process::in_guest() {
        let built = profile.join("sluice");
        ensure!(
            built.exists(),
            "no {}: build it with cargo build --release --package sluice",
            built.display()
        );
        return Ok(built);
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "sluice", "--bin", "sluice"]).current_dir(workspace());
    ensure!(cargo.status().context("running cargo")?.success(), "cargo build --bin sluice failed");
    Ok(profile.join("sluice"))
}

/// `target/debug` or `target/release`, whichever this program was built into.
///
/// # Errors
/// The program's own path is unknown.
pub fn profile_dir() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let dir = own.parent().context("an executable is in a directory")?;
    Ok(if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_owned() } else { dir.to_owned() })
}

/// The workspace's directory.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}
