//! The kernel object: compiled by Debian's rustc with its BPF core library, linked by bpf-linker, stripped of DWARF
//! (BTF stays), and the same to the byte on every machine.
//!
//! `agent-ebpf/sluice.bpf.o` is committed, so that nobody needs this to build Sluice.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// What the build needs of Debian: a rustc that is the same everywhere, core for BPF, and LLVM 22 for bpf-linker.
const PACKAGES: [&str; 5] =
    ["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev", "zlib1g-dev", "libzstd-dev"];
const RUSTC: &str = "/usr/bin/rustc";
const LLVM: &str = "/usr/lib/llvm-22/bin";
const LINKER: &str = "0.13.0";
const TARGET: &str = "bpfel-unknown-none";

/// Compiles the object and puts it in its place.
pub fn build() -> Result<()> {
    let root = root()?;
    let object = compile(&root)?;
    let place = place(&root);
    std::fs::write(&place, &object).with_context(|| format!("write {}", place.display()))?;
    println!("{}: {} bytes", place.display(), object.len());
    Ok(())
}

/// Compiles the object and compares it with the committed one.
pub fn check() -> Result<()> {
    let root = root()?;
    let object = compile(&root)?;
    let place = place(&root);
    let committed = std::fs::read(&place).with_context(|| format!("read {}", place.display()))?;
    if object == committed {
        println!("{} is what its source says ({} bytes)", place.display(), object.len());
        return Ok(());
    }
    let other = target(&root).join("sluice.bpf.o.rebuilt");
    std::fs::write(&other, &object).with_context(|| format!("write {}", other.display()))?;
    let at =
        object.iter().zip(&committed).position(|(a, b)| a != b).unwrap_or(object.len().min(committed.len()));
    bail!(
        "{} ({} bytes) is not what its source says ({} bytes, see {}): first difference at byte {at}\n\
         run `cargo xtask ebpf` and commit the result",
        place.display(),
        committed.len(),
        object.len(),
        other.display()
    );
}

fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(Path::to_owned).context("the workspace is above xtask")
}

fn place(root: &Path) -> PathBuf {
    root.join("agent-ebpf/sluice.bpf.o")
}

fn target(root: &Path) -> PathBuf {
    root.join("target/ebpf")
}

fn compile(root: &Path) -> Result<Vec<u8>> {
    install_packages()?;
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
    let mut cargo = cargo();
    cargo
        .current_dir(root)
        .args(["build", "--release", "--locked", "--package", "agent-ebpf", "--bin", "sluice-ebpf"])
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
    run(&mut cargo)?;
    strip(root)
}

/// Drops DWARF, which only the linker needed to make BTF of it.
fn strip(root: &Path) -> Result<Vec<u8>> {
    let whole = target(root).join(TARGET).join("release/sluice-ebpf");
    let stripped = target(root).join("sluice.bpf.o");
    run(Command::new(Path::new(LLVM).join("llvm-objcopy")).arg("--strip-debug").arg(whole).arg(&stripped))?;
    std::fs::read(&stripped).with_context(|| format!("read {}", stripped.display()))
}

fn install_packages() -> Result<()> {
    let installed = |package: &&str| {
        let status = Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]).output();
        status.is_ok_and(|out| out.stdout == b"installed")
    };
    let missing: Vec<&str> = PACKAGES.into_iter().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    run(root_command("apt-get").arg("update"))?;
    run(root_command("apt-get")
        .args(["install", "--yes", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// A command that runs as root, by sudo where we are not.
fn root_command(program: &str) -> Command {
    let uid = Command::new("id").arg("-u").output();
    if uid.is_ok_and(|out| out.stdout.trim_ascii() == b"0") {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.arg(program);
    sudo
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
    run(cargo()
        .args(["install", "bpf-linker", "--locked", "--version", LINKER, "--root"])
        .arg(&tools)
        .args(["--no-default-features", "--features", "llvm-22", "--force"])
        .env("CARGO_TARGET_DIR", tools.join("build"))
        .env("PATH", path_with(LLVM)?)
        .env_remove("RUSTC"))?;
    ensure!(linker.exists(), "{} was installed and is not there", linker.display());
    Ok(linker)
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
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

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {:?}", command.get_program()))?;
    ensure!(status.success(), "{:?}: {status}", command.get_program());
    Ok(())
}
