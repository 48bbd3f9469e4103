//! `cargo xtask dist`: the Debian package, in `target/dist`. Built by `dpkg-deb` from a staged tree: what is in the
//! package is the table in this file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{profile, setup, sh};

/// Where a file of the workspace goes.
const FILES: &[(&str, &str)] = &[
    ("systemd/sluice.service", "lib/systemd/system/sluice.service"),
    ("systemd/sysusers.conf", "usr/lib/sysusers.d/sluice.conf"),
    ("systemd/tmpfiles.conf", "usr/lib/tmpfiles.d/sluice.conf"),
    ("systemd/sluice.catalog", "usr/lib/systemd/catalog/sluice.catalog"),
    ("config/sluice.toml", "etc/sluice/sluice.toml"),
    ("README.md", "usr/share/doc/sluice/README.md"),
    ("SECURITY.md", "usr/share/doc/sluice/SECURITY.md"),
    ("docs/identity.md", "usr/share/doc/sluice/identity.md"),
    ("xtask/debian/copyright", "usr/share/doc/sluice/copyright"),
    ("xtask/debian/lintian-overrides", "usr/share/lintian/overrides/sluice"),
];

/// Where each shell looks for completions.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/sluice"),
    ("zsh", "usr/share/zsh/vendor-completions/_sluice"),
    ("fish", "usr/share/fish/vendor_completions.d/sluice.fish"),
];

