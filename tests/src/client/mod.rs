//! Unchanged clients: where their programs are, and the packages they need, installed once below `target/clients`.
//!
//! Versions are pinned in `{requirements,agents,aws,bao,servers}.txt` and `package-lock.json` of `tests/clients` and of
//! `tests/clients/saml`. Installing asks the registries through
//! pip and npm as the machine has them configured; a later run with the same pins asks nobody.

pub mod check;
pub mod judged;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::binary::{profile_dir, workspace};

/// A file of `tests/clients`.
pub fn program(name: &str) -> PathBuf {
    workspace().join("tests/clients").join(name)
}

/// The Python interpreter of a virtual environment that has the pinned packages.
///
/// # Errors
/// python3-venv is missing, or pip failed.
pub fn python() -> Result<PathBuf> {
    environment("python", "requirements.txt")
}

/// The same with OpenAI's agents.
///
/// # Errors
/// As [`python`].
pub fn python_agents() -> Result<PathBuf> {
    environment("agents", "agents.txt")
}

/// The same with AWS's SDK.
///
/// # Errors
/// As [`python`].
pub fn python_aws() -> Result<PathBuf> {
    environment("aws", "aws.txt")
}

/// OpenBao: server and command line.
///
/// # Errors
/// As [`python`].
pub fn bao() -> Result<PathBuf> {
    Ok(environment("bao", "bao.txt")?.with_file_name("bao"))
}

/// The same with gunicorn.
///
/// # Errors
/// As [`python`].
pub fn python_server() -> Result<PathBuf> {
    environment("servers", "servers.txt")
}

/// A directory with the pinned `node_modules` and the Node clients beside them (ES modules are resolved by place).
///
/// # Errors
/// npm is missing or failed.
pub fn node() -> Result<PathBuf> {
    modules("node", "", &["fetch.mjs", "har_check.mjs", "issuer.mjs", "openai_chat.mjs"])
}

/// The Python interpreter that has a bridge from SAML to OpenID Connect (SATOSA) and gunicorn beside it. An environment of its
/// own: its many packages are pinned whole, and none of them bears on the clients under test.
///
/// # Errors
/// As [`python`].
pub fn saml_bridge() -> Result<PathBuf> {
    environment("saml-bridge", "saml/requirements.txt")
}

/// A directory with a SAML identity provider, `idp.mjs`, and what it needs.
///
/// # Errors
/// As [`node`].
pub fn saml_provider() -> Result<PathBuf> {
    modules("saml-provider", "saml", &["idp.mjs"])
}

/// The Go client, built.
///
/// # Errors
/// golang-go is missing or refuses the program.
pub fn go() -> Result<PathBuf> {
    go_program("go", &program("get.go"), "get")
}

/// A program that looks names up with Go's own resolver, built.
///
/// # Errors
/// golang-go is missing or refuses the program.
pub fn go_resolver() -> Result<PathBuf> {
    go_program("go-resolver", &program("resolve.go"), "resolve")
}

/// The program that checks trees, notes and tiles with Go's own packages, built.
///
/// # Errors
/// golang-go or golang-golang-x-mod-dev is missing.
pub fn go_evidence() -> Result<PathBuf> {
    go_program("go-evidence", &program("evidence.go"), "evidence")
}

/// The Go server of the corpus in `tests/desync`, built.
///
/// # Errors
/// golang-go is missing or refuses the program.
pub fn go_server() -> Result<PathBuf> {
    go_program("go-server", &workspace().join("tests/desync/servers/app.go"), "app")
}

/// Where Debian puts Go's packages.
const GO_PACKAGES: &str = "/usr/share/gocode";

fn go_program(name: &str, source: &Path, binary: &str) -> Result<PathBuf> {
    let dir = installed(name, source, |dir| {
        fs::create_dir_all(dir)?;
        let mut go = Command::new("/usr/bin/go");
        go.args(["build", "-o"]).arg(dir.join(binary)).arg(source);
        must(
            go.env("GOCACHE", dir.join("cache"))
                .env("GO111MODULE", "off")
                .env("GOPATH", GO_PACKAGES)
                .env("CGO_ENABLED", "0"),
        )
    })?;
    Ok(dir.join(binary))
}

/// A program that looks names up with musl's resolver, built.
///
/// # Errors
/// musl-tools is missing or refuses the program.
pub fn musl_resolver() -> Result<PathBuf> {
    let dir = installed("musl-resolver", &program("resolve.c"), |dir| {
        fs::create_dir_all(dir)?;
        let mut musl = Command::new("/usr/bin/musl-gcc");
        must(musl.args(["-static", "-O1", "-o"]).arg(dir.join("resolve")).arg(program("resolve.c")))
    })?;
    Ok(dir.join("resolve"))
}

/// A virtual environment with the packages of a requirements file of `tests/clients`: its interpreter.
fn environment(name: &str, requirements: &str) -> Result<PathBuf> {
    let pins = program(requirements);
    let dir = installed(name, &pins, |dir| {
        // Debian's interpreter, not one that a version manager puts first on PATH.
        must(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(dir))?;
        let mut pip = Command::new(dir.join("bin/pip"));
        must(pip.args(["install", "--quiet", "--no-input", "-r"]).arg(&pins))
    })?;
    Ok(dir.join("bin/python"))
}

/// The packages that the lock file of a folder of `tests/clients` pins, and programs of that folder beside them.
fn modules(name: &str, folder: &str, programs: &[&str]) -> Result<PathBuf> {
    let folder = program(folder);
    let dir = installed(name, &folder.join("package-lock.json"), |dir| {
        fs::create_dir_all(dir)?;
        for name in ["package.json", "package-lock.json"] {
            fs::copy(folder.join(name), dir.join(name))?;
        }
        must(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(dir))
    })?;
    for name in programs {
        fresh_copy(&folder.join(name), &dir.join(name))?;
    }
    Ok(dir)
}

/// Makes `target/clients/NAME` by `make` unless it was made from the same `pins` before. One process at a time.
fn installed(name: &str, pins: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let all = profile_dir()?.parent().context("target has a profile directory")?.join("clients");
    fs::create_dir_all(&all)?;
    let lock = File::create(all.join(format!("{name}.lock")))?;
    lock.lock().context("waiting for another test that installs the same")?;
    let (dir, stamp) = (all.join(name), all.join(format!("{name}.stamp")));
    let wanted = fs::read(pins)?;
    if fs::read(&stamp).is_ok_and(|had| had == wanted) {
        return Ok(dir);
    }
    let _ = fs::remove_dir_all(&dir);
    make(&dir).with_context(|| format!("installing the {name} clients"))?;
    fs::write(stamp, wanted)?;
    Ok(dir)
}

/// Copies by rename, so that a test that runs the old copy is not disturbed.
fn fresh_copy(from: &Path, to: &Path) -> Result<()> {
    let wanted = fs::read(from)?;
    if fs::read(to).is_ok_and(|had| had == wanted) {
        return Ok(());
    }
    let next = to.with_extension(format!("{}.new", std::process::id()));
    fs::write(&next, wanted)?;
    Ok(fs::rename(next, to)?)
}

fn must(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
