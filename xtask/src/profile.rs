//! Release builds follow a profile (`agent/release.profdata.xz`): how often an agent that served the bench went which way.
//! The compiler lays code out by it and inlines by it, nothing else: what a program does stays the same, and where the code
//! has changed since, that part is built as without. `cargo xtask profile` makes it anew; the machine needs root, as the
//! bench does.

use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{setup, sh};

const COMMITTED: &str = "agent/release.profdata.xz";
/// What calls through pointers and copies look like is not counted: the counts could not be mapped into a file then.
const COUNTS_ONLY: &str = "-Cllvm-args=-disable-vp";
/// Code that has changed since it was counted is built as without: that is no news.
const CHANGED_IS_FINE: &str = "-Cllvm-args=-no-pgo-warn-mismatch";
/// The runtime leaves out the padding at a mapped file's end, without which the tool calls it cut off.
const PADDING: u64 = 4096;

/// `cargo ARGUMENTS` for a release build by the profile. With a target, so that build scripts and macros, which run here,
/// are built as ever.
pub fn cargo(arguments: &[&str]) -> Result<Command> {
    let profile = unpacked()?;
    let flags =
        [format!("-Cprofile-use={}", profile.display()), COUNTS_ONLY.to_owned(), CHANGED_IS_FINE.to_owned()];
    built_with(arguments, &flags)
}

fn built_with(arguments: &[&str], flags: &[String]) -> Result<Command> {
    let mut cargo = sh::cargo(arguments);
    cargo.args(["--release", "--target", &host()?]).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    Ok(cargo)
}

/// The profile for the compiler to read. Its name tells its content: cargo builds anew when that is another.
fn unpacked() -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    fs::read(sh::root().join(COMMITTED)).context(COMMITTED)?.hash(&mut hasher);
    let folder = sh::root().join("target/profile");
    let (new, profile) = (folder.join("new"), folder.join(format!("{:016x}.profdata", hasher.finish())));
    if !profile.exists() {
        fs::create_dir_all(&folder)?;
        sh::run(sh::command("xz", &["--decompress", "--stdout", COMMITTED]).stdout(File::create(&new)?))?;
        fs::rename(&new, &profile)?;
    }
    Ok(profile)
}

fn host() -> Result<String> {
    let said = sh::output(&mut sh::command("rustc", &["--version", "--verbose"]))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}

/// `profile`: builds an agent that counts, lets it serve the bench, and packs the counts.
pub fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("profile takes no arguments");
    }
    setup::require_root()?;
    setup::install(setup::Task::Bench)?;
    setup::install(setup::Task::Profile)?;
    // Made before the agent's processes give up their rights, and writable to the one that has none.
    let counts = PathBuf::from(sh::output(&mut sh::command("mktemp", &["--directory"]))?.trim());
    fs::set_permissions(&counts, Permissions::from_mode(0o1777))?;
    let done = count(&counts).and_then(|()| pack(&counts));
    fs::remove_dir_all(&counts)?;
    done
}

fn count(counts: &Path) -> Result<()> {
    // %c: into a mapped file from the start on. The gate may open none later, and nobody ends in due form.
    let flags = [
        format!("-Cprofile-generate={}/%c%p", counts.display()),
        "-Cllvm-args=-runtime-counter-relocation".to_owned(),
        COUNTS_ONLY.to_owned(),
    ];
    let folder = sh::root().join("target/profile");
    let mut agent = built_with(&["build", "--package", "sluice", "--bin", "sluice"], &flags)?;
    sh::run(agent.arg("--target-dir").arg(&folder))?;
    let agent = folder.join(host()?).join("release/sluice");
    let mut bench = cargo(&["run", "--package", "sluice-tests", "--bin", "bench"])?;
    sh::run(bench.args(["--", "--rounds", "1", "--seconds", "3"]).env("SLUICE_BIN", agent))
}

fn pack(counts: &Path) -> Result<()> {
    let mut raw = Vec::new();
    for process in fs::read_dir(counts)? {
        for file in fs::read_dir(process?.path())? {
            let path = file?.path();
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(file.metadata()?.len() + PADDING)?;
            raw.push(path);
        }
    }
    ensure!(!raw.is_empty(), "no process has counted anything");
    let merged = sh::root().join("target/profile/merged.profdata");
    let mut merge = sh::command("llvm-profdata-22", &["merge", "--sparse", "--output"]);
    sh::run(merge.arg(&merged).args(&raw))?;
    let packed = File::create(sh::root().join(COMMITTED))?;
    sh::run(sh::command("xz", &["-9", "--stdout"]).arg(&merged).stdout(packed))
}
