//! The kernel objects: compiled by Debian's rustc with its BPF core library, linked by bpf-linker, stripped of DWARF
//! (BTF stays), and the same to the byte on every machine.
//!
//! `agent-ebpf/*.bpf.o` are committed, so that nobody needs this to build Sluice.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::setup::{self, Task};
use crate::sh;

const RUSTC: &str = "/usr/bin/rustc";
const LLVM: &str = "/usr/lib/llvm-22/bin";
const LINKER: &str = "0.13.0";
const TARGET: &str = "bpfel-unknown-none";

/// A binary of `agent-ebpf` and the object that is made of it.
struct Object {
    binary: &'static str,
    file: &'static str,
}

const OBJECTS: [Object; 2] = [
    Object { binary: "sluice-ebpf", file: "sluice.bpf.o" },
    Object { binary: "sluice-lsm", file: "sluice-lsm.bpf.o" },
];

/// Compiles the objects and puts them in their place.
pub fn build() -> Result<()> {
    let root = sh::root();
    compile(root)?;
    for object in &OBJECTS {
        let place = object.place(root);
        let content = object.strip(root)?;
        std::fs::write(&place, &content).with_context(|| format!("write {}", place.display()))?;
        println!("{}: {} bytes", place.display(), content.len());
    }
    Ok(())
}

/// Compiles the objects and compares them with the committed ones.
pub fn check() -> Result<()> {
    let root = sh::root();
    compile(root)?;
    OBJECTS.iter().try_for_each(|object| object.check(root))
}

impl Object {
    fn place(&self, root: &Path) -> PathBuf {
        root.join("agent-ebpf").join(self.file)
    }

    fn check(&self, root: &Path) -> Result<()> {
        let object = self.strip(root)?;
        let place = self.place(root);
        let committed = std::fs::read(&place).with_context(|| format!("read {}", place.display()))?;
        if object == committed {
            println!("{} is what its source says ({} bytes)", place.display(), object.len());
            return Ok(());
        }
        let other = target(root).join(format!("{}.rebuilt", self.file));
        std::fs::write(&other, &object).with_context(|| format!("write {}", other.display()))?;
        let at = object
            .iter()
            .zip(&committed)
            .position(|(a, b)| a != b)
            .unwrap_or(object.len().min(committed.len()));
        bail!(
            "{} ({} bytes) is not what its source says ({} bytes, see {}): first difference at byte {at}\n\
             run `cargo xtask ebpf` and commit the result",
            place.display(),
            committed.len(),
            object.len(),
            other.display()
        );
    }

    /// Drops DWARF, which only the linker needed to make BTF of it.
    fn strip(&self, root: &Path) -> Result<Vec<u8>> {
        let whole = target(root).join(TARGET).join("release").join(self.binary);
        let stripped = target(root).join(self.file);
        sh::run(
            Command::new(Path::new(LLVM).join("llvm-objcopy")).arg("--strip-debug").arg(whole).arg(&stripped),
        )?;
        std::fs::read(&stripped).with_context(|| format!("read {}", stripped.display()))
    }
}

fn target(root: &Path) -> PathBuf {
    root.join("target/ebpf")
}

/// Compiles every object; each then waits below the target folder for [`Object::strip`].
fn compile(root: &Path) -> Result<()> {
    setup::install(Task::Ebpf)?;
    let linker = install_linker(root)?;
    let home = cargo_home()?;
    // Paths stand in the object's line information: name them the same everywhere. The rightmost match wins, so the
    // longer one comes last: either may lie inside the other.
    let mut paths = [(home.display().to_string(), "/cargo"), (root.display().to_string(), "/sluice")];
    paths.sort_by_key(|(path, _)| path.len());
    let mut flags = vec![
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
    ];
    flags.extend(paths.iter().map(|(path, name)| format!("--remap-path-prefix={path}={name}")));
    let mut cargo = sh::cargo(&[]);
    cargo
        .args(["build", "--release", "--locked", "--package", "agent-ebpf"])
        .args(OBJECTS.iter().flat_map(|object| ["--bin", object.binary]))
        .args(["--features", "program", "--target", TARGET, "--target-dir"])
        .arg(target(root))
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", path_with(LLVM)?)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_INCREMENTAL", "0");
    // Not the workspace's release profile: a change of that must not change the object.
    for (key, value) in
        [("LTO", "off"), ("CODEGEN_UNITS", "1"), ("STRIP", "none"), ("DEBUG", "2"), ("OPT_LEVEL", "3")]
    {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    for inherited in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(inherited);
    }
    sh::run(&mut cargo)
}

/// bpf-linker of our version, below the checkout: built once.
fn install_linker(root: &Path) -> Result<PathBuf> {
    let tools = root.join("target/tools");
    let linker = tools.join("bin/bpf-linker");
    let version = Command::new(&linker).arg("--version").output();
    if version.is_ok_and(|out| out.stdout.trim_ascii() == format!("bpf-linker {LINKER}").as_bytes()) {
        return Ok(linker);
    }
    println!("building bpf-linker {LINKER} (under a minute)");
    sh::run(
        sh::cargo(&[])
            .args(["install", "bpf-linker", "--locked", "--version", LINKER, "--root"])
            .arg(&tools)
            .args(["--no-default-features", "--features", "llvm-22", "--force"])
            .env("CARGO_TARGET_DIR", tools.join("build"))
            .env("PATH", path_with(LLVM)?)
            .env_remove("RUSTC"),
    )?;
    ensure!(linker.exists(), "{} was installed and is not there", linker.display());
    Ok(linker)
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(PathBuf::from(home));
    }
    let home = std::env::home_dir().context("neither CARGO_HOME nor a home directory")?;
    Ok(home.join(".cargo"))
}

fn path_with(first: &str) -> Result<std::ffi::OsString> {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(PathBuf::from(first)).chain(std::env::split_paths(&rest)))
        .context("PATH")
}
