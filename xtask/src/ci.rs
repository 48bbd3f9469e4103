//! `cargo xtask ci`: everything that a change must pass. Every step runs, so that one run shows all that is wrong.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{ebpf, order, pages, sh, size, test};

type Step = (&'static str, fn() -> Result<()>);

/// Cheap steps first.
const STEPS: &[Step] = &[
    ("fmt", fmt),
    ("order", order::check),
    ("size", size::check),
    ("pages", pages::check),
    ("ring", ring),
    ("clippy", clippy),
    ("doc", doc),
    ("deny", deny),
    ("ebpf", ebpf::check),
    ("test", tests),
];

/// `ci [STEP]…`: the named steps, or all.
pub fn run(arguments: &[String]) -> Result<()> {
    for name in arguments {
        if STEPS.iter().all(|(step, _)| step != name) {
            bail!("{name}: no step of ci");
        }
    }
    let mut failed = Vec::new();
    for (name, step) in
        STEPS.iter().filter(|(name, _)| arguments.is_empty() || arguments.iter().any(|one| one == name))
    {
        match step() {
            Ok(()) => eprintln!("ci: {name}: ok"),
            Err(error) => {
                eprintln!("ci: {name}: {error:#}");
                failed.push(*name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(" "));
    }
    Ok(())
}

fn fmt() -> Result<()> {
    sh::run(&mut sh::cargo(&["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    sh::run(&mut sh::cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
}

fn doc() -> Result<()> {
    let mut command = sh::cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
    // Nobody reads the crates' documentation from outside: a link to a private item is a link that works.
    sh::run(command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"))
}

/// One crypto provider only: with two in one process rustls panics, and each doubles what must be trusted.
fn ring() -> Result<()> {
    let line = ["tree", "--workspace", "--invert", "ring", "--edges", "normal", "--quiet"];
    eprintln!("+ cargo {}", line.join(" "));
    let output = sh::cargo(&line).output()?;
    // cargo tree fails when no package matches at all: that is the best case.
    let nothing = String::from_utf8_lossy(&output.stderr).contains("did not match any packages");
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    if !tree.trim().is_empty() || !(nothing || output.status.success()) {
        bail!("ring must not be in the tree\n{tree}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Licences, bans and sources; advisories where their database is at hand (`cargo deny fetch db`), since a machine without a
/// network has none. That they were not looked at is said.
fn deny() -> Result<()> {
    if sh::which("cargo-deny").is_none() && !cargo_home_has("cargo-deny") {
        sh::run(&mut sh::cargo(&["install", "cargo-deny", "--locked", "--quiet"]))?;
    }
    sh::run(&mut sh::cargo(&["deny", "--workspace", "check", "bans", "licenses", "sources"]))?;
    let fetched = |place: PathBuf| {
        std::fs::read_dir(place).is_ok_and(|mut all| all.any(|e| e.is_ok_and(|e| e.path().is_dir())))
    };
    if !cargo_home().is_some_and(|home| fetched(home.join("advisory-dbs"))) {
        eprintln!("ci: deny: advisories were NOT checked: there is no database (`cargo deny fetch db`)");
        return Ok(());
    }
    sh::run(&mut sh::cargo(&["deny", "--workspace", "--offline", "check", "advisories"]))
}

fn cargo_home() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

fn cargo_home_has(program: &str) -> bool {
    cargo_home().is_some_and(|home| home.join("bin").join(program).is_file())
}

fn tests() -> Result<()> {
    test::run(&[])
}