/// systemd asks the binary, under this name, for the drop-ins of tagged units: at boot and at each daemon-reload.
const GENERATOR: &str = "lib/systemd/system-generators/sluice-generator";

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// `dist [--debug]`: with `--debug` the unoptimised binary, uncompressed: what the systemd tests install.
pub fn run(arguments: &[String]) -> Result<()> {
    let debug = match arguments {
        [] => false,
        [flag] if flag == "--debug" => true,
        _ => bail!("dist [--debug]"),
    };
    setup::install(setup::Task::Dist)?;
    let binary = build(debug)?;
    // A release build has its target's folder between.
    let levels = if debug { 2 } else { 3 };
    let folder = binary.ancestors().nth(levels).context("the target folder")?.join("dist");
    let staged = folder.join(if debug { "tree-debug" } else { "tree" });
    if staged.exists() {
        fs::remove_dir_all(&staged).with_context(|| staged.display().to_string())?;
    }
    stage(&staged, &binary)?;
    if !debug {
        sh::run(sh::command("strip", &["--strip-unneeded"]).arg(staged.join("usr/bin/sluice")))?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let architecture = sh::output(&mut sh::command("dpkg", &["--print-architecture"]))?.trim().to_owned();
    control(&staged, &folder, version, &architecture)?;

    let suffix = if debug { "+debug" } else { "" };
    let package = folder.join(format!("sluice_{version}{suffix}_{architecture}.deb"));
    let compression = if debug { "-Znone" } else { "-Zxz" };
    let mut dpkg = sh::command("dpkg-deb", &["--root-owner-group", compression, "--build"]);
    sh::run(dpkg.arg(&staged).arg(&package))?;
    if !debug {
        sh::run(
            sh::command("lintian", &["--fail-on", "error,warning", "--tag-display-limit", "0"]).arg(&package),
        )?;
    }
    println!("{}", package.display());
    Ok(())
}

/// The binary that cargo says it built: the target folder may be elsewhere.
fn build(debug: bool) -> Result<PathBuf> {
    let build = ["build", "--package", "sluice", "--bin", "sluice", "--message-format", "json"];
    let mut cargo = if debug { sh::cargo(&build) } else { profile::cargo(&build)? };
    let messages = sh::output(&mut cargo)?;
    let executable = messages.lines().filter_map(|line| line.split_once("\"executable\":\"")).next_back();
    let path = executable.and_then(|(_, rest)| rest.split_once('"')).context("cargo names no executable")?.0;
    Ok(PathBuf::from(path))
}

fn stage(staged: &Path, binary: &Path) -> Result<()> {
    put(staged, "usr/bin/sluice", &fs::read(binary)?, 0o755)?;
    for (from, to) in FILES {
        let content = fs::read(sh::root().join(from)).with_context(|| (*from).to_owned())?;
        put(staged, to, &content, 0o644)?;
    }
    for (shell, to) in COMPLETIONS {
        let mut command = std::process::Command::new(binary);
        put(staged, to, sh::output(command.args(["completions", shell]))?.as_bytes(), 0o644)?;
    }
    manual(staged, binary)?;
    let generator = staged.join(GENERATOR);
    fs::create_dir_all(generator.parent().context("a folder")?)?;
    std::os::unix::fs::symlink("/usr/bin/sluice", &generator).context(GENERATOR)?;
    let changelog = sh::output(&mut sh::command("git", &["log", "-1", "--format=%aD"]))?;
    let changelog = format!(
        "sluice ({}) unstable; urgency=medium\n\n  * See README.md.\n\n -- The Sluice authors <maintainers@sluice.example.org>  {}\n",
        env!("CARGO_PKG_VERSION"),
        changelog.trim()
    );
    let path = put(staged, "usr/share/doc/sluice/changelog", changelog.as_bytes(), 0o644)?;
    // Without name and time, so that the same commit gives the same package.
    sh::run(sh::command("gzip", &["--best", "--no-name", "--force"]).arg(path))
}

/// The manual pages, as the binary prints them, compressed as Debian has them.
fn manual(staged: &Path, binary: &Path) -> Result<()> {
    let folder = staged.join("usr/share/man");
    sh::run(std::process::Command::new(binary).arg("man").arg(&folder))?;
    for section in ["man1", "man5"] {
        let section = folder.join(section);
        for page in fs::read_dir(&section).with_context(|| section.display().to_string())? {
            let path = page?.path();
            let content = fs::read(&path)?;
            let to = path.strip_prefix(staged)?.display().to_string();
            let path = put(staged, &to, &content, 0o644)?;
            sh::run(sh::command("gzip", &["--best", "--no-name", "--force"]).arg(path))?;
        }
    }
    Ok(())
}

fn control(staged: &Path, folder: &Path, version: &str, architecture: &str) -> Result<()> {
    let debian = sh::root().join("xtask/debian");
    let text = fs::read_to_string(debian.join("control"))?
        .replace("@VERSION@", version)
        .replace("@ARCHITECTURE@", architecture)
        .replace("@SIZE@", &kibibytes(staged)?.to_string())
        .replace("@DEPENDS@", &libraries(staged, folder)?);
    put(staged, "DEBIAN/control", text.as_bytes(), 0o644)?;
    put(staged, "DEBIAN/conffiles", b"/etc/sluice/sluice.toml\n", 0o644)?;
    for script in SCRIPTS {
        put(staged, &format!("DEBIAN/{script}"), &fs::read(debian.join(script))?, 0o755)?;
    }
    put(staged, "DEBIAN/md5sums", sums(staged)?.as_bytes(), 0o644)?;
    Ok(())
}

/// The packages whose libraries the binary is linked to. dpkg-shlibdeps wants a source package: it gets an empty one.
fn libraries(staged: &Path, folder: &Path) -> Result<String> {
    let source = folder.join("source");
    put(&source, "debian/control", b"Source: sluice\n\nPackage: sluice\nArchitecture: any\n", 0o644)?;
    let mut command = sh::command("dpkg-shlibdeps", &["-O", "--ignore-missing-info"]);
    let said = sh::output(command.arg(staged.join("usr/bin/sluice")).current_dir(&source))?;
    let depends = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    Ok(depends.context("dpkg-shlibdeps names no libraries")?.to_owned())
}

/// Size of the tree, as dpkg counts it.
fn kibibytes(staged: &Path) -> Result<u64> {
    let said =
        sh::output(sh::command("du", &["--summarize", "--apparent-size", "--block-size=1024"]).arg(staged))?;
    Ok(said.split_whitespace().next().context("du says nothing")?.parse()?)
}

/// `md5sums`, for `dpkg --verify`. Configuration is dpkg's own to watch.
fn sums(staged: &Path) -> Result<String> {
    let find = "find usr lib -type f -print0 | LC_ALL=C sort --zero-terminated | xargs --null md5sum";
    sh::output(sh::command("sh", &["-c", find]).current_dir(staged))
}

fn put(staged: &Path, to: &str, content: &[u8], mode: u32) -> Result<PathBuf> {
    let path = staged.join(to);
    let folder = path.parent().context("a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    // Folders with dpkg's usual mode, whatever the caller's umask.
    for above in folder.ancestors().take_while(|above| above.starts_with(staged)) {
        fs::set_permissions(above, fs::Permissions::from_mode(0o755))?;
    }
    fs::write(&path, content).with_context(|| path.display().to_string())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(path)
}
